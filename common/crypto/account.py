"""The Olm account of one device: its identity keys, one-time keys and fallback key.

Source: Matrix specification v1.18, client-server API, "Key algorithms", "One-time and fallback
keys". The promise: private keys are on disk before their public halves leave this machine.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import vodozemac

from common.crypto.canonical import Json, sign_json
from common.crypto.port import DeviceAddress
from common.crypto.sealing import Sealer, WrongPickleKeyError
from common.crypto.wire import ONE_TIME_KEY
from common.database.pool import Connection
from common.errors import PermanentError

OLM = "m.olm.v1.curve25519-aes-sha2"
MEGOLM = "m.megolm.v1.aes-sha2"

LARGEST_POOL = 2400
"""vodozemac remembers 5,000 private one-time keys and forgets the oldest first. After an outage
a whole pool may have been claimed whose messages are still to be read, while a new pool is
published: both must fit."""


class _FallbackKeys(Protocol):
    """What vodozemac's ``Account`` has at run time and its type stub leaves out."""

    @property
    def fallback_key(self) -> Mapping[str, vodozemac.Curve25519PublicKey]: ...

    def generate_fallback_key(self) -> None: ...


@dataclass
class OlmAccount:
    """The account of one device, in memory. Whoever changes it must save it."""

    me: DeviceAddress
    olm: vodozemac.Account

    @property
    def ed25519(self) -> str:
        """The device's fingerprint key."""
        return self.olm.ed25519_key.to_base64()

    @property
    def curve25519(self) -> str:
        """The device's identity key."""
        return self.olm.curve25519_key.to_base64()

    def sign(self, message: bytes) -> str:
        """Sign with the fingerprint key."""
        return self.olm.sign(message).to_base64()

    def signed(self, value: Json) -> Json:
        """Return the object with the device's signature."""
        return sign_json(
            value,
            user_id=self.me.user_id,
            key_id=f"ed25519:{self.me.device_id}",
            sign=self.sign,
        )

    def device_keys(self) -> Json:
        """Return the signed ``DeviceKeys`` of ``POST /keys/upload``."""
        return self.signed(
            {
                "user_id": self.me.user_id,
                "device_id": self.me.device_id,
                "algorithms": [OLM, MEGOLM],
                "keys": {
                    f"curve25519:{self.me.device_id}": self.curve25519,
                    f"ed25519:{self.me.device_id}": self.ed25519,
                },
            }
        )

    def generate_one_time_keys(self, count: int) -> None:
        """Make more one-time keys."""
        self.olm.generate_one_time_keys(count)

    def generate_fallback_key(self) -> None:
        """Make a new fallback key; the one before it stays usable."""
        self._fallback.generate_fallback_key()

    def unpublished_one_time_keys(self) -> Json:
        """Return the signed one-time keys that the homeserver has not confirmed."""
        return {
            f"{ONE_TIME_KEY}:{key_id}": self.signed({"key": key.to_base64()})
            for key_id, key in self.olm.one_time_keys.items()
        }

    def unpublished_fallback_keys(self) -> Json:
        """Return the signed fallback key if the homeserver has not confirmed it."""
        return {
            f"{ONE_TIME_KEY}:{key_id}": self.signed({"key": key.to_base64(), "fallback": True})
            for key_id, key in self._fallback.fallback_key.items()
        }

    @property
    def _fallback(self) -> _FallbackKeys:
        return cast(_FallbackKeys, self.olm)


@dataclass(frozen=True)
class _Kept:
    revision: str
    account: OlmAccount


@dataclass(frozen=True, slots=True)
class PublishedKeysDue:
    """What of the published keys has to be renewed."""

    one_time_keys: bool
    fallback_key: bool
    first: bool = False
    """Whether there never were any: then nobody has used them up."""


class AccountStore:
    """The account's row. Loading it takes the lock under which all Olm state changes."""

    def __init__(self, me: DeviceAddress, sealer: Sealer, *, is_postgres: bool) -> None:
        self.me = me
        self._sealer = sealer
        # SQLite has one writer at a time anyway.
        self._lock = " FOR UPDATE" if is_postgres else ""
        self._kept: _Kept | None = None

    async def load(self, conn: Connection) -> OlmAccount:
        """Return the account of a device that was set up; otherwise like ``find``."""
        account = await self.find(conn)
        if account is None:
            raise PermanentError("The bot's device has no keys: it was not set up.")
        return account

    async def find(self, conn: Connection) -> OlmAccount | None:
        """Return the account as the row has it, and lock it until the transaction ends.

        Call ``forget`` before changing it.

        Unpickling thousands of one-time keys takes some 40 ms, so the object is kept as long
        as the row has the revision it was saved with. What a rolled-back transaction did to the
        object has another revision than the row.
        """
        row = await conn.fetchrow(
            "SELECT revision, CASE WHEN revision = $3 THEN '' ELSE pickle END AS pickle"  # noqa: S608  # placeholders and constants only
            f" FROM crypto_account WHERE bot_id = $1 AND device_id = $2{self._lock}",  # a constant
            *self.me,
            self._kept.revision if self._kept else "",
        )
        if row is None:
            return None
        if self._kept is None or self._kept.revision != row["revision"]:
            self._kept = _Kept(row["revision"], self._unpickle(row["pickle"]))
        return self._kept.account

    async def create(self, conn: Connection) -> OlmAccount:
        """Make the device's account, once: a second attempt returns the first one's."""
        account = OlmAccount(self.me, vodozemac.Account())
        await conn.execute(
            "INSERT INTO crypto_account (bot_id, device_id, revision, pickle)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (bot_id, device_id) DO NOTHING",
            *self.me,
            _revision(),
            account.olm.pickle(self._sealer.pickle_key),
        )
        return await self.load(conn)

    async def save(self, conn: Connection, account: OlmAccount) -> None:
        """Write the changed account."""
        revision = _revision()
        await conn.execute(
            "UPDATE crypto_account SET revision = $3, pickle = $4"
            " WHERE bot_id = $1 AND device_id = $2",
            *self.me,
            revision,
            account.olm.pickle(self._sealer.pickle_key),
        )
        self._kept = _Kept(revision, account)

    def forget(self) -> None:
        """Drop the object in memory until it is saved: it is about to differ from the row."""
        self._kept = None

    async def note_due(
        self, conn: Connection, *, one_time_keys: bool, fallback_key_seen_ms: int | None
    ) -> None:
        """Remember that published keys have to be renewed.

        Args:
            conn: the transaction
            one_time_keys: whether the pool is low
            fallback_key_seen_ms: when the homeserver reported the fallback key used, if it did.
                A report from before the last upload is stale, and each renewal forgets the
                fallback key before the last: renewing twice for one use would lose messages.
        """
        await conn.execute(
            "UPDATE crypto_account SET"
            " one_time_keys_due = CASE WHEN $3 = 1 THEN 1 ELSE one_time_keys_due END,"
            " fallback_key_due = CASE WHEN $4 > fallback_key_ms THEN 1 ELSE fallback_key_due END"
            " WHERE bot_id = $1 AND device_id = $2",
            *self.me,
            int(one_time_keys),
            fallback_key_seen_ms if fallback_key_seen_ms is not None else -1,
        )

    async def due(self, conn: Connection) -> PublishedKeysDue:
        """Return what has to be renewed."""
        row = await conn.fetchrow(
            "SELECT one_time_keys_due, fallback_key_due, fallback_key_ms FROM crypto_account"
            " WHERE bot_id = $1 AND device_id = $2",
            *self.me,
        )
        if row is None:
            return PublishedKeysDue(one_time_keys=False, fallback_key=False)
        return PublishedKeysDue(
            bool(row["one_time_keys_due"]),
            bool(row["fallback_key_due"]),
            first=not row["fallback_key_ms"],
        )

    async def note_done(self, conn: Connection, *, fallback_key_ms: int | None) -> None:
        """Remember that the published keys were renewed, the fallback key at the given time."""
        await conn.execute(
            "UPDATE crypto_account SET one_time_keys_due = 0, fallback_key_due = 0,"
            " fallback_key_ms = COALESCE(CAST($3 AS BIGINT), fallback_key_ms)"
            " WHERE bot_id = $1 AND device_id = $2",
            *self.me,
            fallback_key_ms,
        )

    def _unpickle(self, pickle: str) -> OlmAccount:
        try:
            olm = vodozemac.Account.from_pickle(pickle, self._sealer.pickle_key)
        except ValueError as error:
            raise WrongPickleKeyError from error
        return OlmAccount(self.me, olm)


def _revision() -> str:
    return secrets.token_hex(8)
