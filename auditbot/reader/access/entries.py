"""An act of an officer → the object that says so, and back; pure.

An object is ``{"signed": TEXT, "signature": BASE64}``. TEXT is a JSON object, the entry; the signature
(Ed25519) is over its bytes, so that nothing has to be written anew to be checked. Each entry names
the object before it by the hash of its bytes, the first one names none and holds the public key.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditbot.reader.parse import parse
from auditbot.reader.signatures import PublicKey, key_of_base64, unbase64

TYPE = "steward.access"
FIRST = "0" * 64
LARGEST_BYTES = 2**18
"""No entry is as large; what lies there may have been put there by anybody."""
MADE = "key made"
"""What the first entry says was done."""

# A number has one name and no other, so that a place that creates only what is not there keeps one
# entry of it.
_KEY = re.compile(
    r"access/entries/(?P<key>[0-9a-f]{16})-(?P<number>[0-9]{8}|[1-9][0-9]{8,14})\.json"
)
_PUBLIC = re.compile(r"access/keys/(?P<key>[0-9a-f]{16})\.pem")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, by whom, and where it stands among all that was done with the same key."""

    v: int = 1
    type: str = TYPE
    key_id: str
    number: int
    previous: str
    time_ms: int
    user: str
    machine: str
    what: str
    detail: dict[str, Any] = {}
    public_key: str | None = None
    """The key itself, in the first entry."""
    unconfirmed: bool = False
    """Whether the one before only counted as stored, because its name was taken at a second try."""


class _Sealed(msgspec.Struct, frozen=True):
    signed: str
    signature: str


@dataclass(frozen=True, slots=True)
class Name:
    """What the key of an object says."""

    key_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Read:
    """An entry as it was found."""

    entry: Entry
    signed: bytes
    signature: bytes

    def is_signed_by(self, key: PublicKey) -> bool:
        """Return whether a key signed exactly this."""
        return key.signed(self.signed, self.signature)

    @property
    def own_key(self) -> PublicKey | None:
        """Return the public key that a first entry holds."""
        return key_of_base64(self.entry.public_key or "")


def object_key(entry: Entry) -> str:
    """Return where an entry is stored."""
    return f"access/entries/{entry.key_id}-{entry.number:08d}.json"


def public_object(key_id: str) -> str:
    """Return where a public key is stored."""
    return f"access/keys/{key_id}.pem"


def name_of(key: str) -> Name | None:
    """Return what the key of an object says if it is an entry's."""
    found = _KEY.fullmatch(key)
    return Name(found["key"], int(found["number"])) if found else None


def public_of(key: str) -> str | None:
    """Return the key id if the key of an object is a public key's."""
    found = _PUBLIC.fullmatch(key)
    return found["key"] if found else None


def sealed(entry: Entry, key: Ed25519PrivateKey) -> bytes:
    """Return the bytes of an entry's object."""
    text = json.dumps(msgspec.to_builtins(entry), sort_keys=True)
    signature = base64.b64encode(key.sign(text.encode())).decode()
    return json.dumps({"signed": text, "signature": signature}).encode() + b"\n"


def digest_of(body: bytes) -> str:
    """Return what the next entry names an object by."""
    return hashlib.sha256(body).hexdigest()


def read(body: bytes) -> Read | None:
    """Return the entry in an object's bytes, ``None`` if there is none."""
    try:
        outer = parse(body, type=_Sealed)
        entry = parse(outer.signed, type=Entry)
        signed = outer.signed.encode()
    except (ValueError, RecursionError):
        return None
    signature = unbase64(outer.signature)
    if signature is None or entry.type != TYPE:
        return None
    return Read(entry, signed, signature)
