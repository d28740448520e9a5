"""What is encrypted at rest, and with what: everything derives from the one pickle key."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.config.secret import Secret
from common.errors import ConfigError

_NONCE_BYTES = 12


class WrongPickleKeyError(ConfigError):
    """The configured pickle key is not the one the database was written with."""

    def __init__(self) -> None:
        super().__init__(
            "encryption.pickle_key does not open the keys in the database: "
            "configure the key that the database was made with."
        )


class Sealer:
    """Keys for vodozemac's pickles, and AES-256-GCM for the few secrets that are not pickles."""

    def __init__(self, pickle_key: Secret) -> None:
        self._secret = pickle_key
        self.pickle_key = _derive(pickle_key, b"steward: vodozemac pickles")
        self._cipher = AESGCM(_derive(pickle_key, b"steward: sealed secrets"))

    def derived(self, purpose: bytes) -> bytes:
        """Return a key for one purpose, 32 bytes, the same after every start."""
        return _derive(self._secret, purpose)

    def seal(self, secret: bytes, *, name: str) -> bytes:
        """Encrypt; it opens under the same name only, so rows cannot be exchanged."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, name.encode())

    def open(self, sealed: bytes, *, name: str) -> bytes:
        """Decrypt, or raise ``WrongPickleKeyError``."""
        try:
            return self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode()
            )
        except InvalidTag as error:
            raise WrongPickleKeyError from error


def _derive(pickle_key: Secret, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(
        pickle_key.reveal().encode()
    )
