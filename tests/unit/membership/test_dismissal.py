"""Who stays in a room that a bot was asked to leave: the other bot, with power, always."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.config.schema import Rooms
from common.database.pool import Database
from common.ids import UserId
from common.matrix.client import Json
from common.membership.dismissal import dismiss
from common.membership.keeper import Keeper
from tests.support.databases import open_database, sqlite_url
from tests.unit.membership.test_keeper import ADMINBOT, AUDITBOT, ROOM, FakeHomeserver, keeper

ALICE = UserId("@alice:x")


@dataclass
class Server(FakeHomeserver):
    """With members, as the administration API tells of them."""

    levels: object = 100
    members: dict[str, str] = field(default_factory=dict)

    async def answer(self, user: str, method: str, path: str, body: Json | None) -> Any:
        if path.endswith("/m.room.power_levels/"):
            return {"users": {user: 100}}
        if "/admin/" in path and path.partition("?")[0].endswith("/state"):
            return {"state": [_member(*one) for one in self.members.items()]}
        return await super().answer(user, method, path, body)


def _member(user: str, membership: str) -> dict[str, Any]:
    return {
        "type": "m.room.member",
        "sender": user,
        "state_key": user,
        "event_id": "$m",
        "origin_server_ts": 0,
        "content": {"membership": membership},
    }


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def made(server: Server, database: Database, *, allowed: bool = True) -> Keeper:
    kept = await keeper(server, database)
    await dismiss(database, SystemClock(), ROOM, ADMINBOT, ALICE)
    return replace_settings(kept, allowed=allowed)


def replace_settings(kept: Keeper, *, allowed: bool) -> Keeper:
    return replace(kept, settings=Rooms(dismissal=allowed))


async def test_the_other_bot_enters_without_the_one_that_left(database: Database) -> None:
    server = Server(members={ADMINBOT: "leave"})

    assert await (await made(server, database)).mend(ROOM) is None

    assert server.joined == {AUDITBOT}


async def test_an_invitation_brings_it_back(database: Database) -> None:
    server = Server(members={ADMINBOT: "invite"})

    assert await (await made(server, database)).mend(ROOM) is None

    assert server.joined == {ADMINBOT, AUDITBOT}
    assert await database.fetchval("SELECT COUNT(*) FROM membership_dismissal") == 0


async def test_where_the_operator_takes_the_leave_back_all_are_wanted(database: Database) -> None:
    server = Server(members={ADMINBOT: "leave"})

    assert await (await made(server, database, allowed=False)).mend(ROOM) is None

    assert server.joined == {ADMINBOT, AUDITBOT}
