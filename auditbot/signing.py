"""The keys that sign the archive: made at the first start, sealed in the database, rotated."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.alarms import raise_alarm
from common.config.secret import Secret
from common.crypto.canonical import canonical_json
from common.crypto.sealing import Sealer
from common.database.pool import Connection, Row

KEY_ID_DIGITS = 16
_CURRENT = "SELECT key_id, sealed_seed FROM audit_signing_key WHERE retired_ms IS NULL"


@dataclass(frozen=True)
class Signed:
    """A document and its detached signature."""

    body: bytes
    sha256: str
    signature: bytes
    key_id: str


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key; ``fingerprint`` is what people write down."""

    private_key: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        """Return the 32 bytes that everybody may know."""
        return self.private_key.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """Return the digest of the public key."""
        return hashlib.sha256(self.public_key).hexdigest()

    @property
    def grouped(self) -> str:
        """Return the fingerprint as people copy it: in groups of four."""
        digits = self.fingerprint
        return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))

    @property
    def key_id(self) -> str:
        """Return the beginning of the fingerprint."""
        return self.fingerprint[:KEY_ID_DIGITS]

    @property
    def pem(self) -> bytes:
        """Return the public key as openssl takes it."""
        return pem_of(self.public_key)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes, 64 bytes."""
        return self.private_key.sign(data)

    def sign_document(self, document: Mapping[str, Any]) -> Signed:
        """Return a document in its one spelling, naming this key, and its signature."""
        body = canonical_json({**document, "key_id": self.key_id})
        return Signed(body, hashlib.sha256(body).hexdigest(), self.sign(body), self.key_id)


class Keyring:
    """The keys in the database."""

    def __init__(self, pickle_key: Secret) -> None:
        self._sealer = Sealer(pickle_key)

    async def current(self, connection: Connection, *, now_ms: int) -> SigningKey:
        """Return the key that signs now; the first call ever makes one."""
        row = await connection.fetchrow(_CURRENT)
        if row is None:
            # Two that find none must not both make one: the second waits here, and finds it.
            await connection.execute("UPDATE audit_head SET stream = stream WHERE id = 1")
            row = await connection.fetchrow(_CURRENT)
        if row is not None:
            return self._open(row)
        return await self.make(connection, now_ms=now_ms)

    async def make(self, connection: Connection, *, now_ms: int) -> SigningKey:
        """Make a key that signs from now on; the one before is retired."""
        key = SigningKey(Ed25519PrivateKey.generate())
        await connection.execute(
            "UPDATE audit_signing_key SET retired_ms = $1 WHERE retired_ms IS NULL", now_ms
        )
        seed = key.private_key.private_bytes_raw()
        await connection.execute(
            "INSERT INTO audit_signing_key (key_id, public_key, sealed_seed, created_ms)"
            " VALUES ($1, $2, $3, $4)",
            key.key_id,
            key.public_key,
            self._sealer.seal(seed, name=_name(key.key_id)),
            now_ms,
        )
        # The archive cannot vouch for its own key: people have to know it from elsewhere.
        sentence = (
            f"auditbot signs the archive with the new key {key.key_id} from now on. Its "
            f"fingerprint: {key.grouped}. Write it down outside of this server and give it to "
            "whoever verifies the archive: steward audit verify --key FINGERPRINT."
        )
        await raise_alarm(connection, sentence, now_ms=now_ms)
        return key

    async def find(self, connection: Connection, key_id: str) -> SigningKey:
        """Return a key that signed something, also one that is retired."""
        row = await connection.fetchrow(
            "SELECT key_id, sealed_seed FROM audit_signing_key WHERE key_id = $1", key_id
        )
        if row is None:
            raise LookupError(key_id)
        return self._open(row)

    def _open(self, row: Row) -> SigningKey:
        key_id = str(row["key_id"])
        seed = self._sealer.open(bytes(row["sealed_seed"]), name=_name(key_id))
        return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def pem_of(public_key: bytes) -> bytes:
    """Return a public key as openssl takes it."""
    return Ed25519PublicKey.from_public_bytes(public_key).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def _name(key_id: str) -> str:
    return f"audit signing key {key_id}"
