"""What an officer asks → the messages that answer it, each whole with its edits and deletion."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import containing, has_parts
from auditbot.reader.index.schema import KINDS, UNDECRYPTABLE
from auditbot.reader.index.words import query_of
from auditbot.reader.read import ALWAYS, Period
from common.errors import UserError

NOT_SHOWN = (KINDS.index("audience"), KINDS.index("receipt"), KINDS.index("graph"))
"""What belongs to no conversation."""
SAID = ("m.room.message", "m.room.encrypted", "m.sticker", "m.poll.start")
"""The types of what people say."""
_SLACK_MS = 60_000
_TYPES_TOLD = 50


@dataclass(frozen=True, slots=True)
class Query:
    """What is wanted; every part that is given must fit.

    Args:
        people: user IDs, or parts of a name or ID; any of them as sender
        rooms: room IDs, addresses, or parts of a name; any of them
        period: when it was received, or sent by the sender's clock
        text: words; in quotation marks together, with ``*`` the beginning of one
        types: event types, such as ``m.room.message``
        undecryptable: only what could not be read at once
        together: user IDs, or parts of a name or ID: what these people wrote in rooms in which
            each of them did something, joining included
        containing: runs of characters, all of which one text must contain; only in an index that
            has parts of words
    """

    people: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    period: Period = ALWAYS
    text: str = ""
    types: tuple[str, ...] = ()
    undecryptable: bool = False
    together: tuple[str, ...] = ()
    containing: tuple[str, ...] = ()

    def as_words(self) -> str:
        """Return the question in words, for a log and a page of provenance."""
        parts = [
            f"text “{self.text}”" if self.text else "",
            "containing " + " and ".join(f"“{part}”" for part in self.containing)
            if self.containing
            else "",
            "from " + " or ".join(self.people) if self.people else "",
            "between " + " and ".join(self.together) if self.together else "",
            "in " + " or ".join(self.rooms) if self.rooms else "",
            "of type " + " or ".join(self.types) if self.types else "",
            "not readable at once" if self.undecryptable else "",
        ]
        return ", ".join(filter(None, parts)) or "everything"


@dataclass(frozen=True, slots=True)
class Known:
    """A room or a person of the archive."""

    id: int
    name: str
    label: str | None
    events: int
    first_ms: int
    last_ms: int
    alias: str | None = None
    is_direct: bool | None = None
    encrypted: bool | None = None
    others: tuple[str, ...] = ()
    """What else it was called."""


def rooms(library: Library, part: str = "") -> list[Known]:
    """Return rooms by ID, address or a part of a name they have or had, those spoken in last first."""
    rows = library.connection.execute(
        "SELECT room.id, text, label, events, first_ms, last_ms, alias, is_direct, encrypted"
        " FROM room JOIN name ON name.id = room.id ORDER BY last_ms DESC, text"
    )
    known = (
        Known(*row[:7], *(None if value is None else bool(value) for value in row[7:]))
        for row in rows
    )
    return _fitting(library, known, part)


def people(library: Library, part: str = "") -> list[Known]:
    """Return senders by ID or a part of it or of a name they have or had, those who wrote most first."""
    rows = library.connection.execute(
        "SELECT person.id, text, label, events, first_ms, last_ms FROM person"
        " JOIN name ON name.id = person.id ORDER BY events DESC, text"
    )
    return _fitting(library, (Known(*row) for row in rows), part)


def _fitting(library: Library, known: Iterator[Known], part: str) -> list[Known]:
    called: dict[int, list[str]] = defaultdict(list)
    for id_, label in library.connection.execute(
        "SELECT id, label FROM called ORDER BY id, label"
    ):
        called[id_].append(label)
    found = [
        replace(item, others=tuple(label for label in called[item.id] if label != item.label))
        for item in known
    ]
    if not part:
        return found
    wanted = part.casefold()
    exact = [item for item in found if part in {item.name, item.alias}]
    present = [
        item
        for item in found
        if wanted in item.name.casefold()
        or wanted in (item.label or "").casefold()
        or wanted in (item.alias or "").casefold()
    ]
    # Anybody may have borrowed a name for a moment: only where nobody has it now, former ones count.
    return (
        exact
        or present
        or [item for item in found if any(wanted in name.casefold() for name in item.others)]
    )


def search(
    library: Library, query: Query, *, limit: int | None = None, newest_first: bool = False
) -> list[int]:
    """Return the roots of the messages that fit, in the order in which they were received.

    A message fits if any of its records does: the original, an edit, what was read later.

    Raises:
        UserError: a person or room that is asked for is not in the archive, no word is asked for,
            or the index holds no parts of words.
    """
    conditions, values = _conditions(library, query)
    order = "DESC" if newest_first else "ASC"
    source = "record"
    if query.text:
        words = query_of(query.text)
        if words is None:
            raise UserError(f"There is no word to search for in “{query.text}”.")
        source = "words JOIN record ON record.id = words.rowid"
        conditions.insert(0, "words MATCH ?")
        values.insert(0, words)
    if query.containing and not has_parts(library.connection):
        raise UserError(
            "This index knows whole words only. Run “steward audit sync --substrings” once: it "
            "adds parts of words, and takes about twice the room."
        )
    for part in query.containing:
        condition, bound = containing(part)
        conditions.append(condition)
        values.extend(bound)
    where = " AND ".join(conditions) or "1"
    rows = library.connection.execute(
        f"SELECT coalesce(root, -record.id) AS found, min(record.id) FROM {source}"  # noqa: S608  # conditions are ours, values are bound
        f" WHERE {where} GROUP BY found ORDER BY min(record.id) {order} LIMIT ?",
        [*values, -1 if limit is None else limit],
    )
    return [int(row[0]) for row in rows]


def unsearched(library: Library, query: Query) -> int:
    """Return how many messages might fit whose words are sealed, and so are not in the index.

    Of segments of which a part could be opened all messages count.
    """
    if not query.text and not query.containing:
        return 0
    if library.connection.execute("SELECT 1 FROM unopened LIMIT 1").fetchone() is None:
        return 0
    conditions, values = _conditions(library, replace(query, text="", containing=()))
    marks = ",".join("?" * len(SAID))
    conditions += [
        "record.object IN (SELECT object FROM unopened)",
        f"record.type IN (SELECT id FROM name WHERE text IN ({marks}))",  # noqa: S608  # marks are question marks
    ]
    (found,) = library.connection.execute(
        "SELECT count(DISTINCT coalesce(root, -record.id)) FROM record"  # noqa: S608  # conditions are ours, values are bound
        f" WHERE {' AND '.join(conditions)}",
        [*values, *SAID],
    ).fetchone()
    return int(found)


def unread(library: Library, query: Query) -> int:
    """Return how many messages might fit whose words nobody could read to this day.

    They are of no type but that of what is encrypted, so that the types asked for do not count.
    """
    if (not query.text and not query.containing) or query.undecryptable:
        return 0
    conditions, values = _conditions(
        library, replace(query, text="", containing=(), types=(), undecryptable=True)
    )
    (found,) = library.connection.execute(
        "SELECT count(*) FROM record"  # noqa: S608  # conditions are ours, values are bound
        f" WHERE {' AND '.join(conditions)} AND kind = ?"
        " AND NOT EXISTS (SELECT 1 FROM record AS later WHERE later.first = record.id)",
        [*values, KINDS.index("event")],
    ).fetchone()
    return int(found)


def never_read(count: int) -> str:
    """Return what is to be said of messages that were not searched because nobody can read them."""
    were, says = ("message was", "it says") if count == 1 else ("messages were", "they say")
    return (
        f"{count:,} more {were} not searched: nobody could read what {says} to this day. "
        "Asked for without words, “not readable at once” (--undecryptable) lists them."
    )


def not_searched(count: int, *, has_identity: bool) -> str:
    """Return what is to be said of messages whose words are sealed."""
    if has_identity:
        return (
            f"The words of up to {count:,} messages are sealed and were not searched: the identity "
            "that you named does not open them all, or their keys are not in the archive."
        )
    return (
        f"The words of {count:,} messages are sealed and were not searched: name your identity "
        "with --identity."
    )


def count(library: Library, query: Query) -> int:
    """Return how many messages fit."""
    return len(search(library, query))


def _conditions(library: Library, query: Query) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []

    def any_of(column: str, ids: Sequence[int]) -> None:
        conditions.append(f"record.{column} IN ({','.join('?' * len(ids))})")
        values.extend(ids)

    if query.rooms:
        any_of("room", [item.id for part in query.rooms for item in known(library, part, "room")])
    if query.people:
        any_of(
            "sender", [item.id for part in query.people for item in known(library, part, "person")]
        )
    _together(library, query.together, conditions, values)
    if query.types:
        any_of("type", [_type(library, name) for name in query.types])
    if query.undecryptable:
        conditions.append(f"record.status = {UNDECRYPTABLE}")
    else:
        conditions.append(f"record.kind NOT IN ({', '.join(map(str, NOT_SHOWN))})")
    _in_period(query.period, conditions, values)
    return conditions, values


def _together(
    library: Library, parts: Sequence[str], conditions: list[str], values: list[object]
) -> None:
    """Add that it was written by one of these people in a room where all of them were."""
    each = [[item.id for item in known(library, part, "person")] for part in parts]
    for ids in each:
        marks = ",".join("?" * len(ids))
        conditions.append(
            f"record.room IN (SELECT room FROM record WHERE sender IN ({marks}))"  # noqa: S608  # marks are question marks
        )
        values.extend(ids)
    everybody = [number for ids in each for number in ids]
    if everybody:
        conditions.append(f"record.sender IN ({','.join('?' * len(everybody))})")
        values.extend(everybody)


def _in_period(period: Period, conditions: list[str], values: list[object]) -> None:
    if period.start_ms is None and period.end_ms is None:
        return
    start, end = period.bounds
    # A sender's clock may be wrong, and what was sent before an outage is received after it:
    # either time counts, so that nothing is left out.
    conditions.append(
        "(record.received_ms >= ? AND record.received_ms < ?"
        " OR record.origin_ms >= ? AND record.origin_ms < ?"
        " AND (record.origin_ms NOT BETWEEN record.received_ms - 60000"
        " AND record.received_ms + 60000"
        " OR record.received_ms >= ? AND record.received_ms < ?))"
    )
    values.extend(
        [start, end, start, end, max(start - _SLACK_MS, -(2**63)), min(end + _SLACK_MS, 2**63 - 1)]
    )


def known(library: Library, part: str, what: str) -> list[Known]:
    """Return the rooms (``what`` is “room”) or people that a part of a name or ID means.

    Raises:
        UserError: there is none.
    """
    found = rooms(library, part) if what == "room" else people(library, part)
    if not found:
        raise UserError(f"No {what} of the archive fits “{part}”.")
    return found


def _type(library: Library, name: str) -> int:
    row = library.connection.execute(
        "SELECT type FROM record WHERE type = (SELECT id FROM name WHERE text = ?) LIMIT 1",
        (name,),
    ).fetchone()
    if row is None:
        types = library.connection.execute(
            "SELECT text FROM (SELECT DISTINCT type FROM record) JOIN name ON name.id = type"
            " ORDER BY text LIMIT ?",
            (_TYPES_TOLD,),
        )
        there = ", ".join(text for (text,) in types)
        raise UserError(
            f"No event of the archive is of the type “{name}”. There are: {there or 'none'}."
        )
    return int(row[0])
