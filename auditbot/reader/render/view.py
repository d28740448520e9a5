"""A selection of messages → everything that a transcript or a page shows of it.

Values are plain and not yet escaped; templates do that. Nothing that people chose is in a place
where it could be taken for Steward's words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from auditbot.reader.conversation import Edit, Message, Reaction
from auditbot.reader.index.library import Library
from auditbot.reader.layout import DEFAULT_CLASS
from auditbot.reader.render.audiences import Audiences
from auditbot.reader.render.readers import readings
from auditbot.reader.render.words import (
    GAPS,
    TIME_OF_RECEIPT,
    TRUST,
    act,
    all_media,
    doubts,
    gap,
    is_received_only,
    media_state,
    named,
    one_line,
    reaction_mark,
    spelled,
    typed,
    version_media_state,
    why_not,
)
from auditbot.reader.said import edit_text, formatted_text, other_text
from auditbot.reader.times import local

Json = dict[str, Any]


@dataclass
class Tally:
    """What of a selection is changed, deleted or missing."""

    messages: int = 0
    edited: int = 0
    deleted: int = 0
    late: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    attachments: int = 0
    attachments_missing: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    """What is said of each one that is not closed."""

    def add(self, message: Message, zone: tzinfo) -> None:
        """Count a message."""
        record = message.record
        if record.get("kind") == "gap" and message.closed is None:
            self.gaps.append(gap(message, zone))
        is_said = record.get("kind") in {"event", "decryption"} and not _is_alone(message)
        if message.is_state or not is_said:
            return
        self.messages += 1
        self.edited += bool(message.edits)
        self.deleted += message.is_deleted
        self.late += message.late is not None
        if not message.is_readable:
            self.unreadable[why_not(record, message.said)] += 1
        for media in all_media(message):
            self.attachments += 1
            if media["key"] is None:
                self.attachments_missing.append(f"{media['name']} ({media['words']})")


@dataclass
class Names:
    """What people call themselves, as the archive last told it; receipts say IDs only."""

    library: Library
    _known: dict[str, str | None] = field(default_factory=dict)

    def of(self, user_id: str) -> str | None:
        """Return somebody's name, ``None`` if none is known."""
        if user_id not in self._known:
            row = self.library.connection.execute(
                "SELECT label FROM person JOIN name ON name.id = person.id WHERE text = ?",
                (user_id,),
            ).fetchone()
            name = row[0] if row else None
            self._known[user_id] = None if name == user_id else name
        return self._known[user_id]


class Viewer:
    """Makes views of messages, in one time zone."""

    def __init__(self, library: Library, zone: tzinfo) -> None:
        self.zone = zone
        self.audiences = Audiences(library, zone)
        self.tally = Tally()
        self.names = Names(library)
        self._library = library

    def view(self, message: Message, *, is_context: bool = False) -> Json:
        """Return what is shown of a message."""
        self.tally.add(message, self.zone)
        record, said = message.record, message.said
        when = record.get("ts_origin") or record.get("ts_received")
        first = message.records[0] if message.records else None
        return {
            **self._moment(when),
            "received": self._full(record.get("ts_received")),
            "room": one_line(record.get("room_name") or record.get("room_id") or ""),
            "room_id": one_line(record.get("room_id") or ""),
            "sender": one_line(record.get("sender") or ""),
            "sender_name": one_line(record.get("sender_name") or ""),
            "initial": _initial(record),
            "hue": _hue(record.get("sender")),
            "act": self._act(message) if _is_act(message) else None,
            "text": _maybe(message.latest_text),
            "first_text": _maybe(message.text),
            "shown_as": _maybe(formatted_text(said)) if message.is_readable else None,
            "other": _maybe(other_text(said)) if message.is_readable else None,
            "unsaid": "(not archived)" if message.is_original_missing else "(not readable)",
            "versions": [self._version(message, edit) for edit in message.edits],
            "deleted": self._deleted(message),
            "readable": message.is_readable,
            "why": None if message.is_readable else why_not(record, said),
            "kind": typed(said.get("msgtype") or said.get("event_type") or "event"),
            "is_emote": said.get("msgtype") == "m.emote",
            "is_notice": said.get("msgtype") == "m.notice",
            "reactions": self._reactions(message.reactions),
            "read": self._read(message),
            "media": media_state(message),
            "reply_to": self._reference(record, "reply_to"),
            "thread": self._reference(record, "thread_root"),
            "audience": self.audiences.number(message),
            "audience_words": self.audiences.words(message),
            "trust": None if not said.get("enc_trust") else TRUST.get(str(said["enc_trust"])),
            "trusted": said.get("enc_trust") == "cross_signed",
            "encrypted": record.get("enc_status") in {"decrypted", "undecryptable"},
            "device": one_line(said.get("enc_device_id") or ""),
            "retention_class": _class(record),
            "doubts": doubts(message) + _of_receipt(message),
            "event_id": one_line(record.get("event_id") or ""),
            "stream": first.stream if first else "",
            "seq": first.seq if first else None,
            "anchor": f"m-{first.stream}-{first.seq}" if first else "m",
            "context": is_context,
            "root": message.root,
        }

    def views(self, messages: Iterable[Message]) -> list[Json]:
        """Return what is shown of messages."""
        return [self.view(message) for message in messages]

    def _act(self, message: Message) -> str:
        is_gap = message.record.get("kind") in GAPS
        return gap(message, self.zone) if is_gap else act(message.record)

    def _version(self, message: Message, edit: Edit) -> Json:
        record = edit.stored.record
        doubt = message.doubt_of(edit)
        is_readable = edit.is_readable
        return {
            "when": self._full(record.get("ts_origin")),
            "text": spelled(edit_text(edit.said)) if is_readable else None,
            "shown_as": _maybe(formatted_text(edit.said)) if is_readable else None,
            "why": None if is_readable else why_not(record, edit.said),
            "sender": one_line(record.get("sender") or ""),
            "valid": not doubt,
            "label": doubt,
            "media": version_media_state(message, edit),
            "deleted": edit.deleted is not None,
            "seq": edit.stored.seq,
        }

    def _deleted(self, message: Message) -> Json | None:
        if not message.is_deleted:
            return None
        if not message.deletions:
            return {"when": "", "by": "", "reason": "", "before": True}
        record = message.deletions[0].record
        return {
            "when": self._full(record.get("ts_origin")),
            "by": one_line(record.get("sender") or "?"),
            "reason": one_line(record.get("redaction_reason") or ""),
            "before": message.text is None and message.is_readable,
        }

    def _reactions(self, reactions: Iterable[Reaction]) -> list[Json]:
        groups: dict[str, list[str]] = {}
        for reaction in reactions:
            record = reaction.stored.record
            sender, name = record.get("sender"), record.get("sender_name")
            who = named(sender, None if name == sender else name)
            back = " (taken back)" if reaction.taken_back else ""
            groups.setdefault(reaction_mark(one_line(reaction.key)[:64]), []).append(who + back)
        return [{"key": key, "who": ", ".join(who)} for key, who in groups.items()]

    def _read(self, message: Message) -> list[Json]:
        return [
            {
                "who": named(one.user_id, self.names.of(one.user_id)),
                "when": self._full(one.time_ms),
                "of": one.of,
            }
            for one in readings(message)
        ]

    def _reference(self, record: Json, name: str) -> Json | None:
        event_id, room_id = record.get(name), record.get("room_id")
        if not isinstance(event_id, str) or not event_id:
            return None
        found = self._library.event(event_id, room_id)
        if found is None:
            return {"anchor": None, "text": "a message that is not archived", "sender": ""}
        if found.record.get("room_id") != room_id:
            # What was said there is not shown to who reads this room.
            return {"anchor": None, "text": "a message of another room", "sender": ""}
        late = self._library.late(found)
        body = one_line(_quotable(found.record, late.record if late else found.record))
        return {
            "anchor": f"m-{found.stream}-{found.seq}",
            "text": body if len(body) < _SHORT else body[:_SHORT] + "…",
            "sender": named(found.record.get("sender"), found.record.get("sender_name")),
        }

    def _moment(self, moment_ms: object) -> Json:
        when = local(moment_ms, self.zone)
        if when is None:
            return {"day": "No time", "time": "", "when": "(no time)", "utc": None}
        return {
            "day": when.strftime("%A, %-d %B %Y"),
            "time": when.strftime("%H:%M:%S"),
            "when": self._full(moment_ms),
            "utc": self._utc(moment_ms, when),
        }

    def _utc(self, moment_ms: object, when: datetime) -> str | None:
        """Return the moment in UTC, where the zone is another: what every log has."""
        in_utc = local(moment_ms, UTC)
        if in_utc is None or when.utcoffset() == timedelta(0):
            return None
        same_day = in_utc.date() == when.date()
        return in_utc.strftime("%H:%M:%S UTC" if same_day else "%Y-%m-%d %H:%M:%S UTC")

    def _full(self, moment_ms: object) -> str:
        when = local(moment_ms, self.zone)
        return when.strftime("%Y-%m-%d %H:%M:%S %Z") if when else ""


def _quotable(first: Json, said: Json) -> str:
    """Return what is quoted of a message that another one answers."""
    if said is first and first.get("enc_status") == "undecryptable":
        return "(not readable)"
    return str(said.get("body") or other_text(said) or said.get("event_type") or "")


_SHORT = 120
_HUES = 12
_ALONE = frozenset({"m.reaction", "m.room.redaction"})


def _is_act(message: Message) -> bool:
    if not message.is_readable or message.record.get("content_state") == "arrived_redacted":
        return False
    if _is_alone(message):
        return True
    return message.is_state or message.record.get("kind") in GAPS | {"control"}


def _is_alone(message: Message) -> bool:
    """Return whether it was said of a message that is not shown here."""
    return message.root < 0 and message.record.get("event_type") in _ALONE


def _of_receipt(message: Message) -> list[str]:
    return [TIME_OF_RECEIPT] if is_received_only(message) else []


def _class(record: Mapping[str, Any]) -> str | None:
    """Return the retention class if it is another than that of all rooms without one."""
    name = one_line(record.get("retention_class") or DEFAULT_CLASS)
    return None if name == DEFAULT_CLASS else name


def _maybe(text: str | None) -> str | None:
    return None if text is None else spelled(text)


def _initial(record: Mapping[str, Any]) -> str:
    name = str(record.get("sender") or "?").removeprefix("@")
    return one_line(name[:1].upper()) or "?"


def _hue(sender: object) -> int:
    """Return one of a few colours, the same for a sender everywhere."""
    return sum(map(ord, str(sender))) % _HUES
