"""No report is lost, none is told of twice, and those that stay open can be listed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from adminbot.commands import catalogue
from adminbot.own.memory import Remember
from adminbot.own.reports import HandleReport
from adminbot.report_watch import ReportWatch
from common.homeserver.errors import NotFoundError, RefusedError, UnsupportedError
from common.homeserver.synapse.reports import (
    EventReport,
    EventReports,
    ListEventReports,
    ListUserReports,
    UserReport,
    UserReports,
)
from common.homeserver.synapse.room_content import ReadContext
from common.homeserver.synapse.room_reports import ListRoomReports, RoomReport
from common.homeserver.synapse.rooms import Event
from common.homeserver.synapse.users import UserDetails
from common.ids import EventId, RoomId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    BOB,
    CONTROL,
    DIRECT,
    ME,
    NOW_MS,
    SHARED,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    parts,
    request,
)

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
ELSEWHERE = RoomId("!safety")


def about_message(number: int, received_ms: int = NOW_MS) -> EventReport:
    said = EventId(f"$said{number}")
    return EventReport(number, received_ms, SHARED, said, ALICE, "spam", sender=BOB)


def about_person(number: int, received_ms: int = NOW_MS) -> UserReport:
    return UserReport(number, received_ms, BOB, ALICE, "rude")


def about_room(number: int, received_ms: int = NOW_MS) -> RoomReport:
    return RoomReport(number, received_ms, SHARED, ALICE, "noise")


@dataclass
class Reported(FakeAdmin):
    """A homeserver that shows reports as Synapse and the module do, in parts."""

    messages: list[EventReport] = field(default_factory=list)
    people: list[UserReport] = field(default_factory=list)
    rooms: list[RoomReport] = field(default_factory=list)
    module: bool = True

    def _answer(self, request: object) -> object:
        match request:
            case ListEventReports(start=start, limit=limit):
                found = sorted(self.messages, key=lambda one: -one.received_ts)
                part = tuple(found[start : start + limit])
                more = start + limit if len(found) > start + limit else None
                return EventReports(part, len(found), more)
            case ListUserReports(start=start, limit=limit):
                persons = sorted(self.people, key=lambda one: -one.received_ts)
                more = start + limit if len(persons) > start + limit else None
                return UserReports(tuple(persons[start : start + limit]), len(persons), more)
            case ListRoomReports(after=after, since_ms=since_ms):
                if not self.module:
                    raise UnsupportedError(404, "M_UNRECOGNIZED", "no module")
                by_number = sorted(self.rooms, key=lambda one: one.id)
                newer = [one for one in by_number if one.id > after and one.received_ts > since_ms]
                return tuple(newer[:100])
            case ReadContext():
                raise NotFoundError(404, "M_NOT_FOUND", "not found")
            case _:
                return super()._answer(request)


@dataclass
class World:
    admin: Reported
    watch: ReportWatch
    made: Parts
    messenger: FakeMessenger
    clock: FakeClock

    async def told(self) -> list[str]:
        """Look once; return the names of the reports that were told of, in that order."""
        self.messenger.said.clear()
        await self.watch.look()
        words = [body.split() for body in self.messenger.bodies]
        return [each[each.index("reported:") + 1] for each in words]

    async def apply(self, change: Any) -> None:
        async with self.made.store.database.transaction() as connection:
            await self.watch.records.apply(connection, change)

    async def ask(self, text: str) -> str:
        given = request(text)
        self.admin.events[EventId("$command")] = Event("m.room.message", given.sender)
        async with self.made.store.database.transaction() as connection:
            for table in ("admin_plan", "admin_command"):
                await connection.execute(f"DELETE FROM {table}")  # two names of ours
            await self.made.store.take_in(connection, given, None)
        self.messenger.said.clear()
        for job in await self.made.store.jobs(1):
            await self.made.dispatcher.obey(job)
        return self.messenger.bodies[-1]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        clock, messenger = FakeClock(), FakeMessenger()
        admin = Reported(
            users={ADMIN: UserDetails(ADMIN, admin=True)},
            members={CONTROL: (ADMIN, ME), DIRECT: (ADMIN, ME), ELSEWHERE: (ADMIN, ME)},
        )
        made = parts(database, clock, admin, messenger, FakeSender(), catalogue())
        nothing: Any = None
        telling = made.telling
        watch = ReportWatch(admin, nothing, telling.records, telling, clock, None)
        yield World(admin, watch, made, messenger, clock)


async def test_the_first_look_tells_of_nothing_and_the_next_of_all_that_came(
    world: World,
) -> None:
    world.admin.messages = [about_message(number) for number in range(1, 251)]
    world.admin.people = [about_person(1)]
    world.admin.rooms = [about_room(number) for number in range(1, 251)]

    assert await world.told() == []
    assert await world.told() == []

    # More than a page of each kind while Steward was down.
    later = NOW_MS + HOUR_MS
    world.clock.forward(2 * 3600)
    for number in range(251, 461):
        world.admin.messages.append(about_message(number, later + number))
        world.admin.people.append(about_person(number, later + number))
        world.admin.rooms.append(about_room(number, later + number))

    numbers = range(251, 461)
    assert await world.told() == [f"{kind}{number}" for kind in "eur" for number in numbers]
    assert await world.told() == []


async def test_a_report_that_shows_up_after_a_newer_one_is_told_of(world: World) -> None:
    await world.told()
    world.admin.messages = [about_message(2, NOW_MS)]
    assert await world.told() == ["e2"]

    # The homeserver had no figures of its room yet.
    world.admin.messages.append(about_message(1, NOW_MS - MINUTE_MS))

    assert await world.told() == ["e1"]
    assert await world.told() == []


async def test_a_number_that_is_given_again_is_another_report(world: World) -> None:
    await world.told()
    world.admin.people = [about_person(7)]
    assert await world.told() == ["u7"]
    await world.apply(
        HandleReport(kind="user", report=7, claimed_by=ADMIN, closed_by=ADMIN, at_ms=NOW_MS)
    )
    assert await world.ask("reports list") == "There is none."

    # It was deleted, and the homeserver was started again.
    world.clock.forward(3600)
    world.admin.people = [about_person(7, NOW_MS + HOUR_MS)]

    assert await world.told() == ["u7"]
    assert "u7" in await world.ask("reports list")


async def test_what_was_remembered_by_number_goes_on(world: World) -> None:
    await world.apply(Remember("reports-event", "5"))
    world.admin.messages = [about_message(number, NOW_MS + number) for number in range(1, 9)]

    assert await world.told() == ["e6", "e7", "e8"]
    assert await world.told() == []


async def test_a_clock_that_was_ahead_hides_nothing(world: World) -> None:
    await world.told()
    world.admin.messages = [about_message(1, NOW_MS + 1000 * HOUR_MS)]
    assert await world.told() == ["e1"]

    world.admin.messages.append(about_message(2, NOW_MS))

    assert await world.told() == ["e2"]
    assert await world.told() == []


async def test_reports_on_rooms_from_before_the_module_are_no_news(world: World) -> None:
    world.admin.module = False
    await world.told()
    world.admin.module, world.admin.rooms = True, [about_room(1)]

    assert await world.told() == []
    world.admin.rooms.append(about_room(2))
    assert await world.told() == ["r2"]


async def test_where_the_room_takes_no_message_the_admins_are_told(world: World) -> None:
    await world.told()
    world.admin.messages = [about_message(1)]
    watch = ReportWatch(
        world.admin,
        cast(Any, None),
        world.watch.records,
        world.made.telling,
        world.clock,
        ELSEWHERE,
    )
    refused: list[object] = []

    def refuse(content: object) -> RefusedError | None:
        refused.append(content)
        return RefusedError(403, "M_FORBIDDEN", "not today") if len(refused) == 1 else None

    world.messenger.refuse = refuse
    await watch.look()

    assert [room for room, _ in world.messenger.said.values()] == [CONTROL]


async def test_open_reports_are_listed_however_many_closed_ones_are_newer(world: World) -> None:
    world.admin.messages = [about_message(number, NOW_MS + number) for number in range(1, 131)]
    world.admin.rooms = [about_room(number, NOW_MS + number) for number in range(131, 141)]
    for number in range(31, 131):
        await world.apply(
            HandleReport(
                kind="event",
                report=number,
                claimed_by=None,
                closed_by=ADMIN,
                at_ms=NOW_MS + HOUR_MS,
            )
        )

    first = await world.ask("reports list")
    second = await world.ask("reports list --page 2")
    closed = await world.ask("reports list event --closed --page 6")

    names = [f"r{number}" for number in range(140, 130, -1)]
    names += [f"e{number}" for number in range(30, 0, -1)]
    assert _names(first) == names[:25]
    assert "Page 1 of 2. 40 reports in all. Go on with --page 2." in first
    assert _names(second) == names[25:]
    assert "Go on" not in second
    assert _names(closed) == [f"e{number}" for number in range(5, 0, -1)]


def _names(said: str) -> list[str]:
    words = [line.split()[0] for line in said.splitlines() if line.split()]
    return [word for word in words if word[0] in "eur" and word[1:].isdecimal()]
