"""Ed25519 signatures and signed notes (c2sp.org/signed-note); pure."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SIGNATURE_BYTES = 64
KEY_BYTES = 32
_ID_DIGITS = 16
_NOTE_HASH_BYTES = 4
_ED25519 = b"\x01"
_LARGEST_NOTE = 2**16


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: 32 bytes."""

    data: bytes

    @property
    def fingerprint(self) -> str:
        """Return what people write down: SHA-256 of the key, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def key_id(self) -> str:
        """Return the beginning of the fingerprint, by which documents name the key."""
        return self.fingerprint[:_ID_DIGITS]

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature of a message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.data).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def key_of_pem(pem: bytes) -> PublicKey | None:
    """Return the Ed25519 key in a PEM file, ``None`` if there is none."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, binascii.Error):
        return None
    except Exception as error:  # noqa: BLE001  # the library has an error type of its own for some
        del error
        return None
    return PublicKey(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else None


def key_of_base64(text: str) -> PublicKey | None:
    """Return the key that base64 stands for, ``None`` if it is none."""
    data = unbase64(text)
    return PublicKey(data) if data is not None and len(data) == KEY_BYTES else None


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint: the text that was signed, what it says, and the signatures below it."""

    text: bytes
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def signed_by(self, key: PublicKey) -> bool:
        """Return whether one of the signatures is this key's, under the note's own name."""
        hinted = note_key_hash(self.origin, key)
        return any(
            name == self.origin
            and signature[:_NOTE_HASH_BYTES] == hinted
            and key.signed(self.text, signature[_NOTE_HASH_BYTES:])
            for name, signature in self.signatures
        )


def note_key_hash(name: str, key: PublicKey) -> bytes:
    """Return the four bytes by which a note hints at the key that signed it."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.data).digest()[:_NOTE_HASH_BYTES]


def parse_note(body: bytes) -> Note:
    """Return the checkpoint in a signed note.

    Raises:
        ValueError: it is none; the words say what is wrong.
    """
    if len(body) > _LARGEST_NOTE:
        raise ValueError("it is too long")
    text, separator, below = body.partition(b"\n\n")
    if not separator or not below.endswith(b"\n"):
        raise ValueError("it has no signatures")
    text += b"\n"
    origin, size, root, *_ = [*text.decode().split("\n"), "", "", ""]
    decoded = unbase64(root)
    if not size.isascii() or not size.isdigit() or decoded is None:
        raise ValueError("it holds no size and root")
    signatures = tuple(_signature(line) for line in below.decode()[:-1].split("\n"))
    return Note(text, origin, int(size), decoded, signatures)


def unbase64(text: str) -> bytes | None:
    """Return what base64 stands for, ``None`` if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None


def _signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.rpartition(" ")
    data = unbase64(encoded)
    if dash != "—" or not name or data is None:
        raise ValueError("a signature line is malformed")
    return name, data
