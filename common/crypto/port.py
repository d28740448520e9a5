"""How an encrypted event could be read, or why it could not.

Source: Matrix specification v1.18, client-server API, "End-to-end encryption".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec

from common.errors import PermanentError, StartOverError
from common.ids import DeviceId, UserId


class Trust(StrEnum):
    """What is known of the device that sent a message (MSC4153, MSC3834)."""

    CROSS_SIGNED = "cross_signed"
    UNVERIFIED_DEVICE = "unverified_device"
    UNKNOWN_DEVICE = "unknown_device"
    IDENTITY_CHANGED = "identity_changed"
    MISMATCH = "mismatch"


class KeySource(StrEnum):
    """Which way the room key came."""

    DIRECT = "direct"
    FORWARDED = "forwarded"
    BACKUP = "backup"
    HISTORY_SHARE = "history_share"
    IMPORT = "import"


class Why(StrEnum):
    """Why an event could not be read; the values are those of the archive's ``enc_error``."""

    NO_SESSION = "no_session"
    UNKNOWN_INDEX = "unknown_index"
    WITHHELD_UNVERIFIED = "withheld_unverified"
    WITHHELD_BLACKLISTED = "withheld_blacklisted"
    WITHHELD_UNAUTHORISED = "withheld_unauthorised"
    WITHHELD_UNAVAILABLE = "withheld_unavailable"
    NO_OLM = "no_olm"
    BEFORE_JOIN = "before_join"
    REPLAY = "replay"
    BAD_MAC = "bad_mac"
    ROOM_MISMATCH = "room_mismatch"
    MALFORMED = "malformed"


class SessionCopy(Protocol):
    """A Megolm session as it was received: whose it is said to be, and what it opens."""

    @property
    def sender(self) -> str:
        """The user whose device sent it."""
        ...

    @property
    def sender_key(self) -> str:
        """That device's Curve25519 key."""
        ...

    @property
    def signing_key(self) -> str:
        """That device's Ed25519 key."""
        ...

    @property
    def first_index(self) -> int:
        """The first message it opens."""
        ...

    def export_at(self, index: int) -> str | None:
        """Return the session from a message on, in the form of key exports and backups."""
        ...


class Decrypted(msgspec.Struct, frozen=True, gc=False):
    """A message that could be read.

    ``payload`` is the exact plaintext: untrusted JSON of the form
    ``{"type", "content", "room_id"}`` (specification, ``m.megolm.v1.aes-sha2``). ``session`` is
    what it was read with.
    """

    payload: bytes
    session_id: str
    sender_key: str
    device_id: str | None
    index: int
    trust: Trust
    key_source: KeySource
    session: SessionCopy | None = None


@dataclass(frozen=True, slots=True)
class Undecryptable:
    """A message that could not be read."""

    why: Why
    session_id: str | None = None
    sender_key: str | None = None
    device_id: str | None = None


Reading = Decrypted | Undecryptable


class SessionRef(NamedTuple):
    """The name of a Megolm session: session IDs mean something within their room only."""

    room_id: str
    session_id: str


class DeviceAddress(NamedTuple):
    """A device, and whose it is."""

    user_id: UserId
    device_id: DeviceId


class EncryptedEvent(msgspec.Struct, frozen=True, gc=False):
    """An ``m.room.encrypted`` room event; ``content`` is as untrusted as it came."""

    event_id: str
    room_id: str
    sender: str
    content: Mapping[str, Any]


class DeviceGoneError(StartOverError):
    """The bot's device was deleted: only a new device, with another ID, can go on."""


class DeviceKeysDifferError(PermanentError):
    """The homeserver holds other keys for the bot's device: only a new device can go on.

    Clients refuse a device whose keys were replaced, so they are never overwritten.
    """


class IdentityTakenError(PermanentError):
    """The bot has a cross-signing identity whose private keys are not in this database."""
