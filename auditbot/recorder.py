"""Entries of the inbox → records, room contexts and pending events, in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from auditbot.late_keys import Decryption, Pending, keep_pending, pending
from auditbot.ledger import Export, Writing, audiences_seen, open_stream, seen
from auditbot.pipeline.content import relations
from auditbot.pipeline.hostile import Envelope, key, mapping
from auditbot.pipeline.record import (
    MALFORMED,
    Arrival,
    Setting,
    audience_record,
    event_record,
)
from auditbot.pipeline.room_state import RoomContext, completed, fold
from auditbot.pipeline.segment import DAY_MS
from auditbot.rooms import Rooms
from common.clock import Clock
from common.crypto.port import EncryptedEvent, Reading
from common.database.pool import Connection
from common.inbox.port import Entry, Source

States = Mapping[str, Sequence[Envelope]]
"""Room → its whole state, as the homeserver told it."""


@dataclass(frozen=True, slots=True)
class Item:
    """An entry and the event in it."""

    entry: Entry
    envelope: Envelope

    @property
    def room(self) -> str:
        """Return the room as a key, ``""`` if the event names none."""
        return key(self.envelope.room_id or "")


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

    async def record(self, connection: Connection, items: Sequence[Item], states: States) -> None:
        """Record what was not recorded before; ``states`` are rooms seen for the first time."""
        writing = await open_stream(
            connection, self.export, server_name=self.server_name, now_ms=self.clock.now_ms()
        )
        fresh = await _unseen(connection, items)
        if writing is None or not fresh:
            return
        loaded = await self.rooms.load(connection, {item.room for item in fresh if item.room})
        contexts = dict(loaded)
        for room, events in states.items():
            contexts[room] = completed(fold(RoomContext(room), events))
        settings = await self._settings(connection, fresh, contexts)
        readings = await self._readings(connection, fresh)
        await self._write(connection, writing, fresh, settings, readings)
        await self.rooms.save(
            connection, loaded, (room for room in contexts.values() if room.room_id)
        )
        await writing.write(connection)
        self.written(writing)

    async def _settings(
        self,
        connection: Connection,
        items: Sequence[Item],
        contexts: dict[str, RoomContext],
    ) -> list[Setting]:
        """Fold the events into the rooms and return what surrounded each."""
        edits = [
            key(relations({}, mapping(item.envelope.content))["edit_of"] or "") for item in items
        ]
        senders = await seen(connection, "event", {target for target in edits if target})
        senders.update({item.envelope.name: _sender(item.envelope) for item in items})
        settings = []
        for item, target in zip(items, edits, strict=True):
            event = item.envelope
            before = contexts.get(item.room) or RoomContext(item.room)
            # What the second feed finds was missed by the first: newer events may be here.
            late = item.entry.source is not Source.TRANSACTION
            after = fold(before, [event], late=late)
            if event.type == "m.room.create" and event.state_key == "":
                after = completed(after)
            contexts[item.room] = after
            settings.append(
                Setting(
                    before=before,
                    after=after,
                    sender_kind=self.sender_kinds.get(event.sender or ""),
                    edited_sender=senders.get(target),
                )
            )
        return settings

    async def _readings(
        self, connection: Connection, items: Sequence[Item]
    ) -> list[Reading | None]:
        events = {
            place: event
            for place, item in enumerate(items)
            if (event := _encrypted(item.envelope)) is not None
        }
        found: Sequence[Reading] = ()
        if events:
            found = await self.crypto.decrypt(connection, list(events.values()))
        readings = dict(zip(events, found, strict=True))
        return [
            readings.get(place, MALFORMED if _has_ciphertext(item.envelope) else None)
            for place, item in enumerate(items)
        ]

    async def _write(
        self,
        connection: Connection,
        writing: Writing,
        items: Sequence[Item],
        settings: Sequence[Setting],
        readings: Sequence[Reading | None],
    ) -> None:
        listed: set[tuple[str, str]] = set()
        for day in {_day(writing, item) for item in items}:
            ids = {
                setting.before.audience_id
                for setting in settings
                if setting.before.complete and setting.before.joined
            }
            listed.update((day, id_) for id_ in await audiences_seen(connection, day, ids))
        waiting: list[Pending] = []
        for item, setting, reading in zip(items, settings, readings, strict=True):
            arrival = Arrival(
                item.entry.received_ms, item.entry.source.value, item.entry.source_pos
            )
            _list_audience(writing, _day(writing, item), setting.before, arrival, listed)
            record = event_record(item.envelope, reading, writing.place(), arrival, setting)
            name = item.envelope.name
            line = writing.add(record, name=name, sender=_sender(item.envelope))
            kept = pending(record, line, reading, name)
            if kept is not None:
                waiting.append(kept)
        await keep_pending(connection, waiting, writing.now_ms)


def _list_audience(
    writing: Writing,
    day: str,
    room: RoomContext,
    arrival: Arrival,
    listed: set[tuple[str, str]],
) -> None:
    """Say once a day and stream who the people are that an ``audience_id`` stands for."""
    if not room.complete or not room.joined or (day, room.audience_id) in listed:
        return
    listed.add((day, room.audience_id))
    record = audience_record(room, writing.place(), arrival)
    writing.add(record, name=room.audience_id, sub_key=day)


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


def _encrypted(event: Envelope) -> EncryptedEvent | None:
    if not _has_ciphertext(event) or not event.exact or event.content is None:
        return None
    if not event.event_id or not event.room_id or not event.sender:
        return None
    return EncryptedEvent(
        event_id=event.event_id,
        room_id=event.room_id,
        sender=event.sender,
        content=event.content,
    )
