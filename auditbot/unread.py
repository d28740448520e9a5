"""Events that could not be read when they were recorded: whose they are, and when a key came.

Their records say the same. Here it can be asked without opening what is stored, which an encrypted
archive does not let us do; nothing of what was said is in it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from auditbot.pipeline.hostile import key
from auditbot.pipeline.record import Record, from_line
from auditbot.pipeline.segment import DAY_MS
from common.crypto.port import Why
from common.database.pool import Connection, Database

KEEP_DAYS = 14
"""How long those are remembered that nothing waits for any more."""
NO_KEY_HELPS = frozenset({Why.REPLAY, Why.MALFORMED, Why.ROOM_MISMATCH})
"""Causes with which an event stays unreadable, whatever comes."""

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Unread:
    """An event that could not be read; ``device_id`` is what it says itself, ``""`` for nothing."""

    event_id: str
    stream: str
    seq: int
    received_ms: int
    room_id: str
    sender: str
    device_id: str
    why: str


def unread_of(first: Record, name: str) -> Unread:
    """Return what to remember of an event by the record that it could not be read."""
    return Unread(
        name,
        first.stream,
        first.seq,
        first.ts_received,
        key(first.room_id or ""),
        key(first.sender or ""),
        key(first.enc_device_id or ""),
        first.enc_error or "unknown",
    )


async def keep_unread(connection: Connection, events: Sequence[Unread]) -> None:
    """Remember events that could not be read."""
    if events:
        await connection.executemany(
            "INSERT INTO audit_unread"
            " (event_id, stream, seq, received_ms, room_id, sender, device_id, why)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (event_id) DO NOTHING",
            [
                (
                    one.event_id,
                    one.stream,
                    one.seq,
                    one.received_ms,
                    one.room_id,
                    one.sender,
                    one.device_id,
                    one.why,
                )
                for one in events
            ],
        )


async def mark_read(connection: Connection, names: Collection[str], *, now_ms: int) -> None:
    """Remember that events were read after all."""
    await connection.executemany(
        "UPDATE audit_unread SET read_ms = $2 WHERE event_id = $1 AND read_ms IS NULL",
        [(name, now_ms) for name in names],
    )


async def keep_older(database: Database) -> int:
    """Remember what waits since an older version, which did not; return how many there were."""
    found = 0
    while True:
        async with database.transaction() as connection:
            rows = await connection.fetch(
                "SELECT event_id, line FROM audit_pending WHERE NOT EXISTS (SELECT 1"
                " FROM audit_unread WHERE audit_unread.event_id = audit_pending.event_id)"
                " ORDER BY event_id LIMIT $1",
                _PAGE,
            )
            firsts = [(str(row["event_id"]), from_line(bytes(row["line"]))) for row in rows]
            events = [unread_of(first, name) for name, first in firsts]
            await keep_unread(connection, events)
        found += len(events)
        if len(events) < _PAGE:
            return found


async def forget_old(database: Database, today: int) -> None:
    """Forget what nothing waits for any more and no statement of a day will count."""
    async with database.transaction() as connection:
        await connection.execute(
            "DELETE FROM audit_unread WHERE received_ms < $1 AND NOT EXISTS (SELECT 1"
            " FROM audit_pending WHERE audit_pending.event_id = audit_unread.event_id)",
            (today - KEEP_DAYS) * DAY_MS,
        )
