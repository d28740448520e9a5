"""What became of a message stands with it, and nobody's edit passes for the author's."""

import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.conversation import CLEAR_EDIT, Message, load
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, people, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS
from auditbot.reader.render.rows import as_json, row_of, table
from auditbot.reader.render.view import Viewer
from auditbot.reader.render.words import doubts
from auditbot.reader.transcript.subject import Subject, select
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import Json, Maker

ALICE, BOB = "@alice:example.org", "@bob:example.org"
ROOM = "!room:example.org"
SECRET: dict[str, Any] = {
    "room_id": ROOM,
    "encrypted": True,
    "enc_status": "decrypted",
    "enc_trust": "cross_signed",
}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = Library(tmp_path / "cache")
    yield opened
    opened.close()


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    made = Maker(tmp_path / "archive")
    made.publish_key()
    return made


async def shown(maker: Maker, library: Library) -> list[Message]:
    if maker._waiting:
        maker.segment()
    maker.manifest()
    done = await sync(DirectoryPlace(maker.root), library, lambda _: Remembered())
    assert not done.faults
    return load(library, search(library, Query(rooms=(ROOM,))))


def edit(maker: Maker, body: str, event_id: str, of: str, /, **fields: object) -> None:
    event = {"content": {"m.new_content": {"body": body}}}
    known = {**SECRET, "edit_of": of, "edit_valid": True, "event_json": json.dumps(event)}
    maker.message(f"* {body}", ALICE, event_id=event_id, **{**known, **fields})


def delete(maker: Maker, what: str) -> None:
    maker.record(
        event_type="m.room.redaction",
        event_id=f"{what}-gone",
        room_id=ROOM,
        sender=BOB,
        redacts=what,
        enc_status="clear",
    )


def react(maker: Maker) -> None:
    maker.record(
        event_type="m.reaction",
        event_id="$reaction",
        room_id=ROOM,
        sender=BOB,
        rel_type="m.annotation",
        rel_event_id="$said",
        reaction_key="👍",
        enc_status="clear",
    )


async def test_an_edit_in_clear_does_not_change_an_encrypted_message(
    maker: Maker, library: Library
) -> None:
    """Whoever runs the homeserver can write one in anybody's name."""
    maker.message("I did not do it", ALICE, event_id="$said", **SECRET)
    edit(maker, "I confess", "$edit", "$said", enc_status="clear", enc_trust=None)

    (message,) = await shown(maker, library)

    assert message.latest_text == "I did not do it"
    assert f"an {CLEAR_EDIT}" in doubts(message)
    assert any(f"({CLEAR_EDIT}): I confess" in line for line in table([message]))
    (version,) = as_json(message)["versions"]
    assert (version["valid"], version["doubt"]) == (False, CLEAR_EDIT)
    (view,) = Viewer(library, UTC).view(message)["versions"]
    assert (view["valid"], view["label"]) == (False, CLEAR_EDIT)


async def test_whose_device_an_edit_is_from_is_told(maker: Maker, library: Library) -> None:
    maker.message("I did not do it", ALICE, event_id="$said", **SECRET)
    edit(maker, "I never did", "$edit", "$said", enc_trust="mismatch")
    (message,) = await shown(maker, library)
    assert message.latest_text == "I never did"
    assert "an edit: DEVICE AND SENDER DO NOT MATCH" in doubts(message)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
async def test_what_is_taken_back_stands_with_its_message(
    maker: Maker, library: Library, *, is_first: bool, apart: bool
) -> None:
    """In any order, in one segment or in two."""
    maker.message("Hello", ALICE, event_id="$said", **SECRET)
    for is_deletion in (True, False) if is_first else (False, True):
        if is_deletion:
            delete(maker, "$reaction")
            delete(maker, "$edit")
        else:
            react(maker)
            edit(maker, "Hello you", "$edit", "$said")
        if apart:
            maker.segment()

    (message,) = await shown(maker, library)

    assert (message.is_deleted, message.latest_text) == (False, "Hello")
    assert [one.deleted is not None for one in message.edits] == [True]
    assert [one.taken_back is not None for one in message.reactions] == [True]
    assert len(message.records) == 5
    assert row_of(message).notes is None


async def test_an_edit_of_an_edit_is_told_and_changes_nothing(
    maker: Maker, library: Library
) -> None:
    maker.message("Hello", ALICE, event_id="$said", **SECRET)
    edit(maker, "Hello you", "$edit", "$said")
    edit(maker, "Hello them", "$other", "$edit")
    (message,) = await shown(maker, library)
    assert message.latest_text == "Hello you"
    assert row_of(message).edited_by_others == 0
    assert message.doubt_of(message.edits[1]) == "edit of an edit, which clients ignore"


async def test_a_deletion_of_a_deletion_deletes_nothing(maker: Maker, library: Library) -> None:
    maker.message("Hello", ALICE, event_id="$said", **SECRET)
    react(maker)
    delete(maker, "$reaction")
    delete(maker, "$reaction-gone")
    (message,) = await shown(maker, library)
    assert not message.is_deleted
    assert len(message.records) == 4


def attach(maker: Maker, of: Json, name: str) -> str:
    key, digest = maker.file(name.encode())
    stored = {"media_status": "stored", "media_key": key, "media_sha256": digest}
    maker.record("media", of_seq=of["seq"], room_id=ROOM, media_size=len(name), **stored)
    return digest


async def test_the_attachment_of_an_edit_hides_none(maker: Maker, library: Library) -> None:
    named = {"msgtype": "m.file", "media_status": "pending", **SECRET}
    old = {"media_name": "secret.pdf", "media_mxc": "mxc://example.org/old"}
    new = {"media_name": "plan.pdf", "media_mxc": "mxc://example.org/new"}
    first = maker.message("secret.pdf", ALICE, event_id="$said", **named, **old)
    edit(maker, "plan.pdf", "$edit", "$said", **{**named, **new})
    later = {**first, "seq": first["seq"] + 1}
    digests = [attach(maker, later, "plan.pdf"), attach(maker, first, "secret.pdf")]
    (message,) = await shown(maker, library)

    row = row_of(message)
    assert (row.attachment, row.attachment_sha256) == ("secret.pdf", digests[1])
    assert f"plan.pdf (stored, SHA-256 {digests[0]})" in str(row.notes)
    (version,) = as_json(message)["versions"]
    assert (version["attachment"]["name"], version["attachment"]["sha256"]) == (
        "plan.pdf",
        digests[0],
    )
    viewer = Viewer(library, UTC)
    view = viewer.view(message)
    assert view["media"]["sha256"] == digests[1]
    assert view["versions"][0]["media"]["sha256"] == digests[0]
    assert viewer.tally.attachments == 2
    assert len(message.records) == 4


async def test_an_edit_of_the_words_has_no_attachment_of_its_own(
    maker: Maker, library: Library
) -> None:
    named = {"media_name": "plan.pdf", "media_mxc": "mxc://example.org/1", **SECRET}
    maker.message("plan.pdf", ALICE, event_id="$said", **named)
    edit(maker, "the plan", "$edit", "$said", **named)
    (message,) = await shown(maker, library)
    assert row_of(message).notes is None
    assert Viewer(library, UTC).view(message)["versions"][0]["media"] is None


async def test_what_says_nothing_is_around_nobody_s_messages(
    maker: Maker, library: Library
) -> None:
    maker.message("Hello", ALICE, event_id="$said", **SECRET)
    maker.record("receipt", room_id=ROOM, event_id="$unknown", sender=BOB)
    maker.record("graph", room_id=ROOM)
    (message,) = await shown(maker, library)
    (alice,) = people(library, ALICE)
    roots, around = select(library, Subject("person", alice), ALWAYS, context_hours=1)
    assert (roots, around) == ([message.root], set())
