"""A transcript as e-mail (RFC 5322), one message for each room and day.

The layout is what message archives take in for chat: one conversation-day is one mail, its
participants are its recipients, what they wrote is its body, files are attachments. The mapping
is in the compliance guide.
"""

import hashlib
import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.render.templates import templates
from auditbot.reader.render.words import one_line
from auditbot.reader.times import local
from auditbot.reader.transcript.build import Attachment, Transcript
from auditbot.reader.transcript.html import stylesheet

MOST_ATTACHED = 100 * 2**20
"""Bytes of attachments in one mail; what is beyond is named with its hash."""
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")

Json = dict[str, Any]


def write_eml(transcript: Transcript, folder: Path) -> int:
    """Write the mails into a folder; return how many.

    Raises:
        PermanentError: they cannot be written.
    """
    private_directory(folder)
    count = 0
    rooms = sorted(transcript.views, key=lambda view: str(view["room_id"]))
    for (room, day), views in groupby(
        rooms, key=lambda view: (str(view["room_id"]), str(view["when"])[:10])
    ):
        mail = make_mail(transcript, room, day, list(views))
        digest = hashlib.sha256(room.encode()).hexdigest()[:12]
        safe_day = day if re.fullmatch(r"[0-9-]{10}", day) else "no-time"
        write_private(folder / f"{safe_day}-{digest}.eml", mail.as_bytes(policy=SMTP))
        count += 1
    return count


def make_mail(transcript: Transcript, room: str, day: str, views: list[Json]) -> EmailMessage:
    """Return the mail of a room's day."""
    request, facts = transcript.request, transcript.facts
    title = str(views[0]["room"] or room or "no room")
    senders = [view for view in views if view["sender"] and not view["act"]] or views
    people = participants_of(transcript, senders)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = address(str(senders[0]["sender"]), str(senders[0]["sender_name"]))
    mail["To"] = tuple(address(user, name) for user, name in people.items()) or mail["From"]
    mail["Subject"] = f"Matrix: {title}, {day}"
    mail["Date"] = date_of(transcript, views)
    identity = f"{views[0]['stream']}\n{room}\n{day}\n{request.made_ms}"
    mail["Message-ID"] = f"<{hashlib.sha256(identity.encode()).hexdigest()}@steward.invalid>"
    for name, value in (
        ("X-Steward-Archive", facts["archive"]),
        ("X-Steward-Room-ID", room),
        ("X-Steward-Room-Name", title),
        ("X-Steward-Day", f"{day} {facts['zone']}"),
        ("X-Steward-Messages", sum(not view["act"] for view in views)),
        ("X-Steward-Edited", sum(bool(view["versions"]) for view in views)),
        ("X-Steward-Deleted", sum(bool(view["deleted"]) for view in views)),
        ("X-Steward-Not-Readable", sum(not view["readable"] for view in views)),
        ("X-Steward-Records", records_of(views)),
        ("X-Steward-Participants", " ".join(people)),
        ("X-Steward-Verified", facts["verdict"]),
        ("X-Steward-Case", facts["case"] or "none"),
        ("X-Steward-Version", facts["version"]),
        ("X-GlobalRelay-MsgType", "Matrix"),
    ):
        mail[name] = one_line(str(value)).encode("utf-8", "replace").decode()
    context = {
        "title": title,
        "room": room,
        "day": day,
        "views": views,
        "people": people,
        "facts": facts,
    }
    text = text_of(context)
    page = templates().get_template("mail.html").render(style=stylesheet("mail.css"), **context)
    mail.set_content(sound(text))
    mail.add_alternative(sound(page), subtype="html")
    _attach(mail, transcript, views)
    return mail


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
    shown = one_line(f"{name} ({user_id})" if name else user_id)
    is_plain = _LOCAL.fullmatch(local_part) and not re.search(r"^\.|\.\.|\.$", local_part)
    if not is_plain or not _HOST.fullmatch(server):
        digest = hashlib.sha256(user_id.encode("utf-8", "replace")).hexdigest()[:16]
        return Address(sound(shown), f"user-{digest}", "steward.invalid")
    return Address(sound(shown), local_part, server)


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
    for view in views:
        key = view["media"]["key"] if view["media"] else None
        found: Attachment | None = transcript.attachments.get(str(key)) if key else None
        if found is None or found.sha256 in attached or found.size > room_left:
            continue
        room_left -= found.size
        attached.add(found.sha256)
        kind, _, subtype = (found.picture or "application/octet-stream").partition("/")
        mail.add_attachment(
            found.path.read_bytes(), maintype=kind, subtype=subtype, filename=found.safe_name
        )


def sound(text: str) -> str:
    """Return text that can be encoded."""
    return text.encode("utf-8", "replace").decode()
