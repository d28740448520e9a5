"""An event and how it could be read → one line of the archive; pure, and it never fails.

The line is JSON in UTF-8 with every field present, so that any tool reads every line of every
file in the same way; what is not known is ``null``.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from auditbot.pipeline.hostile import INT64, Envelope, read_envelope
from auditbot.pipeline.reading import columns_of
from auditbot.pipeline.room_state import RoomContext, short
from common.crypto.port import Decrypted, Reading

SCHEMA_VERSION = 1


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands. ``salt`` is 128 random bits that hide short messages in a hash."""

    stream: str
    seq: int
    salt: bytes
    server_name: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """When and how an event reached this machine."""

    ts_received: int
    source: str
    source_pos: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What surrounded an event.

    ``before`` is the room without the event, whose members could read it; ``after`` is what the
    event says of the room or its sender. ``edited_sender`` wrote the event that this one
    edits, if that is archived.
    """

    before: RoomContext
    after: RoomContext
    sender_kind: str | None = None
    edited_sender: str | None = None


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


def event_record(
    envelope: Envelope, reading: Reading | None, place: Place, arrival: Arrival, setting: Setting
) -> Record:
    """Return the record of an event.

    Args:
        envelope: the event as it came
        reading: how its ciphertext could be read; ``None`` for an event that is not encrypted
        place: where the record stands
        arrival: how the event came
        setting: what surrounded it
    """
    origin = envelope.ts_origin
    skew = arrival.ts_received - origin if origin is not None else None
    redacted = envelope.unsigned.get("redacted_because") is not None
    columns, detail = columns_of(envelope, reading, setting.edited_sender)
    if isinstance(reading, Decrypted) and columns["wire_json"] is None:
        # Junk may stand beside a ciphertext, and somebody may read it.
        detail["wire_b64"] = base64.b64encode(envelope.body).decode()
    return Record(
        kind="event",
        **_placed(place),
        ts_received=arrival.ts_received,
        ts_origin=origin,
        ts_skew=skew if skew is not None and -INT64 <= skew < INT64 else None,
        time_utc=rfc3339(origin),
        source=arrival.source,
        source_pos=short(arrival.source_pos),
        event_id=short(envelope.event_id),
        state_key=short(envelope.state_key),
        **_room(setting, envelope.room_id),
        **_sender(setting, envelope.sender),
        content_state="arrived_redacted" if redacted else "as_sent",
        **_audience(setting.before),
        **columns,
        retention_class="default",
        detail_json=_json(detail) if detail else None,
    )


def decryption_record(
    first: Record, reading: Decrypted, place: Place, *, ts_received: int, edited_sender: str | None
) -> Record:
    """Return the record that says what an event says that could not be read at first.

    The room, the people and the audience are those of the first record: they are facts of the
    moment in which the message was sent.
    """
    columns, detail = columns_of(read_envelope(wire_of(first)), reading, edited_sender)
    columns.update(_placed(place), enc_status="late", wire_json=None)
    if first.stream != place.stream:
        detail["of_stream"] = first.stream
    return msgspec.structs.replace(
        first,
        kind="decryption",
        of_seq=first.seq,
        ts_received=ts_received,
        detail_json=_json(detail) if detail else None,
        **columns,
    )


def audience_record(context: RoomContext, place: Place, arrival: Arrival) -> Record:
    """Return the record that lists who could read what cites its ``audience_id``."""
    members = [
        {"user_id": user, "name": who.name, "membership": who.membership}
        for user, who in sorted(context.members.items())
        if who.membership in {"join", "invite"}
    ]
    return Record(
        kind="audience",
        **_placed(place),
        ts_received=arrival.ts_received,
        time_utc=rfc3339(arrival.ts_received),
        **_room(Setting(context, context), context.room_id),
        **_audience(context),
        retention_class="default",
        detail_json=_json({"members": members}),
    )


def control_record(
    place: Place, *, now_ms: int, actor: str, action: str, detail: Mapping[str, Any]
) -> Record:
    """Return the record of something that was done to the export itself."""
    return Record(
        kind="control",
        **_placed(place),
        ts_received=now_ms,
        time_utc=rfc3339(now_ms),
        actor=actor,
        action=action,
        detail_json=_json(detail),
        retention_class="default",
    )


def rfc3339(moment_ms: int | None) -> str | None:
    """Return a moment for people, ``None`` where no calendar has it."""
    if moment_ms is None:
        return None
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _placed(place: Place) -> dict[str, Any]:
    return {
        "stream": place.stream,
        "seq": place.seq,
        "salt": base64.b64encode(place.salt).decode(),
        "server_name": place.server_name,
    }


def _room(setting: Setting, room_id: str | None) -> dict[str, Any]:
    room = setting.after
    return {
        "room_id": short(room_id),
        "room_version": room.version,
        "room_name": room.name,
        "room_alias": room.alias,
        "room_type": room.type,
        "is_direct": room.is_direct,
        "encrypted": room.encrypted,
        "federated": room.federated,
        "join_rule": room.join_rule,
        "history_visibility": room.history_visibility,
    }


def _sender(setting: Setting, sender: str | None) -> dict[str, Any]:
    return {
        "sender": short(sender),
        "sender_name": setting.after.name_of(sender) or setting.before.name_of(sender),
        "sender_server": short(sender.partition(":")[2]) or None if sender else None,
        "sender_kind": setting.sender_kind,
    }


def _audience(context: RoomContext) -> dict[str, Any]:
    if not context.complete:
        return {"audience_id": None, "audience_count": None, "audience_basis": None}
    return {
        "audience_id": context.audience_id,
        "audience_count": len(context.joined),
        # Arrival order, not the room graph: exact on one server, an approximation in a
        # federated room.
        "audience_basis": "stream_order",
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
