"""A refusal tells of the archive too, so it is in the access log before anybody reads it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer, unused_port
from aiohttp.web import Application, Request

from auditbot.reader.access_log import AccessLog
from auditbot.reader.cli import main
from auditbot.reader.commands.options import Archive
from auditbot.reader.index.library import Library
from auditbot.reader.serve.app import make_app
from auditbot.reader.serve.desk import Desk
from auditbot.reader.serve.security import Door, Hosts
from auditbot.storage.reading import DirectoryPlace
from common.clock import SystemClock
from common.errors import PermanentError, UserError
from tests.support.archive_maker import Maker
from tests.support.archive_story import DESK, tell_story

COMMANDS = (
    (("transcript", "example.org"), "fits more than one: "),
    (("transcript", "nobody"), "No room and no person"),
    (("search", "--type=nope"), "There are: .*m.room.message"),
    (("search", "--person=unknown"), "No person of the archive"),
    (("search", "price", "--room=unknown"), "No room of the archive"),
    (("prove", "$nothing"), "is not in the archive"),
    (("sample", "draw", "--from=2025-11-01", "--to=2025-12-01", "--room=unknown"), "No room"),
)
PAGES = (
    ("/room?id=!unknown:example.org", 404, "not in the archive"),
    ("/person?id=@unknown:example.org", 404, "not in the archive"),
    ("/message?stream=unknown&seq=1", 404, "not in the archive"),
    ("/media?key=unknown", 404, "not in the archive"),
    ("/search?type=nope", 200, "There are: "),
    ("/search?from=2026-01-02&to=2026-01-01", 200, "ends before it begins"),
    ("/search?person=unknown", 200, "No person of the archive"),
)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return tell_story(tmp_path / "archive")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def types(maker: Maker, home: Path, *words: str) -> int:
    return main([*words, f"--destination=file:{maker.root}", f"--home={home}"])


def last(home: Path) -> dict[str, Any]:
    *_, line = (home / "access.jsonl").read_text().splitlines()
    entry: dict[str, Any] = json.loads(line)
    return entry


def break_log(home: Path) -> None:
    (home / "access.jsonl").unlink(missing_ok=True)
    (home / "access.jsonl").mkdir()


@pytest.mark.parametrize(("words", "reason"), COMMANDS, ids=[" ".join(one) for one, _ in COMMANDS])
def test_what_a_command_refuses_is_logged_before_it_is_told(
    maker: Maker, home: Path, words: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        types(maker, home, *words)

    entry = last(home)
    assert (entry["what"], entry["outcome"]) == (words[0], "refused")
    assert entry["archive"] == f"file:{maker.root}"
    assert all(word in entry["asked"] for word in words)

    break_log(home)
    with pytest.raises(PermanentError, match="nothing is shown"):
        types(maker, home, *words)


@pytest.fixture
async def page(maker: Maker, home: Path) -> AsyncIterator[TestClient[Request, Application]]:
    """A browser that is logged in."""
    assert await asyncio.to_thread(types, maker, home, "sync") == 0
    clock, port = SystemClock(), unused_port()
    archive = Archive(f"file:{maker.root}", DirectoryPlace(maker.root), home, ())
    library = Library(archive.cache)
    log = AccessLog(home / "access.jsonl", clock)
    desk = Desk(archive, library, log, clock, UTC, "UTC", "olivia")
    door = Door(clock)
    app = make_app(desk, door, Hosts(frozenset({f"127.0.0.1:{port}"})))
    async with TestClient(TestServer(app, port=port)) as client:
        await client.get(f"/login?token={door.new_token()}")
        yield client
    library.close()


@pytest.mark.parametrize(("path", "status", "reason"), PAGES, ids=[one for one, *_ in PAGES])
async def test_what_a_page_refuses_is_logged_before_it_is_told(
    page: TestClient[Request, Application], home: Path, path: str, status: int, reason: str
) -> None:
    answer = await page.get(path)

    assert answer.status == status
    assert reason in await answer.text()
    entry = last(home)
    assert (entry["what"], entry["outcome"]) == (path[1:].partition("?")[0], "refused")
    assert entry["asked"] == path

    break_log(home)
    answer = await page.get(path)
    assert answer.status == 502
    assert reason not in await answer.text()


async def test_what_is_no_page_and_what_is_shown_is_no_refusal(
    page: TestClient[Request, Application], home: Path
) -> None:
    assert (await page.get("/nothing-of-the-kind")).status == 404
    assert last(home)["what"] == "overview shown", "what logging in leads to"
    assert (await page.get("/room", params={"id": DESK})).status == 200
    entry = last(home)
    assert (entry["what"], "outcome" in entry) == ("room shown", False)
