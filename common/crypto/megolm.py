"""Room messages, decrypted: Megolm sessions on demand, replay check, trust in the sender.

Source: Matrix specification v1.18, client-server API, "m.megolm.v1.aes-sha2". Sessions are
looked up by room and session ID; ``sender_key`` and ``device_id`` of an event are deprecated and
prove nothing. Decrypting never writes a session back.
"""

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import vodozemac

from common.crypto.account import MEGOLM
from common.crypto.canonical import is_storable, text_of
from common.crypto.port import (
    Decrypted,
    EncryptedEvent,
    KeySource,
    Reading,
    SessionRef,
    Trust,
    Undecryptable,
    Why,
)
from common.crypto.replay import MessageIndexes, Slot, slot
from common.crypto.room_keys import RoomKey, RoomKeyStore
from common.crypto.tracking import DeviceTracker, KnownDevice
from common.database.pool import Connection
from common.untrusted import members_of


class _Object(msgspec.Struct):
    """Any JSON object; its members are skipped."""


class _Payload(msgspec.Struct):
    room_id: str
    type: str
    content: _Object


_payload = msgspec.json.Decoder(_Payload)


class _Sealed(NamedTuple):
    """An event whose form is right."""

    ref: SessionRef
    event: EncryptedEvent
    message: vodozemac.MegolmMessage
    place: int
    claimed_device: str | None
    claimed_key: str | None


class _Opened(NamedTuple):
    sealed: _Sealed
    key: RoomKey
    payload: bytes
    slot: Slot


@dataclass(frozen=True, slots=True)
class _Cached:
    """A session in memory: as each of its senders gave it, and its replay prefix."""

    keys: tuple[RoomKey, ...]
    prefix: bytes


class SessionCache:
    """The most recently used sessions, at most ``limit`` of them. They are read-only.

    A session that a rolled-back transaction has put here is still one that the bot received.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[SessionRef, _Cached] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, ref: SessionRef) -> _Cached | None:
        """Return a session if it is here."""
        cached = self._sessions.get(ref)
        if cached is not None:
            self._sessions.move_to_end(ref)
        return cached

    def put(self, ref: SessionRef, cached: _Cached) -> None:
        """Keep a session, at the cost of the one not used for longest."""
        self._sessions[ref] = cached
        self._sessions.move_to_end(ref)
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def drop(self, refs: Iterable[SessionRef]) -> None:
        """Forget sessions of which there is a better copy."""
        for ref in refs:
            self._sessions.pop(ref, None)


class MegolmReader:
    """Decrypts the room messages of one bot."""

    def __init__(
        self,
        cache: SessionCache,
        room_keys: RoomKeyStore,
        tracker: DeviceTracker,
        indexes: MessageIndexes,
    ) -> None:
        self._cache = cache
        self._room_keys = room_keys
        self._tracker = tracker
        self._indexes = indexes

    async def decrypt(self, conn: Connection, events: Sequence[EncryptedEvent]) -> list[Reading]:
        """Return what each event says or why it cannot be read, in order."""
        sealed = [_parse(event) for event in events]
        messages = [item for item in sealed if isinstance(item, _Sealed)]
        sessions = await self._sessions(conn, {item.ref for item in messages})
        opened = [self._open_or_mark(item, sessions) for item in sealed]
        opened = await self._try_fresh_copies(conn, sealed, opened)
        opened = await self._explain_missing(conn, sealed, opened)
        opened = await self._refuse_replays(conn, opened)
        devices = await self._tracker.by_identity_key(
            conn, {item.key.sender_key for item in opened if isinstance(item, _Opened)}
        )
        return [
            _decrypted(item, devices) if isinstance(item, _Opened) else item for item in opened
        ]

    async def _sessions(
        self, conn: Connection, refs: Collection[SessionRef]
    ) -> dict[SessionRef, _Cached]:
        """Return the sessions that exist, from memory or with few queries from the database."""
        found = {}
        missing = []
        for ref in refs:
            cached = self._cache.get(ref)
            if cached is None:
                missing.append(ref)
            else:
                found[ref] = cached
        stored = await self._room_keys.find(conn, {ref.session_id for ref in missing})
        for ref in missing:
            if ref in stored:
                found[ref] = _Cached(tuple(stored[ref]), self._indexes.prefix(ref))
                self._cache.put(ref, found[ref])
        return found

    def _open_or_mark(
        self, item: _Sealed | Undecryptable, sessions: Mapping[SessionRef, _Cached]
    ) -> _Opened | Undecryptable:
        if isinstance(item, Undecryptable):
            return item
        cached = sessions.get(item.ref)
        return _undecryptable(item, Why.NO_SESSION) if cached is None else _open(item, cached)

    async def _try_fresh_copies(
        self,
        conn: Connection,
        sealed: Sequence[_Sealed | Undecryptable],
        opened: list[_Opened | Undecryptable],
    ) -> list[_Opened | Undecryptable]:
        """Try again where a copy in memory begins too late: a better one may have come since."""
        refs = {
            item.ref
            for item, result in zip(sealed, opened, strict=True)
            if isinstance(item, _Sealed)
            and isinstance(result, Undecryptable)
            and result.why is Why.UNKNOWN_INDEX
        }
        if not refs:
            return opened
        self._cache.drop(refs)
        sessions = await self._sessions(conn, refs)
        return [
            self._open_or_mark(item, sessions)
            if isinstance(item, _Sealed) and item.ref in sessions
            else result
            for item, result in zip(sealed, opened, strict=True)
        ]

    async def _explain_missing(
        self,
        conn: Connection,
        sealed: Sequence[_Sealed | Undecryptable],
        opened: list[_Opened | Undecryptable],
    ) -> list[_Opened | Undecryptable]:
        """Replace “no session” by the sender's own reason where there is one."""
        missing = [
            item
            for item, result in zip(sealed, opened, strict=True)
            if isinstance(item, _Sealed)
            and isinstance(result, Undecryptable)
            and result.why is Why.NO_SESSION
        ]
        if not missing:
            return opened
        reasons = await self._room_keys.withheld(
            conn,
            {item.ref.session_id for item in missing},
            {item.event.sender for item in missing if is_storable(item.event.sender)},
        )
        explained = list(opened)
        for place, (item, result) in enumerate(zip(sealed, opened, strict=True)):
            if isinstance(item, _Sealed) and isinstance(result, Undecryptable):
                names = ((*item.ref, item.event.sender), ("", "", item.event.sender))
                why = next((reasons[name] for name in names if name in reasons), result.why)
                if result.why is Why.NO_SESSION:
                    explained[place] = _undecryptable(item, why)
        return explained

    async def _refuse_replays(
        self, conn: Connection, opened: list[_Opened | Undecryptable]
    ) -> list[_Opened | Undecryptable]:
        holding = await self._indexes.bind(
            conn,
            (
                (item.slot, item.sealed.event.event_id)
                for item in opened
                if isinstance(item, _Opened)
            ),
        )
        return [
            _undecryptable(item.sealed, Why.REPLAY)
            if isinstance(item, _Opened) and (item.slot, item.sealed.event.event_id) not in holding
            else item
            for item in opened
        ]


def _parse(event: EncryptedEvent) -> _Sealed | Undecryptable:
    content = event.content
    session_id = text_of(content, "session_id")
    device_id, sender_key = text_of(content, "device_id"), text_of(content, "sender_key")
    ciphertext = content.get("ciphertext")
    if session_id is None or content.get("algorithm") != MEGOLM or not isinstance(ciphertext, str):
        return Undecryptable(Why.MALFORMED, session_id, sender_key, device_id)
    try:
        message = vodozemac.MegolmMessage.from_base64(ciphertext)
    except ValueError:
        return Undecryptable(Why.MALFORMED, session_id, sender_key, device_id)
    ref = SessionRef(event.room_id, session_id)
    return _Sealed(ref, event, message, message.message_index(), device_id, sender_key)


def _open(item: _Sealed, cached: _Cached) -> _Opened | Undecryptable:
    key = _choose(item, cached.keys)
    if item.place < key.session.first_known_index:
        return _undecryptable(item, Why.UNKNOWN_INDEX)
    try:
        payload = key.session.decrypt(item.message).plaintext
    except ValueError:
        return _undecryptable(item, Why.BAD_MAC)
    room_id = _room_of(payload)
    if room_id is None:
        return _undecryptable(item, Why.MALFORMED)
    if room_id != item.ref.room_id:
        return _undecryptable(item, Why.ROOM_MISMATCH)
    return _Opened(item, key, payload, slot(cached.prefix, item.place))


def _choose(item: _Sealed, keys: Sequence[RoomKey]) -> RoomKey:
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


def _decrypted(item: _Opened, devices: Mapping[tuple[str, str], KnownDevice]) -> Decrypted:
    key, sealed = item.key, item.sealed
    known = devices.get((key.sender, key.sender_key))
    return Decrypted(
        payload=item.payload,
        session_id=sealed.ref.session_id,
        sender_key=key.sender_key,
        device_id=known.device.address.device_id if known else sealed.claimed_device,
        index=sealed.place,
        trust=_trust(sealed, key, known),
        key_source=key.source,
    )


def _trust(sealed: _Sealed, key: RoomKey, known: KnownDevice | None) -> Trust:
    if key.source is not KeySource.DIRECT:
        # Whoever knows the backup's public key can have put it there under any name; and what
        # a device passes on says of itself who made it.
        return Trust.UNKNOWN_DEVICE
    if sealed.event.sender != key.sender:
        return Trust.MISMATCH
    if known is None:
        return Trust.UNKNOWN_DEVICE
    if known.device.ed25519 != key.signing_key:
        return Trust.MISMATCH
    return known.trust


def _undecryptable(item: _Sealed, why: Why) -> Undecryptable:
    return Undecryptable(why, item.ref.session_id, item.claimed_key, item.claimed_device)
