"""A signed statement a day: what was recorded on it, what of that is missing, and why.

Made once the UTC day is over and all of it is sealed; under one key a day, so that whatever is
repeated, there is one.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from auditbot import manifest_facts as facts
from auditbot.lines import waiting
from auditbot.observed import gap_action
from auditbot.operations.completeness_page import page_of
from auditbot.operations.desk import Desk, day_text
from auditbot.operations.service import open_events, service
from auditbot.pipeline.line import NOT_KEPT
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Connection, Row

_PATIENCE_MS = 6 * 3_600_000
"""How long after a day's end its last records may take to be sealed."""
_MOST_INTERVALS, _SLACK_MS = 1.5, 60_000
"""After so many of its intervals and so much more a stream without a new manifest was silent."""
_UNREAD = "undecryptable"
_MEDIA = frozenset(
    [
        "stored",
        "duplicate",
        "too_large",
        "missing",
        "hash_mismatch",
        "forbidden",
        "gave_up",
        "infected",
    ]
)


async def state_day(desk: Desk, day: int) -> bool:
    """Write a day's statement down and store it; return ``False`` if it is too early.

    Args:
        desk: the tools of the act
        day: a UTC day that is over, counted since the epoch

    Raises:
        TransientError: the store is away; what was written down is stored at the next call.
        PermanentError: the store refuses it.
    """
    key = f"reports/dt={day_text(day)}/completeness.json"
    if not await desk.database.fetchval("SELECT stream FROM audit_head WHERE id = 1"):
        return True  # nothing is exported now: no manifest would list it
    place = await desk.newest_place()
    # Before the transaction: on a large database it takes its time, and is only ever more later.
    read_by_now = await _read_by_now(desk, day, f"{desk.root}{key}")
    async with desk.database.transaction() as connection:
        waiting = await _waiting(connection, day)
        if waiting and desk.clock.now_ms() < (day + 1) * DAY_MS + _PATIENCE_MS:
            return False
        is_made = await connection.fetchval(
            "SELECT 1 FROM audit_statement WHERE object_key = $1", f"{desk.root}{key}"
        )
        content = await _content(connection, day)
        if content is not None and not is_made:
            document = {
                "type": "steward.completeness",
                "day": day_text(day),
                "created_ms": desk.clock.now_ms(),
                "not_sealed": waiting,
                **content,
                "undecryptable_read": min(read_by_now, sum(content["undecryptable"].values())),
                **await _watched(connection, day),
                **await facts.open_counts(connection),
                "transactions": await _transactions(connection, day),
                "manifests": await _manifests(
                    connection, day, desk.config.auditbot.manifest_interval_seconds
                ),
                "service": await service(connection, day),
                "open": await open_events(connection),
                "rooms": await facts.rooms(connection, desk.auditbot),
            }
            await desk.state(connection, place, key, document, page=page_of)
    for place, statement in await desk.unpublished("reports/"):
        async with desk.store(place) as store:
            await desk.publish(store, statement)
    return True


async def _content(connection: Connection, day: int) -> dict[str, Any] | None:
    """Return what the day's segments hold, ``None`` if there are none."""
    rows = await connection.fetch(
        "SELECT stream, counts, outcomes FROM audit_segment"
        " WHERE day = $1 AND counts IS NOT NULL ORDER BY stream, first_seq",
        day,
    )
    if not rows:
        return None
    outcomes = _summed(rows, "outcomes")
    unread = {
        name.partition(" ")[2] or "unknown": count
        for name, count in outcomes.items()
        if name.partition(" ")[0] == _UNREAD
    }
    return {
        "streams": sorted({str(row["stream"]) for row in rows}),
        "segments": len(rows),
        "counts": dict(_summed(rows, "counts")),
        "clear": outcomes["clear"],
        "decrypted": outcomes["decrypted"],
        "undecryptable": unread,
        "read_later": outcomes["read_later"],
        "media": {name: count for name, count in outcomes.items() if name in _MEDIA},
        "media_not_kept": outcomes[NOT_KEPT],
    }


async def _read_by_now(desk: Desk, day: int, key: str) -> int:
    """Return how many of a day's events that could not be read when they came were read since."""
    if await desk.database.fetchval("SELECT 1 FROM audit_statement WHERE object_key = $1", key):
        return 0  # it was stated already
    return await desk.database.count(
        "SELECT count(*) FROM audit_seen AS late JOIN audit_seen AS one ON one.kind = 'event'"
        " AND one.sub_key = '' AND one.event_id = late.event_id JOIN audit_segment"
        " ON audit_segment.stream = one.stream AND day = $1 AND counts IS NOT NULL"
        " AND one.seq BETWEEN first_seq AND last_seq WHERE late.kind = 'decryption'"
        " AND late.sub_key = ''",
        day,
    )


async def _watched(connection: Connection, day: int) -> dict[str, Any]:
    """Return what the comparisons with the homeserver found on a day, and which gaps are open."""
    row = await connection.fetchrow(
        "SELECT count(*) AS rooms, coalesce(sum(events), 0) AS events,"
        " coalesce(sum(missing), 0) AS missing, count(trouble) AS not_read"
        " FROM audit_sample WHERE day = $1",
        day,
    )
    sampled = ("rooms", "events", "missing", "not_read")
    gaps = await connection.fetch("SELECT name FROM audit_gap WHERE closed_ms IS NULL")
    waiting = await connection.fetch(
        "SELECT found_by, count(*) AS events FROM audit_missing WHERE asked = 0 GROUP BY found_by"
    )
    return {
        "sampled": {name: int(row[name]) if row is not None else 0 for name in sampled},
        "awaited": {str(one["found_by"]): int(one["events"]) for one in waiting},
        "gaps": dict(Counter(gap_action(str(one["name"])) for one in gaps)),
    }


async def _transactions(connection: Connection, day: int) -> dict[str, int] | None:
    """Return what the homeserver pushed on a day, ``None`` if nobody counted."""
    names = ("seen", "repeated", "skipped", "restarted")
    row = await connection.fetchrow(
        "SELECT * FROM appservice_transaction WHERE day = $1",
        day,
    )
    return None if row is None else {name: int(row[name]) for name in names}


async def _manifests(connection: Connection, day: int, interval_seconds: float) -> dict[str, int]:
    """Return how many manifests were made on a day, and how many of them later than they were due.

    Late is what ``verify`` calls silence, by the interval of now; a silence counts on the day it ended.
    """
    rows = await connection.fetch(
        "SELECT created_ms, coalesce((SELECT created_ms FROM audit_manifest AS before"
        " WHERE before.stream = made.stream AND before.number = made.number - 1), started_ms)"
        " AS since_ms FROM audit_manifest AS made JOIN audit_stream ON audit_stream.id = stream"
        " WHERE created_ms >= $1 AND created_ms < $2",
        day * DAY_MS,
        (day + 1) * DAY_MS,
    )
    silences = [int(row["created_ms"]) - int(row["since_ms"]) for row in rows]
    most_ms = interval_seconds * 1000 * _MOST_INTERVALS + _SLACK_MS
    return {
        "made": len(rows),
        "late": sum(silence > most_ms for silence in silences),
        "longest_ms": max(silences, default=0),
    }


def _summed(rows: Sequence[Row], column: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in rows:
        found.update(json.loads(row[column]))
    return found


async def _waiting(connection: Connection, day: int) -> int:
    """Return how many of a day's records are in no built segment yet."""
    rows = await connection.fetch(
        "SELECT stream, first_seq, first_ms, written_ms, sizes FROM audit_lines"
        " WHERE last_ms >= $1 AND first_ms < $2",
        day * DAY_MS,
        (day + 1) * DAY_MS,
    )
    if not rows:
        return 0
    # The first lines of a row may be in a segment that was built, and the rest of it not yet.
    built = {
        str(row["stream"]): int(row["last_seq"])
        for row in await connection.fetch(
            "SELECT stream, max(last_seq) AS last_seq FROM audit_segment WHERE state <> 'cut'"
            " GROUP BY stream"
        )
    }
    return sum(
        line.day == day and line.seq > built.get(row["stream"], -1)
        for row in rows
        for line in waiting(row)
    )
