"""The signed documents of an archive: bytes → typed values; pure.

Unknown members are ignored, as the format asks; a member of another type is a fault.
"""

from typing import Any

import msgspec

from auditbot.reader.layout import VERSION
from auditbot.reader.parse import parse

LARGEST_DOCUMENT_BYTES = 64 * 2**20


class _Versioned(msgspec.Struct, frozen=True):
    v: int


def is_newer(body: bytes) -> bool:
    """Return whether a document or a record says that it is of a later major version."""
    try:
        return parse(body, type=_Versioned).v > VERSION
    except ValueError:
        return False


class ListedFile(msgspec.Struct, frozen=True):
    """An object that a manifest vouches for."""

    key: str
    size: int
    sha256: str
    version_id: str | None = None


class ListedClass(msgspec.Struct, frozen=True):
    """The records of a retention class in a segment."""

    records: int
    keep_days: int | None = None
    """For how many whole days, ``None`` for ever; the default class says nothing here."""


class ListedSegment(msgspec.Struct, frozen=True):
    """A segment that a manifest vouches for; ``hashes`` is its compact range, in hex."""

    key: str
    size: int
    sha256: str
    raw_size: int
    first_seq: int
    last_seq: int
    records: int
    first_ms: int
    last_ms: int
    counts: dict[str, int]
    hashes: tuple[str, ...]
    version_id: str | None = None
    classes: dict[str, ListedClass] | None = None
    """The retention classes of its records; ``None`` if all are of the default one."""


class Named(msgspec.Struct, frozen=True):
    """A document by its key and the hash of its bytes."""

    key: str
    sha256: str


class Tree(msgspec.Struct, frozen=True):
    """A tree head."""

    size: int
    root: str


class PreviousStream(msgspec.Struct, frozen=True):
    """The stream before this one."""

    stream: str
    stopped_ms: int
    destination: str | None = None
    place: str | None = None
    final_manifest: int | None = None
    final_sha256: str | None = None


class Closed(msgspec.Struct, frozen=True):
    """Why a stream ended."""

    reason: str
    next_stream: str | None = None
    next_destination: str | None = None
    next_place: str | None = None


class Totals(msgspec.Struct, frozen=True):
    """A stream so far."""

    records: int
    objects: int
    bytes: int
    counts: dict[str, int]


class NotCovered(msgspec.Struct, frozen=True):
    """A room that the archive does not hold."""

    room_id: str
    reason: str
    since_ms: int | None = None


class Rooms(msgspec.Struct, frozen=True):
    """How many rooms are archived, and which are not."""

    covered: int = 0
    not_covered: tuple[NotCovered, ...] = ()
    not_covered_count: int = 0
    compared_ms: int | None = None
    """When all rooms of the homeserver were gone through last; ``None`` where nobody knows."""


class Waiting(msgspec.Struct, frozen=True):
    """What of a stream was not stored yet."""

    segments: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """A manifest."""

    v: int
    type: str
    server_name: str
    stream: str
    number: int
    created_ms: int
    from_ms: int
    interval_ms: int
    tree: Tree
    checkpoint: Named
    key_id: str
    totals: Totals
    process_started_ms: int = 0
    place: str | None = None
    """Where the stream is kept, in the words that all manifests use for it."""
    previous: Named | None = None
    previous_stream: PreviousStream | None = None
    closed: Closed | None = None
    objects: tuple[ListedSegment, ...] = ()
    media: tuple[ListedFile, ...] = ()
    sessions: tuple[ListedFile, ...] = ()
    """The room keys with which the segments' messages were read."""
    statements: tuple[ListedFile, ...] = ()
    day_keys: tuple[ListedFile, ...] = ()
    content_keys: tuple[ListedFile, ...] = ()
    stamps: tuple[ListedFile, ...] = ()
    description: tuple[ListedFile, ...] | None = None
    """What explains the archive, in number 0; ``None`` where an older version wrote it."""
    waiting: Waiting = Waiting()
    undecryptable_open: int = 0
    gaps_open: int = 0
    media_open: int = 0
    rooms: Rooms = Rooms()
    receipts: bool = False
    media_kept: bool = True
    """Whether attachments are archived."""
    ciphertext_kept: bool = True
    """Whether of what could be read the ciphertext is kept."""
    session_keys: bool = False
    storage: dict[str, Any] = {}
    encryption: dict[str, Any] | None = None
    software: dict[str, Any] = {}


class RemovedSegment(msgspec.Struct, frozen=True):
    """A segment that was deleted on purpose."""

    key: str
    sha256: str
    size: int
    stream: str
    first_seq: int
    last_seq: int
    version_id: str | None = None


class Removal(msgspec.Struct, frozen=True):
    """What was deleted on purpose, by whom and why."""

    v: int
    type: str
    id: str
    server_name: str
    created_ms: int
    actor: str
    reason: str
    key_id: str
    objects: tuple[RemovedSegment, ...] = ()
    sessions: tuple[ListedFile, ...] = ()
    media: tuple[ListedFile, ...] = ()
    approved: Any = None
    """What officers approved of it, as it stands there."""


class HoldStated(msgspec.Struct, frozen=True):
    """A legal hold, or its end; empty lists mean all."""

    v: int
    type: str
    id: str
    created_ms: int
    rooms: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None


class Erasure(msgspec.Struct, frozen=True):
    """Which keys, of days or of content, were destroyed on purpose."""

    v: int
    type: str
    id: str
    server_name: str
    created_ms: int
    actor: str
    reason: str
    key_id: str
    day_keys: tuple[ListedFile, ...] = ()
    content_keys: tuple[ListedFile, ...] = ()
    approved: Any = None
    """What officers approved of it, as it stands there."""


class Sampled(msgspec.Struct, frozen=True):
    """What the writer's daily comparison of rooms with the homeserver found."""

    rooms: int = 0
    events: int = 0
    missing: int = 0
    not_read: int = 0


class Signed(msgspec.Struct, frozen=True):
    """How many manifests were made on a day, and whether one was late."""

    made: int = 0
    late: int = 0
    longest_ms: int = 0


class Transactions(msgspec.Struct, frozen=True):
    """What the homeserver pushed on a day, by the numbers of its transactions; information only."""

    seen: int = 0
    repeated: int = 0
    skipped: int = 0
    restarted: int = 0


class Service(msgspec.Struct, frozen=True):
    """How soon the encrypted messages of a day were read, as of the end of the day stated."""

    day: str
    encrypted: int
    within_60_s: int
    within_24_h: int
    read: int
    final: int
    """Not read for 72 hours, or for a cause that no key mends."""


class OpenInRoom(msgspec.Struct, frozen=True):
    """How many messages of a room wait for a key."""

    room_id: str
    events: int


class OpenOfDevice(msgspec.Struct, frozen=True):
    """How many messages of a device wait for a key; the device is what they say themselves."""

    sender: str
    device_id: str
    events: int


class OpenEvents(msgspec.Struct, frozen=True):
    """What waits for a key; nobody is named where the archive's segments are encrypted."""

    causes: dict[str, int] = {}
    rooms: tuple[OpenInRoom, ...] = ()
    rooms_count: int = 0
    devices: tuple[OpenOfDevice, ...] = ()
    devices_count: int = 0


class Completeness(msgspec.Struct, frozen=True):
    """What the writer said of a day: how its records turned out, and what was open then."""

    v: int
    type: str
    server_name: str
    created_ms: int
    day: str
    key_id: str
    counts: dict[str, int]
    page: ListedFile | None = None
    streams: tuple[str, ...] = ()
    segments: int = 0
    clear: int = 0
    decrypted: int = 0
    undecryptable: dict[str, int] = {}
    undecryptable_read: int | None = None
    """How many of these were read by the time of the statement; an older one does not say."""
    read_later: int = 0
    media: dict[str, int] = {}
    media_not_kept: int = 0
    """Attachments that were never to be archived."""
    not_sealed: int = 0
    sampled: Sampled | None = None
    awaited: dict[str, int] = {}
    gaps: dict[str, int] = {}
    transactions: Transactions | None = None
    manifests: Signed | None = None
    service: tuple[Service, ...] = ()
    """The day's, and those of the days before it."""
    open: OpenEvents = OpenEvents()
    undecryptable_open: int = 0
    gaps_open: int = 0
    media_open: int = 0
    rooms: Rooms = Rooms()


class Rotation(msgspec.Struct, frozen=True):
    """An old key vouches for a new one."""

    v: int
    type: str
    server_name: str
    created_ms: int
    old_key_id: str
    new_key_id: str
    new_public_key: str


class Statement(msgspec.Struct, frozen=True):
    """What every signed statement holds."""

    v: int
    type: str
    created_ms: int
    server_name: str
    key_id: str = ""
    old_key_id: str = ""


class Head(msgspec.Struct, frozen=True):
    """The hint to the newest manifest."""

    stream: str
    number: int
    manifest: str
    manifest_sha256: str
