"""Bytes of a ``/sync`` or ``/messages`` response → inbox entries; pure.

Source: Matrix specification v1.18, client-server API, "Syncing" and
``GET /rooms/{roomId}/messages``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from common.appservice.transaction import ABSENT, event_entry, key_counts_entry, to_device_entry
from common.errors import TransientError
from common.ids import DeviceId, RoomId, UserId
from common.inbox.port import EntryKind, NewEntry, Source

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
    sync = _decode(_sync, body)
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
    sync = _decode(_sync, body)
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
    page = _decode(_messages, body)
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
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
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


def _decode(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        # What only the standard library reads; a lone surrogate must not stop the feed.
        plain = json.loads(body)
        cleaned = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
        return decoder.decode(cleaned)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        # The error names the place, never the content.
        raise TransientError(
            f"The homeserver sent something that is no sync response: {error}"
        ) from error
