"""The bot's own identity: master, self-signing and user-signing keys, and the device they sign.

Source: Matrix specification v1.18, client-server API, "Cross-signing"; MSC4153 (clients exclude
devices their owner has not signed). What exists is decided by the homeserver's ``/keys/query``
and never by local memory alone, so that no restart replaces an identity.
"""

import secrets
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
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = unpadded(self._key.public_key().public_bytes_raw())
        self.key_id = f"ed25519:{self.public}"

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
        self._sealer = sealer
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

    def _published(self, answer: Json, usage: str) -> str:
        value = object_of(answer, f"{usage}_keys").get(self._me.user_id)
        return cross_signing_key(self._me.user_id, usage, value)

    async def _identity(self, answer: Json) -> Identity:
        """Return our identity, made and stored if neither side has one."""
        taken = object_of(answer, "master_keys").get(self._me.user_id) is not None
        async with self._database.transaction() as conn:
            identity = await self._load(conn)
            if taken and (
                identity is None or identity.master.public != self._published(answer, "master")
            ):
                raise IdentityTakenError(
                    f"{self._me.user_id} already has a cross-signing identity whose private keys "
                    "are not in this database. It was not replaced. Use the database that made "
                    "it, or, if that is lost for good, have the identity reset by whoever set it "
                    "up; people who verified the bot will have to verify it again."
                )
            return identity or await self._create(conn)

    async def _load(self, conn: Connection) -> Identity | None:
        rows = await conn.fetch(
            "SELECT usage, sealed_seed FROM crypto_cross_signing WHERE bot_id = $1",
            self._me.user_id,
        )
        seeds = {
            row["usage"]: self._sealer.open(
                bytes(row["sealed_seed"]), name=self._name(row["usage"])
            )
            for row in rows
        }
        if not seeds:
            return None
        return Identity(self._me.user_id, *(SigningKey(seeds[usage]) for usage in USAGES))

    async def _create(self, conn: Connection) -> Identity:
        seeds = {usage: secrets.token_bytes(_SEED_BYTES) for usage in USAGES}
        await conn.executemany(
            "INSERT INTO crypto_cross_signing (bot_id, usage, sealed_seed) VALUES ($1, $2, $3)",
            [
                (self._me.user_id, usage, self._sealer.seal(seed, name=self._name(usage)))
                for usage, seed in seeds.items()
            ],
        )
        return Identity(self._me.user_id, *(SigningKey(seeds[usage]) for usage in USAGES))

    def _name(self, usage: str) -> str:
        return canonical_json({"bot": self._me.user_id, "cross-signing": usage}).decode()
