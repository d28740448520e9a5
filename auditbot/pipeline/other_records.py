"""Records that are about no event of a room: acts, holes, attachments, parents of events; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from auditbot.pipeline.hostile import MAX_EVENT_BYTES, int64, mapping, parse
from auditbot.pipeline.line import Arrival, Place, Record, as_json, placed, rfc3339
from auditbot.pipeline.retention import DEFAULT
from auditbot.pipeline.room_state import short


@dataclass(frozen=True, slots=True)
class MediaFound:
    """What became of an attachment; what does not apply is ``None``."""

    status: str
    key: str | None = None
    size: int | None = None
    sha256: str | None = None
    cipher_sha256: str | None = None
    sniffed: str | None = None
    reason: str | None = None
    scan: Mapping[str, str] | None = None
    """What a scanner for malware said, if one was asked."""


def media_record(
    carrier: Mapping[str, Any],
    found: MediaFound,
    place: Place,
    *,
    now_ms: int,
    retention_class: str = DEFAULT,
) -> Record:
    """Return the record that says what became of the attachment of an earlier record.

    Args:
        carrier: ``CARRIED`` fields of that record, with its stream and number
        found: what became of it
        place: where the new record stands
        now_ms: the present moment
        retention_class: that of its room
    """
    carried: dict[str, Any] = {name: carrier.get(name) for name in CARRIED}
    detail: dict[str, Any] = {} if found.reason is None else {"reason": found.reason}
    if found.scan is not None:
        detail["scan"] = found.scan
    if carrier["stream"] != place.stream:
        detail["of_stream"] = carrier["stream"]
    return Record(
        kind="media",
        **placed(place),
        of_seq=carrier["seq"],
        ts_received=now_ms,
        time_utc=rfc3339(now_ms),
        **carried,
        media_mime_sniffed=found.sniffed,
        media_size=found.size,
        media_sha256=found.sha256,
        media_cipher_sha256=found.cipher_sha256,
        media_key=found.key,
        media_status=found.status,
        retention_class=retention_class,
        detail_json=as_json(detail) if detail else None,
    )


CARRIED = ("room_id", "event_id", "sender", "ts_origin", "media_mxc", "media_name", "media_mime")
"""What the record about an attachment repeats of the one that carries it."""


def control_record(
    place: Place, *, now_ms: int, actor: str, action: str, detail: Mapping[str, Any]
) -> Record:
    """Return the record of something that was done to the export itself."""
    return Record(
        kind="control",
        **placed(place),
        ts_received=now_ms,
        time_utc=rfc3339(now_ms),
        actor=actor,
        action=action,
        detail_json=as_json(detail),
        retention_class=DEFAULT,
    )


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that is known to be missing, or (with ``of_seq``) that no longer is."""

    action: str
    detail: Mapping[str, Any]
    room_id: str | None = None
    raw_b64: str | None = None
    of_seq: int | None = None


def gap_record(gap: Gap, place: Place, *, now_ms: int, retention_class: str = DEFAULT) -> Record:
    """Return the record of a gap, or of its end."""
    return Record(
        kind="gap" if gap.of_seq is None else "gap_closed",
        **placed(place),
        of_seq=gap.of_seq,
        ts_received=now_ms,
        time_utc=rfc3339(now_ms),
        room_id=short(gap.room_id),
        raw_b64=gap.raw_b64,
        actor="steward",
        action=gap.action,
        detail_json=as_json(gap.detail),
        retention_class=retention_class,
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """Somebody has read up to an event."""

    room_id: str | None
    event_id: str | None
    user_id: str | None
    moment_ms: int | None
    detail: Mapping[str, str]


def receipts_in(body: bytes) -> Iterator[Receipt]:
    """Yield what an entry of our inbox tells of who read what; anybody's server wrote it."""
    parsed = parse(body, MAX_EVENT_BYTES)
    told = parsed.value if parsed is not None else {}
    for event_id, by_type in mapping(told.get("content")).items():
        for receipt_type, by_user in mapping(by_type).items():
            for user_id, what in mapping(by_user).items():
                thread = short(mapping(what).get("thread_id"))
                detail = {"receipt_type": str(short(receipt_type))}
                yield Receipt(
                    short(told.get("room_id")),
                    short(event_id),
                    short(user_id),
                    int64(mapping(what).get("ts")),
                    detail if thread is None else {**detail, "thread_id": thread},
                )


def receipt_record(
    receipt: Receipt, place: Place, arrival: Arrival, retention_class: str = DEFAULT
) -> Record:
    """Return the record that somebody has read up to an event."""
    return Record(
        kind="receipt",
        **placed(place),
        ts_received=arrival.ts_received,
        ts_origin=receipt.moment_ms,
        time_utc=rfc3339(receipt.moment_ms),
        source=arrival.source,
        source_pos=short(arrival.source_pos),
        room_id=receipt.room_id,
        event_id=receipt.event_id,
        sender=receipt.user_id,
        detail_json=as_json(receipt.detail),
        retention_class=retention_class,
    )


def told_room(body: bytes) -> str | None:
    """Return the room that an entry of our inbox tells of."""
    parsed = parse(body, MAX_EVENT_BYTES)
    return short(parsed.value.get("room_id")) if parsed is not None else None


def graph_record(
    body: bytes, place: Place, arrival: Arrival, retention_class: str = DEFAULT
) -> Record:
    """Return the record of the parents of events; ``body`` is that of an entry of our inbox."""
    told = msgspec.json.decode(body)
    return Record(
        kind="graph",
        **placed(place),
        ts_received=arrival.ts_received,
        time_utc=rfc3339(arrival.ts_received),
        source=arrival.source,
        source_pos=short(arrival.source_pos),
        room_id=short(told["room_id"]),
        detail_json=as_json({"events": told["events"]}),
        retention_class=retention_class,
    )
