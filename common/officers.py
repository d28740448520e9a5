"""The keys of people beside Steward: they cosign what it archived, and approve what it deletes; pure.

A key signs two kinds of messages. Each begins with a line of its own, so that none can pass for the
other kind.

Source: C2SP, c2sp.org/signed-note (verifier keys) and c2sp.org/tlog-cosignature (Ed25519).
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HINT_BYTES = 4
SIGNATURE_BYTES = 64
LATEST_S = 2**63 - 1
"""The last moment that a signature may name, in seconds since the Unix epoch."""

_COSIGNER = b"\x04"
_KEY_BYTES = 32
_LONGEST_NAME = 255
_HINT = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class OfficerKey:
    """The public half of an officer's key, with the name that belongs to it."""

    name: str
    data: bytes

    @property
    def hint(self) -> bytes:
        """Return the four bytes that tell a reader which key a signature may be by."""
        named = self.name.encode() + b"\n" + _COSIGNER + self.data
        return hashlib.sha256(named).digest()[:HINT_BYTES]

    @property
    def text(self) -> str:
        """Return the verifier key, which people write down."""
        data = base64.b64encode(_COSIGNER + self.data).decode()
        return f"{self.name}+{self.hint.hex()}+{data}"

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature of a message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.data).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def parse_officer_key(text: str) -> OfficerKey:
    """Return the key that a verifier key stands for; it has one spelling only.

    Raises:
        ValueError: it is none; the words, which follow “it”, say what is wrong.
    """
    name, first, rest = text.partition("+")
    hint, second, encoded = rest.partition("+")
    if not first or not second:
        raise ValueError("is no verifier key, which looks like NAME+01234567+BASE64")
    if (fault := name_fault(name)) is not None:
        raise ValueError(f"has a name that {fault}")
    data = unbase64(encoded)
    if data is None or len(data) != len(_COSIGNER) + _KEY_BYTES:
        raise ValueError("has no key after the second “+”: a part of it is missing or misspelt")
    if not data.startswith(_COSIGNER):
        raise ValueError("is of another type: an officer's key has the type 4 (cosignature/v1)")
    key = OfficerKey(name, data.removeprefix(_COSIGNER))
    if not _HINT.fullmatch(hint) or bytes.fromhex(hint) != key.hint:
        raise ValueError("is misspelt: its name and key do not fit the digits between them")
    return key


def name_fault(name: str) -> str | None:
    """Return why a key cannot have this name, as “is empty”; ``None`` if it can."""
    if not name:
        return "is empty"
    if len(name.encode()) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} bytes"
    if "+" in name:
        return "has a “+” in it"
    # Of all kinds of spaces only the common one is printable.
    if " " in name or not name.isprintable():
        return "has a space or an invisible character in it"
    return None


def cosigned_message(checkpoint: bytes, time_s: int) -> bytes:
    """Return what a cosignature signs: a checkpoint's text, its last line break too."""
    return b"cosignature/v1\ntime %d\n" % time_s + checkpoint


def approved_message(plan: bytes, time_s: int) -> bytes:
    """Return what an approval signs: all of a plan."""
    return b"steward-approval/v1\ntime %d\n" % time_s + plan


def unbase64(text: str) -> bytes | None:
    """Return what base64 stands for, in its one right spelling; ``None`` if it is none."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return data if base64.b64encode(data).decode() == text else None
