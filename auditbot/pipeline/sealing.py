"""What of a record says what somebody said, and what remains where only that is sealed; pure.

``TREATMENT`` decides it for every field, once. What remains tells who, when, where, of what kind
and size, and what became of it; what is sealed holds or reveals content. A digest of clear text
reveals it: a short message is guessed, a known file recognised.
"""

import base64
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from auditbot.pipeline.hostile import key as database_key
from auditbot.pipeline.line import Record, as_json, to_line
from auditbot.pipeline.segment import DAY_MS

SEAL_SALT_BYTES = 16
OF_STREAM = "of_stream"
"""The one member of ``detail_json`` that tells where a record belongs, not what it says."""
_TELLING = frozenset({"event", "decryption"})
"""Kinds of records whose ``detail_json`` repeats parts of an event."""
_TYPED = frozenset({"admin_action"})
"""Acts whose ``detail_json`` repeats what somebody typed in a room."""
_LABEL = re.compile(r"[a-z0-9_]{1,40}")
DEFAULT_CLASS = "default"


class Treatment(StrEnum):
    """What becomes of a field where content is sealed."""

    OPEN = "open"
    SEALED = "sealed"
    BY_KIND = "by kind"
    """Sealed in some kinds of records; see ``is_sealed``."""


_OPEN = Treatment.OPEN
_SEALED = Treatment.SEALED

TREATMENT: Mapping[str, Treatment] = {
    # Where the record stands, and when it came how.
    "v": _OPEN,
    "kind": _OPEN,
    "stream": _OPEN,
    "seq": _OPEN,
    "salt": _OPEN,
    "of_seq": _OPEN,
    "ts_received": _OPEN,
    "ts_origin": _OPEN,
    "ts_skew": _OPEN,
    "time_utc": _OPEN,
    "source": _OPEN,
    "source_pos": _OPEN,
    "server_name": _OPEN,
    # The room. Its topic has no column: it stands in event_json.
    "room_id": _OPEN,
    "room_version": _OPEN,
    "room_name": _OPEN,
    "room_alias": _OPEN,
    "room_type": _OPEN,
    "is_direct": _OPEN,
    "encrypted": _OPEN,
    "federated": _OPEN,
    "join_rule": _OPEN,
    "history_visibility": _OPEN,
    # Who, and what kind of thing.
    "event_id": _OPEN,
    "event_type": _OPEN,
    "state_key": _OPEN,
    "sender": _OPEN,
    "sender_name": _OPEN,
    "sender_server": _OPEN,
    "sender_kind": _OPEN,
    "msgtype": _OPEN,
    "body": _SEALED,
    "body_truncated": _OPEN,
    "rel_type": _OPEN,
    "rel_event_id": _OPEN,
    "thread_root": _OPEN,
    "reply_to": _OPEN,
    "reaction_key": _SEALED,
    "edit_of": _OPEN,
    "edit_valid": _OPEN,
    "redacts": _OPEN,
    "redaction_reason": _SEALED,
    "content_state": _OPEN,
    "audience_id": _OPEN,
    "audience_count": _OPEN,
    "audience_basis": _OPEN,
    "enc_status": _OPEN,
    "enc_error": _OPEN,
    "enc_algorithm": _OPEN,
    "enc_session_id": _OPEN,
    "enc_sender_key": _OPEN,
    "enc_device_id": _OPEN,
    "enc_index": _OPEN,
    "enc_trust": _OPEN,
    "enc_key_source": _OPEN,
    "prev_events": _OPEN,
    "depth": _OPEN,
    # A file: its type, size and fate remain. Its address at the homeserver lets anybody who has
    # an account there fetch it, and its hashes tell a file that is known. The name of our own
    # object is a keyed hash; without it nobody could check that the file is there.
    "media_name": _SEALED,
    "media_mime": _OPEN,
    "media_mime_sniffed": _OPEN,
    "media_size": _OPEN,
    "media_sha256": _SEALED,
    "media_cipher_sha256": _SEALED,
    "media_mxc": _SEALED,
    "media_key": _OPEN,
    "media_status": _OPEN,
    "event_json": _SEALED,
    "wire_json": _SEALED,
    "raw_b64": _SEALED,
    "payload_sha256": _SEALED,
    "retention_class": _OPEN,
    "actor": _OPEN,
    "action": _OPEN,
    # Lists of people and of parents, reasons of gaps and acts of operators remain.
    "detail_json": Treatment.BY_KIND,
}
SEALED_FIELDS = tuple(name for name, how in TREATMENT.items() if how is not _OPEN)


class Scope(NamedTuple):
    """Whose or which content has one key: a day's of one retention class, or a person's."""

    day: int | None
    label: str | None
    person: str | None


class Split(NamedTuple):
    """A record without its content, and the content's bytes, ``None`` if it has none."""

    bare: Record
    content: bytes | None
    scope: Scope


def split(record: Record, salt: bytes, *, per_person: bool) -> Split:
    """Return what remains of a record and what is to be sealed.

    Args:
        record: the record
        salt: 16 random bytes that stand in the sealed part, so that nobody can guess a short
            message from the part's hash
        per_person: whether each person has a key
    """
    said = {name: value for name in SEALED_FIELDS if (value := _said(record, name)) is not None}
    scope = scope_of(record, per_person=per_person)
    if not said:
        return Split(record, None, scope)
    left: dict[str, Any] = dict.fromkeys(said)
    if "detail_json" in said:
        left["detail_json"] = _place_only(said["detail_json"])
    content = {
        "seal_salt": base64.b64encode(salt).decode(),
        "stream": record.stream,
        "seq": record.seq,
        **said,
    }
    return Split(
        msgspec.structs.replace(record, **left),
        # No line break can be in it: it can be a line of a file as it is.
        msgspec.json.encode(content),
        scope,
    )


def sealed_line(bare: Record, sealed: str | None, sha256: str | None, key: str | None) -> bytes:
    """Return the line of a record in a stream whose content is sealed.

    Args:
        bare: the record without its content
        sealed: the sealed content in base64
        sha256: of the content's bytes
        key: which object holds the key that opens it
    """
    added = msgspec.json.encode({"sealed_to": key, "sealed_sha256": sha256, "sealed": sealed})
    return b"".join((to_line(bare)[:-2], b",", added[1:], b"\n"))


def scope_of(record: Record, *, per_person: bool) -> Scope:
    """Return which key opens the content of a record."""
    return scope_at(
        record.sender if per_person else None, record.ts_received, record.retention_class
    )


def scope_at(person: str | None, received_ms: int, retention_class: str | None) -> Scope:
    """Return the scope of a person, or without one that of the day and retention class."""
    if person:
        return Scope(None, None, person)
    return Scope(received_ms // DAY_MS, retention_class or DEFAULT_CLASS, None)


def scope_name(scope: Scope) -> str:
    """Return how the database knows a scope."""
    if scope.person is not None:
        return f"person {database_key(scope.person)}"
    return f"day {scope.day} {scope.label}"


def said_seq(record: Record) -> int:
    """Return the number of the record by which a person's key is chosen for what a record says.

    What becomes known later of what a person sent (decrypted late, a file fetched late) has the key
    of that, destroyed or not: an erasure that is under way must not be outlived by it. What becomes
    known of another stream is not recorded at all while that is under way.
    """
    if record.of_seq is None:
        return record.seq
    is_elsewhere = record.detail_json is not None and _place_only(record.detail_json) is not None
    return record.seq if is_elsewhere else record.of_seq


def is_label(text: str) -> bool:
    """Return whether a retention class can stand in the name of an object."""
    return _LABEL.fullmatch(text) is not None


def _said(record: Record, name: str) -> Any:
    value = getattr(record, name)
    if name != "detail_json" or value is None:
        return value
    told = record.kind in _TELLING or record.action in _TYPED
    return value if told and _place_only(value) != value else None


def _place_only(detail_json: str) -> str | None:
    """Return what of a ``detail_json`` remains."""
    detail = msgspec.json.decode(detail_json)
    return as_json({OF_STREAM: detail[OF_STREAM]}) if OF_STREAM in detail else None
