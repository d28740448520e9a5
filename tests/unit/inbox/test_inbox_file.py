"""The inbox in a file of its own: moved there once, and never another database's."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.alarms import untold
from common.clock import SystemClock
from common.database.pool import Database
from common.errors import ConfigError, TransientError
from common.inbox.backlog import backlog
from common.inbox.file import inbox_file_of, open_inbox_file
from common.inbox.port import EntryKind, NewEntry, Source
from common.inbox.store import Reader, StoredInbox, move_cursor
from tests.support.databases import open_database, sqlite_url

READER = Reader("reader", (EntryKind.EVENT,))
LATER_MS = 2**50


def event(name: str) -> NewEntry:
    return NewEntry(EntryKind.EVENT, name.encode(), Source.SYNC, "1", key=f"event:{name}")


class Life:
    """One life of a process, with the database and its inbox."""

    def __init__(self, database: Database, inbox: StoredInbox) -> None:
        self.database = database
        self.inbox = inbox

    async def names(self, after: int = 0) -> list[str]:
        return [
            entry.body.decode() for entry in await self.inbox.read(after, READER.kinds, limit=100)
        ]

    async def deal_with(self, count: int) -> None:
        """Move the cursor past the next entries."""
        after = await self.inbox.cursor(READER.name)
        entries = await self.inbox.read(after, READER.kinds, limit=count)
        async with self.database.transaction() as connection:
            await move_cursor(connection, READER.name, entries[-1].position)

    async def left(self) -> list[str]:
        return await self.names(await self.inbox.cursor(READER.name))

    async def alarms(self) -> str:
        return "\n".join(alarm.sentence for alarm in await untold(self.database))


@asynccontextmanager
async def life(directory: Path, *, apart: bool = True) -> AsyncIterator[Life]:
    url, clock = sqlite_url(directory), SystemClock()
    async with open_database(url) as database:
        if not apart:
            yield Life(database, StoredInbox(database, clock))
            return
        async with open_inbox_file(url, database, clock) as entries:
            yield Life(database, StoredInbox(database, clock, entries=entries))


def file_of(directory: Path) -> Path:
    found = inbox_file_of(sqlite_url(directory))
    assert found is not None
    return found


def all_of(directory: Path) -> list[Path]:
    """Return the file with what SQLite keeps beside it."""
    return list(directory.glob(f"{file_of(directory).name}*"))


async def test_what_an_earlier_version_kept_in_the_database_is_moved(tmp_path: Path) -> None:
    async with life(tmp_path, apart=False) as before:
        await before.inbox.append([event("$a"), event("$b")])
        await before.deal_with(1)

    for _ in range(2):  # and at the next start nothing is moved again
        async with life(tmp_path) as after:
            assert await after.left() == ["$b"]
            assert await after.inbox.append([event("$a"), event("$b")]) == 0
            for table in ("inbox_entry", "inbox_seen"):
                assert await after.database.fetchval(f"SELECT count(*) FROM {table}") == 0
            assert await after.alarms() == ""

    async with life(tmp_path) as later:
        await later.inbox.append([event("$c")])
        assert await later.left() == ["$b", "$c"]


async def test_a_crash_between_the_copy_and_the_deletion_loses_nothing(tmp_path: Path) -> None:
    async with life(tmp_path, apart=False) as before:
        await before.inbox.append([event("$a")])
    shutil.copy(tmp_path / "steward.db", tmp_path / "kept.db")
    async with life(tmp_path):
        pass
    shutil.move(tmp_path / "kept.db", tmp_path / "steward.db")

    async with life(tmp_path) as after:
        assert await after.left() == ["$a"]
        assert await after.inbox.append([event("$a")]) == 0
        assert await after.database.fetchval("SELECT count(*) FROM inbox_entry") == 0


async def test_a_lost_file_gives_no_position_twice_and_is_told(tmp_path: Path) -> None:
    async with life(tmp_path) as before:
        await before.inbox.append([event("$a"), event("$b"), event("$c")])
        await before.deal_with(3)
    for file in all_of(tmp_path):
        file.unlink()

    async with life(tmp_path) as after:
        await after.inbox.append([event("$d")])
        assert await after.left() == ["$d"]
        assert "was lost, or is an older copy" in await after.alarms()

    async with life(tmp_path) as again:
        assert (await again.alarms()).count("was lost") == 1


async def test_an_older_copy_of_the_file_gives_no_position_twice(tmp_path: Path) -> None:
    async with life(tmp_path) as before:
        await before.inbox.append([event("$a")])
    shutil.copy(file_of(tmp_path), tmp_path / "kept")
    async with life(tmp_path) as since:
        await since.inbox.append([event("$b"), event("$c")])
        await since.deal_with(3)
    shutil.move(tmp_path / "kept", file_of(tmp_path))

    async with life(tmp_path) as after:
        await after.inbox.append([event("$d")])
        assert await after.left() == ["$d"]
        assert "was lost, or is an older copy" in await after.alarms()


async def test_an_older_database_takes_in_again_what_was_deleted_since(tmp_path: Path) -> None:
    async with life(tmp_path) as before:
        await before.inbox.append([event("$a")])
        await before.deal_with(1)
    shutil.copy(tmp_path / "steward.db", tmp_path / "kept")
    async with life(tmp_path) as since:
        await since.inbox.append([event("$b")])
        await since.deal_with(1)
        await since.inbox.prune([READER], older_than_ms=LATER_MS)
    shutil.move(tmp_path / "kept", tmp_path / "steward.db")

    async with life(tmp_path) as after:
        assert await after.left() == []
        # The second feed, whose token is the older database's, brings it again.
        assert await after.inbox.append([event("$b")]) == 1
        assert await after.left() == ["$b"]
        assert "database is an older copy than its inbox" in await after.alarms()

    async with life(tmp_path) as again:
        assert (await again.alarms()).count("older copy") == 1


async def test_an_older_database_goes_on_with_what_is_still_there(tmp_path: Path) -> None:
    async with life(tmp_path) as before:
        await before.inbox.append([event("$a")])
        await before.deal_with(1)
    shutil.copy(tmp_path / "steward.db", tmp_path / "kept")
    async with life(tmp_path) as since:
        await since.inbox.append([event("$b")])
        await since.deal_with(1)
    shutil.move(tmp_path / "kept", tmp_path / "steward.db")

    async with life(tmp_path) as after:
        assert await after.left() == ["$b"]
        assert await after.alarms() == ""


@pytest.mark.parametrize("used", [True, False])
async def test_another_databases_file_is_refused(tmp_path: Path, *, used: bool) -> None:
    other, here = tmp_path / "other", tmp_path / "here"
    for directory in (other, here):
        directory.mkdir()
    async with life(other) as stranger:
        await stranger.inbox.append([event("$a")])
    if used:
        async with life(here) as ours:
            await ours.inbox.append([event("$b")])
    shutil.copy(file_of(other), file_of(here))

    with pytest.raises(ConfigError, match="does not belong to this database"):
        async with life(here):
            pass


async def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    async with life(tmp_path) as opened:
        await opened.inbox.append([event("$a")])
        modes = {file.stat().st_mode & 0o077 for file in all_of(tmp_path)}

    assert modes == {0}


def test_postgresql_has_no_such_file() -> None:
    assert inbox_file_of("postgres://steward@localhost/steward") is None


@pytest.mark.parametrize("apart", [True, False])
async def test_what_is_left_of_it_is_told_to_who_has_only_the_database(
    tmp_path: Path, apart: bool
) -> None:
    async with life(tmp_path, apart=apart) as running:
        await running.inbox.append([event("$a"), event("$b"), event("$c")])
        await running.deal_with(1)
        async with running.database.transaction() as connection:
            found = await backlog(connection, sqlite_url(tmp_path), "reader", "@bot:example.org")
        (first, last) = await running.inbox.read(1, READER.kinds, limit=100)
        assert found is not None
        assert (found.events, found.first_ms) == (2, first.received_ms)
        assert found.last_ms == last.received_ms
        await running.deal_with(2)
        async with running.database.transaction() as connection:
            left = await backlog(connection, sqlite_url(tmp_path), "reader", "@bot:example.org")
        assert left is None


async def test_an_inbox_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    async with life(tmp_path) as running:
        for file in all_of(tmp_path):
            file.write_bytes(b"no database" * 1000)
        async with running.database.transaction() as connection:
            with pytest.raises(TransientError, match="cannot be read"):
                await backlog(connection, sqlite_url(tmp_path), "reader", "")
