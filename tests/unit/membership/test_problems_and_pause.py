"""What is wrong in rooms is forgotten with them; bots on leave enter none but a chat with them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from common.clock import SystemClock
from common.config.schema import Rooms
from common.database.pool import Database
from common.homeserver.client import AdminClient
from common.homeserver.port import Json
from common.ids import RoomId, UserId
from common.matrix.client import MatrixError
from common.membership.pause import is_begun_with
from common.membership.policy import BridgeChats, judge
from common.membership.problems import forget_all_but, remember
from tests.support.databases import open_database, sqlite_url

ROOM, OTHER = RoomId("!room"), RoomId("!other")
LEADER, SECOND = UserId("@adminbot:x"), UserId("@auditbot:x")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def test_problems_of_rooms_that_are_gone_are_forgotten(database: Database) -> None:
    clock = SystemClock()
    for room in (ROOM, OTHER):
        await remember(database, clock, room, "no power")

    await forget_all_but(database, [OTHER, RoomId("!third")])

    rows = await database.fetch("SELECT room_id FROM membership_problem")
    assert [row["room_id"] for row in rows] == [OTHER]
    await remember(database, clock, OTHER, None)
    assert await database.fetchval("SELECT COUNT(*) FROM membership_problem") == 0


class Members:
    """Answers with the members of a room."""

    def __init__(self, **members: Json) -> None:
        self.members = members

    async def request(self, method: str, path: str, body: Json | None = None, **_: Any) -> Json:
        if not self.members:
            raise MatrixError(404, "M_NOT_FOUND", path)
        events = [
            {
                "type": "m.room.member",
                "sender": "@alice:x",
                "event_id": f"${name}",
                "state_key": f"@{name}:x",
                "content": content,
            }
            for name, content in self.members.items()
        ]
        return {"state": events}


INVITED = {"membership": "invite", "is_direct": True}
JOINED = {"membership": "join"}


@pytest.mark.parametrize(
    ("members", "begun"),
    [
        ({"alice": JOINED, "adminbot": INVITED}, True),
        ({"alice": JOINED, "adminbot": INVITED, "auditbot": INVITED}, True),
        ({"alice": JOINED, "bob": {"membership": "leave"}, "adminbot": INVITED}, True),
        # A chat of two people, to which the module adds the bots.
        ({"alice": JOINED, "bob": INVITED, "adminbot": INVITED}, False),
        ({"alice": JOINED, "adminbot": {"membership": "invite"}}, False),
        ({"alice": JOINED, "adminbot": {"membership": "leave"}}, False),
        ({"alice": JOINED, "auditbot": INVITED}, False),
        ({"adminbot": INVITED}, False),
        ({}, False),
    ],
)
async def test_only_a_chat_with_the_leader_is_entered_on_leave(
    members: dict[str, Json], begun: bool
) -> None:
    admin = AdminClient(cast(Any, Members(**members)))

    assert await is_begun_with(admin, ROOM, LEADER, {LEADER, SECOND}) is begun


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"alice": JOINED, "bob": INVITED}, False),
        ({"alice": JOINED, "bob": INVITED, "adminbot": JOINED}, False),
        # Somebody's own chat with adminbot is where they give commands.
        ({"alice": JOINED, "adminbot": INVITED}, True),
        ({"alice": JOINED, "adminbot": JOINED, "auditbot": INVITED}, True),
        ({"alice": JOINED, "bob": JOINED}, True),  # not a direct chat
    ],
)
async def test_without_direct_chats_a_chat_with_the_bots_is_entered_all_the_same(
    members: dict[str, Json], wanted: bool
) -> None:
    admin = AdminClient(cast(Any, Members(**members)))
    bridges = BridgeChats([], {LEADER, SECOND}, SystemClock().now_ms())

    verdict = await judge(admin, ROOM, Rooms(direct_chats=False), "x", bridges)

    assert verdict.wanted is wanted
    assert bool(verdict.reason) is not wanted
