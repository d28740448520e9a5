"""Room messages, decrypted: Megolm sessions on demand, replay check, trust in the sender.

Source: Matrix specification v1.18, client-server API, "m.megolm.v1.aes-sha2". Sessions are
looked up by room and session ID; ``sender_key`` and ``device_id`` of an event are deprecated and
prove nothing. Decrypting never writes a session back.
"""

from collections.abc import Collection, Mapping, Sequence

from common.crypto.canonical import is_storable
from common.crypto.opening import (
    Cached,
    Early,
    Opened,
    Opener,
    Sealed,
    SessionCache,
    claimed_device,
    parse_sealed,
    undecryptable,
)
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
from common.crypto.replay import MessageIndexes
from common.crypto.room_keys import RoomKey, RoomKeyStore
from common.crypto.tracking import DeviceTracker, KnownDevice
from common.database.pool import Connection


class MegolmReader:
    """Decrypts the room messages of one bot."""

    def __init__(
        self,
        cache: SessionCache,
        room_keys: RoomKeyStore,
        tracker: DeviceTracker,
        indexes: MessageIndexes,
        opener: Opener,
    ) -> None:
        self._opener = opener
        self._cache = cache
        self._room_keys = room_keys
        self._tracker = tracker
        self._indexes = indexes

    async def decrypt(
        self,
        conn: Connection,
        events: Sequence[EncryptedEvent],
        early: Sequence[Early | None] = (),
    ) -> list[Reading]:
        """Return what each event says or why it cannot be read, in order.

        ``early`` has for each event what ``open_early`` returned, or nothing.
        """
        begun = early or [None] * len(events)
        sealed = [
            parse_sealed(event) if started is None else started.sealed
            for event, started in zip(events, begun, strict=True)
        ]
        refs = {item.ref for item in sealed if isinstance(item, Sealed)}
        sessions = await self._sessions(conn, refs)
        opened = [
            started.opened
            if started is not None
            and started.opened is not None
            # A better copy of the session may have come since.
            and isinstance(item, Sealed)
            and started.cached is sessions.get(item.ref)
            else self._opener.open_or_mark(item, sessions)
            for item, started in zip(sealed, begun, strict=True)
        ]
        if any(isinstance(item, Undecryptable) for item in opened):
            opened = await self._try_fresh_copies(conn, sealed, opened)
            opened = await self._explain_missing(conn, sealed, opened)
        opened = await self._refuse_replays(conn, opened)
        devices = await self._tracker.by_identity_key(
            conn, {item.key.sender_key for item in opened if isinstance(item, Opened)}
        )
        return [_decrypted(item, devices) if isinstance(item, Opened) else item for item in opened]

    async def _sessions(
        self, conn: Connection, refs: Collection[SessionRef]
    ) -> dict[SessionRef, Cached]:
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
                keys = tuple(stored[ref])
                owners = {key.sender for key in keys if key.source is KeySource.DIRECT}
                prefixes = {owner: self._indexes.prefix(ref, owner) for owner in owners}
                found[ref] = Cached(keys, prefixes)
                self._cache.put(ref, found[ref])
        return found

    async def _try_fresh_copies(
        self,
        conn: Connection,
        sealed: Sequence[Sealed | Undecryptable],
        opened: list[Opened | Undecryptable],
    ) -> list[Opened | Undecryptable]:
        """Try again where a copy in memory begins too late: a better one may have come since."""
        refs = {
            item.ref
            for item, result in zip(sealed, opened, strict=True)
            if isinstance(item, Sealed)
            and isinstance(result, Undecryptable)
            and result.why is Why.UNKNOWN_INDEX
        }
        if not refs:
            return opened
        self._cache.drop(refs)
        sessions = await self._sessions(conn, refs)
        return [
            self._opener.open_or_mark(item, sessions)
            if isinstance(item, Sealed) and item.ref in sessions
            else result
            for item, result in zip(sealed, opened, strict=True)
        ]

    async def _explain_missing(
        self,
        conn: Connection,
        sealed: Sequence[Sealed | Undecryptable],
        opened: list[Opened | Undecryptable],
    ) -> list[Opened | Undecryptable]:
        """Replace “no session” by the sender's own reason where there is one."""
        missing = [
            item
            for item, result in zip(sealed, opened, strict=True)
            if isinstance(item, Sealed)
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
            if isinstance(item, Sealed) and isinstance(result, Undecryptable):
                sender = item.event.sender
                names = ((*item.ref, sender), ("", "", sender), (*item.ref, ""))
                why = next((reasons[name] for name in names if name in reasons), result.why)
                if result.why is Why.NO_SESSION:
                    explained[place] = undecryptable(item, why)
        return explained

    async def _refuse_replays(
        self, conn: Connection, opened: list[Opened | Undecryptable]
    ) -> list[Opened | Undecryptable]:
        """Refuse what another event said before, of the same sender or of the session's owner."""
        holding = await self._indexes.bind(
            conn, [(item.slot, item.digest) for item in opened if isinstance(item, Opened)]
        )
        # Rare: somebody sends what another's session says. The owner's slots are only asked for.
        others = {owner for item in opened if isinstance(item, Opened) for owner in item.owners}
        taken = await self._indexes.holders(conn, others) if others else {}
        return [
            undecryptable(item.sealed, Why.REPLAY)
            if isinstance(item, Opened)
            and (holding[item.slot] != item.digest or any(owner in taken for owner in item.owners))
            else item
            for item in opened
        ]


def _decrypted(item: Opened, devices: Mapping[tuple[str, str], KnownDevice]) -> Decrypted:
    key, sealed = item.key, item.sealed
    known = devices.get((key.sender, key.sender_key))
    return Decrypted(
        payload=item.payload,
        session_id=sealed.ref.session_id,
        sender_key=key.sender_key,
        device_id=known.device.address.device_id if known else claimed_device(sealed.event),
        index=sealed.place,
        trust=_trust(sealed, key, known),
        key_source=key.source,
        session=key,
    )


def _trust(sealed: Sealed, key: RoomKey, known: KnownDevice | None) -> Trust:
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
