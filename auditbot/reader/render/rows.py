"""A message → one flat row, for tables, spreadsheets and query engines; pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, tzinfo
from typing import Any

from auditbot.reader.conversation import Edit, Message
from auditbot.reader.layout import DEFAULT_CLASS
from auditbot.reader.render.audiences import NOT_COUNTED, Counts
from auditbot.reader.render.readers import readings
from auditbot.reader.render.words import (
    GAPS,
    TIME_OF_RECEIPT,
    act,
    doubts,
    gap,
    is_received_only,
    media_state,
    reaction_mark,
    shown_line,
    typed,
    version_media_state,
    why_not,
)
from auditbot.reader.said import edit_text, formatted_text, other_text
from auditbot.reader.sealed import unopened
from auditbot.reader.times import local


@dataclass(frozen=True, slots=True)
class Row:
    """One message.

    ``text`` is what was written first; ``latest_text`` what became of it; a deleted message
    keeps both. ``shown_as`` is what most clients show instead of the text, or of a later version.
    ``edited_by_others`` counts edits by somebody who is not the author. Times are RFC 3339, ``time`` in the zone that was asked for.
    ``responsive`` is “yes” for what was asked for, “no” for what is only around it.
    ``audience_count`` counts all members, ``audience_people`` and ``audience_bots`` tell them apart;
    ``later_people`` joined later and could read it then, ``invited_people`` were invited at that time
    and could once they joined: see ``audiences.py``. They are ``None`` where nobody counted.
    """

    time: str | None
    time_utc: str | None
    received_utc: str | None
    room_id: str | None
    room_name: str | None
    sender: str | None
    sender_name: str | None
    kind: str
    text: str | None
    latest_text: str | None
    shown_as: str | None
    edits: int
    edited_by_others: int
    deleted_utc: str | None
    deleted_by: str | None
    deletion_reason: str | None
    reactions: str | None
    thread_root: str | None
    reply_to: str | None
    attachment: str | None
    attachment_type: str | None
    attachment_size: int | None
    attachment_sha256: str | None
    attachment_state: str | None
    readable: str
    not_readable_because: str | None
    device: str | None
    trust: str | None
    audience_count: int | None
    audience_id: str | None
    audience_people: int | None
    audience_bots: int | None
    history_visibility: str | None
    later_people: int | None
    later_bots: int | None
    invited_people: int | None
    retention_class: str | None
    notes: str | None
    event_id: str | None
    stream: str | None
    seq: int | None
    object: str | None
    responsive: str


COLUMNS = tuple(field.name for field in fields(Row))
NUMBERS = frozenset(
    {
        "edits",
        "edited_by_others",
        "attachment_size",
        "audience_count",
        "audience_people",
        "audience_bots",
        "later_people",
        "later_bots",
        "invited_people",
        "seq",
    }
)


def row_of(
    message: Message,
    zone: tzinfo = UTC,
    *,
    is_context: bool = False,
    readers: Counts = NOT_COUNTED,
) -> Row:
    """Return a message's row."""
    record, said = message.record, message.said
    media = media_state(message) or {}
    deletion = message.deletions[0].record if message.deletions else {}
    place = message.records[0] if message.records else None
    is_text = message.latest_text is not None and not message.is_state
    return Row(
        time=_time(record.get("ts_origin"), zone),
        time_utc=_time(record.get("ts_origin"), UTC),
        received_utc=_time(record.get("ts_received"), UTC),
        room_id=_text(record.get("room_id")),
        room_name=_text(record.get("room_name")),
        sender=_text(record.get("sender")),
        sender_name=_text(record.get("sender_name")),
        kind=_kind(message),
        text=message.text if is_text else _told(message, zone),
        latest_text=message.latest_text if is_text else None,
        shown_as=_shown_as(message),
        edits=len(message.edits),
        edited_by_others=sum(message.is_by_author(edit) is False for edit in message.edits),
        deleted_utc=_time(deletion.get("ts_origin"), UTC),
        deleted_by=_text(deletion.get("sender")),
        deletion_reason=_text(deletion.get("redaction_reason")),
        reactions=_reactions(message),
        thread_root=_text(record.get("thread_root")),
        reply_to=_text(record.get("reply_to")),
        attachment=_text(media.get("name")),
        attachment_type=_text(media.get("mime")),
        attachment_size=_number(media.get("size")),
        attachment_sha256=_text(media.get("sha256")),
        attachment_state=_text(media.get("status")),
        readable=_readable(message),
        not_readable_because=None if message.is_readable else why_not(record, said),
        device=_text(said.get("enc_device_id")),
        trust=_text(said.get("enc_trust")),
        audience_count=_number(record.get("audience_count")),
        audience_id=_text(record.get("audience_id")),
        audience_people=readers.people,
        audience_bots=readers.bots,
        history_visibility=_text(record.get("history_visibility")),
        later_people=readers.later_people,
        later_bots=readers.later_bots,
        invited_people=readers.invited_people,
        retention_class=_text(record.get("retention_class")),
        notes="; ".join(doubts(message)) or None,
        event_id=_text(record.get("event_id")),
        stream=place.stream if place else None,
        seq=place.seq if place else None,
        object=place.key if place else None,
        responsive="no" if is_context else "yes",
    )


def as_json(
    message: Message,
    zone: tzinfo = UTC,
    *,
    is_context: bool = False,
    readers: Counts = NOT_COUNTED,
) -> dict[str, Any]:
    """Return a message for programs: its row, its edits and every record that it is made of."""
    return {
        **asdict(row_of(message, zone, is_context=is_context, readers=readers)),
        "versions": [
            {
                "text": edit_text(edit.said) if edit.is_readable else None,
                "not_readable_because": None
                if edit.is_readable
                else why_not(edit.stored.record, edit.said),
                "shown_as": _version_shown_as(edit),
                "attachment": version_media_state(message, edit),
                "sender": edit.stored.record.get("sender"),
                "time_utc": _time(edit.stored.record.get("ts_origin"), UTC),
                "valid": message.is_by_author(edit) and not message.doubt_of(edit),
                "doubt": message.doubt_of(edit) or None,
                "event_id": edit.stored.record.get("event_id"),
                "deleted_utc": _time(_deletion(edit).get("ts_origin"), UTC),
                "deleted_by": _text(_deletion(edit).get("sender")),
            }
            for edit in message.edits
        ],
        "read_by": [
            {
                "user_id": one.user_id,
                "time_utc": _time(one.time_ms, UTC),
                "event_id": one.event_id,
            }
            for one in readings(message)
        ],
        "records": [stored.record for stored in message.records],
    }


def table(
    messages: Iterable[Message], zone: tzinfo = UTC, context: Collection[int] | None = None
) -> Iterator[str]:
    """Yield messages for a terminal, each with what became of it below it.

    Args:
        messages: what is shown
        zone: in which times are
        context: the roots of those that are only around others; where it is given, the others are
            marked with a star
    """
    for message in messages:
        mark = "" if context is None else "  " if message.root in context else "* "
        row = row_of(message, zone)
        received = _time(message.record.get("ts_received"), zone)
        when = (row.time or received or "(no time)")[:19].replace("T", " ")
        room = f" [{shown_line(row.room_name or row.room_id)}]" if row.room_id else ""
        who = f" {shown_line(row.sender)}" if row.sender else ""
        yield shown_line(f"{mark}{when}{room}{who}: {_first_line(message, row)}")
        yield from map(shown_line, _below(message, row, zone))


def _below(message: Message, row: Row, zone: tzinfo) -> Iterator[str]:
    yield from _instead(formatted_text(message.said) if message.is_readable else None)
    for edit in message.edits:
        is_own = message.is_by_author(edit)
        by = "" if is_own else f" BY {shown_line(edit.stored.record.get('sender'))}"
        at = (_time(edit.stored.record.get("ts_origin"), zone) or "")[:19].replace("T", " ")
        doubt = message.doubt_of(edit)
        told = f" ({doubt})" if is_own and doubt else ""
        back = " (taken back)" if edit.deleted is not None else ""
        yield f"    edited{by} {at}{told}{back}: {_version(edit)}"
        yield from _instead(_version_shown_as(edit))
    if row.deleted_by:
        at = (_time(message.deletions[0].record.get("ts_origin"), zone) or "")[:19]
        because = f", because “{shown_line(row.deletion_reason)}”" if row.deletion_reason else ""
        yield f"    DELETED {at.replace('T', ' ')} by {shown_line(row.deleted_by)}{because}"
    if row.reactions:
        yield f"    reactions: {shown_line(row.reactions)}"
    if row.attachment:
        size = f", {row.attachment_size:,} bytes" if row.attachment_size is not None else ""
        yield f"    attachment: {shown_line(row.attachment)}{size} ({row.attachment_state})"
    yield from _remarks(row, is_received=is_received_only(message))


def _instead(text: str | None) -> Iterator[str]:
    if text is not None:
        yield f"    most clients show this instead: {shown_line(text)}"


def _remarks(row: Row, *, is_received: bool) -> Iterator[str]:
    if row.retention_class not in {None, DEFAULT_CLASS}:
        yield f"    retention class: {shown_line(row.retention_class)}"
    if row.notes:
        yield f"    note: {row.notes}"
    if is_received:
        yield f"    note: {TIME_OF_RECEIPT}"


def _first_line(message: Message, row: Row) -> str:
    if unopened(message.said) is not None:
        return f"({typed(row.kind)}: {row.not_readable_because})"
    if not message.is_readable:
        return f"(not readable: {row.not_readable_because})"
    if row.text is None:
        return "(deleted before it was archived)" if message.is_deleted else f"({typed(row.kind)})"
    return shown_line(row.text)


def _version(edit: Edit) -> str:
    if edit.is_readable:
        return shown_line(edit_text(edit.said))
    return f"(not readable: {why_not(edit.stored.record, edit.said)})"


def _shown_as(message: Message) -> str | None:
    """Return what clients show instead of any of its versions, each on lines of its own."""
    first = formatted_text(message.said) if message.is_readable else None
    found = [first, *map(_version_shown_as, message.edits)]
    return "\n".join(text for text in found if text is not None) or None


def _version_shown_as(edit: Edit) -> str | None:
    return formatted_text(edit.said) if edit.is_readable else None


def _deletion(edit: Edit) -> dict[str, Any]:
    return {} if edit.deleted is None else edit.deleted.record


def _told(message: Message, zone: tzinfo) -> str | None:
    if not message.is_readable:
        return None
    if message.record.get("kind") in GAPS:
        return gap(message, zone)
    if message.is_state or message.record.get("kind") == "control":
        return act(message.record)
    return other_text(message.said)


def _kind(message: Message) -> str:
    record = message.record
    if record.get("kind") in {"event", "decryption"}:
        return str(message.said.get("msgtype") or message.said.get("event_type") or "event")
    return str(record.get("kind") or "not archived")


def _readable(message: Message) -> str:
    if not message.is_readable:
        return "no"
    return "later" if message.late is not None else "yes"


def _reactions(message: Message) -> str | None:
    given = [
        f"{reaction_mark(reaction.key)} {reaction.stored.record.get('sender')}"
        + (" (taken back)" if reaction.taken_back else "")
        for reaction in message.reactions
    ]
    return ", ".join(given) or None


def _time(moment_ms: object, zone: tzinfo) -> str | None:
    when = local(moment_ms, zone)
    if when is None:
        return None
    text = when.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z") if zone is UTC else text


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
