"""Secret storage: secrets in account data, under a key that a passphrase or recovery key gives.

Source: Matrix specification v1.18, client-server API, "Secret storage",
"m.secret_storage.v1.aes-hmac-sha2"; appendices, "Cryptographic key representation". What account
data says is checked before it is used: an administrator of the homeserver can write anything there.
"""

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.crypto.canonical import Json, from_unpadded, object_of, text_of, unpadded
from common.crypto.wire import Requester, call
from common.errors import PermanentError, UserError
from common.matrix.client import CLIENT, MatrixError, segment

ALGORITHM = "m.secret_storage.v1.aes-hmac-sha2"
PBKDF2 = "m.pbkdf2"
ROUNDS = 500_000

MASTER = "m.cross_signing.master"
SELF_SIGNING = "m.cross_signing.self_signing"
USER_SIGNING = "m.cross_signing.user_signing"
BACKUP = "m.megolm_backup.v1"

_DEFAULT_KEY = "m.secret_storage.default_key"
_KEY_BYTES = 32
_IV_BYTES = 16
_SALT_CHARACTERS = 32
_MOST_ROUNDS = 20_000_000
"""The number stands in account data; more would only keep us busy."""
_LONGEST_SECRET = 10_000


class WrongKeyError(UserError):
    """The passphrase or recovery key is not the one of this secret storage."""

    def __init__(self, whose: str) -> None:
        super().__init__(
            f"This passphrase or recovery key does not open the secret storage of {whose}. "
            "Nothing was changed."
        )


class BrokenSecretError(PermanentError):
    """A secret in account data cannot be opened with the right key: it was tampered with."""


@dataclass(frozen=True)
class StorageKey:
    """The key of a secret storage: where it is described, and its 32 bytes."""

    key_id: str
    raw: bytes = field(repr=False)

    @property
    def recovery_key(self) -> str:
        """How a person writes it down."""
        return encode_recovery_key(self.raw)


@dataclass(frozen=True)
class Derivation:
    """How a passphrase becomes the key."""

    salt: str
    rounds: int = ROUNDS

    def described(self) -> Json:
        """Return the ``passphrase`` member of a key description."""
        return {"algorithm": PBKDF2, "salt": self.salt, "iterations": self.rounds}

    def derive(self, passphrase: str) -> bytes:
        """Return the key; takes some tenths of a second."""
        return hashlib.pbkdf2_hmac(
            "sha512", passphrase.encode(), self.salt.encode(), self.rounds, _KEY_BYTES
        )

    async def derive_in_thread(self, passphrase: str) -> bytes:
        """Return the key without stopping everything else meanwhile."""
        return await asyncio.to_thread(self.derive, passphrase)


def fresh_derivation() -> Derivation:
    """Return a derivation with a salt of its own."""
    return Derivation(secrets.token_urlsafe(_SALT_CHARACTERS)[:_SALT_CHARACTERS])


def fresh_key_id() -> str:
    """Return a name for a new key."""
    return secrets.token_hex(16)


def describe(key: StorageKey, derivation: Derivation | None) -> Json:
    """Return the content of ``m.secret_storage.key.<id>``, by which the key can be checked."""
    iv = _fresh_iv()
    return {
        "algorithm": ALGORITHM,
        "iv": unpadded(iv),
        "mac": unpadded(_encrypted(key.raw, "", bytes(_KEY_BYTES), iv)[1]),
        **({"passphrase": derivation.described()} if derivation else {}),
    }


def fits(raw: bytes, description: Json) -> bool:
    """Whether these bytes are the key that an untrusted description speaks of."""
    iv, mac = _bytes_of(description, "iv"), _bytes_of(description, "mac")
    if description.get("algorithm") != ALGORITHM or len(iv) != _IV_BYTES or not mac:
        return False
    return hmac.compare_digest(_encrypted(raw, "", bytes(_KEY_BYTES), iv)[1], mac)


def derivation_of(description: Json) -> Derivation | None:
    """Return how a passphrase becomes the key, if an untrusted description says so usably."""
    said = object_of(description, "passphrase")
    salt, rounds = said.get("salt"), said.get("iterations")
    bits = said.get("bits", _KEY_BYTES * 8)
    if said.get("algorithm") != PBKDF2 or bits != _KEY_BYTES * 8 or not isinstance(salt, str):
        return None
    if not isinstance(rounds, int) or isinstance(rounds, bool) or not 0 < rounds <= _MOST_ROUNDS:
        return None
    return Derivation(salt, rounds)


def key_from(entered: str, description: Json) -> bytes | None:
    """Return the key that a person's passphrase or recovery key gives, if it is the right one."""
    try:
        raw = decode_recovery_key(entered)
    except ValueError:
        raw = b""
    if raw and fits(raw, description):
        return raw
    derivation = derivation_of(description)
    if derivation is None:
        return None
    raw = derivation.derive(entered.strip())
    return raw if fits(raw, description) else None


def encrypt(key: bytes, name: str, secret: str) -> Json:
    """Return a secret encrypted for storage under its name."""
    iv = _fresh_iv()
    ciphertext, mac = _encrypted(key, name, secret.encode(), iv)
    return {"iv": unpadded(iv), "ciphertext": unpadded(ciphertext), "mac": unpadded(mac)}


def decrypt(key: bytes, name: str, sealed: Json) -> str:
    """Return a secret, or raise ``BrokenSecretError``."""
    iv, ciphertext = _bytes_of(sealed, "iv"), _bytes_of(sealed, "ciphertext")
    aes, authentication = _derived(key, name)
    expected = hmac.digest(authentication, ciphertext, "sha256")
    if len(iv) != _IV_BYTES or not hmac.compare_digest(expected, _bytes_of(sealed, "mac")):
        raise BrokenSecretError(f"The secret {name} in account data cannot be opened.")
    try:
        return _counter_mode(aes, iv, ciphertext).decode()
    except UnicodeDecodeError as error:
        raise BrokenSecretError(f"The secret {name} in account data is not text.") from error


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PREFIX = b"\x8b\x01"


def encode_recovery_key(key: bytes) -> str:
    """Return the key in base58 with prefix and parity, in groups of four."""
    payload = _PREFIX + key
    number = int.from_bytes(payload + bytes([_parity(payload)]), "big")
    digits = ""
    while number:
        number, digit = divmod(number, len(_BASE58))
        digits = _BASE58[digit] + digits
    return " ".join(digits[place : place + 4] for place in range(0, len(digits), 4))


def decode_recovery_key(text: str) -> bytes:
    """Return the 32 bytes of a recovery key, or raise ``ValueError``; blanks do not matter."""
    number, size = 0, len(_PREFIX) + _KEY_BYTES + 1
    for character in "".join(text.split()):
        number = number * len(_BASE58) + _BASE58.index(character)
        if number >> size * 8:
            raise ValueError("A recovery key is shorter.")
    data = number.to_bytes(size, "big")
    if not data.startswith(_PREFIX) or _parity(data):
        raise ValueError("Prefix or parity is wrong.")
    return data[len(_PREFIX) : -1]


class SecretStorage:
    """One account's secret storage on the homeserver."""

    def __init__(self, client: Requester) -> None:
        self._client = client

    async def default_key_id(self) -> str | None:
        """Return the name of the key that is in use, if there is secret storage at all."""
        return text_of(await self._get(_DEFAULT_KEY), "key")

    async def describe_key(self, key_id: str) -> Json:
        """Return a key's description as it stands there; empty if there is none."""
        return await self._get(f"m.secret_storage.key.{key_id}")

    async def unlock(self, entered: str) -> StorageKey:
        """Return the key that is in use, by passphrase or recovery key.

        Raises:
            WrongKeyError: it does not open this secret storage.
            UserError: there is none.
        """
        key_id = await self.default_key_id()
        if key_id is None:
            raise UserError(
                f"{self._client.user_id} has no secret storage on the homeserver: there is "
                "nothing to recover from."
            )
        description = await self.describe_key(key_id)
        # In a thread: deriving takes some tenths of a second, and releases the interpreter.
        raw = await asyncio.to_thread(key_from, entered, description)
        if raw is None:
            raise WrongKeyError(self._client.user_id)
        return StorageKey(key_id, raw)

    async def read(self, key: StorageKey, name: str) -> str | None:
        """Return a secret, ``None`` if it is not stored under this key."""
        sealed = object_of(await self._get(name), "encrypted").get(key.key_id)
        return decrypt(key.raw, name, sealed) if isinstance(sealed, dict) else None

    async def write(self, key: StorageKey, name: str, secret: str) -> None:
        """Store a secret under this key; under other keys it may stay as it is."""
        others = object_of(await self._get(name), "encrypted")
        sealed = encrypt(key.raw, name, secret)
        await self._put(name, {"encrypted": {**others, key.key_id: sealed}})

    async def publish(self, key: StorageKey, derivation: Derivation | None) -> None:
        """Describe a key; ``make_default`` puts it to use, after the secrets are stored."""
        await self._put(f"m.secret_storage.key.{key.key_id}", describe(key, derivation))

    async def make_default(self, key: StorageKey) -> None:
        """Make this the key in use. The last step of setting up: clients look here first."""
        await self._put(_DEFAULT_KEY, {"key": key.key_id})

    async def _get(self, event_type: str) -> Json:
        try:
            return await call(self._client, "GET", self._path(event_type))
        except MatrixError as error:
            if error.errcode == "M_NOT_FOUND":
                return {}
            raise

    async def _put(self, event_type: str, content: Json) -> None:
        await call(self._client, "PUT", self._path(event_type), content)

    def _path(self, event_type: str) -> str:
        user = segment(self._client.user_id)
        return f"{CLIENT}/v3/user/{user}/account_data/{segment(event_type)}"


def _fresh_iv() -> bytes:
    iv = bytearray(secrets.token_bytes(_IV_BYTES))
    iv[8] &= 0x7F  # bit 63 is zero, for implementations whose counter is 63 bits wide
    return bytes(iv)


def _encrypted(key: bytes, name: str, data: bytes, iv: bytes) -> tuple[bytes, bytes]:
    """Return ciphertext and MAC."""
    aes, authentication = _derived(key, name)
    ciphertext = _counter_mode(aes, iv, data)
    return ciphertext, hmac.digest(authentication, ciphertext, "sha256")


def _derived(key: bytes, name: str) -> tuple[bytes, bytes]:
    both = HKDF(
        algorithm=SHA256(), length=2 * _KEY_BYTES, salt=bytes(_KEY_BYTES), info=name.encode()
    ).derive(key)
    return both[:_KEY_BYTES], both[_KEY_BYTES:]


def _counter_mode(key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def _bytes_of(value: Json, key: str) -> bytes:
    """Return the bytes of an untrusted base64 member, none if it has none."""
    text = text_of(value, key, longest=_LONGEST_SECRET)
    try:
        return from_unpadded(text) if text else b""
    except ValueError:
        return b""


def _parity(data: bytes) -> int:
    parity = 0
    for byte in data:
        parity ^= byte
    return parity
