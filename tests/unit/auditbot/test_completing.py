"""One event that the homeserver fails on keeps no other from being found, fetched and told of."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from auditbot.completing import AGAIN_MS, SETTLE_MS
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Database
from common.errors import TransientError
from common.matrix.client import MatrixError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, message, new_room
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.world import AUDITBOT, KnownRooms


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@dataclass
class Homeserver(KnownRooms):
    """Gives events by name; ``None`` is one that it always fails on."""

    events: dict[str, bytes | None] = field(default_factory=dict)
    is_away: bool = False
    asked_for: list[str] = field(default_factory=list)

    async def get_bytes(self, path: str, **_: object) -> bytes:
        name = path.rpartition("/")[2].replace("%24", "$")
        self.asked_for.append(name)
        if name not in self.events:
            raise MatrixError(404, "M_NOT_FOUND", "Event not found.")
        body = self.events[name]
        if self.is_away or body is None:
            raise TransientError("The homeserver answered 500.")
        return body

    async def request(self, _method: str, path: str, **_: object) -> dict[str, Any]:
        self.asked_for.append(path.split("/")[4])
        if self.is_away:
            raise TransientError("The homeserver cannot be reached.")
        raise MatrixError(404, "M_NOT_FOUND", "Nothing there.")


@pytest.fixture
def homeserver() -> Homeserver:
    return Homeserver()


@pytest.fixture
async def office(database: Database, tmp_path: Path, homeserver: Homeserver) -> Office:
    office = Office(database, tmp_path)
    office.world.rooms = homeserver
    office.start()
    await office.say(*new_room(AUDITBOT))
    return office


async def _missing(office: Office, *names: str, noticed_ms: int = 0) -> None:
    async with office.world.database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO audit_missing (event_id, room_id, found_by, noticed_ms)"
            " VALUES ($1, '!room', 'graph', $2)",
            [(name, noticed_ms + number) for number, name in enumerate(names)],
        )


async def _gaps(office: Office) -> dict[str, dict[str, Any]]:
    details = [json.loads(one["detail_json"]) for one in await office.world.events("gap")]
    return {detail.pop("event_id"): detail for detail in details}


async def test_an_event_that_the_homeserver_fails_on_keeps_no_other_waiting(
    office: Office, homeserver: Homeserver
) -> None:
    homeserver.events = {"$bad1": None, "$bad2": None, "$bad3": None, "$bad4": None}
    homeserver.events["$good"] = message("$good")
    await _missing(office, *homeserver.events, "$unknown")

    assert await office.bot.completing.look() == 6

    gaps = await _gaps(office)
    assert gaps.keys() == {*homeserver.events, "$unknown"}
    assert gaps["$bad1"] == {"found_by": "graph"}
    assert gaps["$unknown"] == {"found_by": "graph", "refused": "M_NOT_FOUND"}
    async with office.world.database.transaction() as connection:
        await connection.execute("DELETE FROM inbox_entry")  # "$good", dealt with
    homeserver.asked_for.clear()
    await office.bot.completing.fetch()
    assert homeserver.asked_for == []  # not at once
    for wait_ms in AGAIN_MS:
        office.at(office.world.clock.now_ms() + wait_ms)
        await office.bot.completing.fetch()
    assert homeserver.asked_for.count("$bad1") == len(AGAIN_MS)
    assert len(await office.world.events("gap")) == 6


async def test_nothing_is_counted_while_the_homeserver_is_away(
    office: Office, homeserver: Homeserver
) -> None:
    homeserver.events = {"$a": message("$a"), "$b": message("$b")}
    await _missing(office, *homeserver.events)
    homeserver.is_away = True

    for _ in range(5):
        with pytest.raises(TransientError):
            await office.bot.completing.look()

    assert await _gaps(office) == {}
    assert homeserver.asked_for.count("$a") == 5
    assert "$b" not in homeserver.asked_for
    asked = await office.world.database.fetch("SELECT asked, again_ms FROM audit_missing")
    assert [(row["asked"], row["again_ms"]) for row in asked] == [(0, 0), (0, 0)]
    homeserver.is_away = False
    assert await office.bot.completing.look() == 2


async def test_rooms_are_compared_although_nothing_could_be_fetched(
    office: Office, homeserver: Homeserver
) -> None:
    homeserver.events = {"$a": message("$a")}
    await _missing(office, "$a")
    homeserver.is_away = True

    with pytest.raises(TransientError):
        await office.bot.completing.look()

    rows = await office.world.database.fetch("SELECT room_id, trouble FROM audit_sample")
    assert [row["room_id"] for row in rows] == ["!room"]


async def test_a_hole_is_told_after_the_clock_is_set_back(
    office: Office, homeserver: Homeserver
) -> None:
    await _missing(office, "$a", "$b", noticed_ms=NOON + 300 * DAY_MS)
    async with office.world.database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_missing SET again_ms = $1 WHERE event_id = '$b'",
            NOON + 300 * DAY_MS,
        )

    assert await office.bot.completing.fetch() == 0
    office.at(NOON + SETTLE_MS)

    assert await office.bot.completing.fetch() == 2
    assert (await _gaps(office)).keys() == {"$a", "$b"}
