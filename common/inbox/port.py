"""What the homeserver told us, kept in order until everybody has dealt with it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec


class EntryKind(StrEnum):
    """What an entry holds; the body's shape follows from it."""

    EVENT = "event"
    """A room event, client format (Matrix specification, "Room event format"); ``room_id`` is set."""
    TO_DEVICE = "to_device"
    """A to-device event: ``sender``, ``type``, ``content``."""
    DEVICE_LIST = "device_list"
    """``{"changed": [user IDs], "left": [user IDs]}``."""
    KEY_COUNTS = "key_counts"
    """``{"device_id": …, "one_time": {algorithm: count}, "unused_fallback": [algorithms]}``."""
    RECEIPT = "receipt"
    """``{"room_id": …, "content": …}``, the content of an ``m.receipt`` event."""
    GRAPH = "graph"
    """``{"room_id": …, "events": [[event ID, depth, [parents' event IDs]], …]}``."""


class Source(StrEnum):
    """Which feed brought an entry first."""

    TRANSACTION = "transaction"
    SYNC = "sync"
    MESSAGES = "messages"


class NewEntry(msgspec.Struct, frozen=True, gc=False):
    """Something to be kept.

    ``key`` names it for ever: a second entry with the same key is not stored. ``None`` means
    that repeats are harmless. ``recipient`` is the bot's user ID an entry is meant for, ``""``
    for everybody. ``body`` is the JSON as it came.
    """

    kind: EntryKind
    body: bytes
    source: Source
    source_pos: str
    key: str | None = None
    recipient: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A kept entry. Positions grow and never become visible out of order; they may have holes."""

    position: int
    kind: EntryKind
    body: bytes
    source: Source
    source_pos: str
    recipient: str
    received_ms: int


class Inbox(Protocol):
    """The durable inbox."""

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Store what is new, in order, durably; return how many were new."""
        ...
