"""What of the inbox a reader has still to deal with, asked from within a transaction.

Whoever changes what a reader does must know it at that moment, also on the command line, where
nobody has the inbox open.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from common.database.pool import Connection, Database
from common.errors import TransientError
from common.inbox.file import inbox_file_of

_WAITING = (
    "SELECT count(*) AS events, min(received_ms) AS first_ms, max(received_ms) AS last_ms"
    " FROM inbox_entry WHERE kind = 'event' AND position > $1 AND recipient IN ('', $2)"
)
_OF_TIME = (
    "SELECT count(*) FROM inbox_entry WHERE position > $1 AND recipient IN ('', $2)"
    " AND kind IN ('event', 'graph', 'receipt') AND received_ms >= $3 AND received_ms < $4"
)
_CURSOR = "SELECT coalesce(max(position), 0) FROM inbox_cursor WHERE reader = $1"
_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Room events that were acknowledged and not dealt with; when they were received."""

    events: int
    first_ms: int
    last_ms: int


async def backlog(connection: Connection, url: str, reader: str, recipient: str) -> Backlog | None:
    """Return which room events a reader has still to deal with, ``None`` if there are none.

    Args:
        connection: the transaction
        url: the database's
        reader: whose cursor counts
        recipient: the account that it reads for

    Raises:
        TransientError: the file of the inbox cannot be read.
    """
    after = int(await connection.fetchval(_CURSOR, reader))
    row = await connection.fetchrow(_WAITING, after, recipient)
    file = inbox_file_of(url)
    if not (row and row["events"]) and file is not None:
        found = await asyncio.to_thread(_in_file, file, after, recipient)
    else:
        found = (row["events"], row["first_ms"], row["last_ms"]) if row else (0, 0, 0)
    return Backlog(*map(int, found)) if found[0] else None


async def waits_of(
    connection: Connection | Database,
    url: str,
    reader: str,
    recipient: str,
    *,
    begin_ms: int,
    end_ms: int,
) -> bool:
    """Return whether a reader has still to deal with something about rooms that came in a time.

    Args:
        connection: the transaction, or the database
        url: the database's
        reader: whose cursor counts
        recipient: the account that it reads for
        begin_ms: when the time begins
        end_ms: when it is over, exclusive

    Raises:
        TransientError: the file of the inbox cannot be read.
    """
    after = int(await connection.fetchval(_CURSOR, reader))
    arguments = (after, recipient, begin_ms, end_ms)
    if await connection.fetchval(_OF_TIME, *arguments):
        return True
    file = inbox_file_of(url)
    if file is None:
        return False
    return bool((await asyncio.to_thread(_in_file, file, *arguments, query=_OF_TIME))[0])


def _in_file(file: Path, *arguments: object, query: str = _WAITING) -> Sequence[int]:
    if not file.exists():
        return (0, 0, 0)
    try:
        opened = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT_SECONDS)
        with closing(opened) as connection:
            found: Sequence[int] = connection.execute(
                query.replace("$", "?"), arguments
            ).fetchone()
    except sqlite3.Error as error:
        raise TransientError(
            f"The inbox ({file.name}) cannot be read, so that it is not known what waits in it. "
            "Nothing was changed: try again."
        ) from error
    return found
