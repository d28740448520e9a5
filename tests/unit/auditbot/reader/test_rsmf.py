"""RSMF files are what Relativity's published rules ask for, and say what the archive says."""

import email.policy
import io
import json
import zipfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it has no types
    Draft7Validator,
    FormatChecker,
)

from auditbot.reader.index.library import Library
from auditbot.reader.transcript import rsmf
from auditbot.reader.transcript.rsmf import write_rsmf
from tests.support.archive_maker import Maker
from tests.support.archive_story import ALICE, BOB, CAROL, DESK, DIRECT
from tests.unit.auditbot.reader.test_transcript import Archive, archive

__all__ = ["archive"]

Json = dict[str, Any]


def _filled(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


NAME: Json = {"type": "string", "minLength": 1}
MOMENT: Json = {"type": "string", "format": "date-time"}
NOTES: Json = {"type": "array", "items": _filled(name=NAME, value=NAME)}
PEOPLE: Json = {"type": "array", "items": NAME}


def _some(required: list[str], **properties: Json) -> Json:
    return {
        "type": "array",
        "items": {
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": False,
        },
    }


RULES: Json = {
    "type": "object",
    "required": ["version", "participants", "conversations", "events"],
    "additionalProperties": False,
    "properties": {
        "version": {"const": "2.0.0"},
        "eventcollectionid": NAME,
        "participants": _some(
            ["id"],
            id=NAME,
            display=NAME,
            email={"type": "string", "format": "idn-email"},
            avatar=NAME,
            account_id=NAME,
            custom=NOTES,
        ),
        "conversations": _some(
            ["id", "platform", "participants"],
            id=NAME,
            display=NAME,
            platform=NAME,
            type={"enum": ["direct", "channel"]},
            participants=PEOPLE,
            custodian=NAME,
            custom=NOTES,
            icon=NAME,
        ),
        "events": _some(
            ["type"],
            id=NAME,
            type={"enum": ["message", "disclaimer", "join", "leave", "history", "unknown"]},
            parent=NAME,
            body={"type": "string"},
            participant=NAME,
            conversation=NAME,
            timestamp=MOMENT,
            deleted={"type": "boolean"},
            importance={"enum": ["normal", "high"]},
            direction={"enum": ["incoming", "outgoing"]},
            custom=NOTES,
            reactions=_some(
                ["value"],
                value={"type": "string", "minLength": 1, "maxLength": 30},
                count={"type": "integer"},
                participants=PEOPLE,
            ),
            attachments=_some(["id"], id=NAME, display=NAME, size={"type": "integer"}),
            edits=_some(
                ["participant"],
                participant=NAME,
                timestamp=MOMENT,
                previous={"type": "string"},
                new={"type": "string"},
            ),
            read_receipts=_some(["participant"], participant=NAME, timestamp=MOMENT),
        ),
    },
}
"""The published rules, and that nothing else is there."""


def opened(path: Path) -> tuple[EmailMessage, zipfile.ZipFile, Json]:
    """Return a file's mail, zip and manifest, once it keeps to the rules."""
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    (attached,) = mail.iter_attachments()
    assert attached.get_filename() == "rsmf.zip"
    assert attached["Content-Disposition"].content_disposition == "attachment"
    assert attached["Content-Transfer-Encoding"] == "base64"
    packed = zipfile.ZipFile(io.BytesIO(cast(Any, attached).get_content()))
    manifest: Json = json.loads(packed.read("rsmf_manifest.json"))
    Draft7Validator(RULES, format_checker=FormatChecker()).validate(manifest)
    _references(mail, packed, manifest)
    return mail, packed, manifest


def _references(mail: EmailMessage, packed: zipfile.ZipFile, manifest: Json) -> None:
    people = [one["id"] for one in manifest["participants"]]
    (conversation,) = manifest["conversations"]
    ids = [event["id"] for event in manifest["events"]]
    assert len(set(people)) == len(people)
    assert len(set(ids)) == len(ids)
    assert set(conversation["participants"]) <= set(people)
    assert conversation.get("custodian", conversation["participants"][0]) in people
    files = {"rsmf_manifest.json"}
    for event in manifest["events"]:
        assert event["conversation"] == conversation["id"]
        assert event.get("parent", ids[0]) in ids
        named = [event.get("participant", people[0])]
        named += [edit["participant"] for edit in event.get("edits", [])]
        for reaction in event.get("reactions", []):
            named += reaction["participants"]
        assert set(named) <= set(people)
        files |= {one["id"] for one in event.get("attachments", [])}
    assert set(packed.namelist()) == files
    assert mail["X-RSMF-Version"] == "2.0.0"
    assert int(mail["X-RSMF-EventCount"]) == len(ids)
    assert int(mail["X-RSMF-AttachmentCount"]) == len(files) - 1
    moments = [event["timestamp"] for event in manifest["events"]]
    assert (mail["X-RSMF-BeginDate"], mail["X-RSMF-EndDate"]) == (min(moments), max(moments))
    assert mail["X-RSMF-EventCollectionID"] == manifest["eventcollectionid"]


def _notes(event: Json) -> dict[str, str]:
    return {note["name"]: note["value"] for note in event["custom"]}


async def test_a_room_s_day_is_a_file_that_keeps_to_the_rules(
    archive: Archive, tmp_path: Path
) -> None:
    count = write_rsmf(await archive.transcript(), tmp_path / "rsmf").files

    (path,) = (tmp_path / "rsmf").iterdir()
    mail, packed, manifest = opened(path)
    assert count == 1
    assert path.name.startswith("2025-11-24-")
    assert path.stat().st_mode & 0o777 == 0o600
    (conversation,) = manifest["conversations"]
    assert (conversation["id"], conversation["type"]) == (DESK, "channel")
    assert set(conversation["participants"]) == {ALICE, BOB, CAROL}
    events = {event["id"]: event for event in manifest["events"]}
    assert events["$3"]["body"] == "The price is 120."
    (edit,) = events["$3"]["edits"]
    assert (edit["previous"], edit["new"]) == ("The price is 100.", "The price is 120.")
    assert (edit["participant"], edit["timestamp"][:10]) == (ALICE, "2025-11-24")
    assert events["$4"]["deleted"] is True
    assert "buy before the news" in events["$4"]["body"]
    assert _notes(events["$4"])["Deleted by"] == BOB
    assert _notes(events["$4"])["Reason given for deletion"] == "typo"
    assert {one["value"]: one["count"] for one in events["$2"]["reactions"]} == {"👍": 2, "🎉": 1}
    (attached,) = events["$5"]["attachments"]
    assert attached["display"] == "chart.png"
    assert len(packed.read(attached["id"])) == attached["size"]
    assert events["$6"]["parent"] == "$5"
    assert _notes(events["$7"])["In reply to"] == "$5"
    assert {event["type"] for event in events.values()} >= {"message", "join"}
    assert "custodian" not in conversation
    assert mail["X-RSMF-Application"] == "Matrix"
    text = mail.get_body(("plain",))
    assert text is not None
    assert "as first sent: The price is 100." in text.get_content()


async def test_what_could_not_be_read_says_so(archive: Archive, tmp_path: Path) -> None:
    write_rsmf(await archive.transcript(), tmp_path / "rsmf")
    (path,) = (tmp_path / "rsmf").iterdir()
    _, _, manifest = opened(path)

    unread = [event for event in manifest["events"] if "(not readable: " in event["body"]]
    assert unread
    (conversation,) = manifest["conversations"]
    missing = [one["value"] for one in conversation["custom"] if one["name"] == "Not in here"]
    assert any("could not be read" in sentence for sentence in missing)


async def test_a_person_is_the_custodian_and_each_room_a_file(
    archive: Archive, tmp_path: Path
) -> None:
    written = write_rsmf(await archive.transcript(ALICE, context_hours=1), tmp_path / "rsmf")

    found = [opened(path) for path in sorted((tmp_path / "rsmf").iterdir())]
    assert written.files == len(found) == 2
    rooms = {manifest["conversations"][0]["id"]: manifest for _, _, manifest in found}
    assert set(rooms) == {DESK, DIRECT}
    assert rooms[DIRECT]["conversations"][0]["type"] == "direct"
    for mail, _, manifest in found:
        assert mail["X-RSMF-Custodian"] == ALICE
        for event in manifest["events"]:
            if event["type"] == "message":
                own = event["participant"] == ALICE
                assert event["direction"] == ("outgoing" if own else "incoming")
    assert len({mail["X-RSMF-EventCollectionID"] for mail, _, _ in found}) == 2


async def test_the_same_messages_give_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_rsmf(await archive.transcript(), tmp_path / folder)
    (one,), (other,) = ((tmp_path / folder).iterdir() for folder in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


async def test_a_day_of_too_many_messages_is_several_files(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsmf, "MOST_EVENTS", 5)
    transcript = await archive.transcript()

    count = write_rsmf(transcript, tmp_path / "rsmf").files

    found = [opened(path) for path in sorted((tmp_path / "rsmf").iterdir())]
    assert count == len(found) > 2
    assert len({mail["Message-ID"] for mail, _, _ in found}) == count
    assert len({mail["X-RSMF-EventCollectionID"] for mail, _, _ in found}) == 1
    assert sum(len(manifest["events"]) for _, _, manifest in found) == len(transcript.messages)


async def test_what_people_chose_breaks_out_of_nothing(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message(
        "a\0b\u202ec\nX-RSMF-Version: 9",
        sender_name="A\r\nX-RSMF-Custodian: evil",
        room_name='B"\r\nBcc: x@example.org',
        room_id="!r",
        reaction_key="x" * 99,
    )
    maker.message("y", "@we ird\r\n@:[::1]:8448", room_id="!r", event_id="$\r\n")
    maker.message("no room at all", room_id=None)
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    hostile = Archive(maker, library)
    await hostile.sync()

    write_rsmf(await hostile.transcript("!r"), tmp_path / "rsmf")

    (path,) = (tmp_path / "rsmf").iterdir()
    mail, _, manifest = opened(path)
    assert mail["Bcc"] is None
    assert mail["X-RSMF-Custodian"] is None
    assert manifest["events"][0]["body"] == "a⟨U+0000⟩b⟨U+202E⟩c\nX-RSMF-Version: 9"
    library.close()
