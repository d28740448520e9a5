"""The officers' page in a real browser: it shows everything, and nothing in the archive acts."""

import asyncio
import io
import json
import re
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import aiohttp
import pytest
from playwright.async_api import Browser, Page, async_playwright

from common.config.environment import environment as process_environment
from common.demo.waiting import wait_for
from tests.support.archive_maker import Maker
from tests.support.archive_story import ALICE, DESK, HOSTILE, tell_story
from tests.support.browser import ARGUMENTS, browser

_START_SECONDS = 90


@dataclass
class Served:
    """The program as an officer starts it."""

    url: str
    home: Path

    @property
    def base(self) -> str:
        return self.url.partition("/login")[0]

    def logged(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.home / "access.jsonl").read_text().splitlines()]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as started:
        yield started


@asynccontextmanager
async def serving(
    tmp_path: Path, words: Sequence[str] = (), before: Callable[[Maker], None] | None = None
) -> AsyncIterator[Served]:
    """Start the program on an archive of its own."""
    maker = tell_story(tmp_path / "archive", before=before)
    home = tmp_path / "home"
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "steward"),
        "audit",
        "serve",
        f"--destination=file:{maker.root}",
        f"--home={home}",
        "--port=0",
        "--name=archive.example",
        "--zone=Europe/Berlin",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    async with asyncio.timeout(_START_SECONDS):
        while b"http" not in (line := await process.stdout.readline()):
            assert line
    try:
        yield Served(line.decode().strip(), home)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    program, environment = browser()
    async with async_playwright() as player:
        opened = await player.chromium.launch(
            executable_path=program,
            args=ARGUMENTS,
            env={**process_environment(), **environment},
        )
        yield opened
        await opened.close()


@dataclass
class Visit:
    """A page and what its browser complained of or fetched."""

    page: Page
    trouble: list[str]
    fetched: list[str]

    async def text(self) -> str:
        return await self.page.inner_text("main")


@pytest.fixture
async def visit(served: Served, chromium: Browser) -> AsyncIterator[Visit]:
    context = await chromium.new_context()
    page = await context.new_page()
    found = Visit(page, [], [])
    page.on("console", lambda message: found.trouble.append(message.text))
    page.on("pageerror", lambda error: found.trouble.append(str(error)))
    page.on("dialog", lambda dialog: found.trouble.append(dialog.message))
    page.on("request", lambda request: found.fetched.append(request.url))
    await page.goto(served.url)
    yield found
    await context.close()


async def test_an_officer_searches_and_takes_messages_away(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    page = visit.page
    await page.fill("main input[name=text]", "price")
    async with page.expect_navigation():
        await page.click("main button:has-text('Search')")

    text = await visit.text()
    assert "The price is 120." in text
    assert "as first sent, 2025-11-24 17:00:08 CET: The price is 100." in text

    await page.check("input[name=m] >> nth=1")
    async with page.expect_download() as waiting:
        await page.click("button:has-text('Proof package')")
    download = await waiting.value
    await download.save_as(tmp_path / "case.zip")
    with zipfile.ZipFile(tmp_path / "case.zip") as packed:
        assert {"verify.py", "records.jsonl", "proofs.json"} <= set(packed.namelist())
    for button, beginning in (("CSV", b"time,"), ("HTML", b"<!DOCTYPE html>"), ("PDF", b"%PDF")):
        async with page.expect_download() as waiting:
            await page.click(f"button:text-is('{button}')")
        path = tmp_path / button
        await (await waiting.value).save_as(path)
        assert path.read_bytes().startswith(beginning)

    await page.fill("input[name=case]", "Desk")
    async with page.expect_navigation():
        await page.click("button:has-text('Add to case')")
    assert "Desk" in await visit.text()
    assert [entry["what"] for entry in served.logged()] == [
        "logged in",
        "overview shown",
        "search",
        "exported",
        "exported",
        "exported",
        "exported",
        "case added",
        "cases shown",
    ]
    assert served.logged()[2]["query"] == "text “price”"
    assert not visit.trouble

    async with page.expect_navigation():
        await page.click("text=Log out")
    await page.goto(f"{served.base}/rooms")
    assert "Trading desk" not in await page.content()
    assert served.logged()[-1]["what"] == "logged out"


def with_a_file(maker: Maker) -> None:
    """Add a message with a file that a page cannot hold in itself."""
    body = b"No picture."
    key, digest = maker.file(body)
    about = {"room_id": "!files:example.org", "event_id": "$file", "media_name": "notes.txt"}
    sent = maker.message("notes.txt", ALICE, msgtype="m.file", media_status="pending", **about)
    maker.record(
        "media",
        of_seq=sent["seq"],
        sender=ALICE,
        media_status="stored",
        media_key=key,
        media_sha256=digest,
        media_size=len(body),
        **about,
    )


async def test_an_officer_finds_any_part_of_a_text_with_what_was_said_around_it(
    tmp_path: Path, chromium: Browser
) -> None:
    plain, prepared = tmp_path / "plain", tmp_path / "prepared"
    plain.mkdir()
    prepared.mkdir()
    async with serving(plain) as served:
        page = await (await chromium.new_context()).new_page()
        await page.goto(served.url)
        await page.goto(f"{served.base}/search?containing=rice+is+12")
        assert "This index knows whole words only" in await page.inner_text("main")
        assert await page.is_disabled("input[name=containing]")
    async with serving(prepared, ["--substrings"]) as served:
        page = await (await chromium.new_context()).new_page()
        await page.goto(served.url)
        await page.goto(f"{served.base}/search")
        await page.fill("main input[name=containing]", "rice is 12")
        await page.select_option("select[name=context]", "30m")
        async with page.expect_navigation():
            await page.click("main button:has-text('Search')")

        assert await page.locator("article.found").count() == 1
        assert "The price is 120." in await page.inner_text("article.found")
        assert await page.locator("article.context").count() > 5
        assert "Good morning." in await page.inner_text("main")
        assert await page.input_value("select[name=context]") == "30m"
        last = [entry for entry in served.logged() if entry["what"] == "search"][-1]
        assert last["query"] == "containing “rice is 12”"
        assert last["context"] == "30 minutes, whole threads"


async def test_what_has_attachments_goes_with_them(tmp_path: Path) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        serving(tmp_path, before=with_a_file) as served,
        aiohttp.ClientSession(cookie_jar=jar) as me,
    ):
        async with me.get(served.url) as entered:
            assert entered.status == 200

        async def chosen() -> list[str]:
            async with me.get(f"{served.base}/room?id=!files:example.org") as page:
                return re.findall(r'name="m" value="([^"]+)"', await page.text())

        (message,) = await wait_for(chosen, 20, "the archive's index")
        async with me.post(
            f"{served.base}/export",
            data={"format": "html", "m": message},
            headers={"Origin": served.base},
        ) as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.zip"'
            packed = zipfile.ZipFile(io.BytesIO(await answer.read()))
        async with me.post(
            f"{served.base}/export",
            data={"format": "dat", "m": message},
            headers={"Origin": served.base},
        ) as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.zip"'
            loaded = zipfile.ZipFile(io.BytesIO(await answer.read()))
    names = loaded.namelist()
    assert "messages.dat/loadfile.dat" in names
    (native,) = [name for name in names if re.search(r"/NATIVES/.*-A001\.", name)]
    assert loaded.read(native) == b"No picture."
    links = re.findall(r'href="(messages-files/[^"]+)"', packed.read("messages.html").decode())
    assert links
    for link in links:
        assert packed.read(unquote(link)) == b"No picture."


async def test_everything_is_shown_and_nothing_of_it_acts(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    await every_page_opens(served, visit)
    await a_room_is_shown_as_it_was(served, visit)
    await the_badge_tells_of_a_changed_archive(served, visit, tmp_path)


async def a_room_is_shown_as_it_was(served: Served, visit: Visit) -> None:
    page = visit.page
    await page.goto(f"{served.base}/rooms")
    async with page.expect_navigation(wait_until="load"):
        await page.click("text=Trading desk")
    text = await visit.text()

    assert await page.title() == "Trading desk · Archive"
    assert HOSTILE.replace("\u202e", "⟨U+202E⟩") in text
    assert "DELETED" in text
    assert "Delete this afterwards: buy before the news." in text
    assert "most clients show this instead: Sell everything now" in text
    assert await page.locator("main script").count() == 0
    shown = page.locator("main img")
    assert await shown.count() == 1
    await shown.scroll_into_view_if_needed()
    await page.wait_for_function("document.querySelector('main img').naturalWidth === 360")

    async with page.expect_navigation(wait_until="load"):
        await page.click("text=As people see it")
    seen = await visit.text()
    assert "Delete this afterwards" not in seen
    assert "The price is 120." in seen
    assert "The price is 100." not in seen
    async with page.expect_navigation(wait_until="load"):
        await page.click("text=As first sent")
    assert "The price is 100." in await visit.text()
    assert all(url.startswith(served.base) for url in visit.fetched)
    assert not visit.trouble


async def every_page_opens(served: Served, visit: Visit) -> None:
    for path, words in (
        ("/", "rooms without the bot"),
        ("/people", "@mallory:example.org"),
        ("/person?id=@alice:example.org", "Between us: the price was too low."),
        ("/", "As of the manifest of 2025-11-24 17:00:31; when all rooms"),
        ("/coverage", "1 could not be read to this day"),
        ("/coverage", "only; what came later is not in here."),
        ("/verification", "Signing key"),
        ("/verification", "no lock: whoever may write there may delete"),
        ("/cases", "There is none yet."),
        ("/access", "Unbroken"),
        ("/search?unread=1", "not readable"),
        ("/message?stream=20251124T160000Zaaaaaa&seq=7", "The records that it is made of"),
    ):
        await visit.page.goto(served.base + path)
        assert words.casefold() in (await visit.text()).casefold(), path
    await visit.page.goto(f"{served.base}/search?person=nobody")
    assert "No person of the archive fits" in await visit.text()
    assert not visit.trouble


async def the_badge_tells_of_a_changed_archive(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    files = list((tmp_path / "archive").rglob("*.jsonl.zst"))
    files[0].write_bytes(files[0].read_bytes() + b"x")

    await visit.page.goto(f"{served.base}/verification")
    async with visit.page.expect_navigation():
        await visit.page.click("text=Verify everything now")

    assert "WRONG: this is not the archive that was written" in await visit.text()
    assert await visit.page.inner_text(".top .badge") == "WRONG"


async def test_nobody_else_gets_in(served: Served) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def status(method: str, path: str, **headers: str) -> int:
            url = served.base + path
            async with client.request(method, url, headers=headers, allow_redirects=False) as got:
                assert got.headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert got.headers["X-Frame-Options"] == "DENY"
                assert got.headers["Cache-Control"] == "no-store"
                return got.status

        assert await status("GET", "/") == 401
        assert await status("GET", "/media?key=x") == 401
        assert await status("GET", "/login?token=wrong") == 401
        token = served.url.partition("token=")[2]
        async with client.get(served.url, allow_redirects=False) as entered:
            cookie = entered.headers["Set-Cookie"]
        assert re.search("HttpOnly", cookie)
        assert re.search("SameSite=Strict", cookie)
        session = {"Cookie": cookie.partition(";")[0]}

        assert await status("GET", "/", **session) == 200
        assert await status("GET", f"/login?token={token}") == 401
        assert await status("GET", "/", Host="evil.example", **session) == 421
        assert await status("GET", "/", Host="evil.example:80", **session) == 421
        assert await status("POST", "/verify", **session) == 403
        other = {"Origin": "http://evil.example", **session}
        assert await status("POST", "/export", **other) == 403
        own = {"Origin": served.base, "Sec-Fetch-Site": "cross-site", **session}
        assert await status("POST", "/sync", **own) == 403
        assert await status("GET", "/media?key=../../etc/passwd", **session) == 404
        assert await status("GET", "/room?id=%00", **session) == 404
        assert await status("GET", "/search?to=9999-12-31", **session) == 200
        assert await status("GET", f"/room?id={DESK}&day=9999-12-31&page=99", **session) == 200
        assert await status("PUT", "/", Origin=served.base, **session) == 405

        async with client.get(f"{served.base}/room?id={DESK}", headers=session) as page:
            text = await page.text()
        link = re.search(r'href="(/media\?key=[^"]+)"', text)
        assert link is not None
        async with client.get(served.base + link[1], headers=session) as got:
            # An attachment is saved, never run.
            assert got.headers["Content-Type"] == "application/octet-stream"
            assert got.headers["Content-Disposition"].startswith("attachment;")
            assert got.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
            assert (await got.read()).startswith(b"\x89PNG")


async def test_nobody_keeps_the_officer_out(served: Served) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        # A page elsewhere whose pictures have this address, in the same browser.
        picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}
        for _ in range(30):
            async with client.get(f"{served.base}/login?token=x", headers=picture) as got:
                assert got.status == 401
        # A program that only looks where an address leads.
        async with client.head(served.url, allow_redirects=False) as got:
            assert got.status == 405

        async with client.get(served.url, allow_redirects=False) as got:
            assert (got.status, got.headers["Location"]) == (303, "/")


async def test_a_proxy_with_tls_is_served_under_its_own_name_only(served: Served) -> None:
    https = {"Host": "archive.example", "X-Forwarded-Proto": "https"}
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(cookie_jar=jar) as client:
        async with client.get(served.url, headers=https, allow_redirects=False) as entered:
            cookie = entered.headers["Set-Cookie"]
        assert "Secure" in cookie
        session = {"Cookie": cookie.partition(";")[0]}

        async def sync(origin: str, **headers: str) -> int:
            asked = {**session, **headers, "Origin": origin}
            url = f"{served.base}/sync"
            async with client.post(url, headers=asked, allow_redirects=False) as got:
                return got.status

        assert await sync("https://archive.example", **https) == 303
        assert await sync("https://evil.example", **https) == 403
        assert await sync(served.base.replace("http:", "https:")) == 403
        assert await sync(served.base) == 303


async def test_parts_of_words_are_added_without_fetching_anything(
    tmp_path: Path, chromium: Browser
) -> None:
    async with serving(tmp_path) as served:
        page = await (await chromium.new_context()).new_page()
        await page.goto(served.url)
        await page.goto(f"{served.base}/search?text=price")
        assert "The price is 120." in await page.inner_text("main")
    async with serving(tmp_path, ["--substrings", "--no-sync"]) as served:
        page = await (await chromium.new_context()).new_page()
        await page.goto(served.url)
        await page.goto(f"{served.base}/search?containing=rice+is+12")
        assert "The price is 120." in await page.inner_text("main")
