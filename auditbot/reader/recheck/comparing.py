"""A record, its ciphertext and the sessions that are kept → whether they agree; pure.

What is compared: that the ciphertext is this event's; that it opens, which proves the signature by
the session's key; and that room, session, place in the session, device and every byte of what it
says are what the archive says of it.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from auditbot.reader.recheck.opening import (
    Opened,
    Session,
    UnopenedError,
    message_index,
    opened,
)

Json = Mapping[str, Any]
_LONGEST = 1024


class State(StrEnum):
    """How decrypting again turned out."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NO_KEY = "no session key"
    NOT_KEPT = "not kept"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Compared:
    """How a record turned out; ``differences`` are names of what differs, each with a reason."""

    state: State
    differences: tuple[tuple[str, str], ...] = ()
    session: Session | None = None
    """What it was decrypted with."""


def compare(record: Json, wire: bytes, sessions: Sequence[Session]) -> Compared:
    """Decrypt a record's ciphertext again and compare.

    Args:
        record: an ``event`` that was decrypted, or a ``decryption``
        wire: the event as it came
        sessions: those that are kept for the record's stream and day
    """
    event = _object(wire) or {}
    content = event.get("content")
    content = content if isinstance(content, dict) else {}
    ciphertext = content.get("ciphertext")
    found = [*_identity(record, event), *_named_session(record, content)]
    if not isinstance(ciphertext, str):
        found.append(("ciphertext", "there is none in what is kept of the event"))
        return Compared(State.DIFFERS, tuple(found))
    try:
        place = message_index(ciphertext)
    except UnopenedError as error:
        return Compared(State.DIFFERS, (*found, ("ciphertext", str(error))))
    copies = _copies(record, content.get("session_id"), place, sessions)
    if not copies:
        return Compared(State.DIFFERS if found else State.NO_KEY, tuple(found))
    session, again = _first_opened(copies, ciphertext)
    found += _device(record, session)
    if isinstance(again, UnopenedError):
        which = "" if len(copies) == 1 else f"none of {len(copies)} copies of the key opens it: "
        return Compared(State.DIFFERS, (*found, ("key", f"{which}{again}")), session)
    if again.index != record.get("enc_index"):
        found.append(("index", f"it is message {again.index}, not {record.get('enc_index')}"))
    found += _said(record, again.payload)
    return Compared(State.DIFFERS if found else State.AGREES, tuple(found), session)


def kept_wire(record: Json) -> bytes | Compared:
    """Return an event as it came, or how a record turns out without it.

    Args:
        record: the one that holds the ciphertext
    """
    text = record.get("wire_json")
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    name, encoded = _encoded(record)
    if encoded is None:
        return Compared(State.NOT_KEPT)
    wire = _base64(encoded) if name.endswith("_b64") else None
    if wire is None:
        # Not the same as never kept: something was written that is no event any more.
        return Compared(State.DIFFERS, (("ciphertext", f"what is kept in {name} is damaged"),))
    return wire


def _encoded(record: Json) -> tuple[str, object]:
    """Return where an event that is no sound JSON is kept, and what stands there."""
    if record.get("wire_json") is not None:
        return "wire_json", record["wire_json"]
    if record.get("enc_status") == "undecryptable":
        return "raw_b64", record.get("raw_b64")
    detail = record.get("detail_json")
    if detail is None:
        return "detail_json", None
    said = _object(detail.encode("utf-8", "replace")) if isinstance(detail, str) else None
    return ("detail_json", detail) if said is None else ("wire_b64", said.get("wire_b64"))


def _identity(record: Json, event: Json) -> list[tuple[str, str]]:
    """Return where the ciphertext is not that of the record's event."""
    return [
        ("ciphertext", f"what is kept says {name} {event.get(name)}, not {record.get(name)}")
        for name in ("event_id", "room_id", "sender")
        if record.get(name) != _column(event.get(name))
    ]


def _column(said: object) -> str | None:
    """Return text as it stands in a record: what no server may send is replaced or cut."""
    if not isinstance(said, str):
        return None
    text = said.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")[:_LONGEST]


def _named_session(record: Json, content: Json) -> list[tuple[str, str]]:
    said, kept = content.get("session_id"), record.get("enc_session_id")
    if said == kept:
        return []
    return [("session", f"the ciphertext is of session {said}, not {kept}")]


def _copies(
    record: Json, session_id: object, place: int, sessions: Sequence[Session]
) -> Sequence[Session]:
    """Return the copies of a session that should open a message, first what the writer read with."""
    fitting = [
        one
        for one in sessions
        if one.session_id == session_id
        and one.room_id == record.get("room_id")
        and one.first_index <= place
    ]
    return sorted(
        fitting,
        key=lambda one: (
            one.sender_key != record.get("enc_sender_key"),
            one.source != record.get("enc_key_source"),
            one.first_index,
        ),
    )


def _first_opened(
    copies: Sequence[Session], ciphertext: str
) -> tuple[Session, Opened | UnopenedError]:
    """Return the first copy that opens a ciphertext, else the first with why it does not."""
    failed: list[tuple[Session, UnopenedError]] = []
    for session in copies:
        try:
            return session, opened(session, ciphertext)
        except UnopenedError as error:
            failed.append((session, error))
    return failed[0]


def _device(record: Json, session: Session) -> list[tuple[str, str]]:
    found = []
    for name, kept, again in (
        ("device", record.get("enc_sender_key"), session.sender_key),
        ("source", record.get("enc_key_source"), session.source),
    ):
        if kept != again:
            found.append((name, f"the key is kept with {again}, not {kept}"))
    is_owner = session.sender == record.get("sender")
    # A key that came from a backup or another device does not prove whose it is.
    if session.source == "direct" and not is_owner and record.get("enc_trust") != "mismatch":
        found.append(("sender", f"the key was sent by {session.sender}"))
    return found


def _said(record: Json, payload: bytes) -> list[tuple[str, str]]:
    found = []
    digest = hashlib.sha256(payload).hexdigest()
    if digest != record.get("payload_sha256"):
        found.append(
            ("hash", f"what it says has SHA-256 {digest}, not {record.get('payload_sha256')}")
        )
    text = record.get("event_json")
    archived = (
        text.encode("utf-8", "surrogatepass")
        if isinstance(text, str)
        else _base64(record.get("raw_b64"))
    )
    if archived != payload:
        found.append(("payload", "it says something else than is archived"))
    room_id = (_object(payload) or {}).get("room_id")
    if room_id != record.get("room_id"):
        found.append(("room", f"it says that it is for {room_id}"))
    return found


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _base64(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
