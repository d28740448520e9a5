"""End-to-end encryption of one bot's device: the one class that the rest of Steward meets.

Source: Matrix specification v1.18, client-server API, "End-to-end encryption". It only wires;
each part keeps its own promise in its own module.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from common.clock import Clock
from common.config.secret import Secret
from common.crypto.account import AccountStore, OlmAccount
from common.crypto.bundles import KeyBundles
from common.crypto.canonical import Json, object_of
from common.crypto.cross_signing import CrossSigning
from common.crypto.devices import Device, parse_devices
from common.crypto.helpers import Helpers
from common.crypto.key_pool import KeyPool
from common.crypto.megolm import MegolmReader
from common.crypto.olm import OlmPost
from common.crypto.opening import Early, Opener, SessionCache
from common.crypto.outbound import MegolmSender
from common.crypto.port import (
    Decrypted,
    DeviceAddress,
    DeviceKeysDifferError,
    EncryptedEvent,
    Reading,
    SessionRef,
)
from common.crypto.replay import MessageIndexes
from common.crypto.room_keys import RoomKeyStore
from common.crypto.sealing import Sealer
from common.crypto.secure_backup import SecureBackup
from common.crypto.sharing import ShareWith
from common.crypto.to_device import ToDeviceReceiver
from common.crypto.tracking import DeviceTracker
from common.crypto.unwedge import Unwedger
from common.crypto.verification import Keys
from common.crypto.verification_mail import MARK, VerificationMail
from common.crypto.wire import Requester, Wire
from common.database.pool import Connection, Database
from common.errors import PermanentError
from common.ids import RoomId, UserId
from common.inbox.port import Entry
from common.telemetry.metrics import Metric, Sample

REFUSED = Metric(
    "steward_to_device_refused_total",
    "counter",
    "To-device messages since the start that were malformed, hostile or not readable.",
)


class CryptoMachine:
    """The encryption of one device.

    All methods may raise ``DeviceGoneError`` when they speak to the homeserver: the device was
    deleted, and a machine for a new device has to take over.
    """

    def __init__(
        self,
        *,
        client: Requester,
        database: Database,
        clock: Clock,
        pickle_key: Secret,
        one_time_keys: int,
        session_cache: int,
        passphrase: Secret | None = None,
        share_with: ShareWith = ShareWith.ALL,
        helpers: Helpers | None = None,
    ) -> None:
        """Wire the parts; nothing is read or sent yet.

        Args:
            client: the bot's ``MatrixClient``, with its device
            database: where all state is; several machines may share it
            clock: the present
            pickle_key: what keys are encrypted with at rest
            one_time_keys: how many to keep published
            session_cache: how many Megolm sessions to hold in memory
            passphrase: of the Secure Backup; ``None`` to have one made
            share_with: which of the members' devices get our room keys
            helpers: processes that decrypt what is to be read soon
        """
        if client.device_id is None:
            raise PermanentError(f"{client.user_id} has no device to encrypt for.")
        self.me = DeviceAddress(client.user_id, client.device_id)
        self._database = database
        self._wire = Wire(client)
        sealer = Sealer(pickle_key)
        self._accounts = AccountStore(self.me, sealer, is_postgres=database.is_postgres)
        self._pool = KeyPool(self._accounts, database, self._wire, clock, target=one_time_keys)
        self._cross_signing = CrossSigning(self.me, database, sealer, self._wire)
        self._tracker = DeviceTracker(self.me.user_id, database, self._wire, clock)
        self._post = OlmPost(self._accounts, sealer, clock)
        self._unwedger = Unwedger(
            self.me,
            database=database,
            wire=self._wire,
            tracker=self._tracker,
            post=self._post,
            clock=clock,
        )
        room_keys = self._room_keys = RoomKeyStore(self.me.user_id, sealer, clock)
        self._cache = SessionCache(session_cache)
        self.bundles = KeyBundles(
            client,
            database=database,
            sealer=sealer,
            clock=clock,
            tracker=self._tracker,
            room_keys=room_keys,
            on_improved=self._cache.drop,
        )
        self.verification_mail = VerificationMail()
        self._receiver = ToDeviceReceiver(
            self.me,
            accounts=self._accounts,
            pool=self._pool,
            post=self._post,
            room_keys=room_keys,
            bundles=self.bundles,
            tracker=self._tracker,
            unwedger=self._unwedger,
            verification_mail=self.verification_mail,
            own_master_key=self._cross_signing.master_key,
        )
        self.backup = SecureBackup(
            client,
            database=database,
            sealer=sealer,
            accounts=self._accounts,
            room_keys=room_keys,
            passphrase=passphrase,
            clock=clock,
        )
        indexes = MessageIndexes(self.me.user_id, is_postgres=database.is_postgres)
        used = helpers if helpers is not None and helpers.count else None
        self._opener = Opener(self._cache, indexes, used)
        self._reader = MegolmReader(self._cache, room_keys, self._tracker, indexes, self._opener)
        self._sender = MegolmSender(
            self.me,
            database=database,
            wire=self._wire,
            clock=clock,
            sealer=sealer,
            accounts=self._accounts,
            post=self._post,
            room_keys=room_keys,
            tracker=self._tracker,
            share_with=share_with,
        )
        self._maintaining = asyncio.Lock()

    @property
    def refused_to_device(self) -> Mapping[str, int]:
        """How many to-device messages were refused since the start, by reason."""
        return self._receiver.refused

    def samples(self) -> Iterator[Sample]:
        """Yield figures of this moment."""
        yield from self._pool.samples()
        yield from self.backup.samples()
        for reason, count in self._receiver.refused.items():
            labels = {"account": self.me.user_id, "reason": reason}
            yield Sample(REFUSED, count, labels)

    async def set_up(self) -> None:
        """Publish the device's keys and its identity, once; at later starts, check them.

        Raises:
            DeviceKeysDifferError: the homeserver has other keys for this device.
            IdentityTakenError: the bot has an identity that is not in this database.
        """
        answer = await self._wire.query_keys([self.me.user_id])
        account = await self._account(answer)
        if not self._is_published(answer):
            await self._wire.upload_keys({"device_keys": account.device_keys()})
        self._post.signed_device_keys = await self._cross_signing.set_up(answer, account)
        async with self._database.transaction() as conn:
            await self._accounts.note_due(conn, one_time_keys=True, fallback_key_seen_ms=None)
        await self.maintain()
        await self.learn([self.me.user_id])

    async def receive(self, conn: Connection, entries: Sequence[Entry]) -> frozenset[SessionRef]:
        """Take in to-device messages, device lists and key counts, within a transaction.

        Entries for others are passed over. Nothing in an entry raises. Returns the Megolm
        sessions that are new or can read more than before.
        """
        improved = await self._receiver.receive(conn, entries)
        self._cache.drop(improved)
        return improved

    async def maintain(self) -> None:
        """Do the network work that ``receive`` found due; safe to repeat."""
        self.bundles.woken.notify()
        async with self._maintaining:
            await self._pool.renew()
            await self._tracker.refresh()
            await self._unwedger.mend()

    async def learn(self, users: Collection[UserId]) -> None:
        """Make these users' devices known, so that trust in them can be told."""
        await self._tracker.learn(users)

    async def missing(self, sessions: Collection[SessionRef]) -> list[SessionRef]:
        """Return those of these Megolm sessions whose key has not come."""
        async with self._database.transaction() as conn:
            known = await self._room_keys.known(conn, {ref.session_id for ref in sessions})
        return [ref for ref in sessions if ref not in known]

    @property
    def has_helpers(self) -> bool:
        """Whether ``open_early`` leaves the work to other processes."""
        return self._opener.has_helpers

    async def open_early(self, events: Sequence[EncryptedEvent]) -> list[Early]:
        """Begin to read events before there is a transaction; ``decrypt`` is given the results."""
        return await self._opener.open_early(events)

    async def decrypt(
        self,
        conn: Connection,
        events: Sequence[EncryptedEvent],
        early: Sequence[Early | None] = (),
    ) -> list[Reading]:
        """Read room events, within a transaction that also remembers their message indexes."""
        readings = await self._reader.decrypt(conn, events, early)
        for event, reading in zip(events, readings, strict=True):
            if isinstance(reading, Decrypted) and MARK in reading.payload:
                self.verification_mail.put_reading(event, reading)
        return readings

    async def own_keys(self) -> Keys:
        """Return our own public keys, from our own database and not from the homeserver."""
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            master = await self._cross_signing.master_key(conn)
        return Keys(self.me, account.ed25519, master)

    async def encrypt(
        self,
        room_id: RoomId,
        event_type: str,
        content: Json,
        *,
        members: Collection[UserId],
        settings: Mapping[str, Any],
    ) -> Json:
        """Encrypt an event for a room and see to it that the members' devices have the key.

        Call it outside of any transaction. Send the result as ``m.room.encrypted``.

        Args:
            room_id: the room
            event_type: e.g. ``m.room.message``
            content: the event's content in clear text
            members: everybody who is to be able to read it, ourselves included or not
            settings: content of the room's ``m.room.encryption``
        """
        return await self._sender.encrypt(
            room_id, event_type, content, members=members, settings=settings
        )

    async def _account(self, answer: Json) -> OlmAccount:
        """Return the device's account, made and on disk if the device is new."""
        async with self._database.transaction() as conn:
            account = await self._accounts.find(conn)
            if account is None and not self._is_published(answer):
                # A new device has heard nothing of what devices others have by now.
                await self._tracker.distrust_all(conn)
                return await self._accounts.create(conn)
        published = parse_devices(self.me.user_id, answer).get(self.me.device_id)
        ours = account and Device(self.me, account.ed25519, account.curve25519)
        if account is None or (
            self._is_published(answer) and (published is None or published[0] != ours)
        ):
            raise DeviceKeysDifferError(
                f"The homeserver has other keys for the device {self.me.device_id} of "
                f"{self.me.user_id} than this database. They were not replaced."
            )
        return account

    def _is_published(self, answer: Json) -> bool:
        """Whether the homeserver has any keys for our device, valid or not."""
        devices = object_of(object_of(answer, "device_keys"), self.me.user_id)
        return self.me.device_id in devices
