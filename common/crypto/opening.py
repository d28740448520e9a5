"""A message and a session → what it says; the part of decrypting that needs no database.

Source: Matrix specification v1.18, client-server API, "m.megolm.v1.aes-sha2".
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import vodozemac

from common.crypto.account import MEGOLM
from common.crypto.canonical import text_of
from common.crypto.helpers import Asked, Helpers
from common.crypto.port import EncryptedEvent, SessionRef, Undecryptable, Why
from common.crypto.replay import MessageIndexes, Slot, digest, slot
from common.crypto.room_keys import RoomKey
from common.untrusted import members_of

_EARLY_RUN = 5
"""Events that are read early in one go; others want to run meanwhile."""


class _Object(msgspec.Struct):
    """Any JSON object; its members are skipped."""


class _Payload(msgspec.Struct):
    room_id: str
    type: str
    content: _Object


_payload = msgspec.json.Decoder(_Payload)


# There is one of each for every event: so small that the garbage collector need not know them.
class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An event whose form is right."""

    ref: SessionRef
    event: EncryptedEvent
    message: vodozemac.MegolmMessage
    place: int


class Opened(msgspec.Struct, frozen=True, gc=False):
    """An event that could be read, before the replay check."""

    sealed: Sealed
    key: RoomKey
    payload: bytes
    slot: Slot
    digest: bytes
    owners: tuple[Slot, ...]
    """Slots of the session's owners at this index, if the event's sender is not one of them."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A session in memory: as each of its senders gave it, and its owners' replay prefixes.

    An owner is whose device sent the key itself. Of a key that came another way nobody knows.
    """

    keys: tuple[RoomKey, ...]
    owners: Mapping[str, bytes]


class Early(msgspec.Struct, frozen=True, gc=False):
    """An event that was read with a session in memory before its turn: no check was made yet."""

    sealed: Sealed | Undecryptable
    cached: Cached | None
    opened: Opened | Undecryptable | None


class SessionCache:
    """The most recently used sessions, at most ``limit`` of them. They are read-only.

    A session that a rolled-back transaction has put here is still one that the bot received.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[SessionRef, Cached] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, ref: SessionRef) -> Cached | None:
        """Return a session if it is here."""
        cached = self._sessions.get(ref)
        if cached is not None:
            self._sessions.move_to_end(ref)
        return cached

    def put(self, ref: SessionRef, cached: Cached) -> None:
        """Keep a session, at the cost of the one not used for longest."""
        self._sessions[ref] = cached
        self._sessions.move_to_end(ref)
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def drop(self, refs: Iterable[SessionRef]) -> None:
        """Forget sessions of which there is a better copy."""
        for ref in refs:
            self._sessions.pop(ref, None)


class Opener:
    """Reads messages with the sessions that are in memory."""

    def __init__(
        self, cache: SessionCache, indexes: MessageIndexes, helpers: Helpers | None = None
    ) -> None:
        self._cache = cache
        self._indexes = indexes
        self.helpers = helpers

    @property
    def has_helpers(self) -> bool:
        """Whether ``open_early`` leaves the work to other processes."""
        return self.helpers is not None

    async def open_early(self, events: Sequence[EncryptedEvent]) -> list[Early]:
        """Do the dearest part of ``decrypt``, as far as memory allows; it changes nothing."""
        if self.helpers is not None:
            return await self._have_opened(self.helpers, events)
        found: list[Early] = []
        for number, event in enumerate(events, start=1):
            sealed, cached = self._begun(event)
            opened = None
            if isinstance(sealed, Sealed) and cached is not None:
                opened = self.open_or_mark(sealed, {sealed.ref: cached})
            found.append(Early(sealed, cached, opened))
            if number % _EARLY_RUN == 0:
                await asyncio.sleep(0)
        return found

    async def _have_opened(
        self, helpers: Helpers, events: Sequence[EncryptedEvent]
    ) -> list[Early]:
        begun = [self._begun(event) for event in events]
        asked: dict[int, tuple[RoomKey, Asked]] = {}
        for place, (sealed, cached) in enumerate(begun):
            if isinstance(sealed, Sealed) and cached is not None:
                key = _choose(sealed, cached.keys)
                text = sealed.event.content["ciphertext"]
                asked[place] = (key, Asked(key.session, sealed.ref.session_id, text))
        answers = await helpers.read([question for _, question in asked.values()])
        payloads = dict(zip(asked, answers, strict=True))
        found: list[Early] = []
        for place, (sealed, cached) in enumerate(begun):
            payload, opened = payloads.get(place), None
            if payload is not None and isinstance(sealed, Sealed) and cached is not None:
                read = _checked(sealed, asked[place][0], payload)
                opened = self._named(sealed, cached, read)
            found.append(Early(sealed, cached, opened))
        return found

    def _begun(self, event: EncryptedEvent) -> tuple[Sealed | Undecryptable, Cached | None]:
        sealed = parse_sealed(event)
        return sealed, self._cache.get(sealed.ref) if isinstance(sealed, Sealed) else None

    def open_or_mark(
        self, item: Sealed | Undecryptable, sessions: Mapping[SessionRef, Cached]
    ) -> Opened | Undecryptable:
        """Return what an event says, by one of these sessions, or why it cannot be read."""
        if isinstance(item, Undecryptable):
            return item
        cached = sessions.get(item.ref)
        if cached is None:
            return undecryptable(item, Why.NO_SESSION)
        return self._named(item, cached, _open(item, cached.keys))

    def _named(
        self, item: Sealed, cached: Cached, read: tuple[RoomKey, bytes] | Undecryptable
    ) -> Opened | Undecryptable:
        """Add what the replay check goes by."""
        if isinstance(read, Undecryptable):
            return read
        key, payload = read
        sender = item.event.sender
        prefix = cached.owners.get(sender)
        owners: tuple[Slot, ...] = ()
        if prefix is None:
            prefix = self._indexes.prefix(item.ref, sender)
            owners = tuple(slot(owner, item.place) for owner in cached.owners.values())
        event = digest(item.event.event_id)
        return Opened(item, key, payload, slot(prefix, item.place), event, owners)


def parse_sealed(event: EncryptedEvent) -> Sealed | Undecryptable:
    """Return an event whose form is right, or that it is not."""
    content = event.content
    session_id, ciphertext = text_of(content, "session_id"), content.get("ciphertext")
    if session_id is None or content.get("algorithm") != MEGOLM or not isinstance(ciphertext, str):
        return _unread(Why.MALFORMED, event, session_id)
    try:
        message = vodozemac.MegolmMessage.from_base64(ciphertext)
    except ValueError:
        return _unread(Why.MALFORMED, event, session_id)
    ref = SessionRef(event.room_id, session_id)
    return Sealed(ref, event, message, message.message_index())


def _open(item: Sealed, keys: Sequence[RoomKey]) -> tuple[RoomKey, bytes] | Undecryptable:
    """Return what an event says, and with which copy of the session it was read."""
    key = _choose(item, keys)
    if item.place < key.session.first_known_index:
        return undecryptable(item, Why.UNKNOWN_INDEX)
    try:
        payload = key.session.decrypt(item.message).plaintext
    except ValueError:
        return undecryptable(item, Why.BAD_MAC)
    return _checked(item, key, payload)


def _checked(item: Sealed, key: RoomKey, payload: bytes) -> tuple[RoomKey, bytes] | Undecryptable:
    """Return what an event says if it says that it is for the room in which it was sent."""
    room_id = _room_of(payload)
    if room_id is None:
        return undecryptable(item, Why.MALFORMED)
    if room_id != item.ref.room_id:
        return undecryptable(item, Why.ROOM_MISMATCH)
    return key, payload


def _choose(item: Sealed, keys: Sequence[RoomKey]) -> RoomKey:
    """Return the copy to read with: the event's sender's own if it reaches back far enough."""
    if len(keys) == 1:
        return keys[0]
    return min(
        keys,
        key=lambda key: (
            item.place < key.session.first_known_index,
            key.sender != item.event.sender,
            key.session.first_known_index,
        ),
    )


def _room_of(payload: bytes) -> str | None:
    """Return the room a payload says it is for, or ``None`` if it has not the specified form."""
    try:
        return _payload.decode(payload).room_id
    except (ValueError, RecursionError):
        # A lone surrogate or a deep junk member stops msgspec, and must not hide a message that
        # clients show: only the members that matter are read, one by one.
        members = dict(members_of(payload) or ())
        if not members.get("content", b"").lstrip().startswith(b"{"):
            return None
        room_id, event_type = _text(members.get("room_id")), _text(members.get("type"))
        return room_id if event_type is not None else None


def _text(raw: bytes | None) -> str | None:
    try:
        value = json.loads((raw or b"null").decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def undecryptable(item: Sealed, why: Why) -> Undecryptable:
    """Return why an event cannot be read, with what it says of itself."""
    return _unread(why, item.event, item.ref.session_id)


def _unread(why: Why, event: EncryptedEvent, session_id: str | None) -> Undecryptable:
    sender_key = text_of(event.content, "sender_key")
    return Undecryptable(why, session_id, sender_key, claimed_device(event))


def claimed_device(event: EncryptedEvent) -> str | None:
    """Return what an event says of the device that sent it, which proves nothing."""
    return text_of(event.content, "device_id")
