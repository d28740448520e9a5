"""Rooms that are kept for a time of their own, from the configuration to the deletion."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pyrage
import pytest

from auditbot.gaps import open_gap
from auditbot.observed import record_observed
from auditbot.operations import holds, over, retention
from auditbot.pipeline.other_records import Gap
from auditbot.pipeline.segment import DAY_MS
from common.config.bot_settings import RetentionClass
from common.database.pool import Database
from common.inbox.port import Entry, EntryKind, Source
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import ALICE, NOON, encrypted, event, message
from tests.unit.auditbot.test_media import PNG
from tests.unit.auditbot.test_operations import TODAY, Office

CHATS, BOARD, LOBBY = "!chat", "!board", "!lobby"
BOB = "@bob:example.org"
CLASSES = (
    RetentionClass(name="board", keep_days=3650, rooms=("#board-*:example.org",)),
    RetentionClass(name="chats", keep_days=30, direct=True),
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def in_room(room: str, event_type: str, content: object, key: str = "", **fields: Any) -> bytes:
    name = f"${room[1:]} {event_type} {key} {json.dumps(content, sort_keys=True)}"
    return event(name, content, room_id=room, type=event_type, state_key=key, **fields)


def room_of(room: str, *more: bytes) -> list[bytes]:
    """Return the events of a room of Alice's and Bob's."""
    return [
        in_room(room, "m.room.create", {"room_version": "11"}),
        *(in_room(room, "m.room.member", {"membership": "join"}, who) for who in (ALICE, BOB)),
        *more,
    ]


def direct_chat() -> list[bytes]:
    invited = {"membership": "invite", "is_direct": True}
    return room_of(CHATS, in_room(CHATS, "m.room.member", invited, "@carol:example.org"))


def board() -> list[bytes]:
    return room_of(
        BOARD, in_room(BOARD, "m.room.canonical_alias", {"alias": "#board-a:example.org"})
    )


def said(event_id: str, room: str) -> bytes:
    return message(event_id, room_id=room)


def picture(room: str) -> bytes:
    content = {"msgtype": "m.image", "body": "a.png", "url": "mxc://example.org/a"}
    return event(f"$image{room}", content, room_id=room)


async def office_with(database: Database, tmp_path: Path, **settings: Any) -> Office:
    office = Office(database, tmp_path)
    office.world.classes = CLASSES
    for name, value in settings.items():
        setattr(office.world, name, value)
    office.start()
    office.files.held["mxc://example.org/a"] = PNG
    return office


def classes_of(office: Office) -> list[dict[str, Any] | None]:
    """Return what the manifests say of the classes of each segment, in order."""
    manifests = [one for found in office.check().manifests.values() for one in found]
    return [item.get("classes") for one in manifests for item in one["objects"]]


async def survey(office: Office, keep_days: int | None = None) -> over.Survey:
    return await over.survey(office.desk, keep_days=keep_days)


async def retain(office: Office, keep_days: int | None = None) -> str:
    found = await survey(office, keep_days)
    told = await retention.apply(office.desk, found, keep_days=keep_days)
    await office.store()
    return told


async def test_each_record_says_the_class_of_its_room_and_each_segment_counts_them(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*direct_chat(), *board(), *room_of(LOBBY))
    await office.say(said("$chat", CHATS), said("$board", BOARD), said("$lobby", LOBBY))
    await office.store()

    records = office.check().records
    of = {record["event_id"]: record["retention_class"] for record in records}
    assert (of["$chat"], of["$board"], of["$lobby"]) == ("chats", "board", "default")
    (said_classes,) = [one for one in classes_of(office) if one is not None]
    assert said_classes["chats"]["keep_days"] == 30
    assert said_classes["board"]["keep_days"] == 3650
    assert set(said_classes["default"]) == {"records"}
    counted = {name: one["records"] for name, one in said_classes.items()}
    assert counted == {
        name: sum(record["retention_class"] == name for record in records) for name in counted
    }


async def test_a_room_is_of_a_class_from_the_event_on_that_makes_it_so(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*room_of(BOARD), said("$before", BOARD))
    alias = in_room(BOARD, "m.room.canonical_alias", {"alias": "#board-a:example.org"})
    await office.say(alias, said("$after", BOARD))

    of = {one["event_id"]: one["retention_class"] for one in await office.world.events()}
    assert (of["$before"], of["$after"]) == ("default", "board")
    (naming,) = [name for event_id, name in of.items() if event_id.startswith("$board m.room.can")]
    assert naming == "board"


async def test_what_cites_a_list_of_people_never_outlives_it(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    # The same people: without classes one list would do for both rooms.
    invited = {"membership": "invite", "is_direct": True}
    await office.say(
        in_room(CHATS, "m.room.create", {"room_version": "11"}),
        in_room(CHATS, "m.room.member", {"membership": "join"}, ALICE),
        in_room(CHATS, "m.room.member", invited, BOB),
        in_room(CHATS, "m.room.member", {"membership": "join"}, BOB),
        *board(),
        said("$chat", CHATS),
        said("$board", BOARD),
    )

    lists = await office.world.events("audience")
    cited = {one["event_id"]: one for one in await office.world.events()}
    assert cited["$chat"]["audience_id"] == cited["$board"]["audience_id"]
    for event_id in ("$chat", "$board"):
        assert (cited[event_id]["audience_id"], cited[event_id]["retention_class"]) in {
            (one["audience_id"], one["retention_class"]) for one in lists
        }


async def test_parents_receipts_gaps_and_late_keys_are_of_their_rooms_class(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*board(), encrypted("$sealed", room_id=BOARD))
    graph = json.dumps({"room_id": BOARD, "events": [["$a", 1, ["$b"]]]}).encode()
    receipt = json.dumps(
        {"room_id": BOARD, "content": {"$a": {"m.read": {BOB: {"ts": 1}}}}}
    ).encode()
    others = [
        Entry(90 + number, kind, body, Source.SYNC, "s1", "", NOON + 9)
        for number, (kind, body) in enumerate(
            [(EntryKind.GRAPH, graph), (EntryKind.RECEIPT, receipt)]
        )
    ]
    await office.world.give(office.bot, others)
    office.world.crypto.sessions.add("session")
    await office.bot.late_keys.retry_all()

    async with database.transaction() as connection:
        writing = await office.desk.writing(connection)
        assert writing is not None
        gap = Gap("event_missing", {"event_id": "$lost"}, room_id=BOARD)
        await open_gap(connection, writing, "event:$lost", gap)
        await writing.write(connection)
    await office.say(said("$lost", BOARD))
    async with database.transaction() as connection:
        writing = await office.desk.writing(connection)
        assert writing is not None
        await record_observed(connection, writing)

    for kind in ("graph", "receipt", "decryption", "gap", "gap_closed"):
        (record,) = await office.world.events(kind)
        assert record["retention_class"] == "board", kind


async def test_without_classes_nothing_is_said_of_them(database: Database, tmp_path: Path) -> None:
    office = await office_with(database, tmp_path, classes=())
    await office.say(*direct_chat(), said("$chat", CHATS))
    await office.store()

    assert set(classes_of(office)) == {None}
    assert {record["retention_class"] for record in office.check().records} == {"default"}


async def days_of_chat(office: Office) -> None:
    """Chats alone in one segment, then chats and the board in one, a day later."""
    await office.say(*direct_chat(), *board())
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(said("$alone", CHATS))
    await office.store()
    office.at(NOON + 2 * DAY_MS)
    await office.say(said("$shared", CHATS), said("$board", BOARD))
    await office.store()
    office.at(TODAY)
    await office.say(said("$today", CHATS))
    await office.store()


async def test_a_segment_goes_when_its_longest_class_is_over(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await days_of_chat(office)

    found = await survey(office)
    text = found.text()
    await retain(office)

    assert office.events() & {"$alone", "$shared", "$board", "$today"} == {
        "$shared",
        "$board",
        "$today",
    }
    assert "for the class board" in text
    assert "until 2035-11-25" in text
    assert "The next segment is over on 2035-11-25." in text
    rows = {
        line.split()[0]: line.split() for line in text.partition("by class:")[2].splitlines()[2:]
    }
    # Of the class: kept, goes, kept by a longer class, kept by a hold, not over.
    assert rows["chats"] == ["chats", "30", "days", "2", *rows["chats"][4:]]
    assert int(rows["chats"][4]) > 1
    assert rows["board"][3:5] == ["0", "0"]
    (detail,) = office.controls("removal")
    assert detail["policy"] == {"keep_days": None, "classes": {"chats": 30}}
    assert detail["records"] == 2


async def test_a_hold_keeps_a_day_whatever_the_class(database: Database, tmp_path: Path) -> None:
    office = await office_with(database, tmp_path)
    await days_of_chat(office)
    await holds.add(
        office.desk, reason="a case", rooms=[CHATS], users=[], from_ms=None, to_ms=None
    )
    await office.store()

    text = (await survey(office)).text()
    await retain(office)

    assert "$alone" in office.events()
    assert "KEPT by hold" in text


async def test_a_later_policy_counts_for_later_records_only(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await days_of_chat(office)
    office.world.classes = (RetentionClass(name="chats", keep_days=1, direct=True),)
    office.start()
    await office.say(said("$later", CHATS))
    await office.store()
    (changed,) = office.controls("settings_changed")
    assert changed["retention"]["classes"][0]["keep_days"] == 1
    assert changed["config_sha256"] != changed["before"]
    office.at(TODAY + 3 * DAY_MS)

    await retain(office, keep_days=1)

    # The board's ten years and the chats' month were promised when they were recorded.
    assert {"$board", "$shared", "$today"} <= office.events()
    assert "$later" not in office.events()


async def test_the_policy_stands_in_the_first_record(database: Database, tmp_path: Path) -> None:
    office = await office_with(database, tmp_path, keep_days=365)
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO inbox_cursor VALUES ('auditbot', 41)")
    await office.say(*board())
    await office.store()

    (began,) = office.controls("export_started")
    assert began["retention"]["keep_days"] == 365
    assert began["inbox_position"] == 41
    assert [one["name"] for one in began["retention"]["classes"]] == ["board", "chats"]


async def test_lines_that_waited_over_a_change_keep_the_meaning_they_had(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*direct_chat(), said("$chat", CHATS))
    office.world.classes = (RetentionClass(name="chats", keep_days=1, direct=True),)
    office.start()
    await office.store()

    (said_classes,) = [one for one in classes_of(office) if one is not None]
    assert said_classes["chats"]["keep_days"] == 30


@pytest.mark.parametrize(("rooms", "kept"), [((CHATS,), False), ((CHATS, BOARD), True)])
async def test_an_attachment_is_kept_as_long_as_the_longest_class_that_speaks_of_it(
    database: Database, tmp_path: Path, rooms: tuple[str, ...], *, kept: bool
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*direct_chat(), *board())
    for room in rooms:
        await office.say(picture(room))
        await office.store()
    # In the same segments as the board's records, which stay.
    await office.say(said("$board", BOARD))
    await office.store()
    office.at(TODAY)

    await retain(office)

    assert any("/media/" in key for key in office.objects()) == kept
    office.check()


async def without_classes_yet(office: Office) -> None:
    """Let what is stored be as it was before classes were written down."""
    async with office.world.database.transaction() as connection:
        await connection.execute("DELETE FROM audit_object_class")


@pytest.mark.parametrize(("keep_days", "kept"), [(None, True), (200, True), (50, False)])
async def test_an_attachment_from_before_there_were_classes_is_of_the_default_one(
    database: Database, tmp_path: Path, keep_days: int | None, *, kept: bool
) -> None:
    office = await office_with(database, tmp_path, classes=())
    await office.say(*room_of(LOBBY), picture(LOBBY))
    await office.store()
    await without_classes_yet(office)
    office.at(TODAY)

    await retain(office, keep_days)

    assert any("/media/" in key for key in office.objects()) == kept
    office.check()


async def test_a_class_beside_it_does_not_shorten_what_was_kept_from_before(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*direct_chat(), *room_of(LOBBY), picture(LOBBY))
    await office.store()
    await without_classes_yet(office)
    await office.say(picture(CHATS))
    await office.store()
    office.at(TODAY)

    await retain(office, 200)
    assert any("/media/" in key for key in office.objects()), "the lobby's is kept for 200 days"
    await retain(office, 50)

    assert not any("/media/" in key for key in office.objects())
    office.check()


async def test_a_held_attachment_stays_though_its_class_is_over(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*direct_chat(), picture(CHATS))
    await office.store()
    office.at(TODAY)
    await holds.add(office.desk, reason="x", rooms=[CHATS], users=[], from_ms=None, to_ms=None)

    await retain(office)

    assert any("/media/" in key for key in office.objects())


async def test_a_sealed_archive_is_kept_by_what_its_manifests_say(
    database: Database, tmp_path: Path
) -> None:
    recipients = tuple(str(pyrage.x25519.Identity.generate().to_public()) for _ in range(2))
    office = await office_with(database, tmp_path, recipients=recipients)
    await office.say(*direct_chat(), *board())
    office.at(NOON + DAY_MS)
    await office.say(said("$alone", CHATS))
    seal = office.bot.archive
    office.at(TODAY)
    await seal.seal(flush=True)
    await seal.upload()
    await seal.sign(flush=True)
    await seal.upload()
    before = {key for key in office.objects() if "/events/" in key}

    found = await survey(office)
    await retention.apply(office.desk, found, keep_days=None)

    gone = before - {key for key in office.objects() if "/events/" in key}
    assert {key.split("/")[3] for key in gone} == {"dt=2025-11-25"}
    assert cast(Any, found).days


async def test_where_only_content_is_sealed_each_class_has_keys_of_its_own(
    database: Database, tmp_path: Path
) -> None:
    recipients = tuple(str(pyrage.x25519.Identity.generate().to_public()) for _ in range(2))
    office = await office_with(
        database, tmp_path, recipients=recipients, seal="content", erasable=True
    )
    await office.say(*direct_chat(), *board(), said("$chat", CHATS), said("$board", BOARD))
    await office.store()

    (said_classes,) = [one for one in classes_of(office) if one is not None]
    assert {"chats", "board"} <= set(said_classes)
    of = {one["event_id"]: one for one in office.check().of_kind("event")}
    assert of["$chat"]["sealed_to"] != of["$board"]["sealed_to"]
    assert "chats" in of["$chat"]["sealed_to"]


async def test_an_attachment_goes_though_what_is_left_of_a_day_is_of_a_longer_class(
    database: Database, tmp_path: Path
) -> None:
    office = await office_with(database, tmp_path)
    await office.say(*direct_chat(), *board())
    await office.store()
    for day in (1, 21):
        office.at(NOON + day * DAY_MS)
        content = {"msgtype": "m.image", "body": "a.png", "url": "mxc://example.org/a"}
        await office.say(event(f"$image{day}", content, room_id=CHATS))
        await office.store()
        await office.say(said(f"$board{day}", BOARD))
        await office.store()
    office.at(NOON + 40 * DAY_MS)
    await retain(office)
    assert "$image1" not in office.events()
    assert any("/media/" in key for key in office.objects()), "the later one is kept for 30 days"
    office.at(TODAY)

    await retain(office)

    assert office.events() >= {"$board1", "$board21"}
    assert not any("/media/" in key for key in office.objects())
    office.check()
