"""What arrives for the device: room keys inside Olm messages, changed devices, key counts.

Source: Matrix specification v1.18, client-server API, "Send-to-device messaging",
"m.olm.v1.curve25519-aes-sha2". Nothing that anybody sends raises an exception here: what is
malformed or hostile is counted, logged without content, and left behind.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from common.crypto.account import OLM, AccountStore
from common.crypto.bundles import BUNDLE, KeyBundles, parse_offer
from common.crypto.canonical import Json, object_of, parse_object, text_of
from common.crypto.devices import Device, parse_own_device
from common.crypto.forwarded import FORWARDED, is_own_verified_device, parse_forwarded
from common.crypto.key_pool import KeyPool
from common.crypto.olm import NORMAL, PRE_KEY, OlmBox, OlmPost, OlmReadError
from common.crypto.port import DeviceAddress, SessionRef
from common.crypto.room_keys import (
    RoomKey,
    RoomKeyStore,
    Withheld,
    parse_room_key,
    parse_withheld,
)
from common.crypto.tracking import DeviceTracker
from common.crypto.unwedge import Unwedger
from common.crypto.verification_mail import VerificationMail, to_device
from common.crypto.wire import ONE_TIME_KEY
from common.database.pool import Connection
from common.errors import UserError
from common.ids import UserId, parse_user_id
from common.inbox.port import Entry, EntryKind
from common.telemetry.log import Log

_LONGEST_MESSAGE = 1_000_000

_log = Log("crypto.to_device")


@dataclass(frozen=True)
class _OlmMessage:
    sender: UserId
    sender_key: str
    kind: int
    body: str


@dataclass(frozen=True)
class _Opened:
    sender: UserId
    sender_key: str
    signing_key: str
    event_type: str
    content: Json
    device_keys: Json


@dataclass
class _Batch:
    """What a batch of entries amounts to."""

    messages: list[_OlmMessage] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    one_time_keys_low: bool = False
    fallback_key_used_ms: int | None = None
    refused: Counter[str] = field(default_factory=Counter)


class ToDeviceReceiver:
    """Works through entries for one device, inside the caller's transaction."""

    def __init__(
        self,
        me: DeviceAddress,
        *,
        accounts: AccountStore,
        pool: KeyPool,
        post: OlmPost,
        room_keys: RoomKeyStore,
        bundles: KeyBundles,
        tracker: DeviceTracker,
        unwedger: Unwedger,
        verification_mail: VerificationMail,
        own_master_key: Callable[[Connection], Awaitable[str]],
    ) -> None:
        self._me = me
        self._accounts = accounts
        self._pool = pool
        self._post = post
        self._room_keys = room_keys
        self._bundles = bundles
        self._tracker = tracker
        self._unwedger = unwedger
        self._verification_mail = verification_mail
        self._own_master_key = own_master_key
        self.refused: Counter[str] = Counter()

    async def receive(self, conn: Connection, entries: Sequence[Entry]) -> frozenset[SessionRef]:
        """Take in what is ours among the entries; return the new and improved Megolm sessions."""
        # First of all, because it locks: every writer of a device's state takes this lock first.
        box = await self._post.open(conn)
        batch = self._sort(entries, box.account.curve25519)
        await self._note_reports(conn, batch)
        improved = await self._read_messages(conn, box, batch)
        await self._room_keys.add_withheld(conn, batch.withheld)
        self.refused.update(batch.refused)
        for reason, count in batch.refused.items():
            _log.warning("to-device messages refused", reason=reason, count=count)
        return improved

    def _sort(self, entries: Sequence[Entry], our_key: str) -> _Batch:
        batch = _Batch()
        for entry in entries:
            if entry.recipient not in {"", self._me.user_id}:
                continue
            body = parse_object(entry.body)
            if body is None:
                batch.refused["malformed"] += 1
                continue
            match entry.kind:
                case EntryKind.TO_DEVICE:
                    self._sort_message(batch, body, our_key)
                case EntryKind.DEVICE_LIST:
                    batch.changed.update(_users(body.get("changed")))
                    batch.left.update(_users(body.get("left")))
                case EntryKind.KEY_COUNTS:
                    self._sort_counts(batch, body, entry.received_ms)
                case EntryKind.EVENT | EntryKind.GRAPH | EntryKind.RECEIPT:
                    pass
        return batch

    def _sort_message(self, batch: _Batch, event: Json, our_key: str) -> None:
        sender, content = _user(event.get("sender")), event.get("content")
        if event.get("to_device_id", self._me.device_id) != self._me.device_id:
            return
        if sender is None or not isinstance(content, dict):
            batch.refused["malformed"] += 1
            return
        match event.get("type"):
            case "m.room.encrypted":
                message = _parse_olm(content, sender, our_key)
                if message is None:
                    batch.refused["not an Olm message for us"] += 1
                else:
                    batch.messages.append(message)
            case "m.room_key.withheld":
                news = parse_withheld(content, sender=sender)
                if news is None:
                    batch.refused["malformed"] += 1
                else:
                    batch.withheld.append(news)
            case event_type:
                # What is left: key requests; and room keys in clear text, which nobody may send.
                self._verification_mail.put(to_device(event_type, sender, content))

    def _sort_counts(self, batch: _Batch, body: Json, received_ms: int) -> None:
        if body.get("device_id", self._me.device_id) != self._me.device_id:
            return
        counts, unused = body.get("one_time"), body.get("unused_fallback")
        if isinstance(counts, dict):
            # Synapse leaves an algorithm out when it has no key of it.
            count = counts.get(ONE_TIME_KEY, 0)
            batch.one_time_keys_low = isinstance(count, int) and self._pool.is_low(count)
        if isinstance(unused, list):
            batch.fallback_key_used_ms = None if ONE_TIME_KEY in unused else received_ms

    async def _note_reports(self, conn: Connection, batch: _Batch) -> None:
        if batch.changed or batch.left:
            await self._tracker.note_changes(
                conn, changed=sorted(batch.changed), left=sorted(batch.left - batch.changed)
            )
        if batch.one_time_keys_low or batch.fallback_key_used_ms is not None:
            await self._accounts.note_due(
                conn,
                one_time_keys=batch.one_time_keys_low,
                fallback_key_seen_ms=batch.fallback_key_used_ms,
            )

    async def _read_messages(
        self, conn: Connection, box: OlmBox, batch: _Batch
    ) -> frozenset[SessionRef]:
        if not batch.messages:
            return frozenset()
        await box.load({message.sender_key for message in batch.messages})
        opened: list[_Opened] = []
        broken: list[tuple[UserId, str]] = []
        for message in batch.messages:
            try:
                opened.append(self._open(box, message))
            except OlmReadError as error:
                batch.refused[str(error)] += 1
                if error.wedged:
                    broken.append((message.sender, message.sender_key))
        await box.save()
        await self._unwedger.note(conn, broken)
        await self._room_keys.forget_no_olm(conn, {item.sender for item in opened})
        self._verification_mail.put_all(
            to_device(item.event_type, item.sender, item.content) for item in opened
        )
        await self._keep_offers(conn, [item for item in opened if item.event_type in BUNDLE])
        received = [item for item in opened if item.event_type in {"m.room_key", FORWARDED}]
        devices = await self._tracker.by_identity_key(conn, {item.sender_key for item in received})
        keys: list[RoomKey] = []
        for item in received:
            known = devices.get((item.sender, item.sender_key))
            key = await self._key_of(conn, item, known.device if known else None)
            if isinstance(key, RoomKey):
                keys.append(key)
            else:
                batch.refused[key] += 1
        return await self._room_keys.add(conn, keys)

    async def _keep_offers(self, conn: Connection, opened: Sequence[_Opened]) -> None:
        offers = [
            parse_offer(
                item.content,
                sender=item.sender,
                sender_key=item.sender_key,
                signing_key=item.signing_key,
            )
            for item in opened
        ]
        await self._bundles.keep(conn, [offer for offer in offers if offer is not None])

    async def _key_of(
        self, conn: Connection, opened: _Opened, known: Device | None
    ) -> RoomKey | str:
        """Return the room key that a message brings, or why it is refused."""
        if not await self._is_consistent(conn, opened, known):
            return "other keys than the sender's device has"
        if opened.event_type != FORWARDED:
            return _room_key(opened) or "a malformed room key"
        if opened.sender != self._me.user_id or not await is_own_verified_device(
            conn,
            self._me.user_id,
            curve25519=opened.sender_key,
            ed25519=opened.signing_key,
            master=await self._own_master_key(conn),
        ):
            return "a forwarded room key from elsewhere than our own verified devices"
        return parse_forwarded(opened.content) or "a malformed room key"

    def _open(self, box: OlmBox, message: _OlmMessage) -> _Opened:
        """Decrypt and make the checks of ``m.olm.v1.curve25519-aes-sha2``."""
        plaintext = box.decrypt(message.sender_key, message.kind, message.body)
        payload = parse_object(plaintext) or {}
        signing_key = text_of(object_of(payload, "keys"), "ed25519")
        event_type = text_of(payload, "type")
        if signing_key is None or event_type is None:
            raise OlmReadError("a malformed payload")
        if payload.get("sender") != message.sender:
            raise OlmReadError("another sender inside")
        ours = object_of(payload, "recipient_keys").get("ed25519")
        if payload.get("recipient") != self._me.user_id or ours != box.account.ed25519:
            raise OlmReadError("another recipient inside")
        return _Opened(
            message.sender,
            message.sender_key,
            signing_key,
            event_type,
            object_of(payload, "content"),
            object_of(payload, "sender_device_keys"),
        )

    async def _is_consistent(
        self, conn: Connection, opened: _Opened, known: Device | None
    ) -> bool:
        """Whether the claimed fingerprint key agrees with all we know of the sending device."""
        device = known
        if opened.device_keys:
            device = parse_own_device(opened.sender, opened.device_keys)
            if device is None or (known is not None and device != known):
                return False
        if known is None:
            await self._tracker.note_sender(conn, opened.sender)
            if device is not None:
                await self._tracker.note_device(conn, device, opened.device_keys)
        return device is None or (device.curve25519, device.ed25519) == (
            opened.sender_key,
            opened.signing_key,
        )


def _room_key(opened: _Opened) -> RoomKey | None:
    return parse_room_key(
        opened.content,
        sender=opened.sender,
        sender_key=opened.sender_key,
        signing_key=opened.signing_key,
    )


def _parse_olm(content: Json, sender: UserId, our_key: str) -> _OlmMessage | None:
    sender_key = text_of(content, "sender_key")
    ciphertext = object_of(object_of(content, "ciphertext"), our_key)
    kind, body = ciphertext.get("type"), text_of(ciphertext, "body", longest=_LONGEST_MESSAGE)
    if content.get("algorithm") != OLM or sender_key is None or body is None:
        return None
    if isinstance(kind, bool) or kind not in (PRE_KEY, NORMAL):
        return None
    return _OlmMessage(sender, sender_key, int(kind), body)


def _user(value: object) -> UserId | None:
    try:
        return parse_user_id(value) if isinstance(value, str) else None
    except UserError:
        return None


def _users(value: object) -> set[UserId]:
    members = value if isinstance(value, list) else []
    return {user for user in map(_user, members) if user is not None}
