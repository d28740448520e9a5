"""Of a new account who watches is told once, and only who may know it at that moment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adminbot.arrivals import take_note
from adminbot.commands import catalogue
from adminbot.own.arrivals import TokenWatchers, Watch, Watcher, WatchToken
from adminbot.own_records import OwnRecords
from adminbot.registration_watch import MOST_NAMED, SINGLY, RegistrationWatch
from common.database.pool import Database
from common.homeserver.synapse.users import UserDetails
from common.ids import RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    AUDITBOT,
    BOB,
    CONTROL,
    DIRECT,
    ME,
    NOW_MS,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    parts,
)


@dataclass
class World:
    watch: RegistrationWatch
    admin: FakeAdmin
    messenger: FakeMessenger
    sender: FakeSender
    database: Database

    async def watched(self, *watchers: Watcher) -> None:
        async with self.database.transaction() as connection:
            for number, each in enumerate(watchers):
                step = Watch(each, True, NOW_MS + number)
                await OwnRecords(self.database).apply(connection, step)

    async def came(self, *users: UserId, came: str = "none") -> None:
        async with self.database.transaction() as connection:
            await take_note(connection, [(user, NOW_MS) for user in users], NOW_MS)
            for user in users:
                await connection.execute(
                    "UPDATE admin_arrival SET came = $1 WHERE user_id = $2", came, user
                )
        for user in users:
            self.admin.users.setdefault(user, UserDetails(user))

    async def told(self) -> list[tuple[RoomId, str]]:
        await self.watch.look()
        return [(room, str(content["body"])) for room, content in self.messenger.said.values()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        admin = FakeAdmin(
            users={ADMIN: UserDetails(ADMIN, admin=True), BOB: UserDetails(BOB)},
            members={DIRECT: (ADMIN, ME, AUDITBOT), CONTROL: (ADMIN, ME)},
        )
        clock, messenger, sender = FakeClock(), FakeMessenger(), FakeSender()
        made = parts(database, clock, admin, messenger, sender, catalogue())
        records = OwnRecords(database)
        watch = RegistrationWatch(database, records, admin, made.telling, clock)
        yield World(watch, admin, messenger, sender, database)


async def test_who_watches_is_told_once(world: World) -> None:
    await world.watched(Watcher(None, ADMIN), Watcher(CONTROL, ADMIN), Watcher(CONTROL, BOB))
    await world.came(ALICE)

    told = await world.told()

    assert sorted(room for room, _ in told) == sorted([DIRECT, CONTROL])
    assert all(f"New account: {ALICE}" in words for _, words in told)
    assert all("without a registration token" in words for _, words in told)
    assert await world.told() == told


async def test_who_watches_a_token_is_told_of_its_accounts_alone_and_once(world: World) -> None:
    async def watch(*, on: bool) -> None:
        async with world.database.transaction() as connection:
            step = WatchToken("d", ADMIN, on, "abc…")
            await OwnRecords(world.database).apply(connection, step)

    async def made_with(user: UserId, digest: str) -> None:
        await world.came(user, came="token")
        async with world.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_arrival SET digest = $1 WHERE user_id = $2", digest, user
            )

    await watch(on=True)
    await made_with(ALICE, "d")
    await made_with(BOB, "other")
    told = await world.told()
    assert [room for room, _ in told] == [DIRECT]
    assert f"New account: {ALICE}" in told[0][1]
    # Who is told of all of them is not told twice.
    await world.watched(Watcher(None, ADMIN))
    await made_with(UserId("@carol:example.org"), "d")
    assert len(await world.told()) == 2
    await watch(on=False)
    assert await OwnRecords(world.database).read(TokenWatchers()) == {}


async def test_as_long_as_it_is_not_known_how_somebody_came_nobody_is_told(world: World) -> None:
    await world.watched(Watcher(None, ADMIN))
    await world.came(ALICE, came="open")

    assert await world.told() == []


async def test_nobody_watches_and_later_somebody_does(world: World) -> None:
    await world.came(ALICE)
    assert await world.told() == []
    await world.watched(Watcher(None, ADMIN))

    assert await world.told() == [], "what came before is no news"


async def test_who_is_no_server_admin_any_more_is_told_nothing(world: World) -> None:
    await world.watched(Watcher(None, ADMIN))
    await world.came(ALICE)
    world.admin.users[ADMIN] = UserDetails(ADMIN)

    assert await world.told() == []


async def test_an_admin_room_in_which_others_read_is_told_nothing(world: World) -> None:
    await world.watched(Watcher(CONTROL, ADMIN))
    world.admin.members[CONTROL] = (ADMIN, BOB, ME)
    await world.came(ALICE)

    assert await world.told() == []


async def test_only_who_waits_for_approval_has_buttons(world: World) -> None:
    await world.watched(Watcher(None, ADMIN))
    world.admin.users[ALICE] = UserDetails(ALICE, approved=False, displayname="<b>Ann</b>")
    await world.came(ALICE)
    ((_, words),) = await world.told()
    rows = await world.database.fetch("SELECT key, command FROM admin_button ORDER BY command")

    assert "waits for approval" in words
    assert [row["command"] for row in rows] == [f"user approve {ALICE}", f"user deny {ALICE}"]

    await world.came(BOB)
    assert len(await world.told()) == 2
    assert len(await world.database.fetch("SELECT * FROM admin_button")) == 2


async def test_of_many_at_once_there_is_one_list(world: World) -> None:
    await world.watched(Watcher(None, ADMIN))
    many = [UserId(f"@new{number:03}:example.org") for number in range(MOST_NAMED + SINGLY)]
    await world.came(*many)

    ((_, words),) = await world.told()

    assert f"{len(many)} new accounts." in words
    assert many[0] in words
    assert f"… and {SINGLY} more" in words
