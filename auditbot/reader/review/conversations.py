"""The conversations of a period: what was said in one room on one day."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from auditbot.reader.index.library import Library
from auditbot.reader.index.query import SAID, Query, known, search
from auditbot.reader.index.schema import KINDS
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.review.lexicon import Term
from auditbot.reader.times import local

_QUARTER_MS = 900_000
"""Days of every time zone begin and end at a quarter of an hour."""
_EVENT = KINDS.index("event")
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conversations are to be looked at.

    Args:
        period: when their messages were received
        zone: whose days
        zone_name: how people write it
        rooms: room IDs, addresses, or parts of a name; any of them
        people: user IDs, or parts of a name or ID; any of them wrote in it
    """

    period: Period = ALWAYS
    zone: tzinfo = UTC
    zone_name: str = "UTC"
    rooms: tuple[str, ...] = ()
    people: tuple[str, ...] = ()

    def as_words(self) -> str:
        """Return the same in words, for a log."""
        query = Query(people=self.people, rooms=self.rooms)
        return f"{query.as_words()}, days in {self.zone_name}"


@dataclass
class Conversation:
    """What was said in one room on one day; ``hits`` counts messages with words of a lexicon."""

    id: str
    room_id: str
    room_name: str
    day: str
    messages: int = 0
    hits: Counter[str] = field(default_factory=Counter)


def conversations(library: Library, wanted: Wanted) -> dict[str, Conversation]:
    """Return the conversations of a period by their id, in order of day and room.

    Raises:
        UserError: a room or person that is asked for is not in the archive.
    """
    found: dict[tuple[int, str], int] = Counter()
    for room, day, count in _counted(library, wanted, ()):
        found[room, day] += count
    if wanted.people:
        theirs = {(room, day) for room, day, _ in _counted(library, wanted, wanted.people)}
        found = {place: count for place, count in found.items() if place in theirs}
    names = _names(library)
    found = {place: count for place, count in found.items() if place[0] in names}
    made = [
        Conversation(
            id=conversation_id(names[room][0], day, wanted.zone_name),
            room_id=names[room][0],
            room_name=names[room][1] or names[room][0],
            day=day,
            messages=count,
        )
        for (room, day), count in found.items()
    ]
    made.sort(key=lambda one: (one.day, one.room_id))
    return {one.id: one for one in made}


def conversation_id(room_id: str, day: str, zone_name: str) -> str:
    """Return what a conversation is called: the same for whoever draws it, whenever."""
    name = f"{room_id}\n{day}\n{zone_name}"
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]


def draw(found: dict[str, Conversation], count: int, seed: str) -> list[Conversation]:
    """Return so many conversations, each as likely as any other.

    Each has a number that follows from the seed and its own id; the lowest are taken. So whoever
    has the seed draws the same again, and one that came later pushes out at most one other.
    """
    ranked = sorted(found, key=lambda id_: hashlib.sha256(f"{seed}\n{id_}".encode()).digest())
    chosen = set(ranked[:count])
    return [one for id_, one in found.items() if id_ in chosen]


def count_hits(
    library: Library, wanted: Wanted, found: dict[str, Conversation], lexicon: Sequence[Term]
) -> Counter[str]:
    """Count in which conversations the words of a lexicon occur; return how often each does.

    A message counts once for each entry, however often it says it, also where only an earlier or
    a later version says it.
    """
    names = _names(library)
    total: Counter[str] = Counter()
    for term in lexicon:
        query = Query(rooms=wanted.rooms, period=wanted.period, text=term.query)
        for room, received_ms in _places(library, search(library, query)):
            name = names.get(room, ("", None))[0]
            id_ = conversation_id(name, _day(received_ms, wanted.zone), wanted.zone_name)
            if id_ in found:
                found[id_].hits[term.text] += 1
                total[term.text] += 1
    return total


def _counted(
    library: Library, wanted: Wanted, people: tuple[str, ...]
) -> Iterator[tuple[int, str, int]]:
    """Yield room, day and how many messages were begun there; an edit begins none."""
    conditions = [f"kind = {_EVENT}", "begins", "room IS NOT NULL"]
    values: list[object] = []

    def any_of(column: str, ids: Sequence[object]) -> None:
        conditions.append(f"record.{column} IN ({','.join('?' * len(ids))})")
        values.extend(ids)

    marks = ",".join("?" * len(SAID))
    conditions.append(f"type IN (SELECT id FROM name WHERE text IN ({marks}))")  # noqa: S608  # placeholders and constants only
    values.extend(SAID)
    if wanted.rooms:
        any_of("room", [one.id for part in wanted.rooms for one in known(library, part, "room")])
    if people:
        any_of("sender", [one.id for part in people for one in known(library, part, "person")])
    if wanted.period.start_ms is not None:
        conditions.append("received_ms >= ?")
        values.append(wanted.period.start_ms)
    if wanted.period.end_ms is not None:
        conditions.append("received_ms < ?")
        values.append(wanted.period.end_ms)
    rows = library.connection.execute(
        f"SELECT room, received_ms / {_QUARTER_MS} AS quarter, count(*) FROM record"  # noqa: S608  # conditions are ours, values are bound
        f" WHERE {' AND '.join(conditions)} GROUP BY room, quarter",
        values,
    )
    for room, quarter, count in rows:
        yield int(room), _day(quarter * _QUARTER_MS, wanted.zone), int(count)


def _places(library: Library, roots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield room and time of the messages of these roots: those of the original, if it is there."""
    known_roots = [root for root in roots if root >= 0]
    for start in range(0, len(known_roots), _CHUNK):
        some = known_roots[start : start + _CHUNK]
        marks = ",".join("?" * len(some))
        yield from library.connection.execute(
            "SELECT room, coalesce(min(CASE WHEN begins THEN received_ms END),"  # noqa: S608  # marks are question marks
            f" min(received_ms)) FROM record WHERE root IN ({marks}) AND room IS NOT NULL"
            " GROUP BY root",
            some,
        )


def _names(library: Library) -> dict[int, tuple[str, str | None]]:
    rows = library.connection.execute(
        "SELECT room.id, text, label FROM room JOIN name ON name.id = room.id"
    )
    return {int(number): (str(text), label) for number, text, label in rows}


def _day(moment_ms: int, zone: tzinfo) -> str:
    when = local(moment_ms, zone)
    return f"{when:%Y-%m-%d}" if when is not None else "no day"
