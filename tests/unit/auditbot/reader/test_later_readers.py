"""Who could have read a message is answered with names: members, later joiners, invitees."""

import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC
from pathlib import Path

import pytest

from auditbot.reader.conversation import load
from auditbot.reader.index.library import Library, Stored
from auditbot.reader.index.query import Query, search
from auditbot.reader.render.audiences import Audiences
from auditbot.reader.render.view import Viewer
from auditbot.reader.transcript.html import write_html
from tests.support.archive_maker import Maker
from tests.support.archive_story import audience
from tests.unit.auditbot.reader.test_commands import Officer, officer
from tests.unit.auditbot.reader.test_transcript import Archive, Page

__all__ = ["officer"]

ROOM = "!room:example.org"
ALICE, BOB, CAROL, DORA, BOT, HELPER = (
    f"@{name}:example.org" for name in ("alice", "bob", "carol", "dora", "auditbot", "helper")
)


class Room:
    """A room whose members come and go, and that says of each message who was in it."""

    def __init__(self, maker: Maker, visibility: str | None, *inside: str) -> None:
        self.maker, self.visibility, self.inside = maker, visibility, set(inside)
        self.listed: set[str] = set()

    @property
    def fields(self) -> dict[str, object]:
        return {
            "room_id": ROOM,
            "room_name": "Room",
            "history_visibility": self.visibility,
            "audience_id": audience(*self.inside),
            "audience_count": len(self.inside),
        }

    def member(self, user: str, membership: str, by: str = "", **content: object) -> None:
        self.maker.message(
            "",
            by or user,
            **{
                **self.fields,
                "event_type": "m.room.member",
                "state_key": user,
                "body": None,
                "msgtype": None,
                "sender_kind": "bot" if (by or user) in {BOT, HELPER} else "human",
                "event_json": json.dumps({"content": {"membership": membership, **content}}),
            },
        )
        (self.inside.add if membership == "join" else self.inside.discard)(user)

    def says(self, text: str, by: str = ALICE) -> None:
        if self.fields["audience_id"] not in self.listed:
            self.listed.add(str(self.fields["audience_id"]))
            members = [
                {"user_id": user, "name": "", "membership": "join"}
                | ({"kind": "bot"} if user == BOT else {})
                for user in sorted(self.inside)
            ]
            self.maker.record(
                "audience",
                room_id=ROOM,
                audience_id=self.fields["audience_id"],
                detail_json=json.dumps({"members": members}),
            )
        self.maker.message(text, by, **self.fields)


class Told:
    """What the reader says of each message."""

    def __init__(self, library: Library) -> None:
        viewer = Viewer(library, UTC)
        messages = load(library, search(library, Query()))
        views = [view for view in viewer.views(messages) if view["text"]]
        self.words = {view["text"]: view["audience_words"] for view in views}
        self.sets = {view["text"]: viewer.audiences.lists[view["audience"] - 1] for view in views}
        readers = Audiences(library)
        self.counts = {str(one.text): readers.counts(one) for one in messages}

    def later(self, text: str) -> list[str]:
        return [one["user_id"] for one in self.sets[text]["later"]]


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    opened = Library(tmp_path / "cache")
    yield opened
    opened.close()


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    made = Maker(tmp_path / "archive")
    made.publish_key()
    return made


async def told(maker: Maker, library: Library) -> Told:
    maker.segment()
    maker.manifest()
    await Archive(maker, library).sync()
    return Told(library)


@pytest.mark.parametrize("visibility", ["shared", "world_readable"])
async def test_whoever_joins_later_is_named_with_the_time(
    maker: Maker, library: Library, visibility: str
) -> None:
    room = Room(maker, visibility, ALICE, BOT)
    room.says("first")
    room.member(BOB, "join", displayname="Bob")
    room.says("second")
    room.member(BOB, "join", displayname="Robert")  # another name is no other member
    room.member(ALICE, "join", avatar_url="mxc://a/b")
    room.says("second, again")
    room.member(HELPER, "join")
    room.member(BOB, "leave")
    room.says("third")
    room.member(BOB, "join")
    room.says("fourth")

    found = await told(maker, library)

    assert found.later("first") == [BOB, HELPER]
    (bob, helper) = found.sets["first"]["later"]
    assert (bob["name"], bob["joined"], bob["bot"]) == ("Bob", "2025-11-24 16:00:03", False)
    assert helper["bot"]
    assert found.later("second") == found.later("second, again") == [HELPER]
    assert found.sets["second"]["number"] == found.sets["second, again"]["number"]
    assert found.later("third") == [BOB]
    assert found.later("fourth") == []
    counts = found.counts["first"]
    assert (counts.people, counts.bots, counts.later_people, counts.later_bots) == (1, 1, 1, 1)
    if visibility == "shared":
        assert found.words["first"] == (
            "1 person and 1 bot, and whoever joined later (1 person and 1 bot)"
        )
        assert found.words["fourth"].endswith("and whoever joined later (nobody so far)")


async def test_with_joined_nobody_reads_later_and_with_invited_who_was_asked(
    maker: Maker, library: Library
) -> None:
    room = Room(maker, "invited", ALICE)
    room.says("before anybody is asked")
    room.member(BOB, "invite", by=ALICE)
    room.member(CAROL, "invite", by=ALICE)
    room.says("after")
    room.member(BOB, "join")
    room.member(CAROL, "leave")
    room.member(DORA, "join")
    room.says("when it is over")
    room.visibility = "joined"
    room.member(HELPER, "join")
    room.says("secret")
    room.visibility = None
    room.says("unknown")
    room.member("@late:example.org", "join")

    found = await told(maker, library)

    assert found.sets["before anybody is asked"]["invited"] == []
    bob, carol = found.sets["after"]["invited"]
    assert (bob["user_id"], bob["when"], bob["joined"]) == (
        BOB,
        "2025-11-24 16:00:03",
        "2025-11-24 16:00:06",
    )
    assert (carol["user_id"], carol["joined"]) == (CAROL, "")
    assert found.words["after"].endswith("whoever was invited then, once they join (2 people)")
    assert found.counts["after"].invited_people == 2
    assert found.sets["when it is over"]["invited"] == []
    for text in ("before anybody is asked", "after", "secret"):
        assert found.later(text) == []
        assert found.counts[text].later_people == 0
    assert found.words["secret"] == "3 people and 1 bot"
    assert found.counts["unknown"].later_people is None


async def test_another_rooms_and_another_servers_joins_do_not_count(
    maker: Maker, library: Library
) -> None:
    room = Room(maker, "shared", ALICE)
    room.says("here")
    other = {"room_id": "!other:example.org", "event_type": "m.room.member", "body": None}
    event = json.dumps({"content": {"membership": "join"}})
    maker.message("", BOB, **other, state_key=BOB, event_json=event)

    assert (await told(maker, library)).later("here") == []


async def test_a_joining_that_cannot_be_opened_is_counted(
    maker: Maker, library: Library, tmp_path: Path
) -> None:
    room = Room(maker, "shared", ALICE)
    room.says("first")
    shut = {"event_json": None, "sealed": "eA==", "sealed_sha256": "0" * 64}
    key = "v1/example.org/keys/content-s-2025-11-24-default-1.age"
    fields = {**room.fields, "body": None, "msgtype": None, "sealed_to": key, **shut}
    maker.message("", BOB, **{**fields, "event_type": "m.room.member", "state_key": BOB})

    found = await told(maker, library)
    transcript = await Archive(maker, library).transcript("Room")
    write_html(transcript, tmp_path / "t.html")

    assert found.sets["first"]["sealed"] == 1
    assert found.later("first") == []
    shown = " ".join(Page((tmp_path / "t.html").read_text()).text.split())
    assert "1 change of membership in this room cannot be opened here" in shown


async def test_the_page_and_the_sheet_tell_it(
    maker: Maker, library: Library, tmp_path: Path
) -> None:
    room = Room(maker, "shared", ALICE, BOT)
    room.says("first")
    room.member(BOB, "join", displayname="<b>Bob</b>\u202e")
    room.says("second")
    await told(maker, library)
    transcript = await Archive(maker, library).transcript("Room")

    write_html(transcript, tmp_path / "t.html")

    shown = " ".join(Page((tmp_path / "t.html").read_text()).text.split())
    assert (
        'Joined later, and could read it then: @bob:example.org "<b>Bob</b>⟨U+202E⟩", '
        "joined 2025-11-24 17:00:03" in shown
    )
    assert "nobody, as far as this archive knows" in shown
    assert "servers of other organisations may know of others" in shown
    assert "@auditbot:example.org, a bot" in shown


def test_a_proof_names_later_readers_and_proves_that_they_joined(
    officer: Officer, tmp_path: Path
) -> None:
    maker = Maker(tmp_path / "other")
    maker.publish_key()
    room = Room(maker, "shared", ALICE)
    room.says("first")
    room.member(BOB, "join")
    maker.segment()
    maker.manifest()
    officer.maker = maker
    officer.types("search", "first", "--format=csv")
    (row,) = csv.DictReader(io.StringIO(officer.said))
    assert (row["audience_people"], row["later_people"], row["later_bots"]) == ("1", "1", "0")
    assert row["history_visibility"] == "shared"

    assert officer.types("prove", row["event_id"], "--verify=no", "--output=proof.zip") == 0

    with zipfile.ZipFile(officer.folder / "proof.zip") as packed:
        lines = [json.loads(line) for line in packed.read("records.jsonl").splitlines()]
        page = packed.read("transcript.html").decode()
    assert [line["kind"] for line in lines] == ["audience", "event", "event"]
    assert lines[-1]["state_key"] == BOB
    assert "Joined later, and could read it then:" in page
    assert BOB in page


async def test_in_a_large_room_nothing_is_counted_again_for_each_message(
    maker: Maker, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(maker, "shared", *(f"@member{number}:example.org" for number in range(200)))
    for number in range(4000):
        if number % 100 == 0:
            room.member(f"@late{number}:example.org", "join")
        room.says(f"message {number}")
    maker.segment()
    maker.manifest()
    await Archive(maker, library).sync()
    messages = load(library, search(library, Query(types=("m.room.message",))))
    read: list[int] = []
    stored = library.stored

    def counted(ids: Iterable[int]) -> Iterator[Stored]:
        for one in stored(ids):
            read.append(one.id)
            yield one

    monkeypatch.setattr(library, "stored", counted)

    readers = Audiences(library)
    counts = [readers.counts(message) for message in messages]

    assert len(read) == 80, "each joining once, and each list of members"
    assert len(readers.lists) == 40
    assert [one.later_people for one in counts[:1] + counts[-1:]] == [39, 0]
