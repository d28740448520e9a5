"""What was said around messages that were found: near them in time, and in their threads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditbot.reader.index.library import Library
from auditbot.reader.index.query import NOT_SHOWN

_HOUR_MS = 3_600_000
DIRECT_MS = 12 * _HOUR_MS
"""How much of a direct chat is shown before and after a message, unless it is said."""
MOST_BESIDE = 200
"""At most so many messages before one that was found, and so many after it."""
MOST_OF_THREAD = 1000
MOST_CONTEXT = 50_000


@dataclass(frozen=True, slots=True)
class Window:
    """What counts as around.

    Args:
        span_ms: so long before and after in every room, by the time of receipt; ``None`` for what
            is usual: twelve hours in direct chats, nothing but the thread in other rooms
    """

    span_ms: int | None = None

    def as_words(self) -> str:
        """Return it in words, for a log."""
        if self.span_ms is None:
            return "12 hours in direct chats, whole threads"
        return f"{self.span_ms / 60_000:g} minutes, whole threads"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Messages that were found and those around them, each once, in the order of the archive."""

    roots: tuple[int, ...]
    context: frozenset[int]
    """Those of ``roots`` that are only around others."""
    is_cut: bool
    """Whether there is more around them than is here."""


def around(
    library: Library,
    roots: Sequence[int],
    window: Window,
    *,
    found: Iterable[int] = (),
    newest_first: bool = False,
) -> Surroundings:
    """Return messages with what was said around them.

    Args:
        library: the index
        roots: the messages to be shown
        window: what counts as around
        found: all messages that were found, if ``roots`` are only some of them
        newest_first: the other way round
    """
    near: set[int] = set()
    is_cut = False
    for root in roots:
        some, is_more = _near(library, root, window)
        is_cut |= is_more
        near |= some
        if len(near) > MOST_CONTEXT:
            is_cut = True
            break
    shown = ordered(library, list({*roots, *near}))
    context = frozenset(near.difference(roots, found))
    return Surroundings(tuple(reversed(shown) if newest_first else shown), context, is_cut)


def ordered(library: Library, roots: Sequence[int]) -> list[int]:
    """Return messages in the order of their originals, not of what was found of them."""
    places = {root: -root for root in roots if root < 0}
    for root, place in library.by_roots([root for root in roots if root >= 0]):
        places.setdefault(root, place)
    return sorted(roots, key=lambda root: places.get(root, 0))


def _near(library: Library, root: int, window: Window) -> tuple[set[int], bool]:
    place = "record.id = ?" if root < 0 else "record.root = ?"
    row = library.connection.execute(
        "SELECT record.room, record.received_ms, room.is_direct FROM record"  # noqa: S608  # words of ours
        f" LEFT JOIN room ON room.id = record.room WHERE {place} ORDER BY record.id LIMIT 1",
        (abs(root),),
    ).fetchone()
    if row is None or row[0] is None:
        return set(), False
    room, received_ms, is_direct = row
    found, is_cut = _thread(library, root)
    span_ms = window.span_ms
    if span_ms is None:
        span_ms = DIRECT_MS if is_direct else 0
    if span_ms:
        for first, last in (
            (received_ms - span_ms, received_ms),
            (received_ms + 1, received_ms + span_ms),
        ):
            rows = library.connection.execute(
                _BESIDE, (received_ms, room, first, last, root, MOST_BESIDE + 1)
            ).fetchall()
            is_cut |= len(rows) > MOST_BESIDE
            found.update(int(other) for other, _ in rows[:MOST_BESIDE])
    return found, is_cut


_BESIDE = f"""
SELECT coalesce(root, -id) AS found, min(abs(received_ms - ?)) AS distance FROM record
WHERE room = ? AND received_ms BETWEEN ? AND ?
    AND kind NOT IN ({", ".join(map(str, NOT_SHOWN))}) AND coalesce(root, -id) <> ?
GROUP BY found ORDER BY distance, found LIMIT ?
"""  # noqa: S608  # only numbers of ours are put in


def _thread(library: Library, root: int) -> tuple[set[int], bool]:
    """Return the whole thread that a message is in, or that begins with it (MSC3440)."""
    found: set[int] = set()
    is_cut = False
    threads = library.connection.execute(
        "SELECT thread FROM record WHERE root = ? AND thread IS NOT NULL UNION SELECT ?",
        (root, root),
    ).fetchall()
    for (thread,) in threads:
        # What begins a thread may be older than the archive.
        rows = library.connection.execute(
            "SELECT root FROM record WHERE thread = ? AND root IS NOT NULL"
            " UNION SELECT root FROM record WHERE root = ? LIMIT ?",
            (thread, thread, MOST_OF_THREAD + 1),
        ).fetchall()
        is_cut |= len(rows) > MOST_OF_THREAD
        found.update(int(member) for (member,) in rows[:MOST_OF_THREAD])
    found.discard(root)
    return found, is_cut
