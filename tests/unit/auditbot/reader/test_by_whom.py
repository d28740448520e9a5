"""Nobody puts words into another person's mouth, nor into another room."""

import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from auditbot.reader.conversation import Message, load
from auditbot.reader.index.context import Window, around
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.render.rows import as_json, row_of, table
from auditbot.reader.render.view import Viewer
from auditbot.reader.render.words import doubts
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import Json, Maker

ALICE, MALLORY = "@alice:example.org", "@mallory:example.org"
HERE, ELSEWHERE = "!here:example.org", "!elsewhere:example.org"


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


def edit(maker: Maker, body: str, sender: str, /, **fields: object) -> Json:
    event = {"type": "m.room.message", "content": {"m.new_content": {"body": body}}}
    known = {"edit_of": "$said", "rel_type": "m.replace", "room_id": HERE, "edit_valid": None}
    known["event_json"] = json.dumps(event)
    return maker.message(f"* {body}", sender, **{**known, **fields})


def say(maker: Maker) -> Json:
    return maker.message("I did not do it", ALICE, event_id="$said", room_id=HERE)


async def shown(maker: Maker, library: Library) -> list[Message]:
    """Index what was recorded; return what is in the room."""
    maker.segment()
    maker.manifest()
    done = await sync(DirectoryPlace(maker.root), library, lambda _: Remembered())
    assert not done.faults
    return load(library, search(library, Query(rooms=(HERE,))))


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_edit_by_somebody_else_is_not_the_author_s(
    maker: Maker, library: Library, is_first: bool
) -> None:
    """Where it was recorded before the original, the writer could not tell."""
    if is_first:
        edit(maker, "I confess", MALLORY)
    say(maker)
    if not is_first:
        edit(maker, "I confess", MALLORY)

    (message,) = await shown(maker, library)

    row = row_of(message)
    assert (row.sender, row.text, row.latest_text) == (ALICE, "I did not do it", "I did not do it")
    assert row.edited_by_others == 1
    assert as_json(message)["versions"][0]["valid"] is False
    assert f"edited BY {MALLORY}" in "\n".join(table([message]))
    (version,) = Viewer(library, UTC).view(message)["versions"]
    assert (version["valid"], version["label"]) == (False, "edit by somebody else")


async def test_an_edit_by_the_author_is_the_author_s_whenever_it_came(
    maker: Maker, library: Library
) -> None:
    edit(maker, "I did not", ALICE)
    say(maker)
    edit(maker, "I never did", ALICE, edit_valid=True)
    edit(maker, "not by her device", ALICE, edit_valid=False)

    (message,) = await shown(maker, library)

    assert message.latest_text == "I never did"
    assert [message.is_by_author(one) for one in message.edits] == [True, True, False]


async def test_an_edit_of_what_is_not_archived_says_so_and_is_its_sender_s(
    maker: Maker, library: Library
) -> None:
    edit(maker, "I confess", MALLORY)
    edit(maker, "not by Mallory", ALICE)

    (message,) = await shown(maker, library)

    row = row_of(message)
    assert (row.sender, row.text, row.latest_text) == (MALLORY, None, "I confess")
    assert row.edited_by_others == 0
    assert any(
        "nobody can tell whether its author made the edit" in one for one in doubts(message)
    )
    view = Viewer(library, UTC).view(message)
    assert (view["first_text"], view["unsaid"]) == (None, "(not archived)")
    assert all("not archived" in version["label"] for version in view["versions"])


async def test_what_comes_from_another_room_changes_nothing(
    maker: Maker, library: Library
) -> None:
    say(maker)
    edit(maker, "I confess", ALICE, room_id=ELSEWHERE, edit_valid=True)
    for event_id, what in (
        ("$deletes", {"event_type": "m.room.redaction", "redacts": "$said"}),
        (
            "$reacts",
            {
                "event_type": "m.reaction",
                "rel_type": "m.annotation",
                "rel_event_id": "$said",
                "reaction_key": "👍",
            },
        ),
    ):
        maker.record(
            event_id=event_id, room_id=ELSEWHERE, sender=MALLORY, enc_status="clear", **what
        )

    (message,) = await shown(maker, library)
    there = load(library, search(library, Query(rooms=(ELSEWHERE,))))

    assert [stored.record["event_id"] for stored in message.records] == ["$said"]
    assert message.latest_text == "I did not do it"
    assert not message.is_deleted
    assert {one.record["room_id"] for one in there} == {ELSEWHERE}
    assert "I did not do it" not in json.dumps([as_json(one) for one in there])
    assert {event_id for one in there for event_id in _ids(one)} >= {"$deletes", "$reacts"}


def _ids(message: Message) -> list[str]:
    return [stored.record["event_id"] for stored in message.records]


async def test_a_deletion_of_a_reaction_counts_in_its_room_only(
    maker: Maker, library: Library
) -> None:
    say(maker)
    maker.record(
        event_id="$like",
        room_id=HERE,
        sender=ALICE,
        event_type="m.reaction",
        rel_event_id="$said",
        reaction_key="👍",
    )
    for room in (ELSEWHERE, HERE):
        maker.record(
            event_id=f"$back{room}",
            room_id=room,
            sender=MALLORY,
            event_type="m.room.redaction",
            redacts="$like",
        )

    (message,) = [one for one in await shown(maker, library) if one.first is not None]

    (reaction,) = message.reactions
    assert reaction.taken_back is not None
    assert reaction.taken_back.record["room_id"] == HERE


async def test_what_was_said_in_another_room_is_neither_quoted_nor_context(
    maker: Maker, library: Library
) -> None:
    say(maker)
    maker.message(
        "an answer",
        MALLORY,
        event_id="$answer",
        room_id=ELSEWHERE,
        reply_to="$said",
        thread_root="$said",
    )
    maker.message("beside it", ALICE, event_id="$beside", room_id=HERE, thread_root="$said")

    said, _ = await shown(maker, library)
    (answer,) = load(library, search(library, Query(rooms=(ELSEWHERE,))))

    view = Viewer(library, UTC).view(answer)
    assert view["reply_to"]["text"] == view["thread"]["text"] == "a message of another room"
    assert around(library, [answer.root], Window()).roots == (answer.root,)
    thread = load(library, around(library, [said.root], Window()).roots)
    assert [one.record["event_id"] for one in thread] == ["$said", "$beside"]


async def test_two_events_of_one_id_in_two_rooms_are_two_messages(
    maker: Maker, library: Library
) -> None:
    """Of rooms of old versions a server chooses the IDs, also one that was used elsewhere."""
    maker.message("forged", MALLORY, event_id="$said", room_id=ELSEWHERE)
    say(maker)
    maker.message("answer", ALICE, event_id="$answer", room_id=HERE, reply_to="$said")

    said, answer = await shown(maker, library)

    assert (said.text, len(said.records)) == ("I did not do it", 1)
    assert Viewer(library, UTC).view(answer)["reply_to"]["text"] == "I did not do it"
