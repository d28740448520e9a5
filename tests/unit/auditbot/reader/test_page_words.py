"""What the pages and transcripts say is true, and a person who is not found is not stranded."""

import asyncio
from pathlib import Path

from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from auditbot.reader.index.sync import Synced
from auditbot.reader.serve.pages import DESK
from tests.support.archive_maker import Maker
from tests.support.archive_story import audience
from tests.unit.auditbot.reader.test_refusals import home, maker, page, types

__all__ = ["home", "maker", "page"]


async def test_what_is_no_page_has_the_menu_and_a_sentence(
    page: TestClient[Request, Application],
) -> None:
    for path, sentence in (
        ("/nothing-of-the-kind", "There is no such page."),
        ("/room?id=!unknown:example.org", "This is not in the archive."),
    ):
        answer = await page.get(path)
        text = await answer.text()
        assert answer.status == 404
        assert sentence in text
        assert 'href="/search"' in text


async def test_the_front_page_is_there_before_anything_is_verified_and_meanwhile(
    page: TestClient[Request, Application],
) -> None:
    assert page.app is not None
    desk = page.app[DESK]
    for is_verifying, word in ((False, "Not verified"), (True, "Verifying …")):
        desk.is_verifying = is_verifying
        answer = await page.get("/")
        assert answer.status == 200
        assert word in await answer.text()


async def test_an_old_manifest_is_said_where_it_is_seen_first(
    page: TestClient[Request, Application],
) -> None:
    assert page.app is not None
    desk = page.app[DESK]
    await desk.verify(everything=True)
    assert desk.badge()["state"] == "right"

    text = await (await page.get("/")).text()

    assert "days old, though one is due every" in text
    assert 'class="card state-partly"' in text
    assert "This archive is as it was written" in text
    assert (
        "sync --substrings"
        not in (await (await page.get("/search")).text()).partition("title=")[0]
    )


async def test_who_could_read_it_and_who_reacted_are_said_once_and_truly(
    maker: Maker, home: Path
) -> None:
    maker.message("to nobody", event_id="$none", audience_id=audience(), audience_count=0)
    lonely = audience("@x:example.org")
    maker.message("to one", event_id="$one", audience_id=lonely, audience_count=1)
    maker.record(
        "event", event_id="$nod", event_type="m.reaction", room_id="!lobby:example.org",
        sender="@bob:example.org", sender_name="@bob:example.org", enc_status="clear",
        rel_event_id="$one", rel_type="m.annotation", reaction_key="👍", content_state="as_sent",
    )  # fmt: skip
    maker.segment()
    maker.manifest()
    output = home.with_name("t.html")
    words = ("transcript", "!lobby:example.org", "--verify=no", f"--output={output}")

    assert await asyncio.to_thread(types, maker, home, *words) == 0

    text = output.read_text()
    assert "nobody" in text
    assert "0 members" not in text
    assert "1 member; the records read here hold no list of them." in text
    assert "👍 @bob:example.org<" in text


async def test_a_time_in_utc_stays_on_one_line(maker: Maker, home: Path) -> None:
    maker.message("late", event_id="$late")
    maker.segment()
    maker.manifest()
    output = home.with_name("t.html")
    words = ("transcript", "!lobby:example.org", "--verify=no", "--zone=Asia/Tokyo")

    assert await asyncio.to_thread(types, maker, home, *words, f"--output={output}") == 0

    assert " UTC</span></div>" in output.read_text()


async def test_a_day_without_a_record_is_no_silent_day(
    page: TestClient[Request, Application], maker: Maker
) -> None:
    async def shown(day: str) -> str:
        return await (await page.get(f"/room?id=!desk:example.org&day={day}")).text()

    begin = await shown("2025-11-20")
    assert "The archive begins on 2025-11-24" in begin
    assert "The archive holds nothing of this day." in begin
    assert "Nothing was said on this day." not in begin
    assert "only; what came later is not in here." in await shown("2025-11-26")
    assert page.app is not None
    page.app[DESK].synced = Synced(faults=["a segment is damaged"])
    assert "NOT EVERYTHING IS INDEXED: a segment is damaged" in await shown("2025-11-24")


async def test_a_list_of_nobody_says_so(page: TestClient[Request, Application]) -> None:
    assert "None of the archive fits." in await (await page.get("/people?part=zzz")).text()
