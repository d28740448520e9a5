"""Bytes that anybody may have written → the few values we need, never an exception.

A sender must not be able to stop the archive or to make a file of it unreadable. So everything
is parsed with limits, every string that leaves this module is valid Unicode without NUL, and
what cannot be read is said to be unreadable.

Source: Matrix specification v1.18, client-server API, "Room event format".
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

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

_head = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Parsed:
    """A JSON object. ``exact`` is false where text had to be repaired to be readable."""

    value: JsonObject
    exact: bool


@dataclass(frozen=True, slots=True)
class Envelope:
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
    """Return the JSON object in ``data``, or ``None`` if it is none or exceeds the limits."""
    if len(data) > limit:
        return None
    exact = True
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        exact = False
        try:
            # Lone surrogates, NaN and bytes that are no UTF-8: readable for a person, so a
            # message cannot hide behind one of them, but not to be passed on as sound JSON.
            value = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict) or _too_deep(data, value):
        return None
    return Parsed(cast(JsonObject, value), exact)


def read_envelope(body: bytes) -> Envelope:
    """Return the event in ``body`` as far as it can be read."""
    parsed = parse(body, MAX_EVENT_BYTES)
    fields = parsed.value if parsed is not None else _heads(body)
    return envelope(fields, body=body, exact=parsed is not None and parsed.exact)


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
    text = clean(text)
    if len(text) * 4 <= LONGEST_NAME:
        return text
    data = text.encode()
    if len(data) <= LONGEST_NAME:
        return text
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def string(value: object) -> str | None:
    """Return a clean string, ``None`` for anything else."""
    return clean(value) if isinstance(value, str) else None


def int64(value: object) -> int | None:
    """Return an integer that fits 64 bits, ``None`` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and -INT64 <= value < INT64:
        return value
    return None


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


def _heads(body: bytes) -> JsonObject:
    """Return the short top-level values of an event whose content exceeds the limits."""
    try:
        raw = _head.decode(body)
    except (ValueError, RecursionError):
        return {}
    names = ("event_id", "room_id", "type", "sender", "state_key", "origin_server_ts", "redacts")
    return {name: _scalar(bytes(raw[name])) for name in names if name in raw}


def _scalar(data: bytes) -> object:
    if len(data) > MAX_PAYLOAD_BYTES:
        return None
    try:
        return cast(object, msgspec.json.decode(data))
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
