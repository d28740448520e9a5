"""What happened elsewhere in Steward and belongs into the archive: acts of admins, holes.

Nothing is told to us: the other parts write into tables of their own, for reasons of their own,
and what is not recorded yet is found there.
"""

import base64
from collections.abc import Sequence

from auditbot.gaps import READER, open_gap
from auditbot.ledger import Writing
from auditbot.pipeline.other_records import Gap
from common.database.pool import Connection, Database, Row
from common.identity import lost_devices

REFUSALS = 50
"""How often the timeline feed tries a stretch of a room before it gives up."""
_MOST = 200

_ACTIONS = (
    "SELECT event_id, phase, step, at_ms, room_id, sender, command, detail FROM admin_action"
    # Not by their time: the clock may have been set back.
    " WHERE recorded = 0 ORDER BY at_ms, event_id, step, phase LIMIT $1"
)
_SET_ASIDE = (
    "SELECT position, kind, reason, set_aside_ms, body FROM inbox_set_aside"
    " WHERE reader = $1 AND NOT EXISTS (SELECT 1 FROM audit_gap"
    " WHERE name = 'set_aside:' || position) ORDER BY position LIMIT $2"
)
_REFUSED = (
    "SELECT feed, room_id, from_token, to_token FROM feed_gap WHERE refused >= $1 AND NOT EXISTS"
    " (SELECT 1 FROM audit_gap WHERE closed_ms IS NULL"
    " AND name = 'history:' || room_id || ':' || to_token) LIMIT $2"
)
_ACTION_OF = {
    "set_aside": "set_aside",
    "history": "history_refused",
    "event": "event_missing",
    "not_recorded": "not_recorded",
}
"""What the record of a gap says was the matter, by how the gap's name begins."""
_CLOSED = (
    "SELECT name, stream, seq, room_id FROM audit_gap WHERE closed_ms IS NULL"
    " AND (name LIKE 'history:%' AND NOT EXISTS (SELECT 1 FROM feed_gap"
    " WHERE audit_gap.name = 'history:' || room_id || ':' || to_token)"
    " OR name LIKE 'set_aside:%' AND NOT EXISTS (SELECT 1 FROM inbox_set_aside"
    " WHERE reader = $1 AND audit_gap.name = 'set_aside:' || position)"
    " OR name LIKE 'event:%' AND EXISTS (SELECT 1 FROM audit_seen WHERE kind = 'event'"
    " AND sub_key = '' AND audit_seen.event_id = substr(audit_gap.name, 7))) LIMIT $2"
)


async def is_anything_new(database: Database) -> bool:
    """Return whether there is something to record; without keeping anybody waiting."""
    for query, arguments in (
        (_ACTIONS, (1,)),
        (_SET_ASIDE, (READER, 1)),
        (_REFUSED, (REFUSALS, 1)),
        (_CLOSED, (READER, 1)),
        ("SELECT 1 FROM identity_lost_device WHERE recorded = 0", ()),
    ):
        if await database.fetchrow(query, *arguments) is not None:
            return True
    return False


async def record_observed(connection: Connection, writing: Writing) -> None:
    """Record what is new, in the transaction that ``open_stream`` was called in."""
    await _record_lost_devices(connection, writing)
    await _record_actions(writing, connection, await connection.fetch(_ACTIONS, _MOST))
    for row in await connection.fetch(_SET_ASIDE, READER, _MOST):
        body = bytes(row["body"])
        await open_gap(
            connection,
            writing,
            f"set_aside:{row['position']}",
            Gap(
                "set_aside",
                {
                    "position": row["position"],
                    "kind": row["kind"],
                    "reason": row["reason"],
                    "set_aside_ms": row["set_aside_ms"],
                },
                # All there is of it, so that nothing is lost with it.
                raw_b64=base64.b64encode(body).decode(),
            ),
        )
    for row in await connection.fetch(_REFUSED, REFUSALS, _MOST):
        await open_gap(
            connection,
            writing,
            f"history:{row['room_id']}:{row['to_token']}",
            Gap(
                "history_refused",
                {"from": row["from_token"], "to": row["to_token"]},
                room_id=row["room_id"],
            ),
        )
    for row in await connection.fetch(_CLOSED, READER, _MOST):
        await _close_gap(connection, writing, row)
    await writing.write(connection)


def gap_action(name: str) -> str:
    """Return what the record of a gap says was the matter, from the gap's name."""
    return _ACTION_OF[name.partition(":")[0]]


async def _record_lost_devices(connection: Connection, writing: Writing) -> None:
    """Say where room keys may be missing: a bot had no device for a while."""
    for lost in await lost_devices(connection, recorded=True):
        writing.control(
            actor="homeserver",
            action="device_replaced",
            detail={
                "account": lost.user_id,
                "device_id": lost.device_id,
                "noticed_ms": lost.noticed_ms,
            },
        )


async def _record_actions(writing: Writing, connection: Connection, rows: Sequence[Row]) -> None:
    for row in rows:
        writing.control(
            actor=row["sender"],
            action="admin_action",
            detail={
                name: row[name]
                for name in ("event_id", "room_id", "phase", "step", "command", "detail", "at_ms")
            },
            name=row["event_id"],
            sub_key=f"{row['phase']}:{row['step']}",
        )
    await connection.executemany(
        "UPDATE admin_action SET recorded = 1 WHERE event_id = $1 AND phase = $2 AND step = $3",
        [(row["event_id"], row["phase"], row["step"]) for row in rows],
    )


async def _close_gap(connection: Connection, writing: Writing, row: Row) -> None:
    detail = {} if row["stream"] == writing.stream else {"of_stream": row["stream"]}
    action = gap_action(row["name"])
    if action == "event_missing":
        detail["event_id"] = str(row["name"]).partition(":")[2]
    await writing.gap(connection, Gap(action, detail, row["room_id"], of_seq=row["seq"]))
    await connection.execute(
        "UPDATE audit_gap SET closed_ms = $2 WHERE name = $1", row["name"], writing.now_ms
    )
