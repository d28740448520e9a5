"""What was promised for later is done once, when it is due, restarts or not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adminbot.audit_trail import AuditTrail
from adminbot.engine.answer import Answer, answer
from adminbot.engine.codec import Codec
from adminbot.engine.step import TellPerson
from adminbot.known import known_types
from adminbot.later import Later
from adminbot.own.later import DoLater, DueLater, ForgetLater, do_later
from adminbot.own.people import SetLanguage
from adminbot.own_records import OwnRecords
from common.config.secret import Secret
from common.crypto.sealing import Sealer
from common.database.pool import Database
from common.errors import TransientError
from common.homeserver.client_server.membership import UnbanUser
from common.homeserver.port import Grant, Permission
from common.homeserver.synapse.account_state import SuspendUser
from common.ids import EventId, UserId
from tests.support.clients import wait_for
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import ADMIN, ALICE, BOB, DIRECT, NOW, SHARED, FakeAdmin, FakeClock


@dataclass
class FakeTelling:
    said: dict[str, tuple[UserId, Answer]] = field(default_factory=dict)

    async def to_person(self, user: UserId, said: Answer, *, key: str) -> EventId:
        self.said.setdefault(key, (user, said))
        return EventId(f"${key}")


@dataclass
class World:
    later: Later
    admin: FakeAdmin
    clock: FakeClock
    database: Database
    telling: FakeTelling
    performed: list[Any]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.later.run())
            await wait_for(condition, 60, what)
            task.cancel()

    async def until_over(self) -> None:
        """Work until nothing waits."""

        async def over() -> bool:
            return not {"waiting", "begun"} & set(await self.statuses())

        await self.until(over, "an end")

    async def statuses(self) -> list[str]:
        rows = await self.database.fetch("SELECT status FROM admin_later ORDER BY key")
        return [row["status"] for row in rows]


def build(database: Database) -> World:
    admin, clock, telling, performed = FakeAdmin(), FakeClock(), FakeTelling(), []

    async def perform(step: Any, key: str) -> None:
        performed.append((step, key))

    later = Later(
        database=database,
        clock=clock,
        codec=Codec(known_types()),
        sealer=Sealer(Secret("test")),
        trail=AuditTrail(database, clock),
        admin=admin,
        records=OwnRecords(database),
        performers={TellPerson: perform},
        telling=telling,
    )
    return World(later, admin, clock, database, telling, performed)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        yield build(database)


def promise(step: Any, *, slot: str = "lock", seconds: float = 60) -> DoLater:
    due = NOW + timedelta(seconds=seconds)
    made: object = do_later(step, slot=slot, due=due, requester=ADMIN, asked_in=DIRECT)
    assert isinstance(made, DoLater)
    return made


async def test_it_is_done_when_it_is_due_and_not_before(world: World) -> None:
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False)), "one")
    await world.later.write_down(promise(SuspendUser(ALICE), slot="x", seconds=0), "now")

    async def one_is_done() -> bool:
        return await world.statuses() == ["done", "waiting"]

    await world.until(one_is_done, "what is due")

    assert [call.body for call in world.admin.changes] == [{"suspend": True}]
    assert await OwnRecords(world.database).read(DueLater(("lock", "x"))) == {
        "lock": NOW + timedelta(seconds=60)
    }
    world.clock.forward(61)
    await world.until_over()
    assert [call.body for call in world.admin.changes][1:] == [{"suspend": False}]


async def test_a_later_promise_takes_the_place_of_an_earlier_one(world: World) -> None:
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False), seconds=-9), "a")
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False), seconds=-5), "b")
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False), seconds=-5), "b")

    await world.until_over()

    assert len(world.admin.changes) == 1
    assert await world.statuses() == ["cancelled", "done"]


async def test_what_was_cut_short_is_repeated_only_where_that_is_safe(world: World) -> None:
    unlock, unban = SuspendUser(ALICE, suspended=False), UnbanUser(SHARED, ALICE)
    await world.later.write_down(promise(unlock, seconds=0), "a")
    await world.later.write_down(promise(unban, slot="ban", seconds=0), "b")
    async with world.database.transaction() as connection:
        await connection.execute("UPDATE admin_later SET status = 'begun'")

    await world.until_over()
    await world.until(lambda: world.telling.said, "the complaint")

    assert [call.body for call in world.admin.changes] == [{"suspend": False}]
    assert await world.statuses() == ["done", "failed"]
    ((told, _),) = world.telling.said.values()
    assert told == ADMIN


async def test_it_is_not_undone_before_it_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adminbot.later.SOON_SECONDS", 0.01)
    # The plan that is to lock, and has promised to unlock, is not over yet.
    async with world.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO admin_job (event_id, number, room_id, requester, command, summary,"
            " fingerprint, status, total, bulk, at_once, started_ms)"
            " VALUES ('$lock-it', 1, '!r', '@r:x', '', '', '', 'running', 2, 0, 1, 0)"
        )
    undo = promise(SuspendUser(ALICE, suspended=False), seconds=-5)
    await world.later.write_down(undo, "steward-step-0-$lock-it")
    await world.later.write_down(promise(SuspendUser(BOB), slot="x", seconds=-1), "b")

    await world.until(lambda: world.admin.changes, "the other one")

    assert not any("alice" in call.path for call in world.admin.changes)
    async with world.database.transaction() as connection:
        await connection.execute("UPDATE admin_job SET status = 'done'")
    await world.until_over()
    assert any("alice" in call.path for call in world.admin.changes)


async def test_a_homeserver_that_is_away_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adminbot.later.REST_SECONDS", 0.01)
    away = [True, True]

    def refuse(call: object) -> bool:
        if away:
            away.pop()
            raise TransientError("away")
        return False

    world.admin.refuse_change = refuse
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False), seconds=0), "a")

    await world.until_over()

    assert await world.statuses() == ["done"]
    assert len(world.admin.changes) == 1


async def test_what_the_homeserver_refuses_is_told_to_who_asked(world: World) -> None:
    world.admin.refuse_change = lambda call: True
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False), seconds=0), "a")

    await world.until_over()
    await world.until(lambda: world.telling.said, "the complaint")

    assert await world.statuses() == ["failed"]
    assert "not today" in str(next(iter(world.telling.said.values())))


async def test_own_changes_and_words_can_be_promised_too(world: World) -> None:
    words = TellPerson(user=ALICE, said=answer("It is over."))
    await world.later.write_down(promise(SetLanguage(ALICE, "de"), slot="a", seconds=0), "a")
    await world.later.write_down(promise(words, slot="b", seconds=0), "b")

    await world.until_over()

    assert world.performed == [(words, "b-later")]
    language = await world.database.fetchval("SELECT language FROM admin_person")
    assert language == "de"
    noted = await world.database.fetch("SELECT phase, sender FROM admin_action ORDER BY phase")
    assert {(row["phase"], row["sender"]) for row in noted} == {
        ("about to", ADMIN),
        ("did", ADMIN),
    }


async def test_a_promise_can_be_taken_back(world: World) -> None:
    await world.later.write_down(promise(SuspendUser(ALICE, suspended=False), seconds=-1), "a")
    async with world.database.transaction() as connection:
        await OwnRecords(world.database).apply(connection, ForgetLater("lock"))
    await world.later.write_down(promise(SuspendUser(ALICE), slot="x", seconds=0), "b")

    await world.until(lambda: world.admin.changes, "what is due")

    assert [call.body for call in world.admin.changes] == [{"suspend": True}]


def test_a_promise_needs_what_its_step_needs() -> None:
    in_shared = Grant(frozenset(), frozenset({Permission.MODERATE}), SHARED)
    elsewhere = Grant(frozenset(), frozenset({Permission.MODERATE}), DIRECT)
    unban = promise(UnbanUser(SHARED, ALICE))

    assert in_shared.allows(unban)
    assert not elsewhere.allows(unban)
    assert not in_shared.allows(promise(SuspendUser(ALICE)))
