"""Gaps: something that is known to be missing, said in a signed record and remembered until it is there.

Where an export ends, what is awaited and what waits in the inbox will not come into its stream any
more: the stream says so before it ends.
"""

from auditbot.pipeline.other_records import Gap
from auditbot.writing import Writing
from common.database.pool import Connection
from common.inbox.backlog import Backlog

READER = "auditbot"
"""Under which name this bot reads the inbox."""

_AWAITED = (
    "SELECT event_id, room_id, found_by FROM audit_missing WHERE asked = 0"
    " AND NOT EXISTS (SELECT 1 FROM audit_seen WHERE kind = 'event' AND sub_key = ''"
    " AND audit_seen.event_id = audit_missing.event_id)"
    " AND NOT EXISTS (SELECT 1 FROM audit_gap WHERE closed_ms IS NULL"
    " AND name = 'event:' || audit_missing.event_id) ORDER BY noticed_ms, event_id"
)


async def open_gap(connection: Connection, writing: Writing, name: str, gap: Gap) -> None:
    """Add the record of a gap, and remember it under its name until it is closed."""
    seq = await writing.gap(connection, gap)
    await connection.execute(
        "INSERT INTO audit_gap (name, stream, seq, opened_ms, room_id) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (name) DO UPDATE SET stream = excluded.stream, seq = excluded.seq,"
        " opened_ms = excluded.opened_ms, room_id = excluded.room_id, closed_ms = NULL",
        name,
        writing.stream,
        seq,
        writing.now_ms,
        gap.room_id,
    )


async def open_awaited(connection: Connection, writing: Writing) -> None:
    """Record a gap for each event that is awaited and not here, in the stream that ends.

    Whoever verifies that stream's place a week later finds the hole, and must find this too. It is
    asked for afterwards as what is a gap already, if an export goes on elsewhere.
    """
    awaited = await connection.fetch(_AWAITED)
    for row in awaited:
        detail = {"event_id": row["event_id"], "found_by": row["found_by"]}
        gap = Gap("event_missing", detail, room_id=row["room_id"])
        await open_gap(connection, writing, f"event:{row['event_id']}", gap)
    await connection.executemany(
        "UPDATE audit_missing SET asked = 1 WHERE event_id = $1",
        [(row["event_id"],) for row in awaited],
    )


async def open_not_recorded(connection: Connection, writing: Writing, backlog: Backlog) -> None:
    """Record that events were received and not recorded yet when the export was stopped."""
    detail = {
        "events": backlog.events,
        "first_received_ms": backlog.first_ms,
        "last_received_ms": backlog.last_ms,
    }
    name = f"not_recorded:{writing.stream}"
    await open_gap(connection, writing, name, Gap("not_recorded", detail))
