"""Over which time an archive has no record, by its signed manifests: what nobody may take for silence.

Each fact is a sentence for people. Homeservers that share an archive are told apart.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import pairwise

from auditbot.reader.index.library import Library, detail_of
from auditbot.reader.index.schema import KINDS
from auditbot.reader.layout import server_of
from auditbot.reader.read import Period
from auditbot.reader.render.words import act, one_line
from auditbot.reader.said import content_of
from auditbot.reader.times import MOST_INTERVALS, SLACK_MS, moment, span

_GAP, _EVENT = KINDS.index("gap"), KINDS.index("event")
_FIRST_EVENTS = 50


@dataclass(frozen=True, slots=True)
class _Export:
    """One export period, as far as it is indexed."""

    server: str
    stream: str
    start_ms: int
    end_ms: int
    is_over: bool
    interval_ms: int
    previous: str | None
    previous_stopped_ms: int | None
    previous_destination: str | None


def unrecorded(
    library: Library, period: Period, zone: tzinfo = UTC, now_ms: int | None = None
) -> Iterator[str]:
    """Yield when within a period nothing was recorded, or perhaps not, each in a sentence.

    Args:
        library: the index
        period: of which time; an end that is open is ``now_ms``, or else the archive's own
        zone: in which moments are told
        now_ms: up to when the archive should reach, but for what is not signed yet
    """
    exports = _exports(library)
    servers = sorted({export.server for export in exports})
    if not servers:
        yield "The archive reaches no moment at all only; what came later is not in here."
    for server in servers:
        own = [export for export in exports if export.server == server]
        of = f" of {one_line(server)}" if len(servers) > 1 else ""
        yield from _before(own[0], period, zone, of)
        for one, other in pairwise(_joined(own)):
            yield from _between(one, other, period, zone, of)
        yield from _after(own, _up_to(period, own, now_ms), zone, of)
        yield from _silences(library, server, period, zone, of)


def _exports(library: Library) -> list[_Export]:
    """Return the export periods in order, with the moments in which they really ended."""
    rows = library.connection.execute(
        "SELECT first.key, first.stream, first.from_ms, first.previous_stream,"
        " first.previous_stopped_ms, first.previous_destination,"
        " (SELECT max(created_ms) FROM manifest WHERE stream = first.stream),"
        " (SELECT max(closed) FROM manifest WHERE stream = first.stream),"
        # The last record of a stream says that it was stopped; its last manifest may come late.
        " (SELECT max(last_ms) FROM object WHERE stream = first.stream), interval_ms"
        " FROM manifest AS first WHERE number = 0 ORDER BY first.from_ms, first.stream"
    ).fetchall()
    stopped = {row[3]: row[4] for row in rows if row[3] is not None}
    found = []
    for key, stream, start, previous, previous_ms, where, made, closed, last, interval in rows:
        end = stopped.get(stream)
        if end is None:
            end = last if closed and last is not None else made
        is_over = bool(closed) or stream in stopped
        server = str(server_of(key))
        found.append(
            _Export(server, stream, start, end, is_over, interval, previous, previous_ms, where)
        )
    return found


def _joined(exports: Iterable[_Export]) -> Iterator[_Export]:
    """Yield those that reach further than all before them."""
    end = None
    for export in exports:
        if end is None or export.end_ms > end:
            yield export
            end = export.end_ms


def _before(first: _Export, period: Period, zone: tzinfo, of: str) -> Iterator[str]:
    start, end = period.start_ms, period.end_ms
    if (start is not None and start < first.start_ms) or (
        end is not None and end <= first.start_ms
    ):
        elsewhere = "" if first.previous is None else f" {_elsewhere(first, zone)}"
        yield (
            f"The archive{of} begins on {moment(first.start_ms, zone)}: what was sent before that "
            f"is not in here.{elsewhere}"
        )


def _between(one: _Export, other: _Export, period: Period, zone: tzinfo, of: str) -> Iterator[str]:
    if other.start_ms <= one.end_ms or not _meets(period, one.end_ms, other.start_ms):
        return
    is_elsewhere = other.previous not in {None, one.stream}
    yield (
        f"Nothing{of} was recorded here from {moment(one.end_ms, zone)} to "
        f"{moment(other.start_ms, zone)}: "
        + (
            f"the export went elsewhere, or was off. {_elsewhere(other, zone)}"
            if is_elsewhere
            else "the export was off."
        )
    )


def _elsewhere(export: _Export, zone: tzinfo) -> str:
    return (
        f"The export before it was kept at “{one_line(export.previous_destination or '?')}” until "
        f"{moment(export.previous_stopped_ms, zone)}."
    )


def _up_to(period: Period, exports: list[_Export], now_ms: int | None) -> Period:
    """Return a period whose open end is now, if the archive should reach further than it does."""
    last = _last(exports)
    due_ms = 0 if last.is_over else last.interval_ms * MOST_INTERVALS + SLACK_MS
    if period.end_ms is not None or now_ms is None or now_ms <= last.end_ms + due_ms:
        return period
    return Period(period.start_ms, now_ms)


def _last(exports: list[_Export]) -> _Export:
    return max(exports, key=lambda export: (export.end_ms, export.stream))


def _after(exports: list[_Export], period: Period, zone: tzinfo, of: str) -> Iterator[str]:
    last = _last(exports)
    start, end = period.start_ms, period.end_ms
    if (end is None or end <= last.end_ms) and (start is None or start < last.end_ms):
        return
    if last.is_over:
        yield (
            f"The export{of} to here was stopped on {moment(last.end_ms, zone)}; what came later "
            "is not in here."
        )
    else:
        yield (
            f"The archive{of} reaches {moment(last.end_ms, zone)} only; what came later is not in "
            "here."
        )


def _silences(
    library: Library, server: str, period: Period, zone: tzinfo, of: str
) -> Iterator[str]:
    rows = library.connection.execute(
        "SELECT later.key, later.from_ms, later.created_ms, later.running_since_ms"
        " FROM manifest AS later JOIN manifest AS before"
        " ON before.stream = later.stream AND before.number = later.number - 1"
        " WHERE later.created_ms - later.from_ms > before.interval_ms * ? + ?"
        " ORDER BY later.created_ms",
        (MOST_INTERVALS, SLACK_MS),
    ).fetchall()
    for key, start, end, running_since in rows:
        if server_of(key) != server or not _meets(period, start, end):
            continue
        why = "Steward was running, but could not sign"
        if running_since > start:
            why = f"Steward was not running until {moment(running_since, zone)}"
        yield (
            f"Nothing{of} was signed for {span(end - start)}, from {moment(start, zone)} to "
            f"{moment(end, zone)}: {why}. What was sent then was recorded later, or never came."
        )


def _meets(period: Period, start_ms: int, end_ms: int) -> bool:
    first, after = period.bounds
    return start_ms < after and end_ms > first


def room_begins(
    library: Library, room_id: str, period: Period, zone: tzinfo = UTC
) -> Iterator[str]:
    """Yield that a room's record begins within a period and not with the room, if it does."""
    rows = library.connection.execute(
        "SELECT record.id, received_ms, type.text FROM record JOIN name AS room ON room.id = room"
        " LEFT JOIN name AS type ON type.id = type WHERE room.text = ? AND kind = ?"
        " ORDER BY received_ms, record.id LIMIT ?",
        (room_id, _EVENT, _FIRST_EVENTS),
    ).fetchall()
    if not rows:
        return
    begins = rows[0][1]
    if period.start_ms is not None and period.start_ms >= begins:
        return
    firsts = [row[0] for row in rows if row[2] in {"m.room.create", "m.room.member"}]
    came = False
    for stored in library.stored(firsts):
        record = stored.record
        if record.get("event_type") == "m.room.create" and record.get("state_key") == "":
            return
        is_own = record.get("state_key") is not None and record.get("state_key") == record.get(
            "sender"
        )
        came |= is_own and record.get("sender_kind") == "bot"
    if came:
        yield (
            f"The record of this room begins on {moment(begins, zone)}, when a bot came into it: "
            "what was sent before that is not in here."
        )
    elif period.start_ms is not None:
        yield (
            f"The first record of this room is of {moment(begins, zone)}: what was sent in it "
            "before that, if anything, is not in here."
        )


def room_moved(
    library: Library, room_id: str, period: Period, zone: tzinfo = UTC
) -> Iterator[str]:
    """Yield from which room people came to this one, and to which they went, within a period."""
    first, after = period.bounds
    rows = library.connection.execute(
        "SELECT record.id FROM record JOIN name AS room ON room.id = room"
        " JOIN name AS type ON type.id = type WHERE room.text = ? AND kind = ?"
        " AND type.text IN ('m.room.create', 'm.room.tombstone')"
        " AND received_ms >= ? AND received_ms < ? ORDER BY record.id",
        (room_id, _EVENT, first, after),
    ).fetchall()
    for stored in library.stored(row[0] for row in rows):
        record = stored.record
        content, when = content_of(record), moment(record.get("ts_received"), zone)
        before = content.get("predecessor")
        if record.get("state_key") != "":
            continue
        if record.get("event_type") == "m.room.create" and isinstance(before, dict):
            yield (
                f"This room took the place of {one_line(before.get('room_id'))} on {when}: what was "
                "said there is not in here."
            )
        elif record.get("event_type") == "m.room.tombstone":
            yield (
                f"This room was closed in favour of {one_line(content.get('replacement_room'))} on "
                f"{when}: what was said there is not in here."
            )


def loose_gaps(library: Library, period: Period, *, everywhere: bool = False) -> list[str]:
    """Return what of the known gaps in a period is of no room, or of any, and still open."""
    closed = closed_gaps(library)
    rows = library.connection.execute(
        "SELECT id FROM record WHERE kind = ? AND (? OR room IS NULL)"
        " AND received_ms >= ? AND received_ms < ? ORDER BY id",
        (_GAP, everywhere, *period.bounds),
    ).fetchall()
    return [
        act(stored.record)
        for stored in library.stored(row[0] for row in rows)
        if (stored.stream, stored.seq) not in closed
    ]


def closed_gaps(library: Library) -> dict[tuple[str, object], object]:
    """Return which gaps were closed, by stream and number, and when."""
    rows = library.connection.execute(
        "SELECT id FROM record WHERE kind = ? ORDER BY id", [KINDS.index("gap_closed")]
    ).fetchall()
    found: dict[tuple[str, object], object] = {}
    for stored in library.stored(row[0] for row in rows):
        record = stored.record
        stream = str(detail_of(record).get("of_stream") or record.get("stream"))
        found[stream, record.get("of_seq")] = record.get("ts_received")
    return found
