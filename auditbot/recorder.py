"""Entries of the inbox → records, room contexts and pending events, in one transaction.

The promise kept: whatever a batch holds, memory holds a bounded portion of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from auditbot.attacks import attacks_in, tell
from auditbot.audiences import Bases, Listed, day_name
from auditbot.late_keys import Decryption, Pending, keep_pending, pending
from auditbot.ledger import Destinations, Writing, open_stream, seen
from auditbot.media_queue import MediaQueue
from auditbot.parents import note_parents
from auditbot.pipeline.content import relations
from auditbot.pipeline.hostile import Envelope, key, mapping, read_envelope
from auditbot.pipeline.reading import MALFORMED, attachment_of
from auditbot.pipeline.record import (
    Arrival,
    Record,
    Restored,
    Setting,
    class_of,
    event_record,
)
from auditbot.pipeline.retention import Policy
from auditbot.pipeline.room_state import RoomContext, completed, fold
from auditbot.recovery import Recovered
from auditbot.rooms import Rooms
from auditbot.senders import SenderKinds
from auditbot.session_keys import Use, keep_sessions, use_of
from auditbot.silent_devices import Device, SilentDevices
from auditbot.unread import Unread, keep_unread, unread_of
from common.clock import Clock
from common.crypto.opening import Early
from common.crypto.port import Decrypted, EncryptedEvent, Reading, Undecryptable, Why
from common.database.pool import Connection
from common.inbox.port import Entry, EntryKind, Source

PORTION_BYTES = 2**20
"""Events looked into at a time; as values in memory they may take some twenty times as much."""
PORTION_ROOMS = 32
EARLY_BYTES = 2 * 2**20
"""Events read before their turn: they stay in memory until it comes."""
EARLY_RUN = 20
"""As many are read in one go; the receiver and the database are waiting meanwhile."""
_LIVE = frozenset({Source.TRANSACTION, Source.SYNC})
"""How messages come whose keys must come with them."""
NOTHING_RECOVERED: Mapping[int, Recovered] = {}
HELD_BYTES = 4 * 2**20
"""Lines held before they are stored; one that lists a large room's people may be longer."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """An entry and the event in it."""

    entry: Entry
    envelope: Envelope
    room: str
    """The room as a key, ``""`` if the event names none."""
    name: str
    """The envelope's name."""
    arrival: Arrival
    """When and how the event came."""
    sealed: EncryptedEvent | None
    """What there is to decrypt."""
    early: Early | None = None
    """What was read of it before its turn."""
    restored: Restored | None = None
    """That the envelope is the event as it was before it was deleted."""


@dataclass
class _EarlyItems:
    """Events that were read before their turn, by position, in order."""

    items: dict[int, Item] = field(default_factory=dict)
    size: int = 0
    """Bytes of their entries."""

    def put(self, item: Item) -> None:
        if item.entry.position not in self.items:
            self.size += len(item.entry.body)
        self.items[item.entry.position] = item

    def complete(self, item: Item) -> None:
        """Put what was read of an event in its place, unless its turn came meanwhile."""
        if item.entry.position in self.items:
            self.items[item.entry.position] = item

    def take(self, position: int) -> Item | None:
        item = self.items.pop(position, None)
        if item is not None:
            self.size -= len(item.entry.body)
        return item

    def forget(self, position: int) -> None:
        """Forget what will not be asked for any more: everything up to a position."""
        for old in [at for at in self.items if at <= position]:
            self.take(old)


@dataclass
class _Beside:
    """What is kept beside the records of a portion."""

    waiting: list[Pending] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    suspected: list[Unread] = field(default_factory=list)
    """Those of them whose devices are to be watched."""
    heard: set[Device] = field(default_factory=set)
    """Devices that are said to be unreadable, and are not."""
    uses: list[Use] = field(default_factory=list)
    files: list[tuple[Record, str, Mapping[str, Any]]] = field(default_factory=list)


def _arrival(entry: Entry) -> Arrival:
    return Arrival(entry.received_ms, entry.source.value, entry.source_pos)


def item_of(entry: Entry, recovered: Recovered | None = None) -> Item:
    """Return an entry with the event in it, or with what that was before it was deleted."""
    envelope = read_envelope(entry.body if recovered is None else recovered.body)
    return Item(
        entry,
        envelope,
        room=key(envelope.room_id or ""),
        name=envelope.name,
        arrival=_arrival(entry),
        sealed=encrypted_event(envelope),
        restored=None if recovered is None else Restored(recovered.proof, recovered.redacted_by),
    )


@dataclass(frozen=True)
class Recorder:
    """Records events. ``written`` is told of every transaction that adds records."""

    crypto: Decryption
    rooms: Rooms
    destinations: Destinations
    server_name: str
    account: str
    """Our own: it is given no keys of what was said before it was in a room."""
    clock: Clock
    sender_kinds: SenderKinds
    silent: SilentDevices
    written: Callable[[Writing], None]
    media: MediaQueue | None = None
    """Where attachments are noted that are to be fetched."""
    session_keys: bool = False
    """Whether the archive keeps the room keys that messages are read with."""
    ciphertext: bool = True
    """Whether of what could be read the ciphertext is kept."""
    bases: Bases = field(default_factory=Bases)
    _early: _EarlyItems = field(default_factory=_EarlyItems)

    async def prepare(self, entries: Sequence[Entry], storing: asyncio.Event) -> None:
        """Read entries whose turn comes next, in memory, letting others run in between."""
        if not self.crypto.has_helpers:
            # Not before: only the disk needs nothing of this process meanwhile.
            await storing.wait()
        items: list[Item] = []
        for number, entry in enumerate(entries, start=1):
            if self._early.size + len(entry.body) > EARLY_BYTES:
                break
            if entry.kind is EntryKind.EVENT:
                items.append(item_of(entry))
                self._early.put(items[-1])
            if number % EARLY_RUN == 0:
                await asyncio.sleep(0)
        sealed = [(item, item.sealed) for item in items if item.sealed is not None]
        found = await self.crypto.open_early([event for _, event in sealed])
        for (item, _), early in zip(sealed, found, strict=True):
            self._early.complete(msgspec.structs.replace(item, early=early))

    async def record(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        others: Sequence[Entry] = (),
        recovered: Mapping[int, Recovered] = NOTHING_RECOVERED,
    ) -> None:
        """Record what was not recorded before, and what is told of events: parents, readers.

        Args:
            connection: the transaction
            entries: events
            others: what is told of events
            recovered: what arrived deleted, as it was before, by the position of its entry
        """
        writing = await open_stream(
            connection, self.destinations, server_name=self.server_name, now_ms=self.clock.now_ms()
        )
        if writing is None:
            return
        first_seq = writing.next_seq
        items = (self._item(entry, recovered.get(entry.position)) for entry in entries)
        for portion in _portions(items):
            fresh = await _unseen(connection, portion)
            if fresh:
                await self._record(connection, writing, fresh)
        for entry in others:
            await writing.aside(connection, entry.kind, entry.body, _arrival(entry))
            if writing.held_bytes >= HELD_BYTES:
                await writing.write(connection)
        await writing.write(connection)
        await note_parents(connection, others, now_ms=writing.now_ms)
        if entries:
            self._early.forget(entries[-1].position)
        if writing.next_seq != first_seq:
            self.written(writing)

    def _item(self, entry: Entry, recovered: Recovered | None) -> Item:
        early = self._early.take(entry.position)
        # What was read before its turn is what arrived.
        return early if early is not None and recovered is None else item_of(entry, recovered)

    async def _record(
        self, connection: Connection, writing: Writing, items: Sequence[Item]
    ) -> None:
        loaded = await self.rooms.load(connection, {item.room for item in items if item.room})
        contexts = dict(loaded)
        readings = await self._readings(connection, items)
        await self.silent.ready(connection)
        attacks = attacks_in(
            (item.envelope, read) for item, read in zip(items, readings, strict=True)
        )
        await tell(connection, attacks.values(), now_ms=writing.now_ms)
        authors = await _edited_authors(connection, items)
        kinds = await self.sender_kinds.of(
            connection, {item.envelope.sender for item in items if item.envelope.sender}
        )
        listed = Listed(connection, writing, self.bases, self.sender_kinds.own)
        days = {day_name(writing, item.entry.received_ms) for item in items}
        await listed.look_up(days, contexts.values())
        beside = _Beside()
        # One after the other, and nothing of one is kept: a room of thousands may change with
        # every event.
        for item, found in zip(items, readings, strict=True):
            setting = self._setting(item, contexts, authors, kinds, writing.policy)
            reading = self._explained(found, setting.before)
            if not _is_membership(item.envelope):
                day = day_name(writing, item.entry.received_ms)
                name = class_of(setting.after, setting.policy)
                await listed.add(day, item.arrival, setting.before, name)
            record = event_record(
                item.envelope,
                reading,
                writing.place(),
                item.arrival,
                setting,
                restored=item.restored,
            )
            line = writing.add(record, name=item.name, sender=_sender(item.envelope))
            self._note(beside, item, record, line, reading)
            if writing.held_bytes >= HELD_BYTES:
                await writing.write(connection)
                await keep_pending(connection, beside.waiting, writing.now_ms)
                beside.waiting.clear()
        await writing.write(connection)
        await keep_pending(connection, beside.waiting, writing.now_ms)
        await keep_unread(connection, beside.unread)
        await self.silent.note(connection, beside.suspected, beside.heard, now_ms=writing.now_ms)
        await keep_sessions(connection, writing, beside.uses)
        if self.media is not None:
            await self.media.add(connection, beside.files, writing.policy, now_ms=writing.now_ms)
            writing.attachments += len(beside.files)
        await self.rooms.save(
            connection, loaded, (room for room in contexts.values() if room.room_id)
        )

    def _note(
        self, beside: _Beside, item: Item, record: Record, line: bytes, reading: Reading | None
    ) -> None:
        """Note what is to be kept beside a record."""
        if isinstance(reading, Undecryptable):
            kept = pending(record, line, reading, item.name)
            if kept is not None:
                beside.waiting.append(kept)
            unread = unread_of(record, item.name)
            beside.unread.append(unread)
            if item.entry.source in _LIVE and self.silent.suspect(unread):
                beside.suspected.append(unread)
        elif isinstance(reading, Decrypted) and item.sealed is not None:
            beside.heard.update(self.silent.heard(item.sealed, reading))
        use = use_of(record, item.envelope.room_id, reading) if self.session_keys else None
        if use is not None:
            beside.uses.append(use)
        if self.media is not None and record.media_status is not None:
            file = attachment_of(item.envelope, reading) or {}
            beside.files.append((record, item.name, file))

    def _setting(
        self,
        item: Item,
        contexts: dict[str, RoomContext],
        authors: Mapping[str, str | None],
        kinds: Mapping[str, str],
        policy: Policy,
    ) -> Setting:
        """Fold an event into its room and return what surrounded it."""
        event = item.envelope
        before = contexts.get(item.room) or RoomContext(item.room)
        after = before
        if event.state_key is not None:
            after = fold(
                before,
                [event],
                # What the second feed finds was missed by the first: newer events may be here.
                late=item.entry.source is not Source.TRANSACTION,
                received_ms=item.entry.received_ms,
            )
        if event.type == "m.room.create" and event.state_key == "":
            after = completed(after)
        contexts[item.room] = self._unless_left(event, after)
        return Setting(
            before=before,
            after=after,
            sender_kind=kinds.get(event.sender or ""),
            edited_sender=authors.get(_edited(event)),
            media=self.media is not None,
            ciphertext=self.ciphertext,
            policy=policy,
        )

    def _unless_left(self, event: Envelope, room: RoomContext) -> RoomContext:
        """Return a room as not wholly known any more where our own account has left it."""
        if event.type != "m.room.member" or event.state_key != self.account or not room.complete:
            return room
        own = room.members.get(key(self.account))
        is_left = own is not None and own.membership == "leave"
        return replace(room, complete=False) if is_left else room

    def _explained(self, reading: Reading | None, room: RoomContext) -> Reading | None:
        """Say of an event without a key that it came before our own account was in the room.

        Only where that is certain: the room was followed from its beginning, or its whole state was
        read, and our own join is not part of it yet. Of an event that is found late the room may be
        known as it was afterwards, so the same holds the more. Who was in the room and left has missed
        something else.
        """
        if not isinstance(reading, Undecryptable) or reading.why is not Why.NO_SESSION:
            return reading
        own = room.members.get(key(self.account))
        if not room.complete or (own is not None and own.membership in {"join", "leave"}):
            return reading
        return replace(reading, why=Why.BEFORE_JOIN)

    async def _readings(
        self, connection: Connection, items: Sequence[Item]
    ) -> list[Reading | None]:
        events = {
            place: item.sealed for place, item in enumerate(items) if item.sealed is not None
        }
        found: Sequence[Reading] = ()
        if events:
            early = [items[place].early for place in events]
            found = await self.crypto.decrypt(connection, list(events.values()), early)
        readings = dict(zip(events, found, strict=True))
        return [
            readings.get(place, MALFORMED if _has_ciphertext(item.envelope) else None)
            for place, item in enumerate(items)
        ]


def _portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the events of a batch in order, so many at a time as memory may hold."""
    portion: list[Item] = []
    rooms: set[str] = set()
    size = 0
    for item in items:
        length = len(item.entry.body)
        rooms.add(item.room)
        size += length
        if portion and (size > PORTION_BYTES or len(rooms) > PORTION_ROOMS):
            yield portion
            portion, rooms, size = [], {item.room}, length
        portion.append(item)
    if portion:
        yield portion


async def _edited_authors(connection: Connection, items: Sequence[Item]) -> dict[str, str | None]:
    """Return who wrote the events that these edit, as far as they are archived."""
    targets = {_edited(item.envelope) for item in items} - {""}
    authors = await seen(connection, "event", targets)
    authors.update({item.name: _sender(item.envelope) for item in items})
    return authors


def _edited(event: Envelope) -> str:
    if event.content is None or "m.relates_to" not in event.content:
        return ""
    return key(relations(mapping(event.content))["edit_of"] or "")


def _is_membership(event: Envelope) -> bool:
    return event.type == "m.room.member" and event.state_key is not None


async def _unseen(connection: Connection, items: Sequence[Item]) -> list[Item]:
    """Return what is neither recorded nor repeated among the items, in order."""
    first = {item.name: item for item in reversed(items)}
    known = await seen(connection, "event", first)
    return [item for item in items if item.name not in known and first[item.name] is item]


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
