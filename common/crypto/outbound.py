"""Messages to encrypted rooms: outbound Megolm sessions, their rotation, and sharing them.

Source: Matrix specification v1.18, client-server API, "m.room.encryption", "m.megolm.v1.aes-sha2".
The promise: a message index is used once. The session's next state is committed before the
ciphertext leaves, so a crash can skip an index and never repeat one.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import vodozemac

from common.clock import Clock
from common.crypto.account import MEGOLM, AccountStore
from common.crypto.canonical import Json, canonical_json
from common.crypto.claims import claim
from common.crypto.devices import Device
from common.crypto.olm import OlmPost
from common.crypto.port import DeviceAddress, KeySource, SessionRef
from common.crypto.room_keys import RoomKey, RoomKeyStore
from common.crypto.sealing import Sealer, WrongPickleKeyError
from common.crypto.sharing import ShareWith, Withholding
from common.crypto.tracking import DeviceTracker
from common.crypto.wire import DEVICES_A_SEND, Wire, batches
from common.database.pool import Connection, Database, Row
from common.errors import UserError
from common.ids import RoomId, UserId
from common.telemetry.log import Log

_WEEK_MS = 604_800_000
_HOUR_MS = 3_600_000
_MESSAGES, _MOST_MESSAGES = 100, 10_000
_CLAIM_AGAIN_SECONDS = 60.0

_log = Log("crypto.outbound")


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a room's settings want a new session."""

    period_ms: int
    messages: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Rotation":
        """Read an untrusted ``m.room.encryption``; extreme values must not stop us."""
        return cls(
            max(_HOUR_MS, _positive(settings.get("rotation_period_ms"), _WEEK_MS)),
            min(_MOST_MESSAGES, _positive(settings.get("rotation_period_msgs"), _MESSAGES)),
        )


class _RoomLock(asyncio.Lock):
    """A lock that a weak dictionary can hold."""


class MegolmSender:
    """Encrypts for rooms, as one device."""

    def __init__(
        self,
        me: DeviceAddress,
        *,
        database: Database,
        wire: Wire,
        clock: Clock,
        sealer: Sealer,
        accounts: AccountStore,
        post: OlmPost,
        room_keys: RoomKeyStore,
        tracker: DeviceTracker,
        share_with: ShareWith,
    ) -> None:
        self._me = me
        self._database = database
        self._wire = wire
        self._clock = clock
        self._key = sealer.pickle_key
        self._accounts = accounts
        self._post = post
        self._room_keys = room_keys
        self._tracker = tracker
        self._policy = share_with
        self._withholding = Withholding(me, database, wire)
        self._locks: WeakValueDictionary[RoomId, _RoomLock] = WeakValueDictionary()
        self._claim_again: dict[Device, float] = {}

    async def encrypt(
        self,
        room_id: RoomId,
        event_type: str,
        content: Json,
        *,
        members: Collection[UserId],
        settings: Mapping[str, Any],
    ) -> Json:
        """Return the content of an ``m.room.encrypted`` event for all devices the policy allows.

        Raises:
            UserError: the content cannot be sent, e.g. because it holds a float.
        """
        try:
            payload, relation = _payload(room_id, event_type, content)
        except ValueError as error:
            raise UserError("This message has no canonical JSON form.") from error
        async with self._locks.setdefault(room_id, _RoomLock()):
            await self._tracker.learn(members)
            recipients, refused = self._policy.choose(
                known
                for known in await self._tracker.devices_of(members)
                if known.device.address != self._me
            )
            session_id = await self._session(room_id, recipients, Rotation.of(settings))
            without_olm = await self._share(room_id, session_id, recipients)
            encrypted = await self._advance(room_id, payload)
            sender_key = encrypted["sender_key"]
            await self._withholding.tell_unverified(
                room_id, session_id, refused, sender_key=sender_key
            )
            await self._withholding.tell_no_olm(without_olm, sender_key=sender_key)
        return {**encrypted, **relation}

    async def _session(
        self, room_id: RoomId, recipients: Sequence[Device], rotation: Rotation
    ) -> str:
        """Return the room's session, a new one if it is time or somebody must not read on."""
        async with self._database.transaction() as conn:
            row = await self._row(conn, room_id)
            if row is not None and not self._is_old(row, rotation):
                shared = await self._shared(conn, room_id, row["session_id"])
                if shared <= set(recipients):
                    return str(row["session_id"])
            return await self._create(conn, room_id)

    def _is_old(self, row: Row, rotation: Rotation) -> bool:
        age_ms = self._clock.now_ms() - row["created_ms"]
        return bool(row["messages"] >= rotation.messages or age_ms >= rotation.period_ms)

    async def _create(self, conn: Connection, room_id: RoomId) -> str:
        account = await self._accounts.load(conn)
        session = vodozemac.GroupSession()
        await conn.execute(
            "INSERT INTO crypto_outbound_session"
            " (bot_id, device_id, room_id, session_id, pickle, messages, created_ms)"
            " VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT (bot_id, device_id, room_id)"
            " DO UPDATE SET session_id = excluded.session_id, pickle = excluded.pickle,"
            " messages = 0, created_ms = excluded.created_ms",
            *self._me,
            room_id,
            session.session_id,
            session.pickle(self._key),
            self._clock.now_ms(),
        )
        await conn.execute(
            "DELETE FROM crypto_outbound_share"
            " WHERE bot_id = $1 AND device_id = $2 AND room_id = $3",
            *self._me,
            room_id,
        )
        await self._withholding.forget_session(conn, room_id)
        # Our own copy: what we said is read back from the room like everything else.
        await self._room_keys.add(
            conn,
            [
                RoomKey(
                    SessionRef(room_id, session.session_id),
                    self._me.user_id,
                    account.curve25519,
                    account.ed25519,
                    KeySource.DIRECT,
                    vodozemac.InboundGroupSession(session.session_key),
                )
            ],
        )
        return session.session_id

    async def _share(
        self, room_id: RoomId, session_id: str, recipients: Sequence[Device]
    ) -> set[Device]:
        """Send the session to those recipients that lack it; return those it cannot be sent to."""
        async with self._database.transaction() as conn:
            lacking = set(recipients) - await self._shared(conn, room_id, session_id)
        if not lacking:
            return lacking
        claimed = await self._claim(lacking)
        for some in batches(sorted(lacking, key=lambda d: d.address), DEVICES_A_SEND):
            lacking -= await self._share_with(room_id, session_id, some, claimed)
        return lacking

    async def _claim(self, lacking: Collection[Device]) -> dict[Device, str]:
        """Claim one-time keys of devices that we have no Olm session with."""
        async with self._database.transaction() as conn:
            box = await self._post.open(conn)
            await box.load([device.curve25519 for device in lacking])
            strangers = [device for device in lacking if not box.has_session(device.curve25519)]
        now = self._clock.monotonic()
        self._claim_again = {d: until for d, until in self._claim_again.items() if until > now}
        wanted = [device for device in strangers if device not in self._claim_again]
        claimed = await claim(self._wire, wanted)
        without = [device for device in wanted if device not in claimed]
        # Such a device would otherwise cost a claim for every message.
        self._claim_again.update((device, now + _CLAIM_AGAIN_SECONDS) for device in without)
        if without:
            _log.info("devices without one-time keys get no room key", count=len(without))
        return claimed

    async def _share_with(
        self,
        room_id: RoomId,
        session_id: str,
        recipients: Sequence[Device],
        claimed: Mapping[Device, str],
    ) -> set[Device]:
        async with self._database.transaction() as conn:
            box = await self._post.open(conn)
            await box.load([device.curve25519 for device in recipients])
            row = await self._row(conn, room_id)
            if row is None or row["session_id"] != session_id:
                return set(recipients)
            room_key = {
                "algorithm": MEGOLM,
                "room_id": room_id,
                "session_id": session_id,
                "session_key": self._unpickle(row).session_key.to_base64(),
            }
            messages: dict[Device, Json] = {}
            for device in recipients:
                if device in claimed and not box.has_session(device.curve25519):
                    try:
                        box.establish(device, claimed[device])
                    except ValueError:
                        continue
                if box.has_session(device.curve25519):
                    messages[device] = box.encrypt(device, "m.room_key", room_key)
            await box.save()
        if not messages:
            return set()
        await self._wire.send_to_device(
            "m.room.encrypted", {device.address: body for device, body in messages.items()}
        )
        async with self._database.transaction() as conn:
            await self._note_shared(conn, room_id, session_id, messages)
            await self._withholding.forget_no_olm(conn, messages)
        return set(messages)

    async def _advance(self, room_id: RoomId, payload: bytes) -> Json:
        """Encrypt at the next index, and commit that the index is used up."""
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            row = await self._row(conn, room_id)
            assert row is not None  # noqa: S101  # made under the room's lock, never deleted
            session = self._unpickle(row)
            ciphertext = session.encrypt(payload).to_base64()
            await conn.execute(
                "UPDATE crypto_outbound_session SET pickle = $4, messages = messages + 1"
                " WHERE bot_id = $1 AND device_id = $2 AND room_id = $3",
                *self._me,
                room_id,
                session.pickle(self._key),
            )
        return {
            "algorithm": MEGOLM,
            "ciphertext": ciphertext,
            "session_id": session.session_id,
            # Deprecated, and still what older clients look sessions up by.
            "sender_key": account.curve25519,
            "device_id": self._me.device_id,
        }

    async def _row(self, conn: Connection, room_id: RoomId) -> Row | None:
        return await conn.fetchrow(
            "SELECT session_id, pickle, messages, created_ms FROM crypto_outbound_session"
            " WHERE bot_id = $1 AND device_id = $2 AND room_id = $3",
            *self._me,
            room_id,
        )

    async def _shared(self, conn: Connection, room_id: RoomId, session_id: str) -> set[Device]:
        """Return the devices that have a session, with the keys they had when they got it."""
        rows = await conn.fetch(
            "SELECT user_id, recipient_device, ed25519, curve25519 FROM crypto_outbound_share"
            " WHERE bot_id = $1 AND device_id = $2 AND room_id = $3 AND session_id = $4",
            *self._me,
            room_id,
            session_id,
        )
        return {
            Device(
                DeviceAddress(row["user_id"], row["recipient_device"]),
                row["ed25519"],
                row["curve25519"],
            )
            for row in rows
        }

    async def _note_shared(
        self, conn: Connection, room_id: RoomId, session_id: str, devices: Iterable[Device]
    ) -> None:
        await conn.executemany(
            "INSERT INTO crypto_outbound_share (bot_id, device_id, room_id, session_id, user_id,"
            " recipient_device, ed25519, curve25519) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            " ON CONFLICT (bot_id, device_id, room_id, session_id, user_id, recipient_device)"
            " DO NOTHING",
            [
                (
                    *self._me,
                    room_id,
                    session_id,
                    *device.address,
                    device.ed25519,
                    device.curve25519,
                )
                for device in devices
            ],
        )

    def _unpickle(self, row: Row) -> vodozemac.GroupSession:
        try:
            return vodozemac.GroupSession.from_pickle(row["pickle"], self._key)
        except ValueError as error:
            raise WrongPickleKeyError from error


def _payload(room_id: RoomId, event_type: str, content: Json) -> tuple[bytes, Json]:
    """Return the plaintext, and ``m.relates_to``, which stays outside of it by specification."""
    inner = {key: value for key, value in content.items() if key != "m.relates_to"}
    relation = {key: value for key, value in content.items() if key == "m.relates_to"}
    canonical_json(relation)
    return canonical_json({"room_id": room_id, "type": event_type, "content": inner}), relation


def _positive(value: object, default: int) -> int:
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default
    )
