"""A transcript as e-mail (RFC 5322), one message for each room and day.

The layout is what message archives take in for chat: one conversation-day is one mail, its
participants are its recipients, what they wrote is its body, files are attachments. The mapping
is in the compliance guide.
"""

import hashlib
import re
from collections.abc import Iterable
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from auditbot.reader.render.templates import templates
from auditbot.reader.times import local
from auditbot.reader.transcript.build import Attachment, Transcript
from auditbot.reader.transcript.folder import Written, begin, by_room_and_day, write_new
from auditbot.reader.transcript.html import stylesheet
from auditbot.reader.transcript.mail import Head, Mail, head_text

MOST_ATTACHED = 100 * 2**20
"""Bytes of attachments in one mail; what is beyond is named with its hash."""
NAMES_LEFT_OUT = (
    "“{name}”: what people and their room are called could not be written in its head so that it is "
    "read as it is; it is left out there, and stands in the text."
)
"""What is said of a file whose names are left out."""
_NOWHERE = "steward.invalid"
"""The host of addresses that are none."""
# Neither “=” nor “?”, of which encoded words are made.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/^_`{|}~.-]{1,64}")
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")

Json = dict[str, Any]


def write_eml(transcript: Transcript, folder: Path) -> Written:
    """Write the mails into a folder of their own.

    Raises:
        UserError: the folder has files already.
        PermanentError: they cannot be written.
    """
    begin(folder)
    count = 0
    remarks = []
    for where, views in by_room_and_day(transcript.views, lambda view: view):
        name = f"{where.name}.eml"
        body, is_nameless = make_mail(transcript, where.room, where.day, views).as_meant()
        write_new(folder / name, body)
        count += 1
        remarks += [NAMES_LEFT_OUT.format(name=name)] if is_nameless else []
    return Written(count, tuple(remarks))


def make_mail(transcript: Transcript, room: str, day: str, views: list[Json]) -> Mail:
    """Return the mail of a room's day."""
    request, facts = transcript.request, transcript.facts
    title = str(views[0]["room"] or room)
    senders = [view for view in views if view["sender"] and not view["act"]] or views
    people = participants_of(transcript, senders)
    identity = f"{views[0]['stream']}\n{room}\n{day}\n{request.made_ms}"
    head = head_of(
        senders[0],
        people,
        (
            ("Subject", f"Matrix: {title}, {day}"),
            ("Date", date_of(transcript, views)),
            ("Message-ID", message_id(identity)),
            ("X-Steward-Archive", facts["archive"]),
            ("X-Steward-Room-ID", room),
            ("X-Steward-Room-Name", title),
            ("X-Steward-Day", f"{day} {facts['zone']}"),
            ("X-Steward-Messages", sum(not view["act"] for view in views)),
            ("X-Steward-Edited", sum(bool(view["versions"]) for view in views)),
            ("X-Steward-Deleted", sum(bool(view["deleted"]) for view in views)),
            ("X-Steward-Not-Readable", sum(not view["readable"] for view in views)),
            ("X-Steward-Records", records_of(views)),
            # An ID that holds a space must not be taken for two.
            ("X-Steward-Participants", " ".join(one.replace(" ", "⟨U+0020⟩") for one in people)),
            ("X-Steward-Verified", facts["verdict"]),
            ("X-Steward-Case", facts["case"] or "none"),
            ("X-Steward-Version", facts["version"]),
            ("X-GlobalRelay-MsgType", "Matrix"),
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
    page = templates().get_template("mail.html").render(style=stylesheet("mail.css"), **context)
    content = EmailMessage(policy=SMTP)
    content.set_content(sound(text_of(context)))
    content.add_alternative(sound(page), subtype="html")
    _attach(content, transcript, views)
    return Mail(head, content)


def head_of(first: Json, people: dict[str, str], fields: Iterable[tuple[str, object]]) -> Head:
    """Return the head of a mail.

    Args:
        first: what was written first, whose sender is the mail's
        people: who wrote or could read, with their names
        fields: further header fields
    """
    sender = address(str(first["sender"]), str(first["sender_name"]))
    to = tuple(address(user, name) for user, name in people.items()) or (sender,)
    return Head(sender, to, tuple((name, head_text(value)) for name, value in fields))


def message_id(identity: str) -> str:
    """Return an ID that is the same for the same identity."""
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
    return f"<{digest}@{_NOWHERE}>"


def text_of(context: Json) -> str:
    """Return the messages of a room's day as plain text."""
    return templates().get_template("mail.txt").render(**context)


def participants_of(transcript: Transcript, views: list[Json]) -> dict[str, str]:
    """Return who wrote or could read on a day, with their names."""
    people = {str(view["sender"]): str(view["sender_name"]) for view in views if view["sender"]}
    cited = {view["audience"] for view in views}
    for audience in transcript.audiences:
        if audience["number"] in cited and audience["members"] is not None:
            for member in audience["members"]:
                if not member["invited"]:
                    people.setdefault(str(member["user_id"]), str(member["name"]))
    return people


def address(user_id: str, name: str) -> Address:
    """Return a Matrix user as an e-mail address: ``@a:example.org`` becomes a@example.org.

    Mail has no ports, and another port is another server: somebody of one has no such address.
    """
    local_part, _, server = user_id.removeprefix("@").partition(":")
    shown = head_text(f"{name} ({user_id})" if name else user_id)
    is_plain = _LOCAL.fullmatch(local_part) and not re.search(r"^\.|\.\.|\.$", local_part)
    if not is_plain or not _HOST.fullmatch(server) or server.lower() == _NOWHERE:
        digest = hashlib.sha256(user_id.encode("utf-8", "replace")).hexdigest()[:16]
        return Address(shown, f"user-{digest}", _NOWHERE)
    return Address(shown, local_part, server)


def date_of(transcript: Transcript, views: list[Json]) -> str:
    """Return when the first of some messages was sent, as mail writes it."""
    seqs = {(view["stream"], view["seq"]) for view in views}
    moments = [
        message.record.get("ts_origin") or message.record.get("ts_received")
        for message in transcript.messages
        if message.records and (message.records[0].stream, message.records[0].seq) in seqs
    ]
    first = min((moment for moment in moments if isinstance(moment, int)), default=0)
    when = local(first, transcript.request.zone) or local(0)
    return format_datetime(when) if when else ""


def records_of(views: list[Json]) -> str:
    """Return the streams and numbers of some messages' records."""
    parts = []
    for stream, some in groupby(views, key=lambda view: str(view["stream"])):
        numbers = [view["seq"] for view in some if view["seq"] is not None]
        if numbers:
            parts.append(f"{stream} {min(numbers)}-{max(numbers)}")
    return ", ".join(parts)


def _attach(mail: EmailMessage, transcript: Transcript, views: list[Json]) -> None:
    room_left = MOST_ATTACHED
    attached: set[str] = set()
    shown = [media for view in views for media in (view["media"], *_of_versions(view)) if media]
    for media in shown:
        key = media["key"]
        found: Attachment | None = transcript.attachments.get(str(key)) if key else None
        if found is None or found.sha256 in attached or found.size > room_left:
            continue
        room_left -= found.size
        attached.add(found.sha256)
        kind, _, subtype = (found.picture or "application/octet-stream").partition("/")
        mail.add_attachment(
            found.path.read_bytes(), maintype=kind, subtype=subtype, filename=found.safe_name
        )


def _of_versions(view: Json) -> list[Json | None]:
    return [version["media"] for version in view["versions"]]


def sound(text: str) -> str:
    """Return text that can be encoded."""
    return text.encode("utf-8", "replace").decode()
