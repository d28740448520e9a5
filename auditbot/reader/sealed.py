"""Records whose content is sealed: opened here, for whatever reads records.

A line of such a stream holds who, when and where; ``sealed`` is an age file in base64 with a zstd
frame of the fields that say what was said, for the key of which the wrapped secret half lies under
``sealed_to``, and ``sealed_sha256`` is the hash of what it must open to. So opened content can be
proven by the line alone: its salt stands inside, and no key is needed.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyrage
import zstandard

from auditbot.reader.layout import is_content_key
from auditbot.reader.open_sealed import unseal
from auditbot.reader.parse import parse
from auditbot.reader.unpack import LONGEST_LINE_BYTES, DamagedArchiveError

Json = dict[str, Any]

FIELDS = frozenset(
    {
        "body",
        "reaction_key",
        "redaction_reason",
        "media_name",
        "media_sha256",
        "media_cipher_sha256",
        "media_mxc",
        "event_json",
        "wire_json",
        "raw_b64",
        "payload_sha256",
        "detail_json",
    }
)
"""What sealed content may say: it can add to a line, and take nothing of it back."""
_COMPLETED = "detail_json"
"""The one field of which a part stands in the line."""
STATE = "sealed_state"
"""What a reader adds to a record of such a stream; no line holds it."""
OPENED, SEALED, ERASED, KEYLESS = "opened", "sealed", "erased", "keyless"
UNOPENED = frozenset({SEALED, KEYLESS})
"""What a key may still open."""
WORDS = {
    SEALED: "content sealed",
    ERASED: "content erased",
    KEYLESS: "content sealed, and its key is not here",
}


class Opened(NamedTuple):
    """A record as far as it can be read, and the exact bytes of what was sealed of it."""

    record: Json
    content: bytes | None


class Wrapped(NamedTuple):
    """The wrapped secret half of a key, or why it is not there."""

    body: bytes | None
    is_erased: bool = False


Find = Callable[[str], Wrapped]
"""Returns the wrapped key of a name."""


@dataclass
class Contents:
    """Opens records, each key once; without identities they stay sealed."""

    identities: Sequence[str]
    find: Find
    _secrets: dict[str, pyrage.x25519.Identity] = field(default_factory=dict)

    def open(self, record: Json) -> Opened:
        """Return a record with its content, or one that says why it is without.

        Raises:
            DamagedArchiveError: what is sealed is not what the line says, or the identities do
                not open the key.
        """
        if not isinstance(record.get("sealed"), str):
            return Opened(record, None)
        state, content = self.content(record)
        if content is None:
            return Opened({**record, STATE: state}, None)
        return Opened(with_content(record, content), content)

    def content(self, line: Json) -> tuple[str, bytes | None]:
        """Return what is sealed of a line, or without it, which state it is in.

        Raises:
            DamagedArchiveError: as ``open``.
        """
        name = key_name(line)
        found = self.find(name)
        if found.body is None:
            return ERASED if found.is_erased else KEYLESS if self.identities else SEALED, None
        if not self.identities:
            return SEALED, None
        return OPENED, opened_content(line, self._secret(name, found.body))

    def forget(self, name: str) -> None:
        """Forget the secret half of a key that was destroyed."""
        self._secrets.pop(name, None)

    def _secret(self, name: str, wrapped: bytes) -> pyrage.x25519.Identity:
        if name not in self._secrets:
            self._secrets[name] = unwrapped(name, wrapped, self.identities)
        return self._secrets[name]


def unwrapped(name: str, wrapped: bytes, identities: Sequence[str]) -> pyrage.x25519.Identity:
    """Return the secret half of a key.

    Raises:
        DamagedArchiveError: the identities do not open it, or it holds none.
    """
    secret = unseal(name, wrapped, identities).decode("ascii", "replace").strip()
    try:
        return pyrage.x25519.Identity.from_str(secret)
    except pyrage.IdentityError as error:
        raise DamagedArchiveError(f"“{name}” holds no key: {error}.") from None


def key_name(record: Json) -> str:
    """Return which key a record's content is sealed to.

    Raises:
        DamagedArchiveError: it names none.
    """
    name = record.get("sealed_to")
    if not isinstance(name, str) or not is_content_key(name):
        raise DamagedArchiveError(f"{_place(record)} does not say which key opens it.")
    return name


def opened_content(record: Json, secret: pyrage.x25519.Identity) -> bytes:
    """Return the bytes that were sealed of a record.

    Raises:
        DamagedArchiveError: the key does not open it, or the line says that it is another.
    """
    try:
        sealed = base64.b64decode(str(record["sealed"]), validate=True)
        content = _unpacked(bytes(pyrage.decrypt(sealed, [secret])))
    except (binascii.Error, ValueError, pyrage.DecryptError, zstandard.ZstdError) as error:
        raise DamagedArchiveError(
            f"{_place(record)}: what is sealed cannot be opened ({error})."
        ) from None
    if hashlib.sha256(content).hexdigest() != record.get("sealed_sha256"):
        raise DamagedArchiveError(f"{_place(record)}: what is sealed is not what the line says.")
    return content


def with_content(record: Json, content: bytes) -> Json:
    """Return a record with what was sealed of it.

    Raises:
        DamagedArchiveError: it is the content of another record, or says what is no content.
    """
    try:
        said: Any = parse(content)
    except ValueError:
        said = None
    place = (record.get("stream"), record.get("seq"))
    if not isinstance(said, dict) or (said.get("stream"), said.get("seq")) != place:
        raise DamagedArchiveError(f"{_place(record)}: what is sealed is of another record.")
    fields = {
        name: value for name, value in said.items() if name not in {"stream", "seq", "seal_salt"}
    }
    for name in fields:
        if name not in FIELDS or (name != _COMPLETED and record.get(name) is not None):
            raise DamagedArchiveError(f"{_place(record)}: what is sealed says what is no content.")
    opened = {**record, **fields, STATE: OPENED}
    del opened["sealed"]
    return opened


def unopened(record: Mapping[str, Any]) -> str | None:
    """Return in words why a record is without its content, ``None`` if it is not."""
    state = record.get(STATE)
    return WORDS.get(str(state)) if state not in {None, OPENED} else None


def _unpacked(packed: bytes) -> bytes:
    """Return what one zstd frame holds, if it says that it is of a size that can be."""
    size = zstandard.get_frame_parameters(packed).content_size
    if not 0 <= size <= LONGEST_LINE_BYTES:
        raise ValueError("it unpacks to more than any record holds")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=LONGEST_LINE_BYTES)


def _place(record: Json) -> str:
    return f"Record {record.get('seq')} of stream {record.get('stream')}"
