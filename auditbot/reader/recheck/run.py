"""Records of the index, each decrypted again."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from auditbot.reader.index.build import event_key
from auditbot.reader.index.library import Library, Stored, detail_of
from auditbot.reader.index.schema import DECRYPTED, KINDS, LATE, UNDECRYPTABLE
from auditbot.reader.layout import segment_key
from auditbot.reader.read import Period
from auditbot.reader.recheck.comparing import Compared, State, compare, kept_wire
from auditbot.reader.recheck.shelf import Shelf
from auditbot.reader.sealed import ERASED, STATE, UNOPENED

_EVENT, _DECRYPTION = KINDS.index("event"), KINDS.index("decryption")


@dataclass(frozen=True, slots=True)
class Rechecked:
    """A record, how decrypting it again turned out, and whether the writer said to keep keys."""

    stored: Stored
    compared: Compared
    keys_wanted: bool

    @property
    def record(self) -> dict[str, Any]:
        """Return the record."""
        return self.stored.record


async def recheck(library: Library, shelf: Shelf, ids: Iterable[int]) -> AsyncIterator[Rechecked]:
    """Yield how each record turns out, in the order in which they are given."""
    for stored in library.stored(ids):
        segment = segment_key(stored.key)
        first = _first(library, stored).record
        seals = {first.get(STATE), stored.record.get(STATE)}
        if seals & {*UNOPENED, ERASED}:
            # What is destroyed stays so, whatever else a key would open.
            state = State.NOT_KEPT if ERASED in seals else State.SEALED
            yield Rechecked(stored, Compared(state), keys_wanted=True)
            continue
        wire = kept_wire(first)
        if segment is None or isinstance(wire, Compared):
            found = wire if isinstance(wire, Compared) else Compared(State.NOT_KEPT)
            yield Rechecked(stored, found, keys_wanted=True)
            continue
        kept = await shelf.of(segment)
        yield Rechecked(stored, compare(stored.record, wire, kept.sessions), kept.wanted)


def decrypted_of(library: Library, event_id: str) -> list[int]:
    """Return the records that say what an encrypted event says, by its ID."""
    hashed = event_key(event_id)
    rows = library.connection.execute(
        "SELECT id FROM record WHERE event = ? AND status = ? UNION SELECT id FROM record"
        " WHERE first IN (SELECT id FROM record WHERE event = ?) AND status = ? ORDER BY id",
        (hashed, DECRYPTED, hashed, LATE),
    ).fetchall()
    if not rows:
        # Of what was read later the first record may be gone: only the record itself says whose.
        rows = library.connection.execute(
            "SELECT id FROM record WHERE kind = ? AND (first IS NULL"
            " OR first NOT IN (SELECT id FROM record)) ORDER BY id",
            (_DECRYPTION,),
        ).fetchall()
    found = library.stored(row[0] for row in rows)
    return [one.id for one in found if one.record.get("event_id") == event_id]


def decrypted_in(library: Library, period: Period) -> list[int]:
    """Return the records that say what encrypted events say, received in a period, in order."""
    rows = library.connection.execute(
        "SELECT id FROM record WHERE received_ms >= ? AND received_ms < ? AND kind IN (?, ?)"
        " AND status IN (?, ?) ORDER BY received_ms, id",
        (*period.bounds, _EVENT, _DECRYPTION, DECRYPTED, LATE),
    )
    return [int(row[0]) for row in rows]


def unread_in(library: Library, period: Period) -> int:
    """Return how many events of a period could not be read, at first or ever."""
    row = library.connection.execute(
        "SELECT count(*) FROM record WHERE received_ms >= ? AND received_ms < ? AND status = ?"
        " AND id NOT IN (SELECT first FROM record WHERE first IS NOT NULL)",
        (*period.bounds, UNDECRYPTABLE),
    ).fetchone()
    return int(row[0])


def _first(library: Library, stored: Stored) -> Stored:
    """Return the record that holds the ciphertext: of a late decryption, the first one."""
    of_seq = stored.record.get("of_seq")
    if stored.record.get("kind") != "decryption" or not isinstance(of_seq, int):
        return stored
    stream = detail_of(stored.record).get("of_stream") or stored.stream
    return library.at(str(stream), of_seq) or stored
