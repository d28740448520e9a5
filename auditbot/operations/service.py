"""How soon encrypted messages could be read, and what is still open: the figures of a day's statement.

All of it can be counted again from the archive, whose records say when an event was received and
when a later record said what it says.
"""

import json
from collections import Counter
from typing import Any

from auditbot.content_keys import SEAL_CONTENT
from auditbot.pipeline.seal import day_of
from auditbot.pipeline.segment import DAY_MS
from auditbot.unread import NO_KEY_HELPS
from common.database.pool import Connection

SOON_MS = 60_000
FINAL_MS = 72 * 3_600_000
"""After so long an event counts as unreadable for good; it is read all the same if a key comes."""
DAYS_BACK = 7
"""Of how many days before it a statement says what became of them."""
MOST_NAMED = 50
"""Rooms and devices that are named one by one."""

Json = dict[str, Any]

_UNREAD = "undecryptable"
_FINAL_CAUSES = ", ".join(f"'{why.value}'" for why in sorted(NO_KEY_HELPS))
# By the time of receipt first, for which there is an index; which segment it is in is asked for each.
_OF_DAY = (
    " FROM audit_unread WHERE received_ms >= $1 AND received_ms < $2 AND EXISTS (SELECT 1"
    " FROM audit_segment WHERE audit_segment.stream = audit_unread.stream"
    " AND audit_unread.seq BETWEEN first_seq AND last_seq AND counts IS NOT NULL)"
)
_LATE = (
    "SELECT count(*) AS unread,"
    " count(CASE WHEN read_ms <= $3 AND read_ms - received_ms <= $4 THEN 1 END) AS soon,"
    " count(CASE WHEN read_ms <= $3 AND read_ms - received_ms <= $5 THEN 1 END) AS in_a_day,"
    " count(CASE WHEN read_ms <= $3 THEN 1 END) AS late,"
    " count(CASE WHEN (read_ms IS NULL OR read_ms > $3)"
    f" AND (received_ms <= $6 OR why IN ({_FINAL_CAUSES})) THEN 1 END) AS final{_OF_DAY}"
)


async def service(connection: Connection, day: int) -> list[Json]:
    """Return how soon the messages of a day and of the days before it were read.

    As of the day's end, so that whoever has the archive counts the same. A day about which not
    all is known (an older version did not remember when events were read) is left out.
    """
    as_of_ms = (day + 1) * DAY_MS
    found = []
    for one in range(day - DAYS_BACK, day + 1):
        outcomes = await _outcomes(connection, one)
        if not outcomes:
            continue
        row = await connection.fetchrow(
            _LATE,
            one * DAY_MS,
            (one + 1) * DAY_MS,
            as_of_ms,
            SOON_MS,
            DAY_MS,
            as_of_ms - FINAL_MS,
        )
        unread = sum(n for name, n in outcomes.items() if name.partition(" ")[0] == _UNREAD)
        if row is None or row["unread"] != unread:
            continue
        at_once = outcomes["decrypted"]
        found.append(
            {
                "day": day_of(one),
                "encrypted": at_once + unread,
                "within_60_s": at_once + int(row["soon"]),
                "within_24_h": at_once + int(row["in_a_day"]),
                "read": at_once + int(row["late"]),
                "final": int(row["final"]),
            }
        )
    return found


async def open_events(connection: Connection) -> Json:
    """Return what waits for a key now: by cause, by room, by the device that sent it.

    An archive whose segments are encrypted tells nobody without a key who wrote where, and a
    statement is plain: of such an archive rooms and devices are counted and not named.
    """
    causes = await connection.fetch(
        "SELECT coalesce(why, 'unknown') AS why, count(*) AS events FROM audit_pending"
        " LEFT JOIN audit_unread ON audit_unread.event_id = audit_pending.event_id"
        " GROUP BY why ORDER BY why"
    )
    counts = await connection.fetchrow(
        "SELECT count(DISTINCT room_id) AS rooms, (SELECT count(*) FROM (SELECT DISTINCT sender,"
        " device_id FROM audit_unread JOIN audit_pending"
        " ON audit_pending.event_id = audit_unread.event_id) AS device) AS devices"
        " FROM audit_pending"
    )
    is_plain = await _is_plain(connection)
    return {
        "causes": {str(row["why"]): int(row["events"]) for row in causes},
        "rooms": await _named(connection, "room_id") if is_plain else [],
        "rooms_count": int(counts["rooms"]) if counts is not None else 0,
        "devices": await _named(connection, "sender, device_id") if is_plain else [],
        "devices_count": int(counts["devices"]) if counts is not None else 0,
    }


async def _outcomes(connection: Connection, day: int) -> Counter[str]:
    rows = await connection.fetch(
        "SELECT outcomes FROM audit_segment WHERE day = $1 AND counts IS NOT NULL", day
    )
    found: Counter[str] = Counter({"": 1} if rows else {})
    for row in rows:
        found.update(json.loads(row["outcomes"]))
    return found


async def _is_plain(connection: Connection) -> bool:
    """Return whether who may read the statement may read the names in records too."""
    row = await connection.fetchrow(
        "SELECT recipients, seal FROM audit_stream WHERE id = (SELECT stream FROM audit_head"
        " WHERE id = 1)"
    )
    return row is not None and (not row["recipients"] or row["seal"] == SEAL_CONTENT)


async def _named(connection: Connection, columns: str) -> list[Json]:
    """Return what most of the open events have in common, of streams whose names are plain."""
    rows = await connection.fetch(
        f"SELECT {columns}, count(*) AS events FROM (SELECT audit_unread.* FROM audit_unread"  # noqa: S608  # our own words
        " JOIN audit_pending ON audit_pending.event_id = audit_unread.event_id"
        " JOIN audit_stream ON audit_stream.id = audit_unread.stream"
        " WHERE recipients = '' OR seal = $1) AS unread"
        f" GROUP BY {columns} ORDER BY events DESC, {columns} LIMIT $2",
        SEAL_CONTENT,
        MOST_NAMED,
    )
    names = columns.split(", ")
    return [{**{name: row[name] for name in names}, "events": int(row["events"])} for row in rows]
