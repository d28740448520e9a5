"""Records of the index → the room keys that open what they say."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from auditbot.reader.index.library import Library
from auditbot.reader.layout import SegmentKey, segment_key
from auditbot.reader.recheck.opening import Session, UnopenedError, advanced
from auditbot.reader.recheck.shelf import Shelf

_Name = tuple[str, str]
"""A room and a session."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Sessions, each once, and how many messages there are, and of how many no key is kept."""

    sessions: tuple[Session, ...]
    messages: int
    without: int


async def gather(library: Library, shelf: Shelf, ids: Iterable[int], room: str | None) -> Gathered:
    """Return the sessions with which messages were read, each from the earliest of them on.

    Args:
        library: the index
        shelf: the room keys that are kept; what of them cannot be used is added to its faults
        ids: the records that say what encrypted events say
        room: only those of this room, ``None`` for all

    Raises:
        TransientError: the archive is away.
    """
    days: dict[tuple[str, str, date], SegmentKey] = {}
    wanted: dict[SegmentKey, dict[_Name, list[int]]] = defaultdict(lambda: defaultdict(list))
    earliest: dict[_Name, int] = {}
    for stored in library.stored(ids):
        record, segment = stored.record, segment_key(stored.key)
        if segment is not None and room in {None, record.get("room_id")}:
            # The keys of a stream's day are kept together, whichever segment is asked for.
            first = days.setdefault((segment.server, segment.stream, segment.day), segment)
            name = (str(record.get("room_id")), str(record.get("enc_session_id")))
            index = _index(record.get("enc_index"))
            wanted[first][name].append(index)
            earliest[name] = min(index, earliest.get(name, index))
    best: dict[_Name, Session] = {}
    without = 0
    for segment, names in wanted.items():
        found: dict[_Name, int] = {}
        for one in (await shelf.of(segment)).sessions:
            name = (one.room_id, one.session_id)
            if name not in names:
                continue
            try:
                # Whoever gets the file is to read what was asked for, not all of the day.
                given = advanced(one, earliest[name])
            except UnopenedError:
                shelf.faults.append(f"a key of the session {one.session_id} is damaged")
                continue
            found[name] = min(one.first_index, found.get(name, one.first_index))
            if name not in best or _order(given) < _order(best[name]):
                best[name] = given
        without += sum(
            name not in found or index < found[name]
            for name, indexes in names.items()
            for index in indexes
        )
    messages = sum(len(indexes) for names in wanted.values() for indexes in names.values())
    return Gathered(tuple(best[name] for name in sorted(best)), messages, without)


def _index(said: object) -> int:
    return said if isinstance(said, int) else 0


def _order(session: Session) -> tuple[int, bool]:
    """Put what opens most first, then what its owner sent."""
    return session.first_index, session.source != "direct"
