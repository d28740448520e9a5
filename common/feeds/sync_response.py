"""Bytes of a ``/sync`` or ``/messages`` response → inbox entries; pure.

Source: Matrix specification v1.18, client-server API, "Syncing" and
``GET /rooms/{roomId}/messages``.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from common.appservice.transaction import (
    ABSENT,
    device_lists_of,
    event_entry,
    key_counts_entry,
    readable,
    to_device_entry,
)
from common.errors import TransientError
from common.ids import DeviceId, RoomId, UserId
from common.inbox.port import EntryKind, NewEntry, Source
from common.telemetry.log import Log
from common.untrusted import items_of, members_of

log = Log("feeds.sync_response")

_T = TypeVar("_T")
RawEvent = dict[str, msgspec.Raw]


class _Events(msgspec.Struct):
    events: list[msgspec.Raw] = msgspec.field(default_factory=list)


class _Timeline(msgspec.Struct):
    events: list[RawEvent] = msgspec.field(default_factory=list)
    limited: bool = False
    prev_batch: str | None = None


class _Ephemeral(msgspec.Struct):
    events: list[RawEvent] = msgspec.field(default_factory=list)


class _Room(msgspec.Struct):
    timeline: _Timeline = msgspec.field(default_factory=_Timeline)
    ephemeral: _Ephemeral = msgspec.field(default_factory=_Ephemeral)


class _Rooms(msgspec.Struct):
    join: dict[str, _Room] = msgspec.field(default_factory=dict)
    leave: dict[str, _Room] = msgspec.field(default_factory=dict)
    invite: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


class _DeviceLists(msgspec.Struct):
    changed: list[str] = msgspec.field(default_factory=list)
    left: list[str] = msgspec.field(default_factory=list)


class _Sync(msgspec.Struct):
    next_batch: str
    rooms: _Rooms = msgspec.field(default_factory=_Rooms)
    to_device: _Events = msgspec.field(default_factory=_Events)
    device_lists: _DeviceLists = msgspec.field(default_factory=_DeviceLists)
    device_one_time_keys_count: msgspec.Raw = msgspec.Raw(b"{}")
    device_unused_fallback_key_types: msgspec.Raw = ABSENT


class _Messages(msgspec.Struct):
    chunk: list[RawEvent] = msgspec.field(default_factory=list)
    end: str | None = None


MOST_PARENTS = 100
"""Parents of one event that are looked at; the specification allows 20."""

_sync = msgspec.json.Decoder(_Sync)
_text = msgspec.json.Decoder(str)
_texts = msgspec.json.Decoder(list[str])
_flag = msgspec.json.Decoder(bool)
_raw_event = msgspec.json.Decoder(dict[str, msgspec.Raw])
_number = msgspec.json.Decoder(int)
_messages = msgspec.json.Decoder(_Messages)


@dataclass(frozen=True, slots=True)
class KeySync:
    """What one device was told: entries in the order to deal with them, and the next token.

    ``counts`` is the key count entry, apart because it comes with every response.
    """

    next_batch: str
    entries: list[NewEntry]
    counts: NewEntry


@dataclass(frozen=True, slots=True)
class RoomTimeline:
    """What one room's timeline brought; ``gap_from`` is set where older events are missing."""

    room_id: RoomId
    events: list[RawEvent]
    gap_from: str | None
    ephemeral: list[RawEvent]


@dataclass(frozen=True, slots=True)
class TimelineSync:
    """What happened in all rooms of one account since the last token."""

    next_batch: str
    rooms: list[RoomTimeline]
    invited: list[RoomId]


def parse_key_sync(body: bytes, user_id: UserId, device_id: DeviceId) -> KeySync:
    """Read the to-device messages, device lists and key counts of a response."""
    sync = _decode(_sync, body, _sync_in_pieces)
    entries = [
        to_device_entry(bytes(raw), user_id, Source.SYNC, sync.next_batch)
        for raw in sync.to_device.events
    ]
    if sync.device_lists.changed or sync.device_lists.left:
        entries.append(
            NewEntry(
                kind=EntryKind.DEVICE_LIST,
                body=msgspec.json.encode(sync.device_lists),
                source=Source.SYNC,
                source_pos=sync.next_batch,
                recipient=user_id,
            )
        )
    counts = key_counts_entry(
        recipient=user_id,
        device_id=device_id,
        one_time=sync.device_one_time_keys_count,
        unused_fallback=sync.device_unused_fallback_key_types,
        source=Source.SYNC,
        source_pos=sync.next_batch,
    )
    return KeySync(sync.next_batch, entries, counts)


def parse_timeline_sync(body: bytes) -> TimelineSync:
    """Read the timelines of joined and left rooms, and the invitations, of a response."""
    sync = _decode(_sync, body, _sync_in_pieces)
    rooms = [
        RoomTimeline(
            RoomId(room_id),
            room.timeline.events,
            room.timeline.prev_batch if room.timeline.limited else None,
            room.ephemeral.events,
        )
        for section in (sync.rooms.join, sync.rooms.leave)
        for room_id, room in section.items()
    ]
    return TimelineSync(sync.next_batch, rooms, [RoomId(room) for room in sync.rooms.invite])


def parse_messages(body: bytes) -> tuple[list[RawEvent], str | None]:
    """Read one page of ``/messages``: events in the order they came, and the next token."""
    page = _decode(_messages, body, _messages_in_pieces)
    return page.chunk, page.end


def timeline_entries(
    room_id: RoomId, events: list[RawEvent], source: Source, source_pos: str
) -> Iterator[NewEntry]:
    """Return the inbox entries of timeline events, which do not name their room in /sync."""
    room = msgspec.Raw(msgspec.json.encode(room_id))
    for event in events:
        yield event_entry(msgspec.json.encode({**event, "room_id": room}), source, source_pos)


def graph_entry(
    room_id: RoomId, events: list[RawEvent], source: Source, source_pos: str
) -> NewEntry | None:
    """Return the parents of timeline events, as far as they are told."""
    found = [node for event in events if (node := _node(event)) is not None]
    if not found:
        return None
    return NewEntry(
        kind=EntryKind.GRAPH,
        body=msgspec.json.encode({"room_id": room_id, "events": found}),
        source=source,
        source_pos=source_pos,
    )


def receipt_entries(room: RoomTimeline, source_pos: str) -> Iterator[NewEntry]:
    """Return who read what, as far as it was asked for."""
    for event in room.ephemeral:
        if event_field(event, "type") == "m.receipt" and "content" in event:
            body = {"room_id": room.room_id, "content": event["content"]}
            yield NewEntry(
                kind=EntryKind.RECEIPT,
                body=msgspec.json.encode(body),
                source=Source.SYNC,
                source_pos=source_pos,
            )


def _node(event: RawEvent) -> tuple[str, int, list[str]] | None:
    """Return name, depth and parents of an event in federation format."""
    try:
        event_id = _text.decode(event["event_id"])
        parents = _texts.decode(event["prev_events"])
        depth = _number.decode(event["depth"])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event_id, depth, parents[:MOST_PARENTS]


def event_field(event: RawEvent, name: str) -> object:
    """Return one decoded field of an event, ``None`` where it is missing or cannot be read."""
    raw = event.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _decode(
    decoder: "msgspec.json.Decoder[_T]", body: bytes, in_pieces: Callable[[bytes], _T | None]
) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        # What only the standard library reads; a lone surrogate must not stop the feed.
        plain = json.loads(body)
        cleaned = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
        return decoder.decode(cleaned)
    except (ValueError, msgspec.DecodeError) as error:
        # The error names the place, never the content.
        raise TransientError(
            f"The homeserver sent something that is no sync response: {error}"
        ) from error
    except RecursionError:
        found = in_pieces(body)
    if found is None:
        raise TransientError("The homeserver sent something that is no sync response.")
    return found


# Anybody may send something that a newer Python of the homeserver reads and ours does not: what
# is nested too deep is taken apart where our own names stand, and stays unread.


def _sync_in_pieces(body: bytes) -> _Sync | None:
    whole = _members(body)
    next_batch = _read(_text, whole.get("next_batch"))
    if next_batch is None:
        return None
    rooms = _members(whole.get("rooms"))
    return _Sync(
        next_batch,
        _Rooms(
            join=_rooms(rooms.get("join")),
            leave=_rooms(rooms.get("leave")),
            invite={
                room: msgspec.Raw(state) for room, state in _members(rooms.get("invite")).items()
            },
        ),
        _Events(list(_messages_to_devices(_members(whole.get("to_device")).get("events")))),
        msgspec.convert(device_lists_of(whole.get("device_lists", b"")), _DeviceLists),
        msgspec.Raw(readable(whole.get("device_one_time_keys_count", b"")) or b"{}"),
        msgspec.Raw(readable(whole.get("device_unused_fallback_key_types", b"")) or b""),
    )


def _messages_in_pieces(body: bytes) -> _Messages | None:
    whole = _members(body)
    if not whole:
        return None
    return _Messages(_events(whole.get("chunk")), _read(_text, whole.get("end")))


def _rooms(section: bytes | None) -> dict[str, _Room]:
    found: dict[str, _Room] = {}
    for room_id, body in _members(section).items():
        room = _members(body)
        timeline = _members(room.get("timeline"))
        found[room_id] = _Room(
            _Timeline(
                _events(timeline.get("events")),
                _read(_flag, timeline.get("limited")) or False,
                _read(_text, timeline.get("prev_batch")),
            ),
            _Ephemeral(_receipts(_members(room.get("ephemeral")).get("events"))),
        )
    return found


def _events(body: bytes | None) -> list[RawEvent]:
    return [
        {name: msgspec.Raw(value) for name, value in _members(item).items()}
        for item in items_of(body or b"") or ()
    ]


def _receipts(body: bytes | None) -> list[RawEvent]:
    sound = [item for item in map(readable, items_of(body or b"") or ()) if item is not None]
    return [event for item in sound if (event := _read(_raw_event, item)) is not None]


def _messages_to_devices(body: bytes | None) -> Iterator[msgspec.Raw]:
    for item in items_of(body or b"") or ():
        sound = readable(item)
        if sound is None:
            log.warning("a to-device message that cannot be read was left out", size=len(item))
        else:
            yield msgspec.Raw(sound)


def _members(body: bytes | None) -> dict[str, bytes]:
    """Return an object's members unread, by names that can be written as UTF-8."""
    return {
        name.encode("utf-8", "replace").decode(): value.strip()
        for name, value in members_of(body or b"") or ()
    }


def _read(decoder: "msgspec.json.Decoder[_T]", body: bytes | None) -> _T | None:
    try:
        return None if body is None else decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
