"""Room-key bundles: who invites a bot hands over the keys of what was said before.

Source: MSC4268, "Sharing room keys for past messages". A bundle is an encrypted file, told of by
an Olm message. It is taken only from the one who invited the bot, from a device that they have
cross-signed, and only for that room. What it says of who made a key is hearsay: such keys never
displace one that came from its owner, and messages they open do not count as authenticated.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import vodozemac

from common.clock import Clock
from common.crypto.account import MEGOLM
from common.crypto.attachments import AttachmentError, EncryptedFile
from common.crypto.canonical import Json, object_of, parse_object, text_of
from common.crypto.port import KeySource, SessionRef, Trust
from common.crypto.room_keys import RoomKey, RoomKeyStore, Withheld, parse_withheld
from common.crypto.sealing import Sealer
from common.crypto.tracking import DeviceTracker
from common.crypto.wire import Requester, batches, call
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.ids import UserId
from common.inbox.signal import Signal
from common.matrix.client import CLIENT, MatrixError, segment
from common.telemetry.log import Log

BUNDLE = frozenset({"m.room_key_bundle", "io.element.msc4268.room_key_bundle"})
"""The event type, and its name while the proposal was new."""

LARGEST_BYTES = 32 * 2**20
"""Some 50,000 keys; a larger bundle is refused, because it is held in memory."""

MOST_VALUES = 1_000_000
"""JSON values in a bundle; a key has 13 or so. Millions of empty lists would fit in a file of the
largest size, and take a hundred times its memory as objects."""

MOST_OFFERS = 100
_MOST_WITHHELD = 10_000
"""Offers kept of one sender, the newest ones: every offer that waits is asked about again."""

_KEEP_MS = 24 * 3600 * 1000
"""How long the invitation and the signature may come after the bundle."""
_RETRY_MS, _LONGEST_RETRY_MS = 10_000, 3_600_000
_LOOK_SECONDS = 10.0
_KEYS_A_TRANSACTION = 500
_PAGES, _PAGE = 10, "100"
_LONGEST_KEY = 1000

_log = Log("crypto.bundles")


class Files(Protocol):
    """The media repository; ``common.matrix.media.Media`` is one."""

    def read_file(self, content: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Yield a file, decrypted; nothing may be used before it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """The news of a bundle."""

    room_id: str
    sender: UserId
    sender_key: str
    signing_key: str
    file: Json


class _NotYetError(Exception):
    """A condition is not met that may be met later."""


class _RefusedError(Exception):
    """The bundle will never be taken."""


def parse_offer(
    content: Json, *, sender: UserId, sender_key: str, signing_key: str
) -> Offer | None:
    """Return the offer of an untrusted ``m.room_key_bundle``, or ``None`` if it is none."""
    room_id = text_of(content, "room_id")
    try:
        file = EncryptedFile.parse(content.get("file"))
    except AttachmentError:
        return None
    if room_id is None:
        return None
    return Offer(room_id, sender, sender_key, signing_key, file.content())


class KeyBundles:
    """The bundles offered to one bot."""

    def __init__(
        self,
        client: Requester,
        *,
        database: Database,
        sealer: Sealer,
        clock: Clock,
        tracker: DeviceTracker,
        room_keys: RoomKeyStore,
        on_improved: Callable[[Collection[SessionRef]], None],
    ) -> None:
        self._client = client
        self._bot = client.user_id
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._tracker = tracker
        self._room_keys = room_keys
        self._on_improved = on_improved
        self.woken = Signal()

    async def keep(self, conn: Connection, offers: Sequence[Offer]) -> None:
        """Remember offers; the last one of a sender for a room counts."""
        now_ms = self._clock.now_ms()
        await conn.executemany(
            "INSERT INTO crypto_key_bundle (bot_id, room_id, sender, sender_key, signing_key,"
            " sealed, received_ms, due_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)"
            " ON CONFLICT (bot_id, room_id, sender) DO UPDATE SET"
            " sender_key = excluded.sender_key, signing_key = excluded.signing_key,"
            " sealed = excluded.sealed, received_ms = excluded.received_ms,"
            " due_ms = excluded.due_ms",
            [
                (
                    self._bot,
                    offer.room_id,
                    offer.sender,
                    offer.sender_key,
                    offer.signing_key,
                    self._sealer.seal(json.dumps(offer.file).encode(), name=_name(self._bot)),
                    now_ms,
                )
                for offer in offers
            ],
        )
        await conn.executemany(
            "DELETE FROM crypto_key_bundle WHERE bot_id = $1 AND sender = $2 AND room_id NOT IN"
            " (SELECT room_id FROM crypto_key_bundle WHERE bot_id = $1 AND sender = $2"
            " ORDER BY received_ms DESC, room_id LIMIT $3)",
            [(self._bot, sender, MOST_OFFERS) for sender in {offer.sender for offer in offers}],
        )

    async def run(
        self, files: Files, on_sessions: Callable[[frozenset[SessionRef]], Awaitable[None]]
    ) -> None:
        """Fetch what is offered until cancelled; tell which Megolm sessions are new."""
        while True:
            seen = self.woken.count
            try:
                improved = await self.fetch(files)
                if improved:
                    await on_sessions(improved)
            except TransientError as error:
                _log.warning("bundles of room keys will be tried again", reason=error)
            await self.woken.changed(seen, timeout_seconds=_LOOK_SECONDS)

    async def fetch(self, files: Files) -> frozenset[SessionRef]:
        """Take the bundles whose time has come; return the sessions that are new or better."""
        rows = await self._database.fetch(
            "SELECT room_id, sender, sender_key, signing_key, sealed, received_ms"
            " FROM crypto_key_bundle WHERE bot_id = $1 AND due_ms <= $2 ORDER BY received_ms",
            self._bot,
            self._clock.now_ms(),
        )
        improved: set[SessionRef] = set()
        for row in rows:
            file = self._sealer.open(bytes(row["sealed"]), name=_name(self._bot))
            offer = Offer(
                row["room_id"],
                UserId(row["sender"]),
                row["sender_key"],
                row["signing_key"],
                parse_object(file) or {},
            )
            improved |= await self._deal_with(offer, files, row["received_ms"])
        return frozenset(improved)

    async def _deal_with(self, offer: Offer, files: Files, received_ms: int) -> set[SessionRef]:
        say = {"room": offer.room_id, "sender": offer.sender}
        try:
            await self._check_device(offer)
            await self._check_invitation(offer)
            bundle = await _read(files, offer)
            keys = parse_bundle(offer.room_id, bundle)
        except (_NotYetError, TransientError, MatrixError) as error:
            if self._clock.now_ms() - received_ms < _KEEP_MS:
                await self._postpone(offer, received_ms)
                return set()
            _log.warning("a bundle of room keys was given up", reason=error, **say)
        except (_RefusedError, AttachmentError) as error:
            _log.warning("a bundle of room keys was refused", reason=error, **say)
        else:
            improved = await self._import(keys)
            withheld = parse_not_given(offer.room_id, bundle)
            async with self._database.transaction() as conn:
                await self._room_keys.add_withheld(conn, withheld)
            _log.info("room keys of the past received", keys=len(keys), new=len(improved), **say)
            await self._forget(offer)
            return improved
        await self._forget(offer)
        return set()

    async def _check_device(self, offer: Offer) -> None:
        await self._tracker.learn([offer.sender])
        async with self._database.transaction() as conn:
            known = await self._tracker.by_identity_key(conn, {offer.sender_key})
        device = known.get((offer.sender, offer.sender_key))
        if device is not None and device.device.ed25519 != offer.signing_key:
            raise _RefusedError("The sending device has other keys.")
        if device is None or device.trust is not Trust.CROSS_SIGNED:
            raise _NotYetError("The sending device is not cross-signed.")

    async def _check_invitation(self, offer: Offer) -> None:
        """Whether the sender has ever invited us, as far as the room shows it."""
        path = f"{CLIENT}/v3/rooms/{segment(offer.room_id)}/messages"
        only = {"types": ["m.room.member"], "senders": [offer.sender]}
        query = {"dir": "b", "limit": _PAGE, "filter": json.dumps(only)}
        for _ in range(_PAGES):
            answer = await call(self._client, "GET", path, query=query)
            chunk = answer.get("chunk")
            for event in chunk if isinstance(chunk, list) else []:
                if self._is_invitation(event, offer.sender):
                    return
            end = answer.get("end")
            if not isinstance(end, str):
                break
            query["from"] = end
        raise _NotYetError("The sender has not invited us.")

    def _is_invitation(self, event: object, sender: UserId) -> bool:
        return (
            isinstance(event, dict)
            and event.get("sender") == sender
            and event.get("state_key") == self._bot
            and object_of(event, "content").get("membership") == "invite"
        )

    async def _import(self, keys: Sequence[RoomKey]) -> set[SessionRef]:
        improved: set[SessionRef] = set()
        for some in batches(keys, _KEYS_A_TRANSACTION):
            async with self._database.transaction() as conn:
                improved |= await self._room_keys.add(conn, some)
        self._on_improved(improved)
        return improved

    async def _postpone(self, offer: Offer, received_ms: int) -> None:
        """Ask again after as long as it has waited: soon at first, then ever more rarely."""
        now_ms = self._clock.now_ms()
        waited_ms = max(_RETRY_MS, min(now_ms - received_ms, _LONGEST_RETRY_MS))
        async with self._database.transaction() as conn:
            await conn.execute(
                "UPDATE crypto_key_bundle SET due_ms = $4"
                " WHERE bot_id = $1 AND room_id = $2 AND sender = $3",
                self._bot,
                offer.room_id,
                offer.sender,
                now_ms + waited_ms,
            )

    async def _forget(self, offer: Offer) -> None:
        async with self._database.transaction() as conn:
            await conn.execute(
                "DELETE FROM crypto_key_bundle WHERE bot_id = $1 AND room_id = $2 AND sender = $3",
                self._bot,
                offer.room_id,
                offer.sender,
            )


def parse_bundle(room_id: str, bundle: Json) -> list[RoomKey]:
    """Return the sound room keys of an untrusted bundle that are for this room."""
    values = bundle.get("room_keys")
    found = [_room_key(room_id, value) for value in values] if isinstance(values, list) else []
    return [key for key in found if key is not None]


def parse_not_given(room_id: str, bundle: Json) -> list[Withheld]:
    """Return what an untrusted bundle says of keys that were withheld from its maker, too.

    Who wrote with them it does not say: the reason then holds for whoever did.
    """
    values = bundle.get("withheld")
    found = [
        parse_withheld(value, sender="")
        for value in (values[:_MOST_WITHHELD] if isinstance(values, list) else [])
        if isinstance(value, dict)
    ]
    return [item for item in found if item is not None and item.room_id == room_id]


def _room_key(room_id: str, value: object) -> RoomKey | None:
    if not isinstance(value, dict) or value.get("room_id") != room_id:
        return None
    session_id, sender_key = text_of(value, "session_id"), text_of(value, "sender_key")
    session_key = text_of(value, "session_key", longest=_LONGEST_KEY)
    if value.get("algorithm") != MEGOLM or not (session_id and sender_key and session_key):
        return None
    try:
        session = vodozemac.InboundGroupSession.import_session(
            vodozemac.ExportedSessionKey(session_key)
        )
    except ValueError:
        return None
    if session.session_id != session_id:
        return None
    claimed = text_of(object_of(value, "sender_claimed_keys"), "ed25519") or ""
    ref = SessionRef(room_id, session_id)
    return RoomKey(ref, "", sender_key, claimed, KeySource.HISTORY_SHARE, session)


async def _read(files: Files, offer: Offer) -> Json:
    data = bytearray()
    async for portion in files.read_file({"file": offer.file}):
        data += portion
        if len(data) > LARGEST_BYTES:
            raise _RefusedError("It is too large.")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise _RefusedError("It holds too many values.")
    bundle = parse_object(bytes(data))
    if bundle is None:
        raise _RefusedError("It is no JSON object.")
    return bundle


def _name(bot: UserId) -> str:
    return f"key bundle of {bot}"
