"""Bridges that nobody named are found: each source on its own, and all of them together.

The bridges are application services of the tests, registered with a real homeserver.
"""

import json
import re
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.demo.servers import free_port
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId
from tests.support.appservice import Service, Services
from tests.support.asking import Asking
from tests.support.clients import RawClient
from tests.support.counting import active_in_synapse
from tests.support.world import SERVER_NAME, Wish, World, prepare_world

pytestmark = [pytest.mark.xdist_group("bridge-discovery"), pytest.mark.timeout(300)]

DAY_MS = 86_400_000
NAMED, BY_PROTOCOL, BY_SEARCH, BY_EVENT, BY_ACCOUNT = (
    "limited",
    "matrix-appservice-irc",
    "mautrix-whatsapp",
    "mautrix-signal",
    "mautrix-gmessages",
)
WHERE = {
    NAMED: "the settings",
    BY_PROTOCOL: "what the homeserver says of third parties",
    BY_SEARCH: "the state of a room",
    BY_EVENT: "the state of a room",
    BY_ACCOUNT: "its account",
}


@dataclass
class Found:
    world: World
    services: Services
    irc: Service
    whatsapp: Service
    signal: Service
    limited: Service
    portal: RoomId
    quiet: RoomId
    root: RawClient
    desk: Asking

    @property
    def url(self) -> str:
        return self.world.synapse.url

    def write(self, *statements: str) -> None:
        """Change Steward's database while it does not run."""
        with sqlite3.connect(self.world.directory / "steward" / "steward.db") as database:
            for statement in statements:
                database.execute(statement)


@pytest.fixture(scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Found]:
    directory = tmp_path_factory.mktemp("discovery")
    async with AsyncExitStack() as stack:
        bot = UserId(f"@appservice-irc:{SERVER_NAME}")
        services = await stack.enter_async_context(Services({"irc": [bot]}))
        irc = Service.registered(
            directory, "appservice-irc", services.url, ghosts="@irc_.*", protocols=["irc"]
        )
        whatsapp = Service.registered(
            directory, "whatsappbot", services.url, ghosts="@whatsapp_.*"
        )
        signal = Service.registered(directory, "signalbot", services.url, ghosts="@signal_.*")
        limited = Service.registered(
            directory, "irc_bot", services.url, ghosts=r"@_oftc_.*:steward\.localhost"
        )
        sms = Service.registered(directory, "gmessagesbot", services.url, ghosts="@gmessages_.*")
        world = await prepare_world(
            directory / "world",
            Wish(
                port=free_port(),
                registrations=[one.path for one in (irc, whatsapp, signal, limited, sms)],
                settings={
                    "bridges": {
                        "settings": str(settings_file(directory, limited, services.url)),
                        "check_interval_seconds": 1,
                    }
                },
            ),
        )
        await stack.enter_async_context(world.synapse)
        root = await RawClient.register(world.synapse, "root", admin=True)
        await stack.enter_async_context(root)
        # From before Steward: nobody pushes this event to it any more.
        portal = await whatsapp.room(world.synapse.url, name="A portal")
        await whatsapp.describe(world.synapse.url, portal, "whatsapp", "123@g.us")
        # One that says nothing of itself, in a room with somebody of its network.
        await sms.ghost(world.synapse.url, "gmessagesbot")
        quiet = await sms.room(world.synapse.url, name="A quiet portal")
        someone = await sms.ghost(world.synapse.url, "gmessages_1")
        await sms.act(world.synapse.url, "POST", f"/join/{quiet}", {}, someone)
        await pretend(world, root)
        await stack.enter_async_context(world.steward)
        desk = await Asking.in_direct_chat(root, world.steward.adminbot)
        yield Found(world, services, irc, whatsapp, signal, limited, portal, quiet, root, desk)


def settings_file(directory: Path, limited: Service, url: str) -> Path:
    path = directory / "bridges.yaml"
    group = {
        "kind": "matrix-appservice-irc",
        "registration": str(limited.path),
        "own_limit": True,
        "metrics_url": f"{url}/metrics",
    }
    path.write_text(json.dumps({NAMED: group}))
    return path


async def pretend(world: World, root: RawClient) -> None:
    """Let an ordinary account with a bridge's name say that it is one; another says nothing."""
    async with await RawClient.register(world.synapse, "heisenbridge"):
        pass
    async with await RawClient.register(world.synapse, "telegrambot") as mallory:
        room = await mallory.create_room(name="No portal", invite=[root.user_id])
        content = {"bridgebot": mallory.user_id, "protocol": {"id": "telegram"}}
        await mallory.send_state(room, "m.bridge", content, state_key="x")


async def test_each_source_finds_its_bridge_and_all_of_them_none_twice(found: Found) -> None:
    room = await found.signal.room(found.url, name="A portal of Signal")
    await found.root.join(room)
    await found.root.wait_for_members(room, found.world.steward.adminbot)
    await found.signal.describe(found.url, room, "signal", "a-group")
    # Its bot is known by its protocol already.
    other = await found.irc.room(found.url, name="A portal of IRC")
    await found.root.join(other)
    await found.irc.describe(found.url, other, "irc", "#chan")

    for name in WHERE:
        await found.desk.until("bridge list", f"{name} ")
    for name, where in WHERE.items():
        assert where in await found.desk.ask(f"bridge show {name}")
    # Not what admins are told of the archive meanwhile.
    listed = await found.desk.ask("bridge list", f"{BY_PROTOCOL} ")
    names = [line.split()[0] for line in listed.splitlines() if line.strip()]
    assert sorted(name for name in names if name in WHERE or "-2" in name) == sorted(WHERE)
    assert "telegram" not in listed.lower()
    assert "heisenbridge" not in listed
    assert "123@g.us" in await found.desk.ask(f"bridge rooms {BY_SEARCH}")
    assert found.quiet in await found.desk.until(f"bridge rooms {BY_ACCOUNT}", found.quiet)
    assert "#chan" in await found.desk.until(f"bridge rooms {BY_PROTOCOL}", "#chan")


async def test_the_list_counts_what_happened(found: Found) -> None:
    await found.desk.until("bridge list", f"{BY_PROTOCOL} ")
    async with await found.world.person() as alice:
        room = await found.irc.room(found.url, name="Traffic")
        carol, dave, erin = [
            await found.irc.ghost(found.url, f"irc_{name}_{secrets.token_hex(3)}")
            for name in ("carol", "dave", "erin")
        ]
        for ghost in (carol, dave, erin):
            await found.irc.act(found.url, "POST", f"/join/{room}", {}, ghost)
        # With the bridge's bot alone it would be a chat with that, which the bots keep out of.
        await alice.join(room)
        await alice.wait_for_members(room, found.world.steward.adminbot)
        # On two days, on two days a month apart, and often on one: two count.
        for ghost, days in ((carol, (0, 1)), (dave, (3, 30)), (erin, (0, 0, 31))):
            for day in days:
                at_ms = SystemClock().now_ms() - day * DAY_MS
                await found.irc.say(found.url, room, ghost, f"hello {day}", at_ms=at_ms)
        await alice.send_text(room, "hello back")

        async def counted() -> str | None:
            said = await found.desk.ask("bridge list")
            for line in said.splitlines():
                # Its name, network, state, when its bot answered, and rooms; who is active; last
                # from and to there.
                cells = re.split(r" {2,}", line.strip())
                if cells[0] == BY_PROTOCOL and int(cells[5]) >= 2 and "never" not in cells[6:]:
                    assert int(cells[5]) == active_in_synapse(found.world, "@irc\\_%", days=2)
                    return line
            return None

        line = await wait_for(counted, 60, "two active people, and words to there")
        assert line is not None
        assert line.count("UTC") == 2
        users = await found.desk.ask(f"bridge users {BY_PROTOCOL}")
        assert carol in users
        assert dave in users
        assert alice.user_id not in users
        assert erin not in users


async def test_bridged_accounts_are_left_out_before_pages_are_made(found: Found) -> None:
    await found.desk.until("bridge list", f"{BY_PROTOCOL} ")
    # By their names before any person, and more than a page.
    ghosts = [await found.irc.ghost(found.url, f"irc_q{number:02}") for number in range(51)]
    people = [
        (await found.world.synapse.register(f"zz-irc_q{number}")).user_id for number in range(3)
    ]

    said = await found.desk.ask("user list --name irc_q", "in all")
    everybody = await found.desk.ask("user list --name irc_q --bridged --page 2", "in all")
    theirs = await found.desk.ask(f"user list --name q50 --bridge {BY_PROTOCOL}", "in all")

    assert all(person in said for person in people)
    assert "Page 1 of 1. 3 accounts in all. 51 bridged accounts left out" in said
    assert "Page 2 of 2. 54 accounts in all." in everybody
    assert all(user in everybody for user in (ghosts[-1], *people))
    assert "Page 1 of 1. 1 account in all." in theirs
    assert ghosts[50] in theirs


async def test_a_bridges_own_limit_is_seen_in_its_metrics_and_told(found: Found) -> None:
    (*_, last) = await found.root.messages(found.desk.room)
    before = EventId(last["event_id"])
    assert "blocked" not in await found.desk.ask("bridge list")

    found.services.blocked = True
    told = await found.desk.hear("blocks itself", after=before)
    assert "ircService.RMAUlimit" in told["content"]["body"]
    listed = await found.desk.until("bridge list", "blocked by its own limit")
    assert [line for line in listed.splitlines() if line.startswith(NAMED) and "blocked" in line]

    found.services.blocked = False
    await found.desk.hear("does not block itself any more", after=before)
    shown = await found.desk.ask(f"bridge show {NAMED}")
    assert "own limit" in shown
    assert "bridge_remote_monthly_active_users 3" in shown
    assert "bridge_remote_monthly_active_users 3" in await found.desk.ask("bridge health")
    everything = await found.root.messages(found.desk.room, limit=1000)
    (start,) = [at for at, event in enumerate(everything) if event["event_id"] == before]
    told_of = [e for e in everything[start:] if "blocks itself:" in str(e["content"])]
    assert len(told_of) == 1


async def test_rooms_are_searched_again_after_a_day_and_not_before(found: Found) -> None:
    await found.desk.until("bridge list", f"{BY_SEARCH} ")
    forget = f"DELETE FROM bridge WHERE name IN ('{BY_SEARCH}', '{BY_PROTOCOL}')"  # ours
    await found.world.steward.stop()
    found.write(forget)
    await found.world.steward.start()
    # Third parties are asked first, each time; rooms right after that, if a day has passed.
    listed = await found.desk.until("bridge list", f"{BY_PROTOCOL} ")
    assert BY_SEARCH not in listed

    await found.world.steward.stop()
    found.write(f"UPDATE bridge_search SET at_ms = at_ms - {DAY_MS}")  # a number
    await found.world.steward.start()
    await found.desk.until("bridge list", f"{BY_SEARCH} ")
