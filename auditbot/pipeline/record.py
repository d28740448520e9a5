"""An event and how it could be read → its record; pure, and it never fails."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from auditbot.pipeline.hostile import INT64, Envelope, read_envelope
from auditbot.pipeline.line import (
    NOT_KEPT,
    Arrival,
    Place,
    Record,
    as_json,
    from_line,
    placed,
    rfc3339,
    to_line,
    wire_of,
)
from auditbot.pipeline.other_records import control_record
from auditbot.pipeline.reading import columns_of
from auditbot.pipeline.retention import DEFAULT, NO_CLASSES, Facts, Policy
from auditbot.pipeline.room_state import Member, RoomContext, short
from common.crypto.port import Decrypted, Reading

__all__ = [
    "Arrival",
    "AudienceBase",
    "Place",
    "Record",
    "Restored",
    "Setting",
    "audience",
    "audience_record",
    "class_of",
    "control_record",
    "decryption_record",
    "event_record",
    "from_line",
    "rfc3339",
    "to_line",
    "wire_of",
]


class Setting(msgspec.Struct, frozen=True, gc=False):
    """What surrounded an event.

    ``before`` is the room without the event, whose members could read it; ``after`` is what the
    event says of the room or its sender. ``edited_sender`` wrote the event that this one
    edits, if that is archived.
    """

    before: RoomContext
    after: RoomContext
    sender_kind: str | None = None
    edited_sender: str | None = None
    media: bool = False
    """Whether attachments are fetched."""
    ciphertext: bool = True
    """Whether of what could be read the ciphertext is kept."""
    policy: Policy = NO_CLASSES
    """Which class the record belongs to."""


class Restored(msgspec.Struct, frozen=True, gc=False):
    """Where an event comes from that arrived deleted and is recorded as it was sent."""

    proof: str
    """What proves that it is the original."""
    redacted_by: str | None


def event_record(
    envelope: Envelope,
    reading: Reading | None,
    place: Place,
    arrival: Arrival,
    setting: Setting,
    *,
    restored: Restored | None = None,
) -> Record:
    """Return the record of an event.

    Args:
        envelope: the event as it came, or as it was before it was deleted
        reading: how its ciphertext could be read; ``None`` for an event that is not encrypted
        place: where the record stands
        arrival: how the event came
        setting: what surrounded it
        restored: that it is recorded as it was before it was deleted; ``None``: as it came
    """
    origin = envelope.ts_origin
    skew = arrival.ts_received - origin if origin is not None else None
    redacted = envelope.unsigned.get("redacted_because") is not None
    columns, detail = columns_of(envelope, reading, setting.edited_sender)
    if isinstance(reading, Decrypted) and not setting.ciphertext:
        columns["wire_json"] = None
    elif isinstance(reading, Decrypted) and columns["wire_json"] is None:
        # Junk may stand beside a ciphertext, and somebody may read it.
        detail["wire_b64"] = base64.b64encode(envelope.body).decode()
    if restored is not None:
        detail["recovered"] = {"proof": restored.proof, "redacted_by": short(restored.redacted_by)}
    return Record(
        kind="event",
        **placed(place),
        ts_received=arrival.ts_received,
        ts_origin=origin,
        ts_skew=skew if skew is not None and -INT64 <= skew < INT64 else None,
        time_utc=rfc3339(origin),
        source=arrival.source,
        source_pos=short(arrival.source_pos),
        event_id=short(envelope.event_id),
        prev_events=_list(envelope.prev_events),
        depth=envelope.depth,
        state_key=short(envelope.state_key),
        **_room(setting, envelope.room_id),
        **_sender(setting, envelope.sender),
        content_state=_content_state(restored, redacted=redacted),
        **_audience(setting.before),
        **columns,
        media_status=_media_status(columns, fetched=setting.media),
        retention_class=class_of(setting.after, setting.policy),
        detail_json=as_json(detail) if detail else None,
    )


def _content_state(restored: Restored | None, *, redacted: bool) -> str:
    if restored is not None:
        return "recovered_unredacted"
    return "arrived_redacted" if redacted else "as_sent"


def decryption_record(
    first: Record,
    reading: Decrypted,
    place: Place,
    *,
    ts_received: int,
    edited_sender: str | None,
    media: bool = False,
    policy: Policy = NO_CLASSES,
) -> Record:
    """Return the record that says what an event says that could not be read at first.

    The room, the people and the audience are those of the first record: they are facts of the
    moment in which the message was sent. The class is that of the room by the present policy.
    """
    columns, detail = columns_of(read_envelope(wire_of(first)), reading, edited_sender)
    columns.update(placed(place), enc_status="late", wire_json=None)
    if first.stream != place.stream:
        detail["of_stream"] = first.stream
    return msgspec.structs.replace(
        first,
        kind="decryption",
        of_seq=first.seq,
        ts_received=ts_received,
        detail_json=as_json(detail) if detail else None,
        media_status=_media_status(columns, fetched=media),
        retention_class=policy.class_of(
            Facts(
                first.room_id, first.room_alias, first.room_type, first.is_direct, first.encrypted
            )
        ),
        **columns,
    )


def class_of(room: RoomContext, policy: Policy) -> str:
    """Return the retention class of what is recorded of a room."""
    if not policy.rules:
        return DEFAULT
    facts = Facts(room.room_id, room.alias, room.type, room.is_direct, room.encrypted)
    return policy.class_of(facts)


def _media_status(columns: Mapping[str, Any], *, fetched: bool) -> str | None:
    if columns.get("media_mxc") is None:
        return None
    return "pending" if fetched else NOT_KEPT


@dataclass(frozen=True, slots=True)
class AudienceBase:
    """A whole list of people that another list may refer to."""

    id: str
    seq: int
    members: Mapping[str, Member]


def audience_record(context: RoomContext, place: Place, arrival: Arrival) -> Record:
    """Return the record with the whole list of a room's people."""
    return audience(context, place, arrival, None, {})[0]


def audience(
    context: RoomContext,
    place: Place,
    arrival: Arrival,
    base: AudienceBase | None,
    kinds: Mapping[str, str],
    *,
    retention_class: str = DEFAULT,
) -> tuple[Record, bool]:
    """Return the record that says who could read what cites its ``audience_id``.

    Args:
        context: the room
        place: where the record stands
        arrival: that of the event that cites it first
        base: the last whole list of the room; ``None`` gives a whole list
        kinds: what is known of certain people, e.g. that they are bots
        retention_class: that of the records that cite it

    Returns:
        the record, and whether it is a whole list
    """
    detail = _difference(context, base, kinds) if base is not None else None
    whole = detail is None
    if detail is None:
        people = ((user, who) for user, who in sorted(context.members.items()) if _is_in(who))
        detail = {"members": [_person(user, who, kinds) for user, who in people]}
    record = Record(
        kind="audience",
        **placed(place),
        ts_received=arrival.ts_received,
        time_utc=rfc3339(arrival.ts_received),
        **_room(Setting(context, context), context.room_id),
        **_audience(context),
        retention_class=retention_class,
        detail_json=as_json(detail),
    )
    return record, whole


def _difference(
    context: RoomContext, base: AudienceBase, kinds: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return what differs from a whole list, ``None`` where that is much."""
    added = [
        _person(user, who, kinds)
        for user, who in sorted(context.members.items())
        if _is_in(who) and _told(who) != _told(base.members.get(user))
    ]
    removed = sorted(
        user
        for user, who in base.members.items()
        if _is_in(who) and not _is_in(context.members.get(user))
    )
    if (len(added) + len(removed)) * 4 > len(context.members):
        return None
    return {"base": base.id, "base_seq": base.seq, "added": added, "removed": removed}


def _is_in(who: Member | None) -> bool:
    return who is not None and who.membership in {"join", "invite"}


def _told(who: Member | None) -> tuple[str, str | None] | None:
    return None if who is None else (who.membership, who.name)


def _person(user: str, who: Member, kinds: Mapping[str, str]) -> dict[str, Any]:
    person: dict[str, Any] = {"user_id": user, "name": who.name, "membership": who.membership}
    return {**person, "kind": kinds[user]} if user in kinds else person


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


def _list(values: Sequence[str] | None) -> str | None:
    return None if values is None else json.dumps(values, separators=(",", ":"))
