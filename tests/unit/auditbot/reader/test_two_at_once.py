"""Two who use one index at once: one writes, the other waits or uses it as it is, and says so."""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from auditbot.reader.access_log import AccessLog
from auditbot.reader.cli import main
from auditbot.reader.commands.options import Archive
from auditbot.reader.index.build import Builder
from auditbot.reader.index.library import Library
from auditbot.reader.index.turns import turn_if_free
from auditbot.reader.serve.app import failures, make_app
from auditbot.reader.serve.desk import Desk
from auditbot.reader.serve.pages import overview
from auditbot.reader.serve.security import Door, Hosts
from auditbot.storage.reading import DirectoryPlace
from common.clock import SystemClock
from common.demo.waiting import wait_for
from tests.support.archive_maker import Maker
from tests.support.archive_story import tell_story

_PATIENCE_S = 30
_WAITING = "waiting for it to end"


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return tell_story(tmp_path / "archive")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Run another command in a thread: there it has an event loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def types(maker: Maker, home: Path, *words: str) -> int:
    return main([*words, f"--destination=file:{maker.root}", f"--home={home}"])


def index_of(home: Path) -> Path:
    (path,) = home.glob("archives/*/index.sqlite")
    return path


def until(capsys: pytest.CaptureFixture[str], words: str) -> str:
    """Wait until something is told on the terminal; return all that was."""
    told: list[str] = []

    def is_told() -> bool:
        told.append(capsys.readouterr().err)
        return words in "".join(told)

    asyncio.run(wait_for(is_told, _PATIENCE_S, words))
    return "".join(told)


def test_a_second_sync_waits_for_the_first_and_indexes_nothing_twice(
    maker: Maker,
    home: Path,
    other: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    second: list[Future[int]] = []
    real = Builder.add

    def meanwhile(builder: Builder, *arguments: Any, **options: Any) -> int:
        monkeypatch.undo()
        second.append(other.submit(types, maker, home, "sync"))
        until(capsys, _WAITING)
        return real(builder, *arguments, **options)

    monkeypatch.setattr(Builder, "add", meanwhile)

    assert types(maker, home, "sync") == 0

    assert second[0].result(_PATIENCE_S) == 0
    said = capsys.readouterr().out.splitlines()
    new = sorted(int(re.findall(r"^(\d+) segments", line)[0]) for line in said)
    assert new[0] == 0
    assert new[1] > 0


def test_without_sync_the_index_is_used_as_it_is(
    maker: Maker, home: Path, other: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    types(maker, home, "sync")
    folder = index_of(home).parent
    with turn_if_free(folder) as is_free:
        assert is_free
        capsys.readouterr()
        assert types(maker, home, "search", "price", "--no-sync") == 1
        said, told = capsys.readouterr()
        assert "The price is 120." in said
        assert "NOT EVERYTHING IS INDEXED: another “steward audit” is at work" in told
        # That parts of words are to be known is written into it: for that it has to wait.
        search = other.submit(types, maker, home, "search", "--no-sync", "--containing", "pric")
        assert "parts of words" in until(capsys, _WAITING)
        assert not search.done()
    assert search.result(_PATIENCE_S) == 0
    assert "The price is 120." in capsys.readouterr().out
    assert types(maker, home, "search", "price", "--no-sync") == 0


def test_cases_are_begun_and_listed_whoever_is_at_work_with_the_index(
    maker: Maker, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    types(maker, home, "sync")
    with turn_if_free(index_of(home).parent) as is_free:
        assert is_free
        capsys.readouterr()
        assert types(maker, home, "case", "create", "Desk") == 0
        assert types(maker, home, "case", "list") == 0

    assert capsys.readouterr() == ("The case “Desk” is open.\nDesk: 0 messages\n", "")


@pytest.mark.parametrize("error", ["locked", "read"])
def test_an_index_that_cannot_be_written_is_a_sentence(
    maker: Maker,
    home: Path,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("auditbot.reader.index.database._WAIT_S", 0.05)
    types(maker, home, "rooms")
    capsys.readouterr()
    maker.message("one more")
    maker.segment()
    maker.manifest()
    path = index_of(home)
    # As a version that knows no turns does it.
    older = sqlite3.connect(path)
    if error == "locked":
        older.execute("BEGIN IMMEDIATE")
    else:
        older.execute("ALTER TABLE record RENAME TO lost")
        older.commit()

    assert types(maker, home, "sync") == 2

    said, told = capsys.readouterr()
    older.close()
    assert said == ""
    assert told.startswith("steward: ")
    assert len(told.splitlines()) == 1
    assert ("try again when it has ended" in told) == (error == "locked")
    if error == "locked":
        assert types(maker, home, "sync") == 0


def damage(path: Path, *tables: str) -> None:
    """Overwrite the first page of tables and of all that finds things in them."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    marks = ",".join("?" * len(tables))
    pages = connection.execute(
        f"SELECT rootpage FROM sqlite_master WHERE tbl_name IN ({marks}) AND rootpage > 0", tables
    ).fetchall()
    connection.close()
    assert pages
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (("sync",), "manifest"),
        (("search", "price"), "record"),
        (("search", "price", "--no-sync"), "record"),
        (("transcript", "Trading desk", "--output=desk.html"), "record"),
        (("case", "add", "Desk", "$4"), "record"),
        (("parquet", "--into=copy", "--no-sync"), "object"),
        (("serve", "--port=0", "--substrings"), "meta"),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one),
)
def test_damage_that_turns_out_in_the_middle_is_a_sentence_too(
    maker: Maker,
    home: Path,
    words: tuple[str, ...],
    table: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home.parent)
    types(maker, home, "sync")
    types(maker, home, "case", "create", "Desk")
    capsys.readouterr()
    path = index_of(home)
    damage(path, table)

    assert types(maker, home, *words) == 2

    said, told = capsys.readouterr()
    assert said == ""
    *_, last = told.splitlines()
    assert last == (
        f"steward: The index “{path}” cannot be used (database disk image is malformed): "
        "delete it and start again, it is built anew."
    )
    path.unlink()
    assert types(maker, home, "search", "price") == 0
    assert "The price is 120." in capsys.readouterr().out


def test_an_index_that_many_begin_at_once_is_made_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            for library in pool.map(Library, [tmp_path / str(number)] * 8):
                assert library.until_ms is None
                library.close()


@pytest.fixture
def desk(maker: Maker, home: Path) -> Iterator[Desk]:
    assert types(maker, home, "sync") == 0
    archive = Archive(f"file:{maker.root}", DirectoryPlace(maker.root), home, ())
    library = Library(archive.cache)
    clock = SystemClock()
    log = AccessLog(home / "access.jsonl", clock)
    yield Desk(archive, library, log, clock, UTC, "UTC", "alice")
    library.close()


async def test_the_page_is_not_green_if_the_archive_is_gone(maker: Maker, desk: Desk) -> None:
    await desk.verify(everything=True)
    assert desk.badge()["state"] == "right"
    shutil.rmtree(maker.root / "v1")

    await desk.verify(everything=True)

    assert (desk.badge()["state"], desk.badge()["word"]) == ("unknown", "Not verified")
    assert "There is no archive here" in desk.badge()["words"]


async def test_the_page_shows_the_index_while_another_process_writes_into_it(
    maker: Maker, desk: Desk
) -> None:
    maker.message("one more")
    maker.segment()
    maker.manifest()
    before = desk.library.until_ms
    with turn_if_free(desk.library.folder):
        async with asyncio.TaskGroup() as group:
            syncing = group.create_task(desk.sync())
            await wait_for(lambda: "as it is" in desk.trouble, _PATIENCE_S, "the sentence")
            async with asyncio.timeout(_PATIENCE_S):
                assert await desk.work(lambda: desk.library.until_ms) == before
            assert not syncing.done()
            syncing.cancel()

    await desk.sync()
    assert desk.trouble == ""
    assert desk.synced is not None
    assert desk.synced.segments == 1


async def test_the_page_stays_up_where_the_index_cannot_be_written(
    maker: Maker, desk: Desk
) -> None:
    desk.library.connection.execute("PRAGMA busy_timeout = 0")
    maker.message("one more")
    maker.segment()
    maker.manifest()
    older = sqlite3.connect(desk.library.folder / "index.sqlite")
    older.execute("BEGIN IMMEDIATE")

    await desk.sync()

    assert "try again when it has ended" in desk.trouble
    older.close()
    await desk.sync()
    assert desk.trouble == ""

    desk.library.connection.execute("DROP TABLE manifest")
    app = make_app(desk, Door(desk.clock), Hosts(frozenset(), frozenset()))
    answer = await failures(make_mocked_request("GET", "/", app=app), overview)
    assert answer.status == 503
    assert isinstance(answer, web.Response)
    assert "it is built anew" in (answer.text or "")


async def test_the_page_stays_up_where_the_index_is_damaged(maker: Maker, desk: Desk) -> None:
    desk.library.close()
    damage(desk.library.folder / "index.sqlite", "manifest", "record")
    desk.library = Library(desk.library.folder)

    await desk.sync()

    assert "delete it and start again" in desk.trouble
    app = make_app(desk, Door(desk.clock), Hosts(frozenset(), frozenset()))
    answer = await failures(make_mocked_request("GET", "/", app=app), overview)
    assert answer.status == 503
    assert isinstance(answer, web.Response)
    assert "delete it and start again" in (answer.text or "")
    desk.library.close()
