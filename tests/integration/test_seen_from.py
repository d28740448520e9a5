"""From where accounts are used: written down, found again, forgotten; on both databases."""

import asyncio
import http.client
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pyrage
import pytest

from adminbot.commands.seen_from import seen_from
from adminbot.engine.actor import Actor, Caller, Place, PlaceKind
from adminbot.engine.network import keys_of, network_of
from adminbot.engine.render import render
from adminbot.engine.values import FIRST_PAGE, NO_CSV
from adminbot.own.seen_from import SeenAt, SeenFromSince, SeenOn, Sighting
from adminbot.own_records import OwnRecords
from adminbot.seen_from import AGAIN_SECONDS, LONGEST, LOOK_SECONDS, SeenFrom
from common.clock import SystemClock
from common.database.pool import Database
from common.errors import TransientError, UserError
from common.homeserver.errors import StrangeAnswerError
from common.homeserver.port import ReadRequest, T
from common.homeserver.synapse.user_lookup import Connection, Whois
from common.homeserver.synapse.users import (
    Device,
    ListUserDevices,
    ListUsers,
    UserPage,
    UserSummary,
)
from common.ids import UserId
from tests.integration.test_user_commands import export_names
from tests.support.admin_api import admin_api
from tests.support.clients import RawClient, wait_for
from tests.support.commanding import Commander
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres
from tests.support.world import World
from tests.unit.adminbot.world import ADMIN, ALICE, BOB, DIRECT, ME, NOW, NOW_MS, FakeClock

DAY_MS = 86_400_000
CALLER = Caller(Actor(ADMIN, server_admin=True), Place(DIRECT, PlaceKind.DIRECT), None, None, NOW)
CAROL = UserId("@carol:example.org")


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


@dataclass
class FakeUsers:
    """Accounts with their connections and devices; ``asked`` is who was asked about."""

    seen: dict[UserId, int] = field(default_factory=dict)
    connections: dict[UserId, tuple[Connection, ...]] = field(default_factory=dict)
    devices: dict[UserId, tuple[Device, ...]] = field(default_factory=dict)
    erased: set[UserId] = field(default_factory=set)
    broken: dict[UserId, Exception] = field(default_factory=dict)
    asked: list[UserId] = field(default_factory=list)

    async def read(self, request: ReadRequest[T]) -> T:
        return cast(T, self._answer(request))

    def _answer(self, request: object) -> object:
        match request:
            case ListUsers(deactivated=True):
                return self._page(dict.fromkeys(self.erased, 0))
            case ListUsers(order_by="last_seen_ts", direction="b"):
                return self._page(self.seen)
            case Whois(user=user):
                self.asked.append(user)
                if user in self.broken:
                    raise self.broken[user]
                return self.connections.get(user, ())
            case ListUserDevices(user=user):
                return self.devices.get(user, ())
            case _:
                raise AssertionError(request)

    def _page(self, users: dict[UserId, int]) -> UserPage:
        ordered = sorted(users.items(), key=lambda each: -each[1])
        found = tuple(
            UserSummary(name=user, last_seen_ts=at, erased=user in self.erased)
            for user, at in ordered
        )
        return UserPage(users=found, total=len(found))

    def visit(self, user: UserId, ip: str, device: str, at_ms: int, name: str = "") -> None:
        """Let somebody be seen, as Synapse tells of it."""
        self.seen[user] = at_ms
        connection = Connection(ip=ip, last_seen=at_ms, user_agent="Browser")
        self.connections[user] = (*self.connections.get(user, ()), connection)
        others = tuple(one for one in self.devices.get(user, ()) if one.device_id != device)
        self.devices[user] = (*others, Device(device, name, ip, at_ms))


@dataclass
class Notes:
    """What is written down."""

    database: Database
    users: FakeUsers = field(default_factory=FakeUsers)
    clock: FakeClock = field(default_factory=FakeClock)

    def watch(self, days: int = 28) -> SeenFrom:
        return SeenFrom(self.database, self.clock, self.users, frozenset({ME}), days)

    async def at(self, text: str) -> list[tuple[str, str, str]]:
        return _short(await _seen_at(self.database, text))

    async def on(self, device: str) -> list[tuple[str, str, str]]:
        return _short(await OwnRecords(self.database).read(SeenOn(device)))


async def _seen_at(database: Database, text: str) -> tuple[Sighting, ...]:
    network = network_of(text)
    assert network is not None
    return await OwnRecords(database).read(SeenAt(*keys_of(network)))


def _short(found: tuple[Sighting, ...]) -> list[tuple[str, str, str]]:
    return [(one.user, one.address, one.device) for one in found]


async def test_accounts_are_found_by_address_network_and_device(database: Database) -> None:
    notes = Notes(database)
    notes.users.visit(ALICE, "192.0.2.7", "PHONE", NOW_MS - 2, "Element X, 100%")
    notes.users.visit(ALICE, "2001:DB8::0:1", "LAPTOP", NOW_MS - 1, "Écran")
    notes.users.visit(BOB, "::ffff:192.0.2.200", "PHONE", NOW_MS)
    notes.users.visit(ME, "192.0.2.7", "BOT", NOW_MS)

    assert await notes.watch().look()

    assert await notes.at("192.0.2.7") == [(ALICE, "192.0.2.7", "PHONE")]
    assert await notes.at("192.0.2.0/24") == [
        (BOB, "192.0.2.200", "PHONE"),
        (ALICE, "192.0.2.7", "PHONE"),
    ]
    assert await notes.at("192.0.2.0/25") == [(ALICE, "192.0.2.7", "PHONE")]
    assert await notes.at("2001:db8::/32") == [(ALICE, "2001:db8::1", "LAPTOP")]
    assert await notes.at("198.51.100.0/24") == []
    assert [user for user, _, _ in await notes.on("PHONE")] == [BOB, ALICE]
    assert await notes.on("ÉCRAN") == [(ALICE, "2001:db8::1", "LAPTOP")]
    assert await notes.on("100%") == [(ALICE, "192.0.2.7", "PHONE")]
    assert await notes.on("phone_") == []
    assert await OwnRecords(database).read(SeenFromSince()) == NOW_MS


async def test_only_who_was_seen_since_is_asked_about(database: Database) -> None:
    notes, dora = Notes(database), UserId("@dora:example.org")
    notes.users.visit(ALICE, "192.0.2.1", "A", NOW_MS - 5_000)
    notes.users.seen[BOB] = NOW_MS - 5 * DAY_MS  # of whom the homeserver tells no more than that
    notes.users.visit(CAROL, "192.0.2.3", "C", NOW_MS - 40 * DAY_MS)
    notes.users.visit(dora, "192.0.2.4", "D", NOW_MS - 60_000)
    await notes.watch().look()
    assert notes.users.asked == [BOB, dora, ALICE]
    notes.clock.forward(300)
    notes.users.visit(ALICE, "192.0.2.9", "A", notes.clock.now_ms())

    await notes.watch().look()

    assert notes.users.asked == [BOB, dora, ALICE, ALICE]
    # Where they were before is not forgotten; the device's own line is the one that is shown.
    assert await notes.on("A") == [(ALICE, "192.0.2.9", "A"), (ALICE, "192.0.2.1", "A")]
    assert await notes.at("192.0.2.1") == [(ALICE, "192.0.2.1", "A")]


async def test_what_is_old_and_who_is_erased_is_forgotten(database: Database) -> None:
    notes = Notes(database)
    notes.users.visit(ALICE, "192.0.2.1", "A", NOW_MS - 27 * DAY_MS)
    notes.users.visit(BOB, "192.0.2.2", "B", NOW_MS)
    await notes.watch().look()
    assert len(await notes.at("192.0.2.0/24")) == 2
    notes.clock.forward(2 * DAY_MS // 1000)

    await notes.watch().look()
    assert await notes.at("192.0.2.0/24") == [(BOB, "192.0.2.2", "B")]

    notes.users.erased = {BOB}
    await notes.watch().forget_erased()
    notes.users.seen[BOB] = notes.clock.now_ms()
    await notes.watch().look()
    assert await notes.at("192.0.2.0/24") == []


async def test_nothing_is_kept_where_nothing_is_to_be(database: Database) -> None:
    notes = Notes(database)
    notes.users.visit(ALICE, "192.0.2.1", "A", NOW_MS)
    await notes.watch().look()

    await notes.watch(days=0).run()

    assert await notes.at("0.0.0.0/0") == []
    assert await OwnRecords(database).read(SeenFromSince()) is None


async def test_many_are_written_down_round_by_round(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adminbot.seen_from.MOST_ACCOUNTS", 2)
    notes = Notes(database)
    people = [UserId(f"@p{number}:example.org") for number in range(5)]
    for number, user in enumerate(people):
        notes.users.visit(user, f"192.0.2.{number}", "D", NOW_MS - (5 - number) * 3_600_000)

    done = [await notes.watch().look() for _ in range(3)]

    assert done == [False, False, True]
    assert notes.users.asked == people
    assert len(await notes.at("192.0.2.0/24")) == 5


async def test_one_strange_account_keeps_nobody_else_out(database: Database) -> None:
    notes = Notes(database)
    notes.users.visit(ALICE, "192.0.2.1", "A\x00", NOW_MS - 1, "\ud800\x00" + "x" * 1_000)
    notes.users.visit(BOB, "not an address", "B" * (LONGEST + 1), NOW_MS)
    notes.users.visit(CAROL, "192.0.2.3", "'; DROP TABLE admin_seen_from; --", NOW_MS - 2, "a\x00")
    notes.users.broken[BOB] = StrangeAnswerError("devices")

    await notes.watch().look()

    assert await notes.at("0.0.0.0/0") == [
        (ALICE, "192.0.2.1", ""),
        (CAROL, "192.0.2.3", "'; DROP TABLE admin_seen_from; --"),
    ]


async def test_a_homeserver_that_is_away_is_asked_again(database: Database) -> None:
    notes = Notes(database)
    notes.users.visit(ALICE, "192.0.2.1", "A", NOW_MS)
    notes.users.broken[ALICE] = TransientError("away")
    with pytest.raises(TransientError):
        await notes.watch().look()
    assert await OwnRecords(database).read(SeenFromSince()) is None

    notes.users.broken.clear()
    await notes.watch().look()

    assert await notes.at("192.0.2.1") == [(ALICE, "192.0.2.1", "A")]


async def test_it_goes_on_by_itself(database: Database) -> None:
    class EnoughError(Exception):
        """The test has seen enough."""

    notes, waits = Notes(database), list[float]()
    notes.users.visit(ALICE, "192.0.2.1", "A", NOW_MS)
    notes.users.visit(BOB, "192.0.2.2", "B", NOW_MS)
    notes.users.broken[BOB] = TransientError("away")

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        notes.users.broken.clear()
        if len(waits) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        await replace(notes.watch(), sleep=sleep).run()

    assert waits == [AGAIN_SECONDS, LOOK_SECONDS]
    assert len(await notes.at("192.0.2.0/24")) == 2


async def test_it_says_what_is_not_kept_not_yet_known_or_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, records = Notes(database), OwnRecords(database)

    async def ask(days: int) -> str:
        found = await seen_from(records, CALLER, days, "D", page=FIRST_PAGE, csv=NO_CSV)
        return render(found).body

    with pytest.raises(UserError, match="seen_from_days is 0"):
        await ask(0)
    with pytest.raises(UserError, match="not written down yet"):
        await ask(28)
    for number in range(3):
        user = UserId(f"@p{number}:example.org")
        notes.users.visit(user, f"192.0.2.{number}", "D", NOW_MS - number)
    await notes.watch().look()
    monkeypatch.setattr("adminbot.own.seen_from.MOST", 2)
    monkeypatch.setattr("adminbot.commands.seen_from.MOST", 2)

    said = await ask(28)

    assert "@p1" in said
    assert "@p2" not in said
    assert "Only the last 2 are shown" in said


async def test_who_used_an_address_of_the_real_server_is_found(world: World) -> None:
    url = f"sqlite:///{world.steward.directory / 'steward.db'}"
    async with (
        await world.person(admin=True) as admin,
        await world.person() as person,
        open_database(url) as database,
    ):
        root, records = await Commander.of(admin, world), OwnRecords(database)

        async def looked() -> bool:
            return await records.read(SeenFromSince()) is not None

        await wait_for(looked, 60, "Steward's own first look")
        status = await asyncio.to_thread(_request_from, "127.0.0.77", person)
        assert status == 200
        # Its next look, which comes within five minutes.
        watch = SeenFrom(database, SystemClock(), admin_api(admin), frozenset(), 28)

        async def written_down() -> bool:
            await watch.look()
            seen = await _seen_at(database, "127.0.0.77")
            return person.user_id in {one.user for one in seen}

        await wait_for(written_down, 60, "the visit")

        found = await root.ask("user find 127.0.0.77")
        assert person.user_id in found
        assert person.account.device_id in found
        assert admin.user_id not in found
        assert "kept for 28 days" in found
        assert person.user_id in await root.ask("user find 127.0.0.76/31")
        assert person.user_id in await root.ask(f"user find {person.account.device_id} --device")
        nobody = await root.ask("user find 203.0.113.0/24")
        assert "Nobody was seen there" in nobody
        assert "written down since" in nobody
        assert "is no IP address" in await root.ask("user find 127.0.0.777")
        assert "for an IP address" in await root.ask("user find zebra --csv")
        await root.ask("user find 127.0.0.77 --csv")
        (data,) = await root.files("seen.csv")
        assert f"{person.user_id},127.0.0.77,{person.account.device_id}" in data.decode()
        commander = await Commander.of(person, world)
        assert "server admins" in await commander.ask("user find 127.0.0.77")

        # It is part of what the server keeps about them, so they get it when they ask.
        identity = pyrage.x25519.Identity.generate()
        await commander.do(
            f"me export --recipient {identity.to_public()}",
            typed=person.user_id,
            deadline_seconds=60,
        )
        (locked,) = await commander.files(*export_names(person.user_id))
        with zipfile.ZipFile(io.BytesIO(pyrage.decrypt(locked, [identity]))) as copy:
            kept = json.loads(copy.read("steward.json"))["seen_from"]
        assert ("127.0.0.77", person.account.device_id) in {
            (row["address"], row["device_id"]) for row in kept
        }


def _request_from(address: str, person: RawClient) -> int:
    """Ask something as a person, from an address of this machine."""
    where = urlsplit(person.url)
    connection = http.client.HTTPConnection(
        where.hostname or "", where.port, timeout=30, source_address=(address, 0)
    )
    headers = {"Authorization": f"Bearer {person.account.access_token}"}
    connection.request("GET", "/_matrix/client/v3/account/whoami", headers=headers)
    answer = connection.getresponse()
    assert json.loads(answer.read())["user_id"] == person.user_id
    connection.close()
    return answer.status
