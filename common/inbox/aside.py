"""Entries that a reader could not deal with: kept with the reason, and tried again.

They are tried again once at each start, because a new version may deal with what an old one
could not, and whenever a person asks for it (``steward inbox retry``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.database.pool import Connection, Database
from common.inbox.port import Entry, EntryKind, Source

_MOST_AT_A_TIME = 200


@dataclass(frozen=True, slots=True)
class SetAside:
    """Such an entry as a person is shown it: never what is in it."""

    reader: str
    position: int
    kind: EntryKind
    reason: str
    set_aside_ms: int
    attempts: int


async def set_aside(
    connection: Connection, reader: str, entry: Entry, reason: str, *, now_ms: int
) -> None:
    """Keep an entry nobody could deal with, with the reason; a repetition counts."""
    await connection.execute(
        "INSERT INTO inbox_set_aside (reader, position, kind, reason, set_aside_ms, body,"
        " recipient, source, source_pos, received_ms)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        " ON CONFLICT (reader, position) DO UPDATE SET reason = excluded.reason, due = 0,"
        " attempts = inbox_set_aside.attempts + 1",
        reader,
        entry.position,
        entry.kind.value,
        reason,
        now_ms,
        entry.body,
        entry.recipient,
        entry.source.value,
        entry.source_pos,
        entry.received_ms,
    )


async def dealt_with(connection: Connection, reader: str, entry: Entry) -> None:
    """Forget an entry, in the transaction that stores what was done about it."""
    await connection.execute(
        "DELETE FROM inbox_set_aside WHERE reader = $1 AND position = $2", reader, entry.position
    )


async def waiting_aside(
    database: Database, reader: str, *, after: int = -1, only_due: bool
) -> list[Entry]:
    """Return the next of a reader's entries to try again, in order of position."""
    rows = await database.fetch(
        "SELECT position, kind, recipient, source, source_pos, received_ms, body"
        " FROM inbox_set_aside WHERE reader = $1 AND position > $2 AND due >= $3"
        " ORDER BY position LIMIT $4",
        reader,
        after,
        int(only_due),
        _MOST_AT_A_TIME,
    )
    return [
        Entry(
            position=row["position"],
            kind=EntryKind(row["kind"]),
            body=bytes(row["body"]),
            source=Source(row["source"]),
            source_pos=row["source_pos"],
            recipient=row["recipient"],
            received_ms=row["received_ms"],
        )
        for row in rows
    ]


async def list_aside(database: Database) -> Sequence[SetAside]:
    """Return everything that is set aside, for a person."""
    rows = await database.fetch(
        "SELECT reader, position, kind, reason, set_aside_ms, attempts FROM inbox_set_aside"
        " ORDER BY reader, position"
    )
    return [
        SetAside(
            row["reader"],
            row["position"],
            EntryKind(row["kind"]),
            row["reason"],
            row["set_aside_ms"],
            row["attempts"],
        )
        for row in rows
    ]


async def ask_for_retry(connection: Connection) -> None:
    """Have every reader try its entries again soon."""
    await connection.execute("UPDATE inbox_set_aside SET due = 1")
