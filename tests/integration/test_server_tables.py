"""The tables about accounts, notices, rooms and schedules, on PostgreSQL as on SQLite."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adminbot import schedule
from adminbot.activity import Activity
from adminbot.arrivals import TokenArrivals, take_note
from adminbot.engine.step import OwnChange
from adminbot.granting import Granting
from adminbot.newcomers import Newcomers
from adminbot.own.accounts import (
    ActiveByDay,
    CreatedSince,
    KindsAmong,
    KindsOfAccounts,
    MessagesByDay,
    Month,
    MonthsSeen,
    WatchedSince,
)
from adminbot.own.arrivals import Arrivals, CountArrivals, Watch, Watcher, Watchers
from adminbot.own.grants import GrantOf, MakeGrantedToken, SetTokenGrant, TokenGrants
from adminbot.own.memory import MAINTENANCE, Remember
from adminbot.own.notices import (
    CopyFor,
    KeepNotice,
    MarkCopy,
    Motd,
    NoticeContent,
    NoticeReaders,
    Notices,
    ReviseNotice,
    SetMotd,
)
from adminbot.own.schedules import AddSchedule, RemoveSchedule, Schedules
from adminbot.own.server_rooms import (
    AddDefaultRoom,
    BlockedRooms,
    DefaultRooms,
    ForgetBlock,
    PausedSince,
    RememberBlock,
    RemoveDefaultRoom,
    RoomActivity,
    RoomTroubles,
)
from adminbot.own_records import OwnRecords
from adminbot.scheduler import Scheduler
from adminbot.server_acts import ServerActs
from adminbot.store import Store
from common.config.secret import Secret
from common.database.pool import Database
from common.errors import UserError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.synapse.users import UserDetails
from common.ids import EventId
from common.inbox.port import Entry, EntryKind, Source
from common.membership.pause import end_pause, is_paused, pause
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres
from tests.unit.adminbot.test_arrivals import FakeHomeserver, FakeTelling
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    BOB,
    DIRECT,
    ME,
    NOW,
    NOW_MS,
    SERVER,
    SHARED,
    FakeAdmin,
    FakeClock,
)


@pytest.fixture(params=["postgres", "sqlite"])
async def database(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[Database]:
    if request.param == "postgres":
        url = (await postgres.create_database()).url
    else:
        url = sqlite_url(tmp_path)
    async with open_database(url) as opened:
        yield opened


async def apply(records: OwnRecords, *changes: OwnChange) -> None:
    async with records.database.transaction() as connection:
        for change in changes:
            await records.apply(connection, change)


async def test_notices_and_their_copies(database: Database) -> None:
    records = OwnRecords(database)
    kept = KeepNotice("$n", ADMIN, "everybody", {"body": "hello"}, NOW_MS)
    await apply(records, kept, kept)
    await apply(records, MarkCopy("$n", ALICE, "sending"), MarkCopy("$n", BOB, "sending"))
    await apply(records, MarkCopy("$n", ALICE, "sent", EventId("$e")), MarkCopy("$n", BOB, ""))

    (one,) = await records.read(Notices())
    assert (one.number, one.sent, one.unsure, one.recalled) == (1, 1, 0, 0)
    assert await records.read(NoticeReaders("$n")) == (ALICE,)
    assert await records.read(CopyFor("$n", BOB)) is None
    copy = await records.read(CopyFor("$n", ALICE))
    assert copy is not None
    assert (copy.status, copy.event) == ("sent", "$e")
    await apply(records, ReviseNotice("$n", 1, {"body": "new"}), MarkCopy("$n", ALICE, "recalled"))
    await apply(records, ReviseNotice("$n", 1, {"body": "an old step again"}))
    assert await records.read(NoticeContent("$n")) == ({"body": "new"}, 1)
    (one,) = await records.read(Notices(number=1))
    assert (one.text, one.recalled) == ("new", 1)
    copy = await records.read(CopyFor("$n", ALICE))
    assert copy is not None
    assert copy.event == "$e"
    await apply(records, SetMotd("welcome", ADMIN), SetMotd("hello", ADMIN))
    assert await records.read(Motd()) == "hello"
    await apply(records, SetMotd(None, ADMIN))
    assert await records.read(Motd()) is None


async def test_rooms(database: Database) -> None:
    records, clock = OwnRecords(database), FakeClock()
    await apply(
        records,
        AddDefaultRoom(SHARED, ADMIN, NOW_MS),
        AddDefaultRoom(SHARED, ADMIN, NOW_MS + 1),
        RememberBlock(SHARED, "spam", ADMIN, NOW_MS),
        RememberBlock(SHARED, "worse", ADMIN, NOW_MS),
    )
    assert await records.read(DefaultRooms()) == (SHARED,)
    assert [one.reason for one in await records.read(BlockedRooms())] == ["worse"]
    await apply(records, RemoveDefaultRoom(SHARED), ForgetBlock(SHARED))
    assert await records.read(DefaultRooms()) == ()
    assert await records.read(BlockedRooms()) == ()
    assert await records.read(RoomTroubles()) == ()
    for _ in range(2):
        await pause(database, clock)
    assert await is_paused(database)
    assert await records.read(PausedSince()) == NOW_MS
    await end_pause(database)
    assert await records.read(PausedSince()) is None


async def test_schedules(database: Database) -> None:
    records, clock = OwnRecords(database), FakeClock()
    store = Store(database, clock)
    scheduler = Scheduler(database, clock, store, asyncio.Event())
    step = AddSchedule(
        event=EventId("$s"),
        owner=ADMIN,
        room=DIRECT,
        text="version",
        formatted=None,
        rule=schedule.at(NOW + timedelta(seconds=5)),
        zone="UTC",
        missed="once",
        begun_ms=NOW_MS,
        next_ms=NOW_MS + 5_000,
    )
    await apply(records, step, step)
    clock.forward(6)

    assert [await scheduler.give_due(), await scheduler.give_due()] == [1, 0]

    assert len(await store.jobs(10)) == 1
    assert await records.read(Schedules()) == ()
    await apply(records, RemoveSchedule(1, "version"))


async def test_accounts_and_visits(database: Database) -> None:
    records, clock, admin = OwnRecords(database), FakeClock(), FakeAdmin()
    clock.forward(10)
    admin.users = {
        ALICE: UserDetails(name=ALICE),
        BOB: UserDetails(name=BOB, appservice_id="irc"),
    }
    activity = Activity(database, clock, admin, SERVER, frozenset({ME}))
    acts = ServerActs(admin, records)
    arrivals = TokenArrivals(
        database, clock, admin, records, acts, FakeTelling(), FakeHomeserver()
    )
    newcomers = Newcomers(database, clock, admin, records, acts, arrivals)

    await activity.read_visits()
    assert await newcomers.look() == 2
    assert await newcomers.look() == 0
    await newcomers.welcome_due()
    event = {
        "type": "m.room.message",
        "sender": ALICE,
        "room_id": "!r",
        "origin_server_ts": NOW_MS,
    }
    for _ in range(2):
        body = json.dumps(event).encode()
        effect = activity.look([Entry(1, EntryKind.EVENT, body, Source.TRANSACTION, "", "", 0)])
        async with database.transaction() as connection:
            await effect(connection)

    assert await records.read(KindsOfAccounts()) == {ALICE: "person", BOB: "bridged"}
    assert await records.read(Month("2026-11")) == {ALICE: 1}
    assert await records.read(MonthsSeen(0)) == {"2026-11": 1}
    assert await records.read(ActiveByDay(("2026-11", "2026-10"))) == {NOW.date(): 1}
    assert await records.read(MessagesByDay("2026-11-01")) == {NOW.date(): 2}
    assert await records.read(CreatedSince(0)) == (0,)
    assert await records.read(RoomActivity()) == {"!r": NOW_MS}
    assert await records.read(WatchedSince()) == NOW_MS + 10_000


async def test_new_accounts_and_who_is_told_of_them(database: Database) -> None:
    records = OwnRecords(database)
    async with database.transaction() as connection:
        await take_note(connection, [(ALICE, NOW_MS), (BOB, NOW_MS)], NOW_MS)
        await take_note(connection, [(ALICE, NOW_MS)], NOW_MS + 1)
    here, alone = Watcher(SHARED, ADMIN), Watcher(None, ALICE)
    await apply(records, Watch(here, True, NOW_MS), Watch(here, True, NOW_MS))
    await apply(records, Watch(alone, True, NOW_MS + 1))

    assert await records.read(CountArrivals()) == 2
    assert {each.user for each in await records.read(Arrivals(10))} == {ALICE, BOB}
    assert await records.read(Arrivals(10, digest="x")) == ()
    assert await records.read(Watchers()) == (here, alone)
    await apply(records, Watch(Watcher(SHARED, BOB), False, NOW_MS))
    assert await records.read(Watchers()) == (alone,)
    assert await records.read(KindsAmong(())) == {}
    assert await records.read(KindsAmong((ALICE, BOB))) == {}


async def test_two_requests_at_once_do_not_both_get_the_last_token(database: Database) -> None:
    records, admin = OwnRecords(database), Tokens()
    await apply(records, SetTokenGrant(ALICE, 1, ADMIN, NOW_MS))

    def step(token: str) -> MakeGrantedToken:
        return MakeGrantedToken(
            user=ALICE,
            token=Secret(token),
            note="",
            made_ms=NOW_MS,
            expires_ms=NOW_MS,
            month="2026-11",
        )

    granting, refused = Granting(admin, records), []

    async def ask(token: str) -> None:
        try:
            await granting.make(step(token), "key")
        except UserError as error:
            refused.append(str(error))

    async with asyncio.TaskGroup() as group:
        for token in ("one", "two", "three"):
            group.create_task(ask(token))

    assert len(admin.made) == 1
    assert len(refused) == 2
    grant = await records.read(GrantOf(ALICE, "2026-11"))
    assert grant is not None
    assert (grant.per_month, grant.used) == (1, 1)
    await ask(admin.made[0])  # the same once more, after a crash
    assert len(admin.made) == 1
    other = await records.read(GrantOf(ALICE, "2026-12"))
    assert other is not None
    assert other.used == 0
    await apply(records, SetTokenGrant(ALICE, 2, ADMIN, NOW_MS))
    await apply(records, Remember(MAINTENANCE, '{"lock": true}'))
    with pytest.raises(UserError, match="closed during maintenance"):
        await granting.make(step("meanwhile"), "key")
    for over in ("", '{"lock": false}'):
        await apply(records, Remember(MAINTENANCE, over))
    admin.refuse = True
    with pytest.raises(RefusedError):
        await granting.make(step("four"), "key")
    (grant,) = await records.read(TokenGrants("2026-11"))
    assert grant.used == 1, "what was not made is not counted"
    await apply(records, SetTokenGrant(ALICE, 0, ADMIN, NOW_MS))
    assert await records.read(TokenGrants("2026-11")) == ()


class Tokens:
    """A homeserver that makes registration tokens."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.refuse = False

    async def read(self, request: Any) -> Any:
        if request.token not in self.made:
            raise NotFoundError(404, "M_NOT_FOUND", "no such token")
        return None

    async def change(self, request: Any) -> Any:
        if self.refuse:
            raise RefusedError(400, "M_UNKNOWN", "not today")
        self.made.append(request.token.reveal())
