"""A transcript in Relativity's short message format, RSMF 2.0: a file for each room and day.

A file is a mail (RFC 5322) with one attachment, ``rsmf.zip``, which holds ``rsmf_manifest.json`` and
the attachments of messages. The mapping is in the compliance guide.

Source: Relativity's documentation of the format, and its schema ``rsmf_schema_2_0_0.json``.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from auditbot.reader.conversation import Edit, Message
from auditbot.reader.render.words import one_line, reaction_mark, spelled, why_not
from auditbot.reader.said import edit_text
from auditbot.reader.times import local
from auditbot.reader.transcript.build import Attachment, Transcript
from auditbot.reader.transcript.eml import (
    MOST_ATTACHED,
    NAMES_LEFT_OUT,
    address,
    date_of,
    head_of,
    message_id,
    participants_of,
    records_of,
    sound,
    text_of,
)
from auditbot.reader.transcript.folder import Written, begin, by_room_and_day, write_new
from auditbot.reader.transcript.mail import Mail

Json = dict[str, Any]
Pair = tuple[Message, Json]

VERSION = "2.0.0"
MOST_EVENTS = 10_000
"""Events in one file, as Relativity recommends."""
_LONGEST_REACTION = 30
_FIRST_MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of files in the zip, which is the same bytes for the same messages."""
_MEMBERSHIP = {"join": "join", "leave": "leave", "ban": "leave"}


def write_rsmf(transcript: Transcript, folder: Path) -> Written:
    """Write the files into a folder of their own.

    Raises:
        UserError: the folder has files already.
        PermanentError: they cannot be written.
    """
    begin(folder)
    count = 0
    remarks = []
    pairs = zip(transcript.messages, transcript.views, strict=True)
    for where, of_day in by_room_and_day(pairs, lambda pair: pair[1]):
        for part, start in enumerate(range(0, len(of_day), MOST_EVENTS), 1):
            name = f"{where.name}{f'-{part}' if part > 1 else ''}.rsmf"
            some = of_day[start : start + MOST_EVENTS]
            body, is_nameless = make_rsmf(transcript, where.room, where.day, some).as_meant()
            write_new(folder / name, body)
            count += 1
            remarks += [NAMES_LEFT_OUT.format(name=name)] if is_nameless else []
    return Written(count, tuple(remarks))


def make_rsmf(transcript: Transcript, room: str, day: str, pairs: Sequence[Pair]) -> Mail:
    """Return the file of a room's day, or of a part of it."""
    request, facts = transcript.request, transcript.facts
    views = [view for _, view in pairs]
    contents = _Contents(transcript, room, pairs)
    manifest = contents.manifest()
    packed = _packed(manifest, contents.files)
    senders = [view for view in views if view["sender"] and not view["act"]] or views
    people = participants_of(transcript, senders)
    title = str(views[0]["room"] or room)
    moments = [event["timestamp"] for event in manifest["events"] if "timestamp" in event]
    identity = f"{contents.collection}\n{day}\n{views[0]['stream']}\n{views[0]['seq']}"
    known = (
        ("Version", VERSION),
        ("Generator", facts["version"]),
        ("BeginDate", min(moments, default="")),
        ("EndDate", max(moments, default="")),
        ("EventCount", len(manifest["events"])),
        ("AttachmentCount", len(contents.files)),
        ("Application", "Matrix"),
        ("Custodian", contents.custodian or ""),
        # A comma ends a participant here.
        ("Participants", ", ".join(_without_comma(one) for one in manifest["participants"])),
        ("EventCollectionID", contents.collection),
        ("RoomID", room),
        ("Day", f"{day} {facts['zone']}"),
        ("Records", records_of(views)),
        ("Archive", facts["archive"]),
        ("Verified", facts["verdict"]),
        ("Case", request.case),
    )
    head = head_of(
        senders[0],
        people,
        (
            ("Subject", f"Matrix: {title}, {day}"),
            ("Date", date_of(transcript, views)),
            ("Message-ID", message_id(identity)),
            *((f"X-RSMF-{name}", value) for name, value in known if value != ""),
        ),
    )
    context = {
        "title": title,
        "room": room,
        "day": day,
        "views": views,
        "people": people,
        "facts": facts,
    }
    content = EmailMessage(policy=SMTP)
    content.set_content(sound(text_of(context)))
    content.add_attachment(packed, maintype="application", subtype="zip", filename="rsmf.zip")
    # By default it is another one each time: the same messages are to give the same file.
    content.set_boundary(f"=={hashlib.sha256(packed).hexdigest()[:40]}==")
    return Mail(head, content)


@dataclass
class _Contents:
    """What a file holds, while it is put together."""

    transcript: Transcript
    room: str
    pairs: Sequence[Pair]
    files: dict[str, Attachment] = field(default_factory=dict)
    """By their names in the zip."""
    _people: dict[str, Json] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)
    _bytes: int = 0

    @property
    def collection(self) -> str:
        """Return what tells a room's files from those of other rooms, on all days."""
        return hashlib.sha256(self.room.encode("utf-8", "replace")).hexdigest()[:32]

    @property
    def custodian(self) -> str | None:
        """Return whose transcript it is, if it is a person's."""
        subject = self.transcript.request.subject
        return subject.name if subject is not None and subject.kind == "person" else None

    def manifest(self) -> Json:
        """Return ``rsmf_manifest.json``; also takes up the files."""
        readers = self._audience(self.pairs)
        first = self._audience(self.pairs[:1])
        for user, name in participants_of(self.transcript, [v for _, v in self.pairs]).items():
            self._person(user, name)
        self._ids = {_event_id(pair) for pair in self.pairs}
        events = [self._event(pair) for pair in self.pairs]
        wrote = list(self._people)
        record = self.pairs[0][0].record
        is_direct = record.get("is_direct") is True
        conversation: Json = {
            "id": self.room,
            "display": str(self.pairs[0][1]["room"] or self.room),
            "platform": "matrix",
            "type": "direct" if is_direct else "channel",
            "participants": list(self._people) if is_direct else first or readers or wrote,
            "custom": _custom(
                ("Room ID", self.room),
                ("Archive", self.transcript.facts["archive"]),
                ("Verification", self.transcript.facts["verdict"]),
                *(("Not in here", sentence) for sentence in self.transcript.facts["missing"]),
            ),
        }
        if self.custodian in conversation["participants"]:
            conversation["custodian"] = self.custodian
        return {
            "version": VERSION,
            "participants": list(self._people.values()),
            "conversations": [conversation],
            "events": events,
            "eventcollectionid": self.collection,
        }

    def _audience(self, pairs: Sequence[Pair]) -> list[str]:
        """Return who was in the room when these messages were sent, as far as it is known."""
        cited = {view["audience"] for _, view in pairs}
        found: dict[str, None] = {}
        for audience in self.transcript.audiences:
            if audience["number"] in cited and audience["members"] is not None:
                for member in audience["members"]:
                    if not member["invited"]:
                        name = str(member["name"])
                        found[self._person(str(member["user_id"]), name, bot=member["bot"])] = None
        return list(found)

    def _person(self, user: str, name: str = "", *, bot: bool = False) -> str:
        """Take up a participant; return the id."""
        user = one_line(user) or "unknown"
        known = self._people.setdefault(user, {"id": user, "display": user, "account_id": user})
        if name:
            known["display"] = f"{one_line(name)} ({user})"
        mail = address(user, "").addr_spec
        if not mail.endswith("@steward.invalid"):
            known["email"] = mail
        if bot:
            known["custom"] = _custom(("Kind", "bot"))
        return user

    def _event(self, pair: Pair) -> Json:
        message, view = pair
        event: Json = {
            "id": _event_id(pair),
            "type": _type(message, view),
            "conversation": self.room,
            "body": _body(view),
        }
        if view["sender"]:
            event["participant"] = self._person(str(view["sender"]), str(view["sender_name"]))
            if self.custodian is not None and event["type"] == "message":
                is_own = event["participant"] == self.custodian
                event["direction"] = "outgoing" if is_own else "incoming"
        moment = _iso(message.record.get("ts_origin")) or _iso(message.record.get("ts_received"))
        if moment:
            event["timestamp"] = moment
        root = one_line(message.record.get("thread_root") or "")
        if root in self._ids and root != event["id"]:
            event["parent"] = root
        for name, values in (
            ("reactions", list(self._reactions(message))),
            ("edits", list(self._edits(message))),
            ("attachments", list(self._attachments(view))),
        ):
            if values:
                event[name] = values
        if view["deleted"]:
            event["deleted"] = True
        event["custom"] = _custom(*self._notes(pair, root if "parent" not in event else ""))
        return event

    def _reactions(self, message: Message) -> Iterator[Json]:
        groups: dict[str, list[str]] = {}
        for reaction in message.reactions:
            if reaction.taken_back is None:
                record = reaction.stored.record
                who = self._person(str(record.get("sender")), str(record.get("sender_name") or ""))
                key = one_line(reaction.key)[:_LONGEST_REACTION] or "?"
                groups.setdefault(key, []).append(who)
        for key, people in groups.items():
            yield {"value": key, "count": len(people), "participants": list(dict.fromkeys(people))}

    def _edits(self, message: Message) -> Iterator[Json]:
        """Yield the edits that clients show, each with what stood there before."""
        before = spelled(message.text or "")
        for edit in message.edits:
            if message.doubt_of(edit) or edit.deleted is not None:
                continue
            record = edit.stored.record
            after = spelled(edit_text(edit.said)) if edit.is_readable else _unread(edit)
            found: Json = {
                "participant": self._person(str(record.get("sender"))),
                "previous": before,
                "new": after,
            }
            moment = _iso(record.get("ts_origin"))
            yield found | ({"timestamp": moment} if moment else {})
            before = after

    def _attachments(self, view: Json) -> Iterator[Json]:
        versions = [version["media"] for version in view["versions"]]
        for media in filter(None, (view["media"], *versions)):
            found = self.transcript.attachments.get(str(media["key"]))
            if found is not None and self._takes(found):
                yield {"id": found.safe_name, "display": media["name"], "size": found.size}

    def _takes(self, found: Attachment) -> bool:
        """Put an attachment into the file; return whether it is in there."""
        if found.safe_name not in self.files:
            if self._bytes + found.size > MOST_ATTACHED:
                return False
            self._bytes += found.size
            self.files[found.safe_name] = found
        return True

    def _notes(self, pair: Pair, thread: str) -> Iterator[tuple[str, object]]:
        """Yield what RSMF has no place for."""
        message, view = pair
        record, media = message.record, view["media"]
        yield "Received (UTC)", _iso(record.get("ts_received"))
        yield "Record", f"{view['stream']} {view['seq']}" if view["stream"] else ""
        yield "Thread", thread
        yield "In reply to", one_line(record.get("reply_to") or "")
        yield "Shown by most clients instead", view["shown_as"]
        yield "Device", view["trust"]
        yield "Readable by", view["audience_words"] or record.get("audience_count")
        yield from _changes(message, view)
        if media:
            yield "Attachment", f"{media['name']}, {media['words']}"
            yield "Attachment SHA-256", media["sha256"]
        for doubt in view["doubts"]:
            yield "Note", doubt


def _changes(message: Message, view: Json) -> Iterator[tuple[str, object]]:
    """Yield what became of a message, as far as RSMF has no place for it."""
    deleted = view["deleted"]
    if view["versions"]:
        yield "As first sent", view["first_text"]
    if deleted:
        yield "Deleted by", deleted["by"]
        yield "Deleted on", deleted["when"]
        yield "Reason given for deletion", deleted["reason"]
    for version in view["versions"]:
        if version["deleted"] or not version["valid"]:
            what = "Edit taken back" if version["valid"] else version["label"].capitalize()
            yield what, f"{version['when']} {version['sender']}: {version['text'] or ''}"
    for reaction in message.reactions:
        if reaction.taken_back is not None:
            who = one_line(reaction.stored.record.get("sender"))
            yield "Reaction taken back", f"{reaction_mark(reaction.key)} by {who}"


def _packed(manifest: Json, files: dict[str, Attachment]) -> bytes:
    """Return ``rsmf.zip``."""
    packed = io.BytesIO()
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member("rsmf_manifest.json"), sound(text))
        for name, found in sorted(files.items()):
            archive.writestr(_member(name), found.path.read_bytes())
    return packed.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _FIRST_MOMENT)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _without_comma(participant: Json) -> str:
    return str(participant["display"]).replace(",", " ")


def _event_id(pair: Pair) -> str:
    message, view = pair
    if view["event_id"] and message.first is not None:
        return str(view["event_id"])
    return f"{view['stream']}-{view['seq']}"


def _type(message: Message, view: Json) -> str:
    if not view["act"]:
        return "message"
    record = message.record
    if record.get("event_type") == "m.room.member":
        try:
            content = json.loads(record.get("event_json") or "{}")["content"]
            return _MEMBERSHIP.get(content["membership"], "unknown")
        except (ValueError, KeyError, TypeError, RecursionError):
            return "unknown"
    return "unknown"


def _body(view: Json) -> str:
    if view["act"]:
        return str(view["act"])
    if not view["readable"]:
        return f"(not readable: {view['why']})"
    text = view["text"]
    return str(text) if text is not None else f"({view['kind']})"


def _unread(edit: Edit) -> str:
    return f"(not readable: {why_not(edit.stored.record, edit.said)})"


def _iso(moment_ms: object) -> str:
    when = local(moment_ms, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z" if when else ""


def _custom(*pairs: tuple[str, object]) -> list[Json]:
    """Return names and values; what is empty is left out, because the format allows none."""
    return [
        {"name": name, "value": spelled(value)}
        for name, value in pairs
        if value is not None and str(value)
    ]
