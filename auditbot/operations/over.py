"""What the policy of retention is over for, and what is kept although it is old.

A segment goes when the longest retention class in it is over, an attachment when the longest class
of the records that speak of it is; a day's room keys when no segment of the day is left. A hold that
meets any record of a day keeps the day: records of one day explain each other.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditbot.operations.desk import Desk, Place, day_text
from auditbot.operations.held import Segment, is_named, rooms_of
from auditbot.operations.holds import Hold, active
from auditbot.operations.removing import count_left, is_unproved
from auditbot.operations.retention_text import ClassLine, survey_text
from auditbot.pipeline.retention import DEFAULT, is_over, kept_until
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Row


@dataclass(frozen=True, slots=True)
class Gone:
    """An object that is to be deleted."""

    key: str
    version_id: str | None
    sha256: str
    size: int
    stream: str
    first_seq: int | None = None
    last_seq: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many records of each retention class a segment holds."""
    keeps: Mapping[str, int | None] = field(default_factory=dict)
    """For how many days each of them is kept, ``None`` for ever."""

    @property
    def records(self) -> int:
        """Return how many records it has."""
        return 0 if self.first_seq is None else (self.last_seq or 0) - self.first_seq + 1

    def entry(self) -> dict[str, Any]:
        """Return its entry in a removal."""
        found: dict[str, Any] = {
            "key": self.key,
            "version_id": self.version_id,
            "sha256": self.sha256,
            "size": self.size,
        }
        if self.first_seq is not None:
            found |= {
                "stream": self.stream,
                "first_seq": self.first_seq,
                "last_seq": self.last_seq,
            }
        return found


@dataclass
class StreamDay:
    """The segments of one stream received on one UTC day."""

    stream: str
    day: int
    place: Place
    first_ms: int
    last_ms: int
    segments: list[Gone] = field(default_factory=list)
    """Those whose time is over."""
    longer: list[Gone] = field(default_factory=list)
    """Those in which a shorter class is over, and a longer one is not."""
    others: list[Gone] = field(default_factory=list)
    """Those in which nothing is over."""
    sessions: list[Gone] = field(default_factory=list)
    """Its room keys, if nothing would be left of it."""
    is_whole: bool = True
    """Whether all of it is stored and listed."""
    held_by: str | None = None

    @property
    def all(self) -> list[Gone]:
        """Return all its segments."""
        return [*self.segments, *self.longer, *self.others]

    @property
    def records(self) -> int:
        """Return how many records would go."""
        return sum(gone.records for gone in self.segments)


@dataclass(frozen=True, slots=True)
class Survey:
    """What would be deleted, and what is kept although it is old."""

    days: Sequence[StreamDay]
    media: Sequence[tuple[Place, Gone]]
    today: int = 0
    next_day: int | None = None
    """The first day on which more goes, as far as classes say it."""

    @property
    def free(self) -> list[StreamDay]:
        """Return the days that nothing holds."""
        return [day for day in self.days if day.segments and day.held_by is None]

    def text(self) -> str:
        """Return it for people."""
        lines = []
        for day in self.days:
            lines += _day_lines(day)
        classes: dict[str, ClassLine] = {}
        for day in self.days:
            for gone in [*day.segments, *day.longer]:
                _count(classes, day, gone, self.today)
        size = sum(gone.size for _, gone in self.media) / 2**20
        lines.append(f"{len(self.media):,} attachments, {size:.1f} MiB")
        told = survey_text(lines, classes)
        if self.next_day is None:
            return told
        return f"{told}\nThe next segment is over on {day_text(self.next_day)}."


def _day_lines(day: StreamDay) -> list[str]:
    lines = []
    if day.segments:
        size = sum(gone.size for gone in day.segments) / 2**20
        held = f"  KEPT by hold {day.held_by}" if day.held_by is not None else ""
        lines.append(
            f"{day_text(day.day)}  {day.stream}  {len(day.segments):4} segments  "
            f"{day.records:9,} records  {size:8.1f} MiB{held}"
        )
    if day.longer:
        until = kept_until((days for gone in day.longer for days in gone.keeps.values()), day.day)
        names = {
            name
            for gone in day.longer
            for name, days in gone.keeps.items()
            if kept_until([days], day.day) == kept_until(gone.keeps.values(), day.day)
        }
        lines.append(
            f"{day_text(day.day)}  {day.stream}  {len(day.longer):4} segments  "
            f"{sum(gone.records for gone in day.longer):9,} records  stay "
            f"{'for ever' if until is None else f'until {day_text(until)}'}, for the class "
            f"{', '.join(sorted(names))}"
        )
    return lines


def _count(classes: dict[str, ClassLine], day: StreamDay, gone: Gone, today: int) -> None:
    for name, count in gone.counts.items():
        keep = gone.keeps[name]
        line = classes.setdefault(name, ClassLine())
        line.keeps.add(keep)
        if not is_over(keep, day.day, today):
            line.not_over += count
        elif day.held_by is not None:
            line.held += count
        elif gone in day.longer:
            line.longer += count
        else:
            line.goes += count


async def survey(desk: Desk, *, keep_days: int | None, as_of: int | None = None) -> Survey:
    """Find what is older than so many whole days, or than its class is kept.

    Args:
        desk: the tools
        keep_days: how long the default class is kept, ``None`` for ever
        as_of: on which day, counted since the epoch; today, if it is yet to come or not given
    """
    today = desk.clock.now_ms() // DAY_MS
    if as_of is not None:
        today = min(today, as_of)
    days, ends = [], set()
    async for day in _days(desk, today, keep_days):
        ends.add(_next_end(day))
        if day.segments or day.longer:
            days.append(day)
    holders = await _Holders.of(desk)
    for day in days:
        if day.segments:
            day.held_by = await holders.holder(day)
    media = await _media(desk, days, holders, today, keep_days)
    next_day = min((end for end in ends if end is not None), default=None)
    return Survey(days, media, today, next_day)


def _next_end(day: StreamDay) -> int | None:
    """Return when the first of a day's segments is over that is not yet, if ever."""
    left = (*day.longer, *day.others)
    ends = [kept_until(gone.keeps.values(), day.day) for gone in left]
    return min((end for end in ends if end is not None), default=None)


async def is_any_class_recorded(desk: Desk) -> bool:
    """Return whether anything that is left belongs to another class than the default one."""
    return bool(
        await desk.database.fetchval(
            "SELECT 1 FROM audit_segment WHERE classes IS NOT NULL AND removed_ms IS NULL LIMIT 1"
        )
    )


@dataclass
class _Holders:
    """Which hold keeps which day; each day is looked through once."""

    desk: Desk
    holds: Sequence[Hold]
    rooms: Mapping[str, frozenset[str]]
    _known: dict[tuple[str, int], str | None] = field(default_factory=dict)

    @classmethod
    async def of(cls, desk: Desk) -> "_Holders":
        holds = await active(desk)
        return cls(desk, holds, {hold.id: await rooms_of(desk, hold) for hold in holds})

    async def holder(self, day: StreamDay) -> str | None:
        """Return the hold that keeps a day, if one does."""
        name = (day.stream, day.day)
        if name not in self._known:
            self._known[name] = None
            for hold in self.holds:
                if await self._keeps(hold, day):
                    self._known[name] = hold.id
                    break
        return self._known[name]

    async def _keeps(self, hold: Hold, day: StreamDay) -> bool:
        begin = day.day * DAY_MS
        if not day.is_whole and hold.meets(begin, begin + DAY_MS - 1):
            return True  # what is not stored and listed yet may be held
        if not hold.meets(day.first_ms, day.last_ms):
            return False
        return await _is_held(self.desk, day, hold, self.rooms[hold.id])


async def _days(desk: Desk, today: int, keep_days: int | None) -> AsyncIterator[StreamDay]:
    """Yield the days on which anything may be over; with classes, all that are past."""
    if await is_any_class_recorded(desk):
        before = today
    elif keep_days is not None:
        before = today - keep_days
    else:
        return
    names = await desk.database.fetch(
        "SELECT DISTINCT day, stream FROM audit_segment WHERE day < $1 AND removed_ms IS NULL"
        " ORDER BY day, stream",
        before,
    )
    for name in names:
        day = await _day(desk, str(name["stream"]), int(name["day"]), today, keep_days)
        if day is not None:
            yield day


async def _day(
    desk: Desk, stream: str, day: int, today: int, keep_days: int | None
) -> StreamDay | None:
    rows = await desk.database.fetch(
        "SELECT audit_segment.object_key, version_id, audit_segment.sha256, stored_bytes,"
        " audit_segment.stream, first_seq, last_seq, first_ms, last_ms, classes, destination,"
        " endpoint_url FROM audit_segment"
        " JOIN audit_stream ON audit_stream.id = audit_segment.stream"
        # Only what a manifest in the store lists: the others are not proved yet.
        " JOIN audit_manifest ON audit_manifest.stream = audit_segment.stream"
        " AND audit_manifest.number = manifest AND audit_manifest.state = 'stored'"
        " WHERE audit_segment.stream = $1 AND day = $2 AND removed_ms IS NULL ORDER BY first_seq",
        stream,
        day,
    )
    if not rows:
        return None
    place = Place(rows[0]["destination"], rows[0]["endpoint_url"], None)
    first_ms, last_ms = (min(row["first_ms"] for row in rows), max(row["last_ms"] for row in rows))
    found = StreamDay(stream, day, place, first_ms, last_ms)
    for row in rows:
        gone = _segment(row, keep_days)
        over = [is_over(days, day, today) for days in gone.keeps.values()]
        where = found.segments if all(over) else found.longer if any(over) else found.others
        where.append(gone)
    found.is_whole = len(rows) == await count_left(desk, stream, day) and not await is_unproved(
        desk, stream, day
    )
    if found.is_whole and len(found.segments) == len(rows):
        found.sessions += await _sessions(desk, stream, day)
    return found


async def _sessions(desk: Desk, stream: str, day: int) -> list[Gone]:
    """Return the room keys of a day, also of segments that are gone."""
    rows = await desk.database.fetch(
        "SELECT sessions_key, sessions_version, sessions_sha256, sessions_bytes"
        " FROM audit_segment WHERE stream = $1 AND day = $2 AND sessions_key IS NOT NULL"
        " ORDER BY first_seq",
        stream,
        day,
    )
    return [
        Gone(
            row["sessions_key"],
            row["sessions_version"],
            row["sessions_sha256"],
            row["sessions_bytes"],
            stream,
        )
        for row in rows
    ]


def _segment(row: Row, keep_days: int | None) -> Gone:
    first, last = row["first_seq"], row["last_seq"]
    said = {DEFAULT: {"records": last - first + 1}}
    if row["classes"] is not None:
        said = json.loads(row["classes"])
    return Gone(
        row["object_key"],
        row["version_id"],
        row["sha256"],
        row["stored_bytes"],
        row["stream"],
        first,
        last,
        {name: one["records"] for name, one in said.items()},
        {name: keep_days if name == DEFAULT else one["keep_days"] for name, one in said.items()},
    )


async def _is_held(desk: Desk, day: StreamDay, hold: Hold, rooms: frozenset[str]) -> bool:
    """Return whether a hold names any record of a day that it may name."""
    if not hold.rooms and not hold.users:
        return True
    if any(gone.key.endswith(".age") for gone in day.all):
        return True  # we cannot read it, so it may be held
    async with desk.store(day.place) as store:
        for gone in day.all:
            if await is_named(store, Segment(gone.key, gone.version_id, gone.sha256), hold, rooms):
                return True
    return False


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A day on which records of a class speak of an attachment."""

    stream: str
    day: int
    name: str
    keep_days: int | None


async def _media(
    desk: Desk,
    days: Sequence[StreamDay],
    holders: _Holders,
    today: int,
    keep_days: int | None,
) -> list[tuple[Place, Gone]]:
    """Return the attachments of which the longest class that speaks of them is over."""
    rows = await desk.database.fetch(
        "SELECT audit_object.*, destination, endpoint_url FROM audit_object"
        " JOIN audit_stream ON audit_stream.id = audit_object.stream"
        " WHERE (removed_ms IS NULL OR going = 1) AND manifest IS NOT NULL ORDER BY object_key"
    )
    known: dict[tuple[str, int], StreamDay | None] = {(day.stream, day.day): day for day in days}
    found = []
    for row in rows:
        spoken = await _spoken(desk, row["place"], row["id"], keep_days)
        done = [await _is_done(desk, one, known, holders, (today, keep_days)) for one in spoken]
        if spoken and all(done):
            place = Place(row["destination"], row["endpoint_url"], None)
            gone = Gone(
                row["object_key"],
                row["version_id"],
                row["sha256"],
                row["stored_bytes"],
                row["stream"],
                keeps={one.name: one.keep_days for one in spoken},
            )
            found.append((place, gone))
    return found


async def _spoken(desk: Desk, place: str, object_id: str, keep_days: int | None) -> list[_Spoken]:
    rows = await desk.database.fetch(
        "SELECT audit_object_day.stream, audit_object_day.day, class, keep_days"
        " FROM audit_object_day LEFT JOIN audit_object_class"
        " ON audit_object_class.place = audit_object_day.place"
        " AND audit_object_class.id = audit_object_day.id"
        " AND audit_object_class.stream = audit_object_day.stream"
        " AND audit_object_class.day = audit_object_day.day"
        " WHERE audit_object_day.place = $1 AND audit_object_day.id = $2",
        place,
        object_id,
    )
    return [
        _Spoken(
            row["stream"],
            row["day"],
            row["class"] or DEFAULT,
            row["keep_days"] if (row["class"] or DEFAULT) != DEFAULT else keep_days,
        )
        for row in rows
    ]


async def _is_done(
    desk: Desk,
    one: _Spoken,
    known: dict[tuple[str, int], StreamDay | None],
    holders: _Holders,
    when: tuple[int, int | None],
) -> bool:
    """Return whether an attachment may go as far as a day's records of a class speak of it."""
    left = await count_left(desk, one.stream, one.day)
    if await is_unproved(desk, one.stream, one.day):
        return False
    if not left:
        return True
    if not is_over(one.keep_days, one.day, when[0]):
        return False
    name = (one.stream, one.day)
    if name not in known:
        # The segments whose time is over may be gone already, and others of the day stay.
        known[name] = await _day(desk, *name, *when)
    day = known[name]
    if day is None:
        return False  # none of its segments is listed yet
    # What is not listed yet is not known to the hold either.
    return len(day.all) == left and await holders.holder(day) is None
