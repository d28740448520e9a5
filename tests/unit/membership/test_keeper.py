"""The keeper survives whatever a homeserver or a room answers."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest

from auditbot.manifest_facts import rooms
from common.clock import SystemClock
from common.config.schema import Rooms
from common.database.pool import Database
from common.errors import TransientError
from common.homeserver.client import AdminClient
from common.ids import RoomId, UserId
from common.inbox.port import Entry, EntryKind, Source
from common.inbox.signal import Signal
from common.matrix.client import Json, MatrixClient, MatrixError
from common.membership.keeper import Keeper
from tests.support.databases import open_database, sqlite_url

ROOM = RoomId("!room")
ADMINBOT, AUDITBOT = UserId("@adminbot:x"), UserId("@auditbot:x")


@dataclass
class FakeHomeserver:
    """Answers a keeper's requests; ``fail_join`` raises for joins."""

    fail_join: Exception | None = None
    fail_rooms: dict[str, Exception] = field(default_factory=dict)
    state: list[Json] = field(default_factory=list)
    levels: object = None
    rooms: tuple[str, ...] = (ROOM,)
    joined: set[str] = field(default_factory=set)
    made_admin: list[str] = field(default_factory=list)

    async def answer(self, user: str, method: str, path: str, body: Json | None) -> Any:
        if path.endswith("/join"):
            return self._join(user, path)
        if path.endswith("/make_room_admin"):
            self.made_admin.append(cast(Json, body)["user_id"])
            return {}
        for ending, found in self._answers().items():
            if ending in path:
                return found
        raise MatrixError(404, "M_NOT_FOUND", path)

    def _join(self, user: str, path: str) -> Json:
        errors = [e for room, e in self.fail_rooms.items() if quote(room, safe="") in path]
        if self.fail_join is not None or errors:
            raise self.fail_join or errors[0]
        self.joined.add(user)
        return {}

    def _answers(self) -> dict[str, Json]:
        listed = [{"room_id": each, "joined_local_members": 1} for each in self.rooms]
        create = {
            "type": "m.room.create",
            "sender": "@remote:evil",
            "event_id": "$c",
            "content": {"room_version": "9"},
        }
        return {
            "/leave": {},
            "/m.room.power_levels/": {"users": {}, "users_default": self.levels},
            "/state/m.room.create": create,
            "/state": {"state": self.state},
            "/admin/v1/rooms": {"rooms": listed, "total_rooms": len(listed)},
        }


class FakeClient(MatrixClient):
    """One bot's client that reaches the fake homeserver."""

    def __init__(self, homeserver: FakeHomeserver, user_id: UserId) -> None:
        self._homeserver = homeserver
        self.user_id = user_id
        self.device_id = None

    async def request(self, method: str, path: str, body: Json | None = None, **_: object) -> Json:
        return cast(Json, await self._homeserver.answer(self.user_id, method, path, body))

    async def joined_rooms(self) -> list[RoomId]:
        return []


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def keeper(
    homeserver: FakeHomeserver, database: Database, settings: Rooms | None = None
) -> Keeper:
    bots = [FakeClient(homeserver, user) for user in (ADMINBOT, AUDITBOT)]
    made = Keeper(
        bots=bots,
        admin=AdminClient(bots[0]),
        settings=settings or Rooms(),
        server_name="x",
        database=database,
        clock=SystemClock(),
        sweep_now=Signal(),
    )
    await made.start()
    return made


async def test_a_homeserver_that_is_away_while_joining_is_one_error_and_no_group(
    database: Database,
) -> None:
    homeserver = FakeHomeserver(fail_join=TransientError("502: Failed to make_join"))
    kept = await keeper(homeserver, database)

    with pytest.raises(TransientError):
        await kept.mend(ROOM)
    with pytest.raises(TransientError):
        await kept.sweep()
    async with database.transaction() as connection:
        assert (await rooms(connection))["compared_ms"] is None, "it did not come to its end"


@pytest.mark.parametrize("level", ["+-5", "", "9" * 30, "٣", [], {}, True, 1e9, None])
async def test_power_levels_of_any_kind_are_only_a_problem_to_tell(
    database: Database, level: object
) -> None:
    kept = await keeper(FakeHomeserver(levels=level), database)

    problem = await kept.mend(ROOM)

    assert problem is not None
    assert "power" in problem
    assert await database.fetchval("SELECT problem FROM membership_problem") == problem
    # auditbot is in there and reads: the archive does not call the room left out.
    async with database.transaction() as connection:
        assert (await rooms(connection))["not_covered_count"] == 0


async def test_a_bug_about_one_room_does_not_stop_the_sweep(database: Database) -> None:
    homeserver = FakeHomeserver(fail_join=cast(Exception, AttributeError("bug")))
    kept = await keeper(homeserver, database)

    await kept.sweep()

    assert homeserver.joined == set()
    assert "of Steward's own" in (await not_covered(database))[ROOM]


async def not_covered(database: Database) -> dict[str, str]:
    """Return what manifests say of rooms that are not archived."""
    async with database.transaction() as connection:
        found = await rooms(connection)
    return {each["room_id"]: each["reason"] for each in found["not_covered"]}


async def test_one_room_that_cannot_be_had_does_not_hold_up_the_others(
    database: Database,
) -> None:
    homeserver = FakeHomeserver(
        levels=100,
        rooms=("!a", "!b", "!c"),
        fail_rooms={"!a": TransientError("500: its state is broken")},
    )
    kept = await keeper(homeserver, database)
    async with database.transaction() as connection:
        assert (await rooms(connection))["compared_ms"] is None, "nobody knows before the first"
    began_ms = SystemClock().now_ms()

    await kept.sweep()

    assert kept._joined[AUDITBOT] == {"!b", "!c"}
    async with database.transaction() as connection:
        assert (await rooms(connection))["compared_ms"] >= began_ms
    assert await not_covered(database) == {"!a": "500: its state is broken"}


DIRECT: list[Json] = [
    {
        "type": "m.room.member",
        "state_key": user,
        "sender": "@alice:x",
        "event_id": f"${user}",
        "content": {"membership": "join", "is_direct": True},
    }
    for user in ("@alice:x", "@bob:x", "@carol:x")
]


async def test_a_room_that_is_left_out_on_purpose_is_not_covered_either(
    database: Database,
) -> None:
    kept = await keeper(FakeHomeserver(state=DIRECT), database, Rooms(direct_chats=False))
    assert await kept.mend(ROOM) is None
    assert "rooms.direct_chats is off" in (await not_covered(database))[ROOM]

    kept.settings = Rooms()
    await kept.mend(ROOM)
    assert await not_covered(database) == {}


async def test_rooms_that_the_bots_were_told_to_leave_are_not_covered(database: Database) -> None:
    homeserver = FakeHomeserver(levels=100)
    kept = await keeper(homeserver, database)
    await kept.mend(ROOM)
    assert await not_covered(database) == {}

    await kept.leave(ROOM)
    assert "told to leave" in (await not_covered(database))[ROOM]

    await kept.come_back()
    await kept.mend(ROOM)
    assert await not_covered(database) == {}


async def test_events_of_any_shape_are_looked_at(database: Database) -> None:
    kept = await keeper(FakeHomeserver(), database)
    odd: list[object] = [
        1,
        {"type": [], "room_id": 5},
        {"type": "m.room.member", "room_id": ROOM, "state_key": AUDITBOT, "content": "x"},
        {"type": "m.room.member", "room_id": ROOM, "state_key": AUDITBOT, "sender": "no colon"},
    ]
    entries = [
        Entry(number, EntryKind.EVENT, json.dumps(each).encode(), Source.SYNC, "", "", 0)
        for number, each in enumerate(odd)
    ]

    await kept.handle([*entries, Entry(9, EntryKind.EVENT, b"{", Source.SYNC, "", "", 0)])
