"""The inbox in a SQLite file of its own, beside the database's.

SQLite has one writer for each file. In one file the homeserver's push, which waits for its commit,
and the records that are made of what came before stand in each other's way; in two they are
committed side by side, each on its own thread.

Nothing is written to both at once. What comes in is on disk before it is acknowledged to a feed,
and a cursor is moved in the database, with what was done about the entries.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from common.alarms import raise_alarm
from common.clock import Clock
from common.database.migrations import inbox_upgrade_table
from common.database.pool import Database, sqlite_file_of
from common.errors import ConfigError
from common.telemetry.log import Log

log = Log("inbox")

_REACHED = (
    "SELECT max(coalesce((SELECT max(position) FROM inbox_cursor), 0),"
    " coalesce((SELECT max(position) FROM inbox_set_aside), 0))"
)

_MOVE = """
BEGIN IMMEDIATE;
INSERT INTO inbox_entry SELECT * FROM old.inbox_entry;
INSERT INTO inbox_seen SELECT key FROM old.inbox_seen;
UPDATE inbox_head SET position = (SELECT position FROM old.inbox_head);
INSERT INTO inbox_of (id) VALUES ('{id}');
COMMIT;
"""


def inbox_file_of(url: str) -> Path | None:
    """Return the file of the inbox that belongs to a database, ``None`` for PostgreSQL."""
    file = sqlite_file_of(url)
    return None if file is None else file.with_name(f"{file.name}.inbox")


@asynccontextmanager
async def open_inbox_file(
    url: str, database: Database, clock: Clock
) -> AsyncIterator[Database | None]:
    """Open the file and see that it is the database's own; ``None`` for PostgreSQL.

    What an earlier version kept in the database is moved into the file.

    Args:
        url: the database's
        database: the database, open
        clock: tells when an alarm was raised

    Raises:
        ConfigError: the file belongs to another database.
    """
    file = inbox_file_of(url)
    if file is None:
        yield None
        return
    entries = Database(f"sqlite:///{file}", inbox_upgrade_table())
    await entries.start()
    try:
        await _pair(database, entries, clock, file, sqlite_file_of(url) or file)
        yield entries
    finally:
        await entries.stop()


async def _pair(database: Database, entries: Database, clock: Clock, file: Path, of: Path) -> None:
    ours = await database.fetchval("SELECT id FROM inbox_file")
    theirs = await entries.fetchval("SELECT id FROM inbox_of")
    if ours is None and theirs is None:
        theirs = secrets.token_hex(16)
        await asyncio.to_thread(_move, file, of, theirs)
    if ours is None:
        await _settle(database, entries, theirs, file)
    elif theirs is None:
        async with entries.transaction() as connection:
            await connection.execute("INSERT INTO inbox_of (id) VALUES ($1)", ours)
    elif ours != theirs:
        raise _foreign(file)
    await _compare(database, entries, clock, file)


def _move(file: Path, of: Path, name: str) -> None:
    """Copy what the database holds into the file, all of it or nothing."""
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        connection.execute("ATTACH DATABASE ? AS old", (str(of),))
        connection.executescript(_MOVE.format(id=name))


async def _settle(database: Database, entries: Database, theirs: str, file: Path) -> None:
    """Have the database name the file, which holds by now what the database held."""
    head = "SELECT position FROM inbox_head"
    if await database.fetchval(head) != await entries.fetchval(head):
        # Not what we copied, but what another database, which was here before, left behind.
        raise _foreign(file)
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM inbox_entry")
        await connection.execute("DELETE FROM inbox_seen")
        await connection.execute("INSERT INTO inbox_file (id) VALUES ($1)", theirs)


async def _compare(database: Database, entries: Database, clock: Clock, file: Path) -> None:
    """See that neither is an older copy than the other; what can be done about it is done."""
    reached = int(await database.fetchval(_REACHED))
    async with entries.transaction() as connection:
        # No position is given twice: readers would pass over what is new.
        behind = await connection.fetchval(
            "UPDATE inbox_head SET position = $1 WHERE position < $1 RETURNING 1", reached
        )
        ahead = await connection.fetchval("SELECT 1 FROM inbox_head WHERE pruned > $1", reached)
        if ahead is not None:
            # What the database has not dealt with was deleted here. The second feed goes on from
            # where this database was, and what it brings again must not be taken for known.
            await connection.execute(
                "DELETE FROM inbox_entry WHERE kind = 'event' AND position > $1", reached
            )
            await connection.execute("DELETE FROM inbox_seen")
            await connection.execute("UPDATE inbox_head SET pruned = 0")
    if behind is not None:
        await _tell(database, clock, file, _INBOX_OLDER)
    if ahead is not None:
        await _tell(database, clock, file, _DATABASE_OLDER)


async def _tell(database: Database, clock: Clock, file: Path, sentence: str) -> None:
    log.error("the database and its inbox are not of one time", file=file.name)
    async with database.transaction() as connection:
        await raise_alarm(connection, sentence.format(file=file.name), now_ms=clock.now_ms())


_INBOX_OLDER = (
    "Steward's inbox ({file}) was lost, or is an older copy than its database. What had been received "
    "and not been dealt with is gone from it: commands that were not answered have to be given again; "
    "auditbot looks for events that are missing and records each as a gap until it is there. "
    "Whoever restores a backup copies both files back."
)
_DATABASE_OLDER = (
    "Steward's database is an older copy than its inbox ({file}). Events since then are fetched from "
    "the homeserver again; room keys that came since then are not, and are looked for in the key "
    "backup. Whoever restores a backup copies both files back."
)


def _foreign(file: Path) -> ConfigError:
    return ConfigError(
        f"The inbox in {file} does not belong to this database. If the database was made anew, move "
        "that file away; if it was copied, copy both files."
    )
