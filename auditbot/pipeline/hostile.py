"""Bytes that anybody may have written → the few values we need, never an exception.

A sender must not be able to stop the archive, to make a file of it unreadable, or to hide what
clients show. So everything is parsed with limits, what exceeds them takes only itself away and
nothing beside it, every string that leaves this module is valid Unicode without NUL, and what
cannot be read is said to be unreadable.

Source: Matrix specification v1.18, client-server API, "Room event format".
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from common.untrusted import members_of

JsonObject = Mapping[str, Any]
"""A parsed JSON object of unknown origin: check every type before use."""

MAX_DEPTH = 64
MAX_PAYLOAD_BYTES = 128 * 1024
"""Largest plaintext that is looked into. A Matrix event is at most 64 KiB."""
MAX_EVENT_BYTES = 1024 * 1024
"""Largest event that is looked into: ``unsigned`` may repeat other events inside it."""
LONGEST_NAME = 255
"""Bytes of the longest identifier that Matrix allows."""
INT64 = 2**63
MOST_PARENTS = 100
"""Parents of one event that are looked at; the specification allows 20."""

_RESCUED_LEVELS = 4
"""Objects in objects whose sound members are looked for: event, content, relation, reply."""


_head = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A JSON object.

    ``exact`` is false where text had to be repaired to be readable, or where members are missing
    that exceed the limits.
    """

    value: JsonObject
    exact: bool


# There is one for each event, and a dataclass that is frozen takes five times as long to make.
class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A room event as it came. What is missing or of the wrong type is ``None``."""

    body: bytes
    event_id: str | None
    room_id: str | None
    type: str | None
    sender: str | None
    state_key: str | None
    ts_origin: int | None
    redacts: str | None
    content: JsonObject | None
    unsigned: JsonObject
    prev_events: tuple[str, ...] | None
    depth: int | None
    exact: bool
    """Whether the whole of ``body`` is sound JSON within the limits."""

    @property
    def name(self) -> str:
        """Return what tells this event from all others, fit for a key of the database."""
        if self.event_id:
            return key(self.event_id)
        # Something that is no event has no name; its bytes are its name, so a repeat is one.
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


def parse(data: bytes, limit: int) -> Parsed | None:
    """Return the JSON object in ``data`` as far as it is readable, ``None`` if it is none."""
    if len(data) > limit:
        return None
    try:
        value, exact = _read(data)
    except (ValueError, RecursionError):
        value, exact = _rescued(data, _RESCUED_LEVELS), False
    return Parsed(cast(JsonObject, value), exact) if isinstance(value, dict) else None


def read_envelope(body: bytes) -> Envelope:
    """Return the event in ``body`` as far as it can be read."""
    parsed = parse(body, MAX_EVENT_BYTES)
    fields = parsed.value if parsed is not None else _heads(body)
    return envelope(fields, body=body, exact=parsed is not None and parsed.exact)


class Head(msgspec.Struct, frozen=True):
    """What can be told of an event at a glance."""

    room_id: str | None = None
    type: str | None = None
    state_key: str | None = None


_heads_decoder = msgspec.json.Decoder(Head)


def read_head(body: bytes) -> Head:
    """Return the head of an event, at a fraction of what reading all of it costs."""
    try:
        head = _heads_decoder.decode(body)
    except (ValueError, RecursionError):
        event = read_envelope(body)
        return Head(event.room_id, event.type, event.state_key)
    return Head(string(head.room_id), string(head.type), string(head.state_key))


def envelope(fields: JsonObject, *, body: bytes = b"", exact: bool = True) -> Envelope:
    """Return an event whose JSON was parsed already, e.g. one of a room's state."""
    return Envelope(
        body=body,
        event_id=string(fields.get("event_id")),
        room_id=string(fields.get("room_id")),
        type=string(fields.get("type")),
        sender=string(fields.get("sender")),
        state_key=string(fields.get("state_key")),
        ts_origin=int64(fields.get("origin_server_ts")),
        redacts=string(fields.get("redacts")),
        content=mapping_or_none(fields.get("content")),
        unsigned=mapping(fields.get("unsigned")),
        prev_events=_names(fields.get("prev_events")),
        depth=int64(fields.get("depth")),
        exact=exact,
    )


def clean(text: str) -> str:
    """Return text that every reader and database takes: no lone surrogate, no NUL."""
    if text.isascii() and "\0" not in text:
        return text
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def key(text: str) -> str:
    """Return ``text`` fit for an index: itself, or its digest where no identifier is so long."""
    if not text.isascii() or "\0" in text:
        text = clean(text)
    if len(text) * 4 <= LONGEST_NAME:
        return text
    data = text.encode()
    if len(data) <= LONGEST_NAME:
        return text
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def string(value: object) -> str | None:
    """Return a clean string, ``None`` for anything else."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() and "\0" not in value else clean(value)


def int64(value: object) -> int | None:
    """Return an integer that fits 64 bits, ``None`` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and -INT64 <= value < INT64:
        return value
    return None


def _names(value: object) -> tuple[str, ...] | None:
    """Return event IDs, ``None`` for anything else; of rooms before version 3 only the names."""
    if not isinstance(value, list):
        return None
    flat = [one[0] if isinstance(one, list) and one else one for one in value[:MOST_PARENTS]]
    return tuple(key(one) for one in flat if isinstance(one, str))


def mapping(value: object) -> JsonObject:
    """Return a JSON object, an empty one for anything else."""
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def mapping_or_none(value: object) -> JsonObject | None:
    """Return a JSON object, ``None`` for anything else."""
    return cast(JsonObject, value) if isinstance(value, dict) else None


def text_of(data: bytes) -> str | None:
    """Return bytes as text, ``None`` where they are no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _read(data: bytes) -> tuple[object, bool]:
    """Return a JSON value and whether it is sound, or raise ``ValueError``, ``RecursionError``."""
    exact = True
    value: object
    try:
        value = msgspec.json.decode(data)
    except ValueError:
        exact = False
        # Lone surrogates, NaN and bytes that are no UTF-8: readable for a person, so a message
        # cannot hide behind one of them, but not to be passed on as sound JSON.
        value = json.loads(data.decode("utf-8", "replace"))
    if _too_deep(data, value):
        raise RecursionError
    return value, exact


def _rescued(data: bytes, levels: int) -> object:
    """Return an object with those of its members that are readable, ``None`` if it is none."""
    members = members_of(data)
    if members is None:
        return None
    found: dict[str, object] = {}
    for name, member in members:
        try:
            found[name] = _read(member)[0]
        except (ValueError, RecursionError):
            inner = _rescued(member, levels - 1) if levels > 1 else None
            if inner is not None:
                found[name] = inner
    return found


def _heads(body: bytes) -> JsonObject:
    """Return the short top-level values of an event that is too large to be looked into."""
    try:
        raw = _head.decode(body)
    except (ValueError, RecursionError):
        return {}
    names = ("event_id", "room_id", "type", "sender", "state_key", "origin_server_ts", "redacts")
    found = {name: _short_value(bytes(raw[name])) for name in names if name in raw}
    # What is so large can only be what the homeserver adds: a content has at most 64 KiB.
    content = parse(bytes(raw.get("content", b"")), MAX_PAYLOAD_BYTES)
    return {**found, "content": content.value} if content is not None else found


def _short_value(data: bytes) -> object:
    if len(data) > MAX_PAYLOAD_BYTES:
        return None
    try:
        return _read(data)[0]
    except (ValueError, RecursionError):
        return None


def _too_deep(data: bytes, value: object) -> bool:
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (
                parent.values()
                if isinstance(parent, dict)
                else parent
                if isinstance(parent, list)
                else ()
            )
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
