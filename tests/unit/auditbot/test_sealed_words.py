"""The words of what is sealed: exactly those that could be opened are in the index, at any time."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from auditbot.operations import erasure, over, retention
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import drop_parts, has_parts, want_parts
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import complete_parts, sync
from auditbot.reader.memory import Remembered
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.storage.reading import DirectoryPlace
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, message, new_room
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.test_sealed_content import (
    BOB,
    DAY,
    IDENTITIES,
    erase_bob,
    fill,
    keys,
    root,
    segment,
)

Terms = list[tuple[str, int, int]]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def by_day(database: Database, tmp_path: Path) -> Office:
    office = Office(database, tmp_path)
    office.world.erasable = "day"
    return await fill(office)


@pytest.fixture
async def by_person(database: Database, tmp_path: Path) -> Office:
    office = Office(database, tmp_path)
    office.world.erasable = "person"
    return await fill(office)


@pytest.fixture
async def mixed(database: Database, tmp_path: Path) -> Office:
    """Three streams: in the open, in segments that are sealed whole, with sealed content."""
    office = Office(database, tmp_path)
    office.start()
    await office.say(*new_room(BOB), message("$open", "alice says in the open"))
    await office.store()
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.erasable = True
    office.at(NOON + 1000)
    office.start()
    await office.say(message("$whole", "alice says in a whole segment"))
    await office.store()
    office.at(NOON + 2000)
    return await fill(office)


def library_of(cache: Path, *, identity: bool) -> Library:
    return Library(cache, (str(IDENTITIES[0]),) if identity else ())


async def synced(office: Office, library: Library) -> list[str]:
    done = await sync(DirectoryPlace(root(office)), library, lambda _: Remembered())
    return done.faults


async def indexed(office: Office, cache: Path, *, identity: bool, parts: bool = False) -> None:
    library = library_of(cache, identity=identity)
    if parts:
        want_parts(library.connection)
    await synced(office, library)
    library.close()


def terms(library: Library, table: str = "words") -> Terms:
    """Return every word that is in the index, with its record and place."""
    library.connection.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.of_{table} USING fts5vocab(main, {table}, instance)"
    )
    rows = library.connection.execute(f"SELECT term, doc, offset FROM temp.of_{table}").fetchall()
    return sorted(rows)


async def fresh(office: Office, folder: Path, table: str = "words") -> Terms:
    """Return what is in an index that is made anew, with an identity."""
    library = library_of(folder, identity=True)
    want_parts(library.connection)
    assert await synced(office, library) == []
    found = terms(library, table)
    library.close()
    return found


def said(library: Library, word: str = "says") -> int:
    return len(search(library, Query(text=word)))


def object_keys(library: Library) -> list[str]:
    rows = library.connection.execute("SELECT key FROM object ORDER BY id").fetchall()
    return [str(key) for (key,) in rows]


async def test_words_that_were_never_put_in_are_not_taken_out(
    by_day: Office, tmp_path: Path
) -> None:
    await indexed(by_day, tmp_path / "cache", identity=False)
    library = library_of(tmp_path / "cache", identity=True)
    first, *others = object_keys(library)

    library.forget([first])

    assert terms(library) == []
    assert library.complete_words() == []
    assert said(library) == 4 - 1
    library.forget(others)
    assert terms(library) == []
    library.close()


async def test_words_of_a_deleted_object_that_is_not_on_this_machine_are_gone(
    by_day: Office, tmp_path: Path
) -> None:
    await indexed(by_day, tmp_path / "cache", identity=True)
    library = library_of(tmp_path / "cache", identity=True)
    first, *_ = object_keys(library)
    for path in library.folder.rglob("objects/*/*"):
        if path.stat().st_size == (root(by_day) / first).stat().st_size:
            path.unlink()

    library.forget([first])

    assert said(library) == 3
    library.close()


async def test_without_an_identity_each_object_is_read_once_however_many_go(
    by_day: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await by_day.say(message(f"$more{number}", f"alice says more {number}"))
        await by_day.store()
    await indexed(by_day, tmp_path / "cache", identity=True)
    by_day.at(NOON + 100 * DAY_MS)
    found = await over.survey(by_day.desk, keep_days=90)
    await retention.apply(by_day.desk, found, keep_days=90)
    by_day.at(NOON + 100 * DAY_MS + 1000)
    await by_day.say(message("$new", "alice says last"))
    await by_day.store()
    read: list[str] = []
    unwatched = Library._clear

    def watched(library: Library, key: str) -> bytes:
        read.append(key)
        return unwatched(library, key)

    monkeypatch.setattr(Library, "_clear", watched)
    library = library_of(tmp_path / "cache", identity=False)
    before = len(object_keys(library))

    assert await synced(by_day, library) == []

    (gone,) = library.connection.execute(
        "SELECT count(*) FROM object WHERE state = 'removed'"
    ).fetchone()
    assert gone == before
    assert len(read) <= before + 1
    assert terms(library) == []
    library.close()


async def test_what_needs_no_key_stays_searchable_without_one_and_the_rest_is_named(
    mixed: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    await indexed(mixed, cache, identity=True, parts=True)
    found = await erasure.survey(mixed.desk, first_day=DAY + 1, last_day=DAY + 1)
    await erasure.apply(mixed.desk, found, reason="x")
    await mixed.store()

    for _ in range(2):
        library = library_of(cache, identity=False)
        (fault,) = await synced(mixed, library)
        assert fault.startswith("the words of 2 segments: ")
        assert fault.endswith("name the file with your age identity with --identity.")
        assert said(library, "open") == 1
        assert said(library) == 1
        library.close()

    library = library_of(cache, identity=True)
    assert await synced(mixed, library) == []
    assert complete_parts(library) == 0
    assert said(library) == 5
    assert terms(library) == await fresh(mixed, tmp_path / "fresh")
    assert terms(library, "parts") == await fresh(mixed, tmp_path / "fresh", "parts")
    library.close()


async def test_of_two_who_use_one_index_none_puts_in_or_takes_out_what_the_other_did(
    by_day: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await indexed(by_day, tmp_path / "cache", identity=False, parts=True)
    overtakes: list[Callable[[], object]] = []
    plain = Library._clear

    def overtaken(library: Library, key: str) -> bytes:
        if library is mine and overtakes:
            overtakes.pop()()
        return plain(library, key)

    monkeypatch.setattr(Library, "_clear", overtaken)
    mine = library_of(tmp_path / "cache", identity=True)
    other = library_of(tmp_path / "cache", identity=True)
    other.connection.execute("PRAGMA busy_timeout = 0")

    overtakes.append(other.complete_words)
    assert mine.complete_words() == []
    assert terms(mine) == await fresh(by_day, tmp_path / "fresh")
    anew = library_of(tmp_path / "fresh", identity=True)
    assert put_in(mine) == put_in(anew)
    assert put_in(mine, "parts") == put_in(anew, "parts")

    drop_parts(mine.connection)
    want_parts(mine.connection)
    overtakes.append(lambda: complete_parts(other))
    complete_parts(mine)
    assert put_in(mine, "parts") == put_in(anew, "parts")
    anew.close()

    first, *_ = object_keys(mine)
    left = [one for one in terms(mine) if one[1] > records_of(mine, first)]

    def forget_too() -> None:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.forget([first])

    overtakes.append(forget_too)
    mine.forget([first])
    assert not overtakes
    assert terms(mine) == left
    mine.close()
    other.close()


def put_in(library: Library, table: str = "words") -> bytes:
    """Return how many texts SQLite says are in, and of how many words: those put in twice twice."""
    (block,) = library.connection.execute(
        f"SELECT block FROM {table}_data WHERE id = 1"
    ).fetchone()
    return bytes(block)


def records_of(library: Library, key: str) -> int:
    (last,) = library.connection.execute(
        "SELECT first_id + last_seq - first_seq FROM object WHERE key = ?", (key,)
    ).fetchone()
    return int(last)


async def test_a_segment_that_is_sealed_whole_is_forgotten_without_an_identity(
    mixed: Office, tmp_path: Path
) -> None:
    await indexed(mixed, tmp_path / "cache", identity=True)
    library = library_of(tmp_path / "cache", identity=False)
    whole = [key for key in object_keys(library) if key.endswith(".age")]

    library.forget(whole)

    assert library.complete_words() == []
    assert not library.indexed_keys(whole)
    assert said(library) == 1
    library.close()


async def test_parts_of_words_are_added_wherever_no_key_is_needed(
    mixed: Office, tmp_path: Path
) -> None:
    await indexed(mixed, tmp_path / "cache", identity=True)
    library = library_of(tmp_path / "cache", identity=False)
    want_parts(library.connection)

    with pytest.raises(DamagedArchiveError, match=r"^\d segments: .*--identity"):
        complete_parts(library)

    assert len(search(library, Query(containing=("the op",)))) == 1
    library.close()
    library = library_of(tmp_path / "cache", identity=True)
    complete_parts(library)
    assert terms(library, "parts") == await fresh(mixed, tmp_path / "fresh", "parts")
    library.close()


@pytest.mark.parametrize("parts", [False, True])
async def test_what_had_no_key_when_it_was_indexed_is_found_once_the_key_is_there(
    by_person: Office, tmp_path: Path, parts: bool
) -> None:
    cache = tmp_path / "cache"
    bobs = next(
        root(by_person) / one["sealed_to"]
        for one in segment(by_person)[1]
        if one["sender"] == BOB and one["sealed_to"]
    )
    key = bobs.read_bytes()
    bobs.unlink()
    await indexed(by_person, cache, identity=True, parts=parts)
    library = library_of(cache, identity=True)
    assert said(library) == 3
    library.close()

    bobs.write_bytes(key)

    library = library_of(cache, identity=True)
    for _ in range(2):
        assert await synced(by_person, library) == []
        assert said(library) == 5
        assert terms(library) == await fresh(by_person, tmp_path / "fresh")
    if parts:
        assert has_parts(library.connection)
        assert terms(library, "parts") == await fresh(by_person, tmp_path / "fresh", "parts")
    library.close()
    await erase_bob(by_person)
    library = library_of(cache, identity=True)
    assert await synced(by_person, library) == []
    assert said(library) == 3
    library.close()


async def test_another_key_in_the_place_of_a_missing_one_is_named_and_not_kept(
    by_person: Office, tmp_path: Path
) -> None:
    one, other = (root(by_person) / key for key in keys(by_person))
    one.unlink()
    await indexed(by_person, tmp_path / "cache", identity=True)
    one.write_bytes(other.read_bytes())

    library = library_of(tmp_path / "cache", identity=True)
    (fault,) = await synced(by_person, library)

    assert fault.endswith("was changed: run verify.")
    assert one.name in fault
    library.close()


async def test_words_are_completed_from_this_machine_alone(
    by_day: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = tmp_path / "officer.key"
    identity.write_text(f"{IDENTITIES[0]}\n")
    where = [f"--destination=file:{root(by_day)}", f"--home={tmp_path / 'home'}"]
    assert await asyncio.to_thread(main, ["sync", *where]) == 0
    root(by_day).rename(tmp_path / "away")

    words = ["search", "says", "--no-sync", f"--identity={identity}", *where]
    assert await asyncio.to_thread(main, words) == 0

    assert "bob says one" in capsys.readouterr().out
