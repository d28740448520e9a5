"""The bot's own identity: master, self-signing and user-signing keys, and the device they sign.

Source: Matrix specification v1.18, client-server API, "Cross-signing"; MSC4153 (clients exclude
devices their owner has not signed). What exists is decided by the homeserver's ``/keys/query``
and never by local memory alone, so that no restart replaces an identity.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.crypto.account import OlmAccount
from common.crypto.canonical import Json, canonical_json, is_signed, object_of, sign_json, unpadded
from common.crypto.devices import cross_signing_key
from common.crypto.port import DeviceAddress, IdentityTakenError
from common.crypto.sealing import Sealer
from common.crypto.wire import Wire
from common.database.pool import Connection, Database
from common.ids import UserId
from common.telemetry.log import Log

USAGES = ("master", "self_signing", "user_signing")
_SEED_BYTES = 32

_log = Log("crypto.cross_signing")


class SigningKey:
    """One private cross-signing key."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = unpadded(self._key.public_key().public_bytes_raw())
        self.key_id = f"ed25519:{self.public}"

    @property
    def secret(self) -> str:
        """How the key is kept in secret storage."""
        return unpadded(self.seed)

    def sign(self, message: bytes) -> str:
        """Return the signature in base64."""
        return unpadded(self._key.sign(message))


@dataclass(frozen=True)
class Identity:
    """The bot's private identity."""

    user_id: UserId
    master: SigningKey
    self_signing: SigningKey
    user_signing: SigningKey

    def upload(self, account: OlmAccount) -> Json:
        """Return the body of ``POST /keys/device_signing/upload``, signed as specified."""
        master = sign_json(
            account.signed(self._public("master", self.master)),
            user_id=self.user_id,
            key_id=self.master.key_id,
            sign=self.master.sign,
        )
        return {
            "master_key": master,
            "self_signing_key": self._by_master("self_signing", self.self_signing),
            "user_signing_key": self._by_master("user_signing", self.user_signing),
        }

    def sign_device(self, device_keys: Json) -> Json:
        """Return the device's keys with the self-signing key's signature."""
        return sign_json(
            device_keys,
            user_id=self.user_id,
            key_id=self.self_signing.key_id,
            sign=self.self_signing.sign,
        )

    def has_signed(self, value: object) -> bool:
        """Whether an untrusted ``DeviceKeys`` object carries our signature."""
        return isinstance(value, dict) and is_signed(
            value,
            user_id=self.user_id,
            key_id=self.self_signing.key_id,
            public_key=self.self_signing.public,
        )

    def publics(self) -> dict[str, str]:
        """Return the public keys by usage."""
        return {
            "master": self.master.public,
            "self_signing": self.self_signing.public,
            "user_signing": self.user_signing.public,
        }

    def _public(self, usage: str, key: SigningKey) -> Json:
        return {"user_id": self.user_id, "usage": [usage], "keys": {key.key_id: key.public}}

    def _by_master(self, usage: str, key: SigningKey) -> Json:
        return sign_json(
            self._public(usage, key),
            user_id=self.user_id,
            key_id=self.master.key_id,
            sign=self.master.sign,
        )


class CrossSigning:
    """The identity where it is stored, and its publication."""

    def __init__(self, me: DeviceAddress, database: Database, sealer: Sealer, wire: Wire) -> None:
        self._me = me
        self._database = database
        self._identities = IdentityStore(me.user_id, sealer)
        self._wire = wire

    async def set_up(self, answer: Json, account: OlmAccount) -> Json:
        """Make sure that the identity exists and signs our device; return the signed device keys.

        Args:
            answer: what ``/keys/query`` says of ourselves, device keys included
            account: our device

        Raises:
            IdentityTakenError: there is an identity, and it is not ours to use.
        """
        identity = await self._identity(answer)
        published = {usage: self._published(answer, usage) for usage in USAGES}
        if published != identity.publics():
            await self._wire.upload_cross_signing(identity.upload(account))
            _log.info("cross-signing identity published", user=self._me.user_id)
        ours = identity.sign_device(account.device_keys())
        devices = object_of(object_of(answer, "device_keys"), self._me.user_id)
        if not identity.has_signed(devices.get(self._me.device_id)):
            await self._wire.upload_signature(self._me, ours)
            _log.info("own device signed", user=self._me.user_id, device=self._me.device_id)
        return ours

    async def master_key(self, conn: Connection) -> str:
        """Return our own public master key, ``""`` before there is one."""
        identity = await self._identities.load(conn)
        return identity.master.public if identity else ""

    def _published(self, answer: Json, usage: str) -> str:
        value = object_of(answer, f"{usage}_keys").get(self._me.user_id)
        return cross_signing_key(self._me.user_id, usage, value)

    async def _identity(self, answer: Json) -> Identity:
        """Return our identity, made and stored if neither side has one."""
        taken = object_of(answer, "master_keys").get(self._me.user_id) is not None
        async with self._database.transaction() as conn:
            identity = await self._identities.load(conn)
            if taken and (
                identity is None or identity.master.public != self._published(answer, "master")
            ):
                raise IdentityTakenError(
                    f"{self._me.user_id} already has a cross-signing identity whose private keys "
                    "are not in this database. It was not replaced. Use the database that made "
                    "it, or, if that is lost, recover it with the passphrase of its Secure "
                    "Backup: run “steward restore-keys adminbot” or “steward restore-keys "
                    "auditbot”. If the passphrase is lost too, the identity has to be reset, and "
                    "people who verified the bot will have to verify it again."
                )
            return identity or await self._identities.create(conn)


class IdentityStore:
    """The private keys of one bot's identity, sealed in the database."""

    def __init__(self, bot: UserId, sealer: Sealer) -> None:
        self._bot = bot
        self._sealer = sealer

    async def load(self, conn: Connection) -> Identity | None:
        """Return the identity, if it is here."""
        rows = await conn.fetch(
            "SELECT usage, sealed_seed FROM crypto_cross_signing WHERE bot_id = $1", self._bot
        )
        seeds = {
            row["usage"]: self._sealer.open(
                bytes(row["sealed_seed"]), name=self._name(row["usage"])
            )
            for row in rows
        }
        return self.of_seeds(seeds) if seeds else None

    async def create(self, conn: Connection) -> Identity:
        """Make an identity and store it."""
        seeds = {usage: secrets.token_bytes(_SEED_BYTES) for usage in USAGES}
        identity = self.of_seeds(seeds)
        await self.save(conn, identity)
        return identity

    async def save(self, conn: Connection, identity: Identity) -> None:
        """Store an identity, in place of any other."""
        keys = zip(
            USAGES, (identity.master, identity.self_signing, identity.user_signing), strict=True
        )
        await conn.executemany(
            "INSERT INTO crypto_cross_signing (bot_id, usage, sealed_seed) VALUES ($1, $2, $3)"
            " ON CONFLICT (bot_id, usage) DO UPDATE SET sealed_seed = excluded.sealed_seed",
            [
                (self._bot, usage, self._sealer.seal(key.seed, name=self._name(usage)))
                for usage, key in keys
            ],
        )

    def of_seeds(self, seeds: Mapping[str, bytes]) -> Identity:
        """Return the identity that these private keys make, by usage."""
        return Identity(self._bot, *(SigningKey(seeds[usage]) for usage in USAGES))

    def _name(self, usage: str) -> str:
        return canonical_json({"bot": self._bot, "cross-signing": usage}).decode()
