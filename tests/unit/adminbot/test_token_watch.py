"""Who made a registration token is told of its end, once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adminbot.engine.step import OwnChange
from adminbot.own.tokens import RememberToken, TokenChanged
from adminbot.own_records import OwnRecords
from adminbot.token_watch import TokenWatch
from common.config.secret import Secret
from common.database.pool import Database
from common.homeserver.synapse.registration_tokens import RegistrationToken
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.test_later import FakeTelling
from tests.unit.adminbot.world import ADMIN, NOW_MS, FakeClock

HOUR_MS = 3_600_000


@dataclass
class FakeTokens:
    there: tuple[RegistrationToken, ...] = ()
    asked: int = 0

    async def read(self, request: Any) -> Any:
        self.asked += 1
        return self.there


@dataclass
class World:
    watch: TokenWatch
    tokens: FakeTokens
    telling: FakeTelling
    clock: FakeClock
    database: Database

    async def apply(self, change: OwnChange) -> None:
        async with self.database.transaction() as connection:
            await OwnRecords(self.database).apply(connection, change)

    async def made(self, token: str = "choir-token") -> None:
        await self.apply(
            RememberToken(token=Secret(token), creator=ADMIN, note="the choir", made_ms=NOW_MS)
        )

    async def said(self) -> list[str]:
        await self.watch.look()
        return [str(answer.blocks[0]) for _, answer in self.telling.said.values()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        tokens, telling, clock = FakeTokens(), FakeTelling(), FakeClock()
        watch = TokenWatch(database, OwnRecords(database), tokens, telling, clock)
        yield World(watch, tokens, telling, clock, database)


async def test_a_day_before_it_expires_its_maker_is_told_once(world: World) -> None:
    await world.made()
    expiry = NOW_MS + 48 * HOUR_MS
    world.tokens.there = (RegistrationToken("choir-token", 5, 0, 2, expiry),)

    assert await world.said() == []
    world.clock.forward(25 * 3600)
    (said,) = await world.said()
    assert "cho…" in said
    assert "choir-token" not in said
    assert "the choir" in said
    world.telling.said.clear()
    assert await world.said() == []


async def test_one_that_lives_less_than_a_day_needs_no_reminder(world: World) -> None:
    await world.made()
    world.tokens.there = (RegistrationToken("choir-token", 5, 0, 0, NOW_MS + 5 * HOUR_MS),)

    assert await world.said() == []


async def test_when_it_is_used_up_its_maker_is_told_and_again_after_more(world: World) -> None:
    await world.made()
    world.tokens.there = (RegistrationToken("choir-token", 2, 0, 2),)
    assert len(await world.said()) == 1
    assert len(await world.said()) == 1

    await world.apply(
        TokenChanged(token=Secret("choir-token"), creator=ADMIN, uses=None, at_ms=NOW_MS)
    )
    world.tokens.there = (RegistrationToken("choir-token", 3, 0, 3),)

    assert len(await world.said()) == 2


async def test_one_that_was_switched_off_is_not_used_up(world: World) -> None:
    await world.made()
    await world.apply(
        TokenChanged(token=Secret("choir-token"), creator=ADMIN, uses=5, at_ms=NOW_MS)
    )
    world.tokens.there = (RegistrationToken("choir-token", 0, 0, 2),)

    assert await world.said() == []


async def test_nobody_asks_the_homeserver_for_nothing(world: World) -> None:
    assert await world.said() == []
    assert world.tokens.asked == 0
    await world.made()
    world.clock.forward(2 * 86_400)
    await world.said()
    await world.said()
    assert world.tokens.asked == 1  # it was not there, so it was forgotten


async def test_the_token_itself_is_not_in_the_database(world: World) -> None:
    await world.made("a-very-secret-token")

    rows = await world.database.fetch("SELECT * FROM admin_token")

    assert "a-very-secret-token" not in str([dict(row) for row in rows])
