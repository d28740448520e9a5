"""What a transcript is of: a room or a person, and which messages belong to it."""

from dataclasses import dataclass

from auditbot.reader.index.context import ordered
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import NOT_SHOWN, Known, Query, people, rooms, search
from auditbot.reader.read import Period
from auditbot.reader.render.words import one_line
from common.errors import UserError

_HOUR_MS = 3_600_000
_NOT_SHOWN = ", ".join(map(str, NOT_SHOWN))


@dataclass(frozen=True, slots=True)
class Subject:
    """A room or a person."""

    kind: str
    known: Known

    @property
    def title(self) -> str:
        """Return how people call it."""
        if self.known.label:
            return one_line(self.known.label)
        return "Direct chat" if self.known.is_direct else one_line(self.known.name)

    @property
    def name(self) -> str:
        """Return its ID."""
        return one_line(self.known.name)


def find_subject(library: Library, text: str) -> Subject:
    """Return the room or person that a text means.

    Raises:
        UserError: there is none, or more than one.
    """
    in_rooms = [] if text.startswith("@") else rooms(library, text)
    in_people = [] if text.startswith(("!", "#")) else people(library, text)
    found = [
        *(Subject("room", item) for item in in_rooms),
        *(Subject("person", item) for item in in_people),
    ]
    by_id = [one for one in found if text in {one.known.name, one.known.alias}]
    by_label = [one for one in found if text.casefold() == (one.known.label or "").casefold()]
    chosen = by_id or by_label or found
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise UserError(_several(text, [one.known for one in chosen]))
    raise UserError(f"No room and no person of the archive fits “{text}”.")


def _several(text: str, found: list[Known]) -> str:
    names = ", ".join(
        f"{one_line(item.name)} ({one_line(item.label)})" if item.label else one_line(item.name)
        for item in found[:10]
    )
    return f"“{text}” fits more than one: {names}. Write the ID of the one you mean."


def select(
    library: Library, subject: Subject, period: Period, *, context_hours: float = 0
) -> tuple[list[int], set[int]]:
    """Return the roots of a transcript's messages in order, and which are only context.

    Args:
        library: the index
        subject: the room or person
        period: when it was received or sent
        context_hours: of a person's rooms, so long before and after each of their messages
    """
    if subject.kind == "room":
        return search(library, Query(rooms=(subject.known.name,), period=period)), set()
    own = search(library, Query(people=(subject.known.name,), period=period))
    around: set[int] = set()
    if context_hours:
        around = _around(library, own, int(context_hours * _HOUR_MS)) - set(own)
    return ordered(library, [*own, *around]), around


def _around(library: Library, roots: list[int], span_ms: int) -> set[int]:
    """Return the messages near these in the same rooms."""
    found: set[int] = set()
    for root in roots:
        row = library.connection.execute(
            "SELECT room, received_ms FROM record WHERE root = ? ORDER BY id LIMIT 1", (root,)
        ).fetchone()
        if row is None:
            continue
        rows = library.connection.execute(
            "SELECT DISTINCT coalesce(root, -id) FROM record WHERE room = ?"  # noqa: S608  # numbers of ours
            f" AND received_ms BETWEEN ? AND ? AND kind NOT IN ({_NOT_SHOWN})",
            (row[0], row[1] - span_ms, row[1] + span_ms),
        )
        found.update(other for (other,) in rows)
    return found
