"""Checkpoints with cosignatures: how one is made, where it lies, and how it is read again.

Below its place a cosignature is ``cosignatures/<digits of the key>/<server>/<stream>-<size>-<time>.note``:
the checkpoint with its own signature, and below that the cosigner's. Nothing is ever changed there.
"""

import base64
import re
from dataclasses import dataclass, field

from auditbot.reader.layout import server_folder
from auditbot.reader.signatures import Note, parse_note
from common.officers import HINT_BYTES, LATEST_S, SIGNATURE_BYTES, OfficerKey, cosigned_message

FOLDER = "cosignatures/"
_TIME_BYTES = 8
_HASH_BYTES = 32
_KEY = re.compile(
    FOLDER + r"(?P<hint>[0-9a-f]{8})/(?P<server>[A-Za-z0-9_][A-Za-z0-9._-]*)/"
    r"(?P<stream>[A-Za-z0-9]{1,64})-(?P<size>[0-9]{12,18})-(?P<time>[0-9]{10,12})\.note"
)
_ORIGIN = re.compile(r"(?P<server>.+)/steward/(?P<stream>[A-Za-z0-9]{1,64})")


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A checkpoint that somebody cosigned, and when (seconds)."""

    key: str
    server_name: str
    stream: str
    size: int
    root: bytes
    time_s: int


@dataclass
class Cosigned:
    """What one party cosigned, and what is wrong with what is said to be of it."""

    party: OfficerKey
    found: list[Cosignature] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """The key of an object, and a sentence."""
    is_own: bool = False
    """Whether this machine itself remembers it: then there need not be any yet."""
    elsewhere: frozenset[str] = frozenset()
    """The streams that are kept at other places, as far as that is known: they need not be here."""


def checkpoint_of(body: bytes) -> tuple[Note, str, str]:
    """Return a checkpoint of Steward's, with its server's name and stream.

    Raises:
        ValueError: it is none, or not written as Steward writes it; the words say why.
    """
    note = parse_note(body)
    text = f"{note.origin}\n{note.size}\n{base64.b64encode(note.root).decode()}\n".encode()
    named = _ORIGIN.fullmatch(note.origin)
    if note.text != text or len(note.root) != _HASH_BYTES or named is None or note.size > LATEST_S:
        raise ValueError("it is not written as a checkpoint of Steward is")
    return note, named["server"], named["stream"]


def with_line(body: bytes, line: str) -> bytes:
    """Return a checkpoint with one more signature."""
    return body + line.encode() + b"\n"


def object_key(party: OfficerKey, server_name: str, stream: str, size: int, time_s: int) -> str:
    """Return where a cosignature lies, relative to its place."""
    return (
        f"{FOLDER}{party.hint.hex()}/{server_folder(server_name)}/"
        f"{stream}-{size:012d}-{time_s:010d}.note"
    )


def cosignature_in(key: str, body: bytes, party: OfficerKey) -> Cosignature:
    """Return the cosignature of a party in an object that is named as one.

    Raises:
        ValueError: there is none, or it is not what its name says; the words say why.
    """
    if _KEY.fullmatch(key) is None:
        raise ValueError("no cosignature has such a name")
    try:
        note, server_name, stream = checkpoint_of(body)
    except ValueError as error:
        raise ValueError(f"it is no cosigned checkpoint: {error}") from None
    times = {
        _time_of(note, signed, party)
        for name, signed in note.signatures
        if name == party.name and signed[:HINT_BYTES] == party.hint
    }
    if not times:
        raise ValueError(f"it holds no signature of “{party.name}”")
    if len(times) > 1:
        raise ValueError("it holds two signatures of the same party")
    (time_s,) = times
    if key != object_key(party, server_name, stream, note.size, time_s):
        raise ValueError("it is another cosignature than its name says")
    return Cosignature(key, server_name, stream, note.size, note.root, time_s)


def _time_of(note: Note, signed: bytes, party: OfficerKey) -> int:
    """Return when a party cosigned a note, as a signature of it says."""
    time_s = int.from_bytes(signed[HINT_BYTES : HINT_BYTES + _TIME_BYTES], "big")
    signature = signed[HINT_BYTES + _TIME_BYTES :]
    if len(signature) != SIGNATURE_BYTES or time_s > LATEST_S:
        raise ValueError("its cosignature is malformed")
    if not party.signed(cosigned_message(note.text, time_s), signature):
        raise ValueError(
            f"its cosignature is not that of “{party.name}” over these bytes: one of the two was "
            "changed, or somebody else made it"
        )
    return time_s
