"""The notice in rooms: what refuses it is asked again, ever more seldom, and nothing is said twice."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from auditbot.room_notice import RoomNotice
from auditbot.rooms import Rooms
from common.database.pool import Database
from common.errors import TransientError
from common.ids import EventId, RoomId, UserId
from common.matrix.client import MatrixError, segment
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock, entries, state

BOT, ADMIN = UserId("@auditbot:example.org"), UserId("@adminbot:example.org")
HALL = RoomId("!hall")
HOUR_MS = 3_600_000


def member(user: str, membership: str = "join", **more: object) -> dict[str, Any]:
    content = {"membership": membership, **more}
    return {"type": "m.room.member", "state_key": user, "sender": user, "content": content}


def named(*users: str) -> list[dict[str, Any]]:
    name = {"type": "m.room.name", "state_key": "", "sender": "@a:x", "content": {"name": "Hall"}}
    return [*unnamed(*users), name]


def unnamed(*users: str) -> list[dict[str, Any]]:
    create = {"type": "m.room.create", "state_key": "", "sender": "@a:x", "content": {}}
    return [create, *(member(user) for user in (*users, BOT, ADMIN))]


@dataclass
class Server:
    """A homeserver's rooms. ``refusals`` are raised instead of sending; ``lost`` after it."""

    states: dict[RoomId, list[dict[str, Any]]] = field(default_factory=dict)
    sent: list[tuple[RoomId, str]] = field(default_factory=list)
    pinned: dict[RoomId, Any] = field(default_factory=dict)
    refusals: list[Exception] = field(default_factory=list)
    lost: list[Exception] = field(default_factory=list)
    pin_refused: set[UserId] = field(default_factory=set)
    history: list[tuple[RoomId, dict[str, Any]]] = field(default_factory=list)
    now_ms: int = NOON

    async def send(self, room_id: RoomId, content: dict[str, Any], *, txn_id: str) -> EventId:
        if self.refusals:
            raise self.refusals.pop(0)
        self.sent.append((room_id, content["body"]))
        event_id = EventId(f"$notice{len(self.sent)}")
        event = {
            "event_id": event_id,
            "sender": BOT,
            "type": "m.room.encrypted",
            "origin_server_ts": self.now_ms,
        }
        self.history.append((room_id, event))
        if self.lost:
            raise self.lost.pop(0)
        return event_id


@dataclass
class Account:
    server: Server
    user_id: UserId = BOT

    async def joined_rooms(self) -> list[RoomId]:
        return list(self.server.states)

    async def state(self, room_id: RoomId) -> list[dict[str, Any]]:
        return self.server.states[room_id]

    async def state_event(
        self, room_id: RoomId, event_type: str, state_key: str = ""
    ) -> dict[str, Any]:
        if room_id not in self.server.pinned:
            raise MatrixError(404, "M_NOT_FOUND", "no")
        return dict(self.server.pinned[room_id])

    async def put_state(
        self, room_id: RoomId, event_type: str, state_key: str, content: dict[str, Any]
    ) -> EventId:
        if self.user_id in self.server.pin_refused:
            raise MatrixError(403, "M_FORBIDDEN", "no power")
        self.server.pinned[room_id] = content
        return EventId("$pin")

    async def request(self, method: str, path: str, *_: Any, **__: Any) -> dict[str, Any]:
        sent = reversed(self.server.history)
        return {
            "chunk": [event for room, event in sent if path.endswith(f"{segment(room)}/messages")]
        }


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@dataclass
class Desk:
    database: Database
    server: Server = field(default_factory=Server)
    clock: StoppedClock = field(default_factory=lambda: StoppedClock(NOON))
    active: bool = True
    direct_chats: bool = False

    def restart(self, text: str = "archived") -> RoomNotice:
        return RoomNotice(
            text=text,
            direct_chats=self.direct_chats,
            account=Account(self.server),
            messenger=self.server,
            pinners=[Account(self.server, ADMIN), Account(self.server)],
            own=[BOT, ADMIN],
            rooms=Rooms(),
            database=self.database,
            clock=self.clock,
            is_active=lambda: self.active,
            pace_seconds=0,
        )

    async def pass_(self, milliseconds: float, text: str = "archived") -> float:
        self.clock.moment_ms += int(milliseconds)
        self.server.now_ms = self.clock.moment_ms
        return await self.restart(text).step()

    async def alarms(self) -> list[str]:
        rows = await self.database.fetch("SELECT sentence FROM alarm ORDER BY number")
        return [row["sentence"] for row in rows]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


async def test_only_rooms_in_which_people_talk_are_told(desk: Desk) -> None:
    two = ("@a:x", "@b:x")
    desk.server.states = {
        HALL: named("@a:x"),
        RoomId("!group"): unnamed(*two, "@c:x"),
        RoomId("!chat"): unnamed(*two),
        RoomId("!out"): named(*two),
        RoomId("!space"): [
            {**named(*two)[0], "content": {"type": "m.space"}},
            *named(*two)[1:],
        ],
    }
    await desk.database.fetchval("SELECT 1")
    async with desk.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO membership_left_out (room_id, reason, since_ms) VALUES ('!out', 'x', 0)"
        )
    desk.active = False
    assert await desk.pass_(0) == 5
    assert desk.server.sent == []
    desk.active = True
    await desk.pass_(0)
    assert [room for room, _ in desk.server.sent] == [HALL, "!group"]
    desk.direct_chats = True
    await desk.pass_(HOUR_MS)
    assert [room for room, _ in desk.server.sent[2:]] == ["!chat"]


async def test_what_people_pinned_stays_and_what_they_took_off_stays_off(desk: Desk) -> None:
    desk.server.states = {HALL: named("@a:x")}
    desk.server.pinned = {HALL: {"pinned": ["$a"], "more": True}}
    desk.server.pin_refused = {BOT}
    await desk.pass_(0)
    assert desk.server.pinned[HALL] == {"pinned": ["$a", "$notice1"], "more": True}

    desk.server.pinned[HALL] = {"pinned": ["$notice1", "$b"]}
    await desk.pass_(HOUR_MS)
    await desk.pass_(HOUR_MS, "another text")
    assert desk.server.pinned[HALL] == {"pinned": ["$notice2", "$b"]}

    desk.server.pinned[HALL] = {"pinned": "nonsense"}
    await desk.pass_(HOUR_MS, "another text")
    assert desk.server.pinned[HALL] == {"pinned": "nonsense"}
    await desk.pass_(HOUR_MS, "a third text")
    assert desk.server.pinned[HALL] == {"pinned": ["$notice3"]}


async def test_where_nobody_may_pin_it_is_said_once_all_the_same(desk: Desk) -> None:
    desk.server.states = {HALL: named("@a:x")}
    desk.server.pin_refused = {BOT, ADMIN}
    for _ in range(3):
        await desk.pass_(HOUR_MS)
    assert desk.server.sent == [(HALL, "archived")]
    assert desk.server.pinned == {}


async def test_a_room_that_refuses_is_asked_ever_more_seldom_and_keeps_no_other_waiting(
    desk: Desk,
) -> None:
    desk.server.states = {HALL: named("@a:x"), RoomId("!other"): named("@a:x")}
    desk.server.refusals = [MatrixError(403, "M_FORBIDDEN", "You may not.")]
    wait = await desk.pass_(0)
    assert desk.server.sent == [("!other", "archived")]
    assert wait == 60

    desk.server.refusals = [MatrixError(403, "M_FORBIDDEN", "You may not.")] * 6
    waits = []
    while desk.server.refusals:
        due_ms = await desk.database.fetchval("SELECT due_ms FROM audit_notice WHERE attempts > 0")
        waits.append(due_ms - desk.clock.moment_ms)
        await desk.pass_(due_ms - desk.clock.moment_ms)
    assert waits == sorted(waits)
    assert waits[-1] == 24 * HOUR_MS
    (told,) = await desk.alarms()
    assert "!hall" in told
    assert "You may not." in told

    # Another text is tried at once, and it is told no second time.
    await desk.pass_(1000, "another text")
    assert (HALL, "another text") in desk.server.sent
    assert len(await desk.alarms()) == 1


async def test_an_answer_that_was_lost_is_no_reason_to_say_it_again(desk: Desk) -> None:
    desk.server.states = {HALL: named("@a:x")}
    desk.server.lost = [TransientError("away")]
    await desk.pass_(0)
    assert HALL not in desk.server.pinned
    # After days the homeserver knows nothing of the transaction any more.
    await desk.pass_(72 * HOUR_MS)
    assert desk.server.sent == [(HALL, "archived")]
    assert desk.server.pinned[HALL] == {"pinned": ["$notice1"]}

    # Nor is what was said before taken for what is new.
    desk.server.refusals = [TransientError("away")]
    await desk.pass_(HOUR_MS, "another text")
    await desk.pass_(HOUR_MS, "another text")
    assert desk.server.sent == [(HALL, "archived"), (HALL, "another text")]


async def test_a_room_without_an_answer_keeps_no_other_waiting(desk: Desk) -> None:
    desk.server.states = {RoomId(f"!{n}"): named("@a:x") for n in range(5)}
    desk.server.refusals = [TransientError("slow")]
    assert await desk.pass_(0) == 300
    assert [room for room, _ in desk.server.sent] == ["!1", "!2", "!3", "!4"]
    # Where none is answered it is the homeserver, and all wait.
    desk.server.refusals = [TransientError("away")] * 10
    with pytest.raises(TransientError):
        await desk.pass_(HOUR_MS, "another text")
    desk.server.refusals = []
    await desk.pass_(HOUR_MS, "another text")
    assert sorted(room for room, text in desk.server.sent if text != "archived") == sorted(
        desk.server.states
    )


async def test_a_room_is_told_a_moment_after_the_bot_came_in(desk: Desk) -> None:
    notice = desk.restart()
    await notice.step()
    joined = state("m.room.member", {"membership": "join"}, key=BOT, room_id=HALL)
    notice.look_at(entries([joined, b"[1", b'"@auditbot:example.org"']))
    desk.server.states = {HALL: named("@a:x")}
    assert await notice.step() == 5
    assert desk.server.sent == []
    desk.clock.moment_ms += 5000
    assert await notice.step() == 600
    assert desk.server.sent == [(HALL, "archived")]

    # Coming in again is no reason to say it again, nor to stay awake.
    notice.look_at(entries([joined]))
    desk.clock.moment_ms += 5000
    assert await notice.step() == 600
    assert len(desk.server.sent) == 1
