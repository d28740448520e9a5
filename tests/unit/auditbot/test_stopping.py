"""Where an export ends, the archive says what will not come into it any more."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from auditbot.operations import destination
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.database.pool import Database
from common.inbox.port import Entry, EntryKind, NewEntry, Source
from common.inbox.store import StoredInbox, move_cursor
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, ROOM, entries, message, new_room
from tests.unit.auditbot.test_operations import Office

MINUTE_MS = 60_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    """An archive with one room."""
    office = Office(database, tmp_path)
    await office.say(*new_room("@bob:example.org"), message("$1"))
    await office.store()
    return office


def inbox(office: Office) -> StoredInbox:
    return StoredInbox(office.world.database, office.world.clock)


async def receive(office: Office, *names: str) -> None:
    """Acknowledge events that nobody has dealt with yet."""
    new = [
        NewEntry(EntryKind.EVENT, message(name), Source.TRANSACTION, "1", key=f"event:{name}")
        for name in names
    ]
    await inbox(office).append(new)


async def deal_with(office: Office) -> None:
    """Deal with what was received, as the running bot does."""
    after = await inbox(office).cursor("auditbot")
    waiting = await inbox(office).read(after, [EntryKind.EVENT], limit=100)
    effect = await office.bot.handle(waiting)
    async with office.world.database.transaction() as connection:
        await effect(connection)
        await move_cursor(connection, "auditbot", waiting[-1].position)


async def tell_parents(office: Office, *told: tuple[str, int, list[str]]) -> None:
    body = json.dumps({"room_id": ROOM, "events": told}).encode()
    (entry,) = entries([body], office.world.clock.now_ms())
    graph: Entry = msgspec.structs.replace(entry, kind=EntryKind.GRAPH)
    await office.world.give(office.bot, [graph])


def archive(office: Office) -> str:
    return f"file:{office.world.directory / 'archive'}"


async def verified(office: Office) -> Verified:
    options = Options(now_ms=office.world.clock.now_ms(), destination=archive(office))
    (result,) = await verify(DirectoryPlace(office.world.directory / "archive"), options)
    return result


def codes(result: Verified) -> set[str]:
    return {one.code for one in result.findings.found}


def gaps(office: Office, name: str = "archive") -> list[dict[str, Any]]:
    return [
        {**json.loads(one["detail_json"]), "action": one["action"]}
        for one in office.check(name).of_kind("gap")
    ]


async def begin_again(office: Office) -> None:
    office.at(office.world.clock.now_ms() + MINUTE_MS)
    await destination.change(office.desk, archive(office), None, check=True)
    await office.store()


async def test_what_was_acknowledged_and_is_not_recorded_when_it_is_cleared_is_a_gap(
    office: Office,
) -> None:
    office.at(NOON + MINUTE_MS)
    await receive(office, "$waiting1")
    office.at(NOON + 2 * MINUTE_MS)
    await receive(office, "$waiting2")
    office.at(NOON + 3 * MINUTE_MS)
    assert "received and not been recorded yet" in await destination.clear(office.desk)
    await office.store()
    await deal_with(office)
    await begin_again(office)
    result = await verified(office)

    assert not {"$waiting1", "$waiting2"} & office.events()
    assert gaps(office) == [
        {
            "action": "not_recorded",
            "events": 2,
            "first_received_ms": NOON + MINUTE_MS,
            "last_received_ms": NOON + 2 * MINUTE_MS,
        }
    ]
    (stopped,) = office.controls("export_stopped")
    assert stopped["not_exported_since_ms"] == NOON + MINUTE_MS
    assert office.controls("export_started")[-1]["previous_stopped_ms"] == NOON + MINUTE_MS
    (notice,) = [one for one in result.findings.found if one.code == "not_exported"]
    assert "16:01:00" in notice.sentence
    assert "16:04:00" in notice.sentence


async def test_what_is_received_after_it_was_cleared_is_no_gap(office: Office) -> None:
    office.at(NOON + MINUTE_MS)
    assert "not been recorded yet" not in await destination.clear(office.desk)
    await receive(office, "$after")
    await office.store()

    assert gaps(office) == []
    (stopped,) = office.controls("export_stopped")
    assert "not_exported_since_ms" not in stopped


async def test_what_waits_when_the_configuration_is_emptied_is_a_gap_too(office: Office) -> None:
    office.at(NOON + MINUTE_MS)
    await receive(office, "$waiting")
    office.world.destination = None
    office.start()
    await deal_with(office)
    await office.store()

    assert [(one["action"], one["events"]) for one in gaps(office)] == [("not_recorded", 1)]


async def test_what_waits_when_another_place_is_chosen_is_recorded_there(office: Office) -> None:
    await receive(office, "$waiting")
    await destination.change(
        office.desk, f"file:{office.world.directory / 'other'}", None, check=True
    )
    await deal_with(office)
    await office.store()

    assert gaps(office) == gaps(office, "other") == []
    found = office.check("other").of_kind("event")
    assert [one["event_id"] for one in found] == ["$waiting"]


@pytest.mark.parametrize("by_way_of", ["", "other"])
async def test_what_is_awaited_when_an_export_ends_is_no_hole_a_week_later(
    office: Office, by_way_of: str
) -> None:
    await office.say(message("$3"))
    await tell_parents(office, ("$1", 10, ["$0"]), ("$3", 12, ["$2"]))
    if by_way_of:
        other = f"file:{office.world.directory / by_way_of}"
        await destination.change(office.desk, other, None, check=True)
    else:
        await destination.clear(office.desk)
    await office.store()
    await begin_again(office)
    office.at(NOON + 9 * DAY_MS)
    await office.say(message("$later"))
    await office.store()
    result = await verified(office)

    assert "graph_hole" not in codes(result)
    assert {"action": "event_missing", "event_id": "$2", "found_by": "graph"} in gaps(office)
