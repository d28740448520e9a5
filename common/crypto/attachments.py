"""Encrypted files, in both directions a portion at a time: memory does not grow with the file.

Source: Matrix specification v1.18, client-server API, "Sending encrypted attachments" (version
``v2``: AES-256 in CTR mode, SHA-256 of the ciphertext).
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from common.crypto.canonical import Json, from_unpadded, object_of, text_of, unpadded
from common.errors import PermanentError

_KEY_BYTES, _NONCE_BYTES, _COUNTER_BYTES, _HASH_BYTES = 32, 8, 8, 32
_LONGEST_URL = 1000


class AttachmentError(PermanentError):
    """A file cannot be decrypted: its description is malformed, or it is not that file."""


@dataclass(frozen=True)
class EncryptedFile:
    """What a recipient needs: an ``EncryptedFile`` object, checked."""

    url: str
    key: bytes
    iv: bytes
    sha256: bytes

    @classmethod
    def parse(cls, value: object) -> "EncryptedFile":
        """Read an untrusted ``file`` block, or raise ``AttachmentError``."""
        file = value if isinstance(value, dict) else {}
        jwk = object_of(file, "key")
        url, key = text_of(file, "url", longest=_LONGEST_URL), text_of(jwk, "k")
        iv, sha256 = text_of(file, "iv"), text_of(object_of(file, "hashes"), "sha256")
        known = (file.get("v"), jwk.get("kty"), jwk.get("alg")) == ("v2", "oct", "A256CTR")
        if not known or url is None or key is None or iv is None or sha256 is None:
            raise AttachmentError("The description of an encrypted file is malformed.")
        try:
            key_bytes = from_unpadded(key.replace("-", "+").replace("_", "/"))
            parsed = cls(url, key_bytes, from_unpadded(iv), from_unpadded(sha256))
        except ValueError as error:
            raise AttachmentError("The description of an encrypted file is malformed.") from error
        lengths = (len(parsed.key), len(parsed.iv), len(parsed.sha256))
        if lengths != (_KEY_BYTES, _NONCE_BYTES + _COUNTER_BYTES, _HASH_BYTES):
            raise AttachmentError("The description of an encrypted file is malformed.")
        return parsed

    def content(self) -> Json:
        """Return the ``file`` block of a message."""
        return {
            "v": "v2",
            "url": self.url,
            "key": {
                "kty": "oct",
                "key_ops": ["encrypt", "decrypt"],
                "alg": "A256CTR",
                "k": base64.urlsafe_b64encode(self.key).decode().rstrip("="),
                "ext": True,
            },
            "iv": unpadded(self.iv),
            "hashes": {"sha256": unpadded(self.sha256)},
        }


class EncryptedStream:
    """The ciphertext of one file, to be read once; then ``file`` describes it."""

    def __init__(self, plaintext: AsyncIterable[bytes]) -> None:
        self._plaintext = plaintext
        self._key = secrets.token_bytes(_KEY_BYTES)
        # The lower half counts blocks, from zero: a whole random one could overflow in some
        # implementations.
        self._iv = secrets.token_bytes(_NONCE_BYTES) + bytes(_COUNTER_BYTES)
        self._hash = hashlib.sha256()
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the ciphertext; as many bytes as there are of plaintext."""
        encryptor = _cipher(self._key, self._iv).encryptor()
        async for portion in self._plaintext:
            ciphertext = encryptor.update(portion)
            self._hash.update(ciphertext)
            yield ciphertext
        self._ended = True

    def file(self, url: str) -> EncryptedFile:
        """Return the description, once everything has been read and uploaded."""
        if not self._ended:
            raise AttachmentError("The file was not read to its end.")
        return EncryptedFile(url, self._key, self._iv, self._hash.digest())


def encrypt_stream(plaintext: AsyncIterable[bytes]) -> EncryptedStream:
    """Encrypt a file with a key of its own."""
    return EncryptedStream(plaintext)


async def decrypt_stream(
    ciphertext: AsyncIterable[bytes], file: EncryptedFile
) -> AsyncIterator[bytes]:
    """Yield the plaintext; raise ``AttachmentError`` at the end if it is not the file described.

    CTR mode has no seal of its own: until the end has come without an error, nothing that was
    yielded may be trusted.
    """
    decryptor: CipherContext = _cipher(file.key, file.iv).decryptor()
    digest = hashlib.sha256()
    async for portion in ciphertext:
        digest.update(portion)
        yield decryptor.update(portion)
    if not hmac.compare_digest(digest.digest(), file.sha256):
        raise AttachmentError("An encrypted file is not the one that its message describes.")


def _cipher(key: bytes, iv: bytes) -> Cipher[CTR]:
    return Cipher(AES(key), CTR(iv))
