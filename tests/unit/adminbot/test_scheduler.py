"""Commands that are due are given once each, in the name of who scheduled them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from adminbot import schedule
from adminbot.engine.intake import Source
from adminbot.own.schedules import AddSchedule, RemoveSchedule, Schedules
from adminbot.own_records import OwnRecords
from adminbot.scheduler import Scheduler
from adminbot.store import Store
from common.database.pool import Database
from common.ids import EventId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import ADMIN, DIRECT, NOW, NOW_MS, FakeClock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


class Times:
    """A scheduler whose clock stands still until told."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock()
        self.store = Store(database, self.clock)
        self.records = OwnRecords(database)
        self.scheduler = Scheduler(database, self.clock, self.store, asyncio.Event())

    async def add(self, rule: str, *, missed: str = "once", name: str = "$s") -> None:
        first = schedule.next_after(rule, "UTC", begun=NOW, after=NOW)
        assert first is not None
        step = AddSchedule(
            event=EventId(name),
            owner=ADMIN,
            room=DIRECT,
            text="version",
            formatted=None,
            rule=rule,
            zone="UTC",
            missed=missed,
            begun_ms=NOW_MS,
            next_ms=int(first.timestamp() * 1000),
        )
        async with self.records.database.transaction() as connection:
            await self.records.apply(connection, step)

    async def given(self) -> list[str]:
        return [job.request.event for job in await self.store.jobs(100)]


@pytest.fixture
def times(database: Database) -> Times:
    return Times(database)


async def test_a_command_is_given_when_its_time_comes_and_not_before(times: Times) -> None:
    await times.add(schedule.every(timedelta(hours=1)))
    assert await times.scheduler.give_due() == 0

    times.clock.forward(3600)
    assert await times.scheduler.give_due() == 1
    assert await times.scheduler.give_due() == 0

    (job,) = await times.store.jobs(10)
    assert (job.request.sender, job.request.room) == (ADMIN, DIRECT)
    assert (job.request.text, job.request.source) == ("version", Source.SCHEDULE)
    assert job.request.origin_ms == times.clock.now_ms()
    assert job.trust is None
    (one,) = await times.records.read(Schedules())
    assert (one.runs, one.next_ms) == (1, NOW_MS + 2 * 3_600_000)


@pytest.mark.parametrize(("missed", "runs"), [("once", 1), ("skip", 0), ("all", 4)])
async def test_after_an_absence_missed_runs_are_dealt_with_as_wanted(
    times: Times, missed: str, runs: int
) -> None:
    await times.add(schedule.every(timedelta(hours=1)), missed=missed)

    times.clock.forward(4.5 * 3600)

    assert await times.scheduler.give_due() == runs
    assert len(set(await times.given())) == runs
    (one,) = await times.records.read(Schedules())
    assert one.next_ms == NOW_MS + 5 * 3_600_000


async def test_two_schedulers_give_a_command_once(times: Times) -> None:
    await times.add(schedule.at(NOW + timedelta(minutes=5)))
    times.clock.forward(301)

    # Both have looked before either moves it on.
    (one,) = await times.records.read(Schedules())
    runs = [await times.scheduler._give(one), await times.scheduler._give(one)]

    assert runs == [1, 0]
    assert len(await times.given()) == 1
    assert await times.records.read(Schedules()) == ()


async def test_what_is_removed_is_not_given(times: Times) -> None:
    await times.add(schedule.every(timedelta(hours=1)))
    (one,) = await times.records.read(Schedules())
    async with times.records.database.transaction() as connection:
        await times.records.apply(connection, RemoveSchedule(one.number, one.text))
    times.clock.forward(7200)

    assert await times.scheduler.give_due() == 0
    # A number is for people: it is not given to another one.
    await times.add(schedule.every(timedelta(hours=1)), name="$t")
    (other,) = await times.records.read(Schedules())
    assert other.number == one.number + 1


async def test_a_rule_that_cannot_be_read_stops_no_other(times: Times) -> None:
    await times.add(schedule.every(timedelta(hours=1)))
    await times.add(schedule.every(timedelta(hours=1)), name="$t")
    async with times.records.database.transaction() as connection:
        await connection.execute(
            "UPDATE admin_schedule SET rule = 'cron:nonsense' WHERE event_id = '$s'"
        )
    times.clock.forward(3600)

    assert await times.scheduler.give_due() == 1
    assert len(await times.records.read(Schedules())) == 1
