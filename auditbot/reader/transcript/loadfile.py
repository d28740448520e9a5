"""A transcript as a load file for review platforms: Concordance's DAT, one row for each document.

A message is a document, and so is its attachment, as its child. Beside the load file lie the
extracted texts and the natives, each under the number of its document, so that names are safe and
no two are the same. The mapping is in the compliance guide.

The format has no way to escape its own delimiters: where somebody wrote one it is spelled out.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditbot.reader.conversation import Message
from auditbot.reader.memory import copy_private, private_directory
from auditbot.reader.render.rows import Row, as_json, row_of
from auditbot.reader.render.sheets import guarded
from auditbot.reader.render.templates import templates
from auditbot.reader.render.words import one_line, spelled
from auditbot.reader.times import local, moment
from auditbot.reader.transcript.build import Attachment, Transcript
from auditbot.reader.transcript.eml import sound
from auditbot.reader.transcript.folder import Written, begin, write_new

Json = dict[str, Any]

FIELDS = (
    "DOCID",
    "BEGATTACH",
    "ENDATTACH",
    "PARENTDOCID",
    "ATTACHCOUNT",
    "RECORDTYPE",
    "CUSTODIAN",
    "ROOMID",
    "ROOMNAME",
    "ROOMTYPE",
    "AUTHOR",
    "AUTHORNAME",
    "PARTICIPANTS",
    "PARTICIPANTCOUNT",
    "READERSET",
    "HISTORYVISIBILITY",
    "LATERREADERS",
    "LATERREADERCOUNT",
    "INVITED",
    "INVITEDCOUNT",
    "DATESENT",
    "DATERECEIVED",
    "SORTDATE",
    "BODY",
    "BODYASSENT",
    "SHOWNAS",
    "EDITCOUNT",
    "EDITHISTORY",
    "DELETED",
    "DATEDELETED",
    "DELETEDBY",
    "DELETIONREASON",
    "REACTIONS",
    "RECEIPTS",
    "THREADID",
    "REPLYTO",
    "READABLE",
    "NOTREADABLEBECAUSE",
    "DEVICETRUST",
    "NOTES",
    "FILENAME",
    "FILETYPE",
    "FILESIZE",
    "ATTACHMENTSTATE",
    "SHA256",
    "MD5HASH",
    "PAYLOADSHA256",
    "EVENTID",
    "RECORDS",
    "RESPONSIVE",
    "ARCHIVE",
    "VERIFIED",
    "CASE",
    "NATIVEPATH",
    "TEXTPATH",
)
LOAD_FILE = "loadfile.dat"
MOST_LISTED = 100
"""People that a row names; who else is in the set is in ``readers.csv``."""
QUOTE, COMMA, NEWLINE = "\u00fe", "\u0014", "\u00ae"
_BEGIN = "\ufeff"
_IN_A_FOLDER = 1000
_ENDING = re.compile(r"\.[a-z0-9]{1,8}")
_CHUNK = 2**20


def write_dat(transcript: Transcript, folder: Path) -> Written:
    """Write the load file and what it names into a folder of their own.

    The load file gets its name when everything else is there: where it is missing, the export
    broke off.

    Raises:
        UserError: the folder has files already.
        PermanentError: they cannot be written.
        OSError: the same.
    """
    begin(folder)
    unfinished = folder / f".{LOAD_FILE}"
    count = 0
    with os.fdopen(_new(unfinished), "w", encoding="utf-8", newline="") as file:
        file.write(_BEGIN + _line(dict(zip(FIELDS, FIELDS, strict=True))))
        for row in _Export(transcript, folder).rows():
            file.write(_line(row))
            count += 1
        file.flush()
        os.fsync(file.fileno())
    write_new(folder / "readers.csv", _readers(transcript))
    write_new(folder / "README.txt", _readme(transcript))
    unfinished.rename(folder / LOAD_FILE)
    return Written(count, ())


def _line(row: Mapping[str, object]) -> str:
    return COMMA.join(f"{QUOTE}{cell(row.get(name))}{QUOTE}" for name in FIELDS) + "\r\n"


def cell(value: object) -> str:
    """Return a value as it stands between two quotes: nothing in it ends the field or the row."""
    if value is None:
        return ""
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    text = spelled(text).replace(QUOTE, "⟨U+00FE⟩").replace(NEWLINE, "⟨U+00AE⟩")
    return text.replace("\n", NEWLINE)


def _several(values: list[str]) -> str:
    """Return several values; a semicolon in one of them does not end it."""
    return "; ".join(one_line(value).replace(";", "⟨U+003B⟩") for value in values)


def _named(people: list[str]) -> str:
    more = len(people) - MOST_LISTED
    return _several(people[:MOST_LISTED]) + (f"; and {more:,} more" if more > 0 else "")


@dataclass
class _Export:
    """What is written, while it is written."""

    transcript: Transcript
    folder: Path
    _taken: set[str] = field(default_factory=set)
    _files: int = 0

    def rows(self) -> Iterator[Json]:
        """Yield the rows; the files that one names are there before it."""
        yield self._report()
        pairs = zip(self.transcript.messages, self.transcript.views, strict=True)
        for message, view in pairs:
            yield from self._family(message, view)

    def _report(self) -> Json:
        """Return the document that says where all of it is from, and what is missing."""
        number = self._number(f"STW-REPORT-{self.transcript.request.made_ms}")
        facts = self.transcript.facts
        text = self._text(number, _readme(self.transcript).decode())
        return {
            **self._of_all(),
            **_alone(number),
            "RECORDTYPE": "report",
            "BODY": "\n".join(facts["missing"]) or "Nothing is known to be missing.",
            "TEXTPATH": text,
        }

    def _of_all(self) -> Json:
        request, facts = self.transcript.request, self.transcript.facts
        return {
            "CUSTODIAN": facts["subject"] or facts["title"],
            "ARCHIVE": facts["archive"],
            "VERIFIED": facts["verdict"],
            "CASE": request.case,
        }

    def _family(self, message: Message, view: Json) -> Iterator[Json]:
        """Yield a message's row, and those of its attachments, which edits may have brought too."""
        versions = [version["media"] for version in view["versions"]]
        attached = [media for media in (view["media"], *versions) if media]
        number = self._number(_number_of(view))
        children = [self._number(f"{number}-A{place:03}") for place, _ in enumerate(attached, 1)]
        counts = self.transcript.readers.counts(message)
        row = row_of(message, is_context=view["context"], readers=counts)
        parent = {
            **self._of_all(),
            "DOCID": number,
            "BEGATTACH": number,
            "ENDATTACH": [number, *children][-1],
            "ATTACHCOUNT": len(children),
            "RECORDTYPE": "event" if view["act"] else "message",
            **self._about(message, view, row),
            **self._native(
                number,
                ".json",
                json.dumps(
                    as_json(message, is_context=view["context"], readers=counts), indent=1
                ).encode(),
            ),
            "TEXTPATH": self._text(number, self._document(view)),
        }
        yield parent
        for child, media in zip(children, attached, strict=True):
            yield self._attachment(child, parent, media)

    def _about(self, message: Message, view: Json, row: Row) -> Json:
        record = message.record
        people, later, invited = self._people(view)
        deleted = view["deleted"]
        return {
            "ROOMID": view["room_id"],
            "ROOMNAME": view["room"],
            "ROOMTYPE": "direct" if record.get("is_direct") is True else "room",
            "AUTHOR": view["sender"],
            "AUTHORNAME": view["sender_name"],
            "PARTICIPANTS": _named(people),
            "PARTICIPANTCOUNT": len(people),
            "READERSET": view["audience"],
            "HISTORYVISIBILITY": one_line(record.get("history_visibility") or ""),
            "LATERREADERS": _named(later),
            "LATERREADERCOUNT": row.later_people,
            "INVITED": _named(invited),
            "INVITEDCOUNT": row.invited_people,
            "DATESENT": _utc(record.get("ts_origin")),
            "DATERECEIVED": _utc(record.get("ts_received")),
            "SORTDATE": _utc(record.get("ts_origin")) or _utc(record.get("ts_received")),
            "BODY": view["act"] or (view["other"] if view["text"] is None else view["text"]),
            "BODYASSENT": view["first_text"],
            "SHOWNAS": view["shown_as"],
            "EDITCOUNT": len(view["versions"]),
            "EDITHISTORY": "\n".join(_versions(view)),
            "DELETED": "Y" if deleted else "N",
            "DATEDELETED": _utc(message.deletions[0].record.get("ts_origin"))
            if message.deletions
            else "",
            "DELETEDBY": deleted["by"] if deleted else "",
            "DELETIONREASON": deleted["reason"] if deleted else "",
            "REACTIONS": "; ".join(f"{one['key']} {one['who']}" for one in view["reactions"]),
            "RECEIPTS": _named([f"{one['who']} {one['when']}" for one in view["read"]]),
            "THREADID": one_line(row.thread_root or ""),
            "REPLYTO": one_line(row.reply_to or ""),
            "READABLE": row.readable,
            "NOTREADABLEBECAUSE": view["why"],
            "DEVICETRUST": view["trust"],
            "NOTES": "\n".join(view["doubts"]),
            "PAYLOADSHA256": message.said.get("payload_sha256"),
            "EVENTID": view["event_id"],
            "RECORDS": _several([f"{stored.stream} {stored.seq}" for stored in message.records]),
            "RESPONSIVE": row.responsive,
        }

    def _people(self, view: Json) -> tuple[list[str], list[str], list[str]]:
        """Return who wrote it or was in the room, joined later, and was invited, if it is known."""
        found = {view["sender"]: None} if view["sender"] else {}
        if view["audience"] is None:
            return list(found), [], []
        audience = self.transcript.audiences[view["audience"] - 1]
        for member in audience["members"] or ():
            if not member["invited"]:
                found[member["user_id"]] = None
        later, invited = (
            [person["user_id"] for person in audience[name]] for name in ("later", "invited")
        )
        return list(found), later, invited

    def _attachment(self, number: str, parent: Json, media: Json) -> Json:
        """Return the row of an attachment; one that is not here has a text that says why."""
        found = self.transcript.attachments.get(str(media["key"])) if media["key"] else None
        row = {
            **{name: parent[name] for name in _OF_PARENT if name in parent},
            "DOCID": number,
            "PARENTDOCID": parent["DOCID"],
            "ATTACHCOUNT": 0,
            "RECORDTYPE": "attachment",
            "FILENAME": media["name"],
            "FILETYPE": media["mime"],
            "FILESIZE": media["size"],
            "ATTACHMENTSTATE": media["words"],
        }
        if found is None:
            why = media["words"] if media["key"] is None else "it could not be fetched or opened"
            words = f"The attachment “{media['name']}” is not in this export: {why}."
            return {**row, "SHA256": media["sha256"], "TEXTPATH": self._text(number, words)}
        return {**row, "FILESIZE": found.size, **self._copied(number, found)}

    def _copied(self, number: str, found: Attachment) -> Json:
        ending = Path(found.safe_name).suffix
        name = f"{number}{ending if _ENDING.fullmatch(ending) else '.bin'}"
        path = self._place("NATIVES", name)
        copy_private(found.path, self.folder / path)
        return {"NATIVEPATH": path, **_digests(self.folder / path)}

    def _native(self, number: str, ending: str, body: bytes) -> Json:
        path = self._place("NATIVES", f"{number}{ending}")
        _create(self.folder / path, body)
        return {"NATIVEPATH": path, **_digests(self.folder / path)}

    def _document(self, view: Json) -> str:
        template = templates().get_template("document.txt")
        return template.render(m=view, facts=self.transcript.facts)

    def _text(self, number: str, text: str) -> str:
        path = self._place("TEXT", f"{number}.txt")
        _create(self.folder / path, sound(text).encode())
        return path

    def _place(self, kind: str, name: str) -> str:
        """Return where a file is put, below the export's folder; its own folder is made."""
        folder = f"{kind}/{self._files // _IN_A_FOLDER + 1:04}"
        self._files += 1
        private_directory(self.folder / folder)
        return f"{folder}/{name}"

    def _number(self, wanted: str) -> str:
        """Return a document's number, which no other one has."""
        found, more = wanted, 1
        # Names of files do not differ by case everywhere.
        while found.casefold() in self._taken:
            more += 1
            found = f"{wanted}-{more}"
        self._taken.add(found.casefold())
        return found


_OF_PARENT = (
    "BEGATTACH",
    "ENDATTACH",
    "CUSTODIAN",
    "ROOMID",
    "ROOMNAME",
    "ROOMTYPE",
    "AUTHOR",
    "AUTHORNAME",
    "PARTICIPANTS",
    "PARTICIPANTCOUNT",
    "READERSET",
    "HISTORYVISIBILITY",
    "LATERREADERS",
    "LATERREADERCOUNT",
    "INVITED",
    "INVITEDCOUNT",
    "DATESENT",
    "DATERECEIVED",
    "SORTDATE",
    "DELETED",
    "DATEDELETED",
    "DELETEDBY",
    "DELETIONREASON",
    "EVENTID",
    "RECORDS",
    "RESPONSIVE",
    "ARCHIVE",
    "VERIFIED",
    "CASE",
)
"""What an attachment has from its message, by which a family stays together."""


def _alone(number: str) -> Json:
    return {"DOCID": number, "BEGATTACH": number, "ENDATTACH": number, "ATTACHCOUNT": 0}


def _number_of(view: Json) -> str:
    """Return a message's number: the same in every export, so that loading it twice is seen."""
    if view["seq"] is None:
        return "STW-NONE"
    stream = re.sub(r"[^A-Za-z0-9]", "_", view["stream"])[:64]
    return f"STW-{stream}-{view['seq']:012}"


def _versions(view: Json) -> Iterator[str]:
    if view["versions"]:
        yield f"{view['when']} as first sent: {_unbroken(view['first_text'] or view['unsaid'])}"
    for version in view["versions"]:
        said = (
            version["text"] if version["text"] is not None else f"(not readable: {version['why']})"
        )
        label = f" [{version['label']}]" if version["label"] else ""
        gone = " [this version was deleted]" if version["deleted"] else ""
        yield f"{version['when']} {version['sender']}{label}{gone}: {_unbroken(said)}"


def _unbroken(text: str) -> str:
    """Return a text on one line, so that nothing in it passes for another version."""
    return text.replace("\n", " ⏎ ")


def _utc(moment_ms: object) -> str:
    return moment(moment_ms) if local(moment_ms) is not None else ""


def _digests(path: Path) -> Json:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while some := file.read(_CHUNK):
            sha256.update(some)
            md5.update(some)
    return {"SHA256": sha256.hexdigest(), "MD5HASH": md5.hexdigest()}


def _new(path: Path) -> int:
    """Return a handle of a file that was not there, and that only its owner may read."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _create(path: Path, body: bytes) -> None:
    with os.fdopen(_new(path), "wb") as file:
        file.write(body)


def _readme(transcript: Transcript) -> bytes:
    text = templates().get_template("loadfile.txt").render(facts=transcript.facts)
    return sound(text).encode()


def _readers(transcript: Transcript) -> bytes:
    """Return the reader sets as a sheet: one row for each person in each."""
    lines: list[str] = []

    class _Lines:
        def write(self, text: str) -> int:
            lines.append(text)
            return len(text)

    writer = csv.writer(_Lines())
    writer.writerow(("READERSET", "USERID", "NAME", "HOW", "BOT", "INVITED", "JOINED"))
    for audience in transcript.audiences:
        for person in audience["members"] or ():
            how = "invited" if person["invited"] else "member"
            writer.writerow((audience["number"], *_person(person, how)))
        for person in audience["later"]:
            writer.writerow(
                (audience["number"], *_person(person, "joined later"), "", person["joined"])
            )
        for person in audience["invited"]:
            times = person["when"], person["joined"]
            writer.writerow((audience["number"], *_person(person, "invited then"), *times))
        more = audience["later_more"] + audience["invited_more"]
        if more:
            writer.writerow((audience["number"], "", f"and {more:,} more"))
    return _BEGIN.encode() + sound("".join(lines)).encode()


def _person(person: Json, how: str) -> tuple[object, ...]:
    return person["user_id"], guarded(person["name"]), how, "Y" if person["bot"] else "N"
