"""One line of the archive: its fields, and how it becomes bytes; pure, and it never fails.

The line is JSON in UTF-8 with every field present, so that any tool reads every line of every
file in the same way; what is not known is ``null``.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

SCHEMA_VERSION = 1
NOT_KEPT = "not_kept"
"""What a record says of its attachment where none are archived."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the archive, in the order of its fields."""

    v: int = SCHEMA_VERSION
    kind: str
    stream: str
    seq: int
    salt: str
    of_seq: int | None = None
    ts_received: int
    ts_origin: int | None = None
    ts_skew: int | None = None
    time_utc: str | None = None
    source: str | None = None
    source_pos: str | None = None
    server_name: str
    room_id: str | None = None
    room_version: str | None = None
    room_name: str | None = None
    room_alias: str | None = None
    room_type: str | None = None
    is_direct: bool | None = None
    encrypted: bool | None = None
    federated: bool | None = None
    join_rule: str | None = None
    history_visibility: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    state_key: str | None = None
    sender: str | None = None
    sender_name: str | None = None
    sender_server: str | None = None
    sender_kind: str | None = None
    msgtype: str | None = None
    body: str | None = None
    body_truncated: bool = False
    rel_type: str | None = None
    rel_event_id: str | None = None
    thread_root: str | None = None
    reply_to: str | None = None
    reaction_key: str | None = None
    edit_of: str | None = None
    edit_valid: bool | None = None
    redacts: str | None = None
    redaction_reason: str | None = None
    content_state: str | None = None
    audience_id: str | None = None
    audience_count: int | None = None
    audience_basis: str | None = None
    enc_status: str | None = None
    enc_error: str | None = None
    enc_algorithm: str | None = None
    enc_session_id: str | None = None
    enc_sender_key: str | None = None
    enc_device_id: str | None = None
    enc_index: int | None = None
    enc_trust: str | None = None
    enc_key_source: str | None = None
    prev_events: str | None = None
    depth: int | None = None
    media_name: str | None = None
    media_mime: str | None = None
    media_mime_sniffed: str | None = None
    media_size: int | None = None
    media_sha256: str | None = None
    media_cipher_sha256: str | None = None
    media_mxc: str | None = None
    media_key: str | None = None
    media_status: str | None = None
    event_json: str | None = None
    wire_json: str | None = None
    raw_b64: str | None = None
    payload_sha256: str | None = None
    retention_class: str | None = None
    actor: str | None = None
    action: str | None = None
    detail_json: str | None = None


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a record stands. ``salt`` is 128 random bits that hide short messages in a hash."""

    stream: str
    seq: int
    salt: bytes
    server_name: str


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """When and how an event reached this machine."""

    ts_received: int
    source: str
    source_pos: str


def to_line(record: Record) -> bytes:
    """Return the record as its line, newline included."""
    return msgspec.json.encode(record) + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record of a line that ``to_line`` wrote."""
    return msgspec.json.decode(line, type=Record)


def wire_of(first: Record) -> bytes:
    """Return the bytes of an event as it came, from the record that it could not be read."""
    if first.wire_json is not None:
        return first.wire_json.encode()
    return base64.b64decode(first.raw_b64 or "")


def rfc3339(moment_ms: int | None) -> str | None:
    """Return a moment for people, ``None`` where no calendar has it."""
    if moment_ms is None:
        return None
    seconds = _seconds(moment_ms // 1000)
    return None if seconds is None else f"{seconds}.{moment_ms % 1000:03}Z"


@lru_cache(maxsize=1024)
def _seconds(seconds: int) -> str | None:
    """Return a second for people; most events of a moment share a few."""
    try:
        moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001  # UTC, unsaid
    except OverflowError:
        return None
    return moment.isoformat(timespec="seconds")


def placed(place: Place) -> dict[str, Any]:
    """Return the fields that say where a record stands."""
    return {
        "stream": place.stream,
        "seq": place.seq,
        "salt": base64.b64encode(place.salt).decode(),
        "server_name": place.server_name,
    }


def as_json(value: Mapping[str, Any]) -> str:
    """Return JSON for a field that holds it as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
