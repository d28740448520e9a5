"""Entries of the inbox → records, room contexts and pending events, in one transaction.

The promise kept: whatever a batch holds, memory holds a bounded portion of it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from auditbot.late_keys import Decryption, Pending, keep_pending, pending
from auditbot.ledger import Export, Writing, audiences_seen, open_stream, seen
from auditbot.pipeline.content import relations
from auditbot.pipeline.hostile import Envelope, key, mapping, read_envelope
from auditbot.pipeline.reading import MALFORMED
from auditbot.pipeline.record import Arrival, Setting, audience_record, event_record
from auditbot.pipeline.room_state import RoomContext, completed, fold
from auditbot.pipeline.segment import DAY_MS
from auditbot.rooms import Rooms
from common.clock import Clock
from common.crypto.port import EncryptedEvent, Reading
from common.database.pool import Connection
from common.inbox.port import Entry, Source

PORTION_BYTES = 2**20
"""Events looked into at a time; as values in memory they may take some twenty times as much."""
PORTION_ROOMS = 32
HELD_BYTES = 4 * 2**20
"""Lines held before they are stored; one that lists a large room's people may be longer."""


@dataclass(frozen=True, slots=True)
class Item:
    """An entry and the event in it."""

    entry: Entry
    envelope: Envelope

    @property
    def room(self) -> str:
        """Return the room as a key, ``""`` if the event names none."""
        return key(self.envelope.room_id or "")

    @property
    def arrival(self) -> Arrival:
        """Return when and how the event came."""
        entry = self.entry
        return Arrival(entry.received_ms, entry.source.value, entry.source_pos)


def item_of(entry: Entry) -> Item:
    """Return an entry with the event in it."""
    return Item(entry, read_envelope(entry.body))


@dataclass(frozen=True)
class Recorder:
    """Records events. ``written`` is told of every transaction that adds records."""

    crypto: Decryption
    rooms: Rooms
    export: Export
    server_name: str
    clock: Clock
    sender_kinds: Mapping[str, str]
    """What is known of certain senders: our own accounts."""
    written: Callable[[Writing], None]

    async def record(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Record what was not recorded before."""
        writing = await open_stream(
            connection, self.export, server_name=self.server_name, now_ms=self.clock.now_ms()
        )
        if writing is None:
            return
        first_seq = writing.next_seq
        for portion in _portions(entries):
            fresh = await _unseen(connection, portion)
            if fresh:
                await self._record(connection, writing, fresh)
        if writing.next_seq != first_seq:
            self.written(writing)

    async def _record(
        self, connection: Connection, writing: Writing, items: Sequence[Item]
    ) -> None:
        loaded = await self.rooms.load(connection, {item.room for item in items if item.room})
        contexts = dict(loaded)
        readings = await self._readings(connection, items)
        authors = await _edited_authors(connection, items)
        listed = _Listed(connection, writing)
        await listed.look_up(items, contexts.values())
        waiting: list[Pending] = []
        # One after the other, and nothing of one is kept: a room of thousands may change with
        # every event.
        for item, reading in zip(items, readings, strict=True):
            setting = self._setting(item, contexts, authors)
            await listed.add(item, setting.before)
            record = event_record(item.envelope, reading, writing.place(), item.arrival, setting)
            name = item.envelope.name
            line = writing.add(record, name=name, sender=_sender(item.envelope))
            kept = pending(record, line, reading, name)
            if kept is not None:
                waiting.append(kept)
            if writing.held_bytes >= HELD_BYTES:
                await writing.write(connection)
                await keep_pending(connection, waiting, writing.now_ms)
                waiting = []
        await writing.write(connection)
        await keep_pending(connection, waiting, writing.now_ms)
        await self.rooms.save(
            connection, loaded, (room for room in contexts.values() if room.room_id)
        )

    def _setting(
        self,
        item: Item,
        contexts: dict[str, RoomContext],
        authors: Mapping[str, str | None],
    ) -> Setting:
        """Fold an event into its room and return what surrounded it."""
        event = item.envelope
        before = contexts.get(item.room) or RoomContext(item.room)
        after = fold(
            before,
            [event],
            # What the second feed finds was missed by the first: newer events may be here.
            late=item.entry.source is not Source.TRANSACTION,
            received_ms=item.entry.received_ms,
        )
        if event.type == "m.room.create" and event.state_key == "":
            after = completed(after)
        contexts[item.room] = after
        return Setting(
            before=before,
            after=after,
            sender_kind=self.sender_kinds.get(event.sender or ""),
            edited_sender=authors.get(_edited(event)),
        )

    async def _readings(
        self, connection: Connection, items: Sequence[Item]
    ) -> list[Reading | None]:
        events = {
            place: event
            for place, item in enumerate(items)
            if (event := encrypted_event(item.envelope)) is not None
        }
        found: Sequence[Reading] = ()
        if events:
            found = await self.crypto.decrypt(connection, list(events.values()))
        readings = dict(zip(events, found, strict=True))
        return [
            readings.get(place, MALFORMED if _has_ciphertext(item.envelope) else None)
            for place, item in enumerate(items)
        ]


@dataclass
class _Listed:
    """Says who the people are that an ``audience_id`` stands for, once a day and stream.

    It is said when an event that is no membership change cites it. Between two such events every
    membership change is a record of its own, so nothing is lost; a list for each of them would
    cost the square of a crowd that joins.
    """

    connection: Connection
    writing: Writing
    _known: set[tuple[str, str]] = field(default_factory=set)

    async def look_up(self, items: Sequence[Item], rooms: Collection[RoomContext]) -> None:
        """Ask at once for what most of the events will cite."""
        ids = {room.audience_id for room in rooms if room.complete and room.joined}
        for day in {_day(self.writing, item) for item in items}:
            found = await audiences_seen(self.connection, day, ids)
            self._known.update((day, id_) for id_ in found)

    async def add(self, item: Item, room: RoomContext) -> None:
        """Add the list of a room's people if an event is the first to cite it."""
        if not room.complete or not room.joined or _is_membership(item.envelope):
            return
        day, id_ = _day(self.writing, item), room.audience_id
        if (day, id_) in self._known:
            return
        self._known.add((day, id_))
        if not await audiences_seen(self.connection, day, [id_]):
            record = audience_record(room, self.writing.place(), item.arrival)
            self.writing.add(record, name=id_, sub_key=day)


def _portions(entries: Sequence[Entry]) -> Iterator[list[Item]]:
    """Yield the events of a batch in order, so many at a time as memory may hold."""
    portion: list[Item] = []
    rooms: set[str] = set()
    size = 0
    for entry in entries:
        item = item_of(entry)
        rooms.add(item.room)
        size += len(entry.body)
        if portion and (size > PORTION_BYTES or len(rooms) > PORTION_ROOMS):
            yield portion
            portion, rooms, size = [], {item.room}, len(entry.body)
        portion.append(item)
    if portion:
        yield portion


async def _edited_authors(connection: Connection, items: Sequence[Item]) -> dict[str, str | None]:
    """Return who wrote the events that these edit, as far as they are archived."""
    targets = {_edited(item.envelope) for item in items} - {""}
    authors = await seen(connection, "event", targets)
    authors.update({item.envelope.name: _sender(item.envelope) for item in items})
    return authors


def _edited(event: Envelope) -> str:
    return key(relations(mapping(event.content))["edit_of"] or "")


def _is_membership(event: Envelope) -> bool:
    return event.type == "m.room.member" and event.state_key is not None


async def _unseen(connection: Connection, items: Sequence[Item]) -> list[Item]:
    """Return what is neither recorded nor repeated among the items, in order."""
    first = {item.envelope.name: item for item in reversed(items)}
    known = await seen(connection, "event", first)
    return [
        item
        for item in items
        if item.envelope.name not in known and first[item.envelope.name] is item
    ]


def _day(writing: Writing, item: Item) -> str:
    return f"{writing.stream}:{item.entry.received_ms // DAY_MS}"


def _sender(event: Envelope) -> str | None:
    return key(event.sender) if event.sender else None


def _has_ciphertext(event: Envelope) -> bool:
    # A redaction leaves nothing to decrypt; the record says that it arrived redacted.
    return event.type == "m.room.encrypted" and (
        event.content is None or bool(event.content) or "redacted_because" not in event.unsigned
    )


def encrypted_event(event: Envelope) -> EncryptedEvent | None:
    """Return what there is to decrypt, whatever junk stands beside the ciphertext."""
    if not _has_ciphertext(event) or event.content is None:
        return None
    if not event.event_id or not event.room_id or not event.sender:
        return None
    return EncryptedEvent(
        event_id=event.event_id,
        room_id=event.room_id,
        sender=event.sender,
        content=event.content,
    )
