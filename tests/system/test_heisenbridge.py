"""A real Heisenbridge with a real IRC server, managed from chat."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.demo.process import LOOPBACK
from common.demo.servers import free_port
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId
from tests.support.asking import Asking
from tests.support.clients import RawClient
from tests.support.counting import active_in_synapse
from tests.support.heisenbridge import Heisenbridge
from tests.support.invitations import invited_by
from tests.support.irc import IrcServer
from tests.support.world import SERVER_NAME, Wish, World, prepare_world

BRIDGE = "heisenbridge"
GHOSTS = "@irc\\_%"
NETWORK = "testnet"
ROOT = UserId(f"@root:{SERVER_NAME}")

pytestmark = [pytest.mark.xdist_group("heisenbridge"), pytest.mark.timeout(300)]


@dataclass
class Bridged:
    """A homeserver with Steward, Heisenbridge and an IRC server, and its admin."""

    world: World
    bridge: Heisenbridge
    irc: IrcServer
    root: RawClient
    desk: Asking

    async def person(self) -> RawClient:
        return await self.world.person()


@pytest.fixture(scope="module")
async def bridged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bridged]:
    """Everything started, and the bridge told of its network and of adminbot."""
    directory = tmp_path_factory.mktemp("heisenbridge")
    port = free_port()
    bridge = Heisenbridge(directory / "bridge", f"http://{LOOPBACK}:{port}", SERVER_NAME, ROOT)
    world = await prepare_world(
        directory / "world",
        Wish(
            port=port,
            registrations=[bridge.registration_path],
            module_options={"bridge_bots": [f"@heisenbridge:{SERVER_NAME}"]},
            settings={
                "bridges": {
                    "settings": str(settings_file(directory, bridge)),
                    "active_days": 1,
                    "check_interval_seconds": 1,
                }
            },
        ),
    )
    async with world.synapse, IrcServer(directory / "irc") as irc:
        root = await RawClient.register(world.synapse, "root", admin=True)
        # The bridge first: one that is away for two looks is told of, at the beginning too.
        async with bridge, world.steward, root:
            await teach(bridge, irc, root, world.steward.adminbot)
            desk = await Asking.in_direct_chat(root, world.steward.adminbot)
            await tell_here(world, root, desk)
            yield Bridged(world, bridge, irc, root, desk)


async def tell_here(world: World, root: RawClient, desk: Asking) -> None:
    """Leave the chat that adminbot may have opened for what it tells at its first start."""
    path = world.directory / "steward" / "steward.db"

    async def told() -> bool:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as database:
            return bool(database.execute("SELECT 1 FROM alarm WHERE told = 1").fetchone())

    await wait_for(told, 60, "the news of the archive's key")
    for room, invited in (await root.sync())["rooms"].get("invite", {}).items():
        if any(event["sender"] == desk.adminbot for event in invited["invite_state"]["events"]):
            await root.leave(RoomId(room))


def settings_file(directory: Path, bridge: Heisenbridge) -> Path:
    """Write what docs/bridges.md tells operators to write, with a hook that asks for a restart.

    The hook is done when somebody (the test) has done it.
    """
    hook, wanted = directory / "restart", directory / "restart-wanted"
    hook.write_text(f"#!/bin/sh\ntouch {wanted}\nwhile test -e {wanted}; do sleep 0.1; done\n")
    hook.chmod(0o700)
    group: dict[str, object] = {
        "registration": str(bridge.registration_path),
        "on_restart": [str(hook)],
    }
    for name in ("on_pause", "on_resume"):
        noting = directory / name
        noting.write_text(f'#!/bin/sh\necho "$0 $1 $STEWARD_BRIDGE" >> {directory / "hooks"}\n')
        noting.chmod(0o700)
        group[name] = [str(noting), "two words; echo"]
    path = directory / "bridges.yaml"
    path.write_text(json.dumps({BRIDGE: group}))
    return path


def hooks(bridged: Bridged) -> list[str]:
    """Return how the operator's hooks were called."""
    path = bridged.world.directory.parent / "hooks"
    return path.read_text().splitlines() if path.exists() else []


async def teach(bridge: Heisenbridge, irc: IrcServer, root: RawClient, adminbot: UserId) -> None:
    """Do what docs/bridges.md tells the owner of a Heisenbridge to do."""
    chat = await root.create_room(invite=[bridge.bot], direct=True)
    await root.wait_for_members(chat, bridge.bot)
    for words, answer in (
        (f"ADDMASK {adminbot} --admin", "Mask added."),
        (f"ADDNETWORK {NETWORK}", "Network added."),
        (f"ADDSERVER {NETWORK} {LOOPBACK} {irc.port}", "Server added."),
    ):
        said = await root.send_text(chat, words)
        await root.wait_for_message(chat, answer, sender=bridge.bot, after=said)


async def room_of(bridged: Bridged, owner: RawClient) -> tuple[RoomId, Asking]:
    """Return a room of somebody's with adminbot in it."""
    adminbot = bridged.world.steward.adminbot
    room = await owner.create_room(name="Plumbing", invite=[bridged.root.user_id])
    await owner.wait_for_members(room, adminbot)
    return room, Asking(owner, room, adminbot)


async def test_from_connecting_a_channel_to_disconnecting_it(bridged: Bridged) -> None:
    channel = "#journey"
    async with await bridged.person() as alice, await bridged.irc.person() as carol:
        room, here = await room_of(bridged, alice)
        await carol.join(channel)

        connected = await here.do(
            f"!bridge connect {BRIDGE} {channel} --network {NETWORK}", f"Joined {channel}"
        )
        assert "Done" in connected

        carol.message(channel, "hello from IRC")
        ghost = UserId(f"@irc_{NETWORK}_{carol.nick}:{SERVER_NAME}")
        await alice.wait_for_message(room, "hello from IRC", sender=ghost)
        await alice.send_text(room, "hello from Matrix")
        line = await carol.wait_for_message(channel, "hello from Matrix")
        assert "PRIVMSG" in line

        status = await here.ask("!bridge status")
        assert channel in status
        at_work = await true_figures(bridged)
        assert at_work >= 1

        ended = await here.do(f"!bridge disconnect {BRIDGE}", "Leaving")
        assert str(room) in ended
        gone = await here.ask("!bridge status")
        assert "No bridge is at work" in gone
        assert await true_figures(bridged) == at_work - 1


async def test_ping_health_and_show_tell_how_it_is(bridged: Bridged) -> None:
    pinged = await bridged.desk.ask(f"bridge ping {BRIDGE}", "Done")
    assert "The homeserver reaches it in" in pinged
    assert "Configured networks:" in pinged

    health = await bridged.desk.ask("bridge health")
    assert "up" in health
    shown = await bridged.desk.ask(f"bridge show {BRIDGE}")
    assert f"@heisenbridge:{SERVER_NAME}" in shown
    assert "suspending ghosts" in shown


async def test_a_limit_warns_pauses_and_lets_go_when_it_is_raised(bridged: Bridged) -> None:
    channel = "#limited"
    async with (
        await bridged.person() as alice,
        await bridged.irc.person() as early,
        await bridged.irc.person() as late,
    ):
        room, here = await room_of(bridged, alice)
        await early.join(channel)
        await late.join(channel)
        await here.do(f"!bridge connect {BRIDGE} {channel} --network {NETWORK}", "Joined")
        early.message(channel, "I was first")
        await alice.wait_for_message(room, "I was first")
        late.message(channel, "I was second")
        second = await alice.wait_for_message(room, "I was second")
        active = await active_people(bridged)

        (*_, last) = await bridged.root.messages(bridged.desk.room)
        warned_after = EventId(last["event_id"])
        await bridged.desk.do(f"bridge limit {BRIDGE} {active}", "Done")
        await bridged.desk.hear("Above the limit it is paused", after=warned_after)

        await bridged.desk.do(f"bridge limit {BRIDGE} {active - 1}", "Done")
        await bridged.desk.hear("is paused:", after=warned_after)
        await alice.wait_for_message(
            room, "more active people than this server allows", after=second["event_id"]
        )
        assert "paused by its limit" in await bridged.desk.ask("bridge list")
        assert await is_suspended(bridged, late.nick)
        assert not await is_suspended(bridged, early.nick)

        late.message(channel, "nobody hears me")
        early.message(channel, "but me they hear")
        await alice.wait_for_message(room, "but me they hear")
        assert not [e for e in await alice.messages(room) if "nobody hears" in str(e["content"])]

        await bridged.desk.do(f"bridge limit {BRIDGE} 100", "Done")
        resumed = await alice.wait_for_message(room, "goes on", after=second["event_id"])
        late.message(channel, "here I am again")
        await alice.wait_for_message(room, "here I am again", after=resumed["event_id"])
        assert not await is_suspended(bridged, late.nick)
        await bridged.desk.do(f"bridge limit {BRIDGE} off", "Done")


async def test_the_count_survives_a_restart_and_agrees_with_the_homeserver(
    bridged: Bridged,
) -> None:
    before = await active_people(bridged)
    assert before == active_in_synapse(bridged.world, GHOSTS, days=1)
    await true_figures(bridged)

    await bridged.world.steward.restart()

    assert await active_people(bridged) == before
    await true_figures(bridged)


async def test_bridged_people_are_left_out_of_the_user_list(bridged: Bridged) -> None:
    async with await bridged.person() as alice, await bridged.irc.person() as eve:
        room, here = await room_of(bridged, alice)
        await eve.join("#list")
        await here.do(f"!bridge connect {BRIDGE} #list --network {NETWORK}", "Joined")
        eve.message("#list", "hello")
        ghost = UserId(f"@irc_{NETWORK}_{eve.nick}:{SERVER_NAME}")
        await alice.wait_for_message(room, "hello", sender=ghost)

        plain = await bridged.desk.ask(f"user list --name {eve.nick}")
        assert ghost not in plain
        assert ghost in await bridged.desk.ask(f"user list --name {eve.nick} --bridged")
        assert ghost in await bridged.desk.ask(f"bridge ghosts {BRIDGE}")
        assert ghost in await bridged.desk.ask(f"bridge users {BRIDGE}")


async def test_a_pause_by_hand_stops_everybody_until_it_is_lifted(bridged: Bridged) -> None:
    async with await bridged.person() as alice, await bridged.irc.person() as dan:
        room, here = await room_of(bridged, alice)
        await dan.join("#paused")
        await here.do(f"!bridge connect {BRIDGE} #paused --network {NETWORK}", "Joined")
        dan.message("#paused", "before")
        await alice.wait_for_message(room, "before")

        before = len(hooks(bridged))
        await bridged.desk.do(f"bridge pause {BRIDGE}", "Done")
        assert await is_suspended(bridged, dan.nick)
        (*_, paused) = hooks(bridged)
        assert paused.endswith(f"/on_pause two words; echo {BRIDGE}")
        await bridged.desk.ask(f"bridge resume {BRIDGE}", "Done")
        assert not await is_suspended(bridged, dan.nick)
        (*_, resumed) = hooks(bridged)
        assert resumed.endswith(f"/on_resume two words; echo {BRIDGE}")
        assert len(hooks(bridged)) == before + 2


async def test_a_person_opens_a_network_and_a_private_chat(bridged: Bridged) -> None:
    """Nobody acts for anybody here: adminbot says what to type where, and hears the answer."""
    bot = bridged.bridge.bot
    async with await bridged.person() as alice, await bridged.irc.person() as carol:
        await bridged.desk.do(f"bridge allow {BRIDGE} {alice.user_id}", "Done")
        desk = await Asking.in_direct_chat(alice, bridged.world.steward.adminbot)
        asked = await alice.send_text(desk.room, f"bridge login {BRIDGE} --network {NETWORK}")
        told = await desk.hear(f"OPEN {NETWORK}", after=asked)
        assert "in a direct chat with" in told["content"]["body"]
        chat = await alice.create_room(invite=[bot], direct=True)
        await alice.wait_for_members(chat, bot)
        since = (await alice.sync())["next_batch"]
        await alice.send_text(chat, f"OPEN {NETWORK}")
        assert "You are logged in" in (await desk.hear("Done", after=asked))["content"]["body"]

        network = await invited_by(alice, bot, since)
        await alice.join(network)
        said = await alice.send_text(network, "CONNECT")
        await alice.wait_for_message(network, "MOTD", sender=bot, after=said)
        asked = await alice.send_text(desk.room, f"bridge pm {BRIDGE} {carol.nick}")
        told = await desk.hear(f"QUERY {carol.nick}", after=asked)
        assert "in the room of the network" in told["content"]["body"]
        await alice.send_text(network, f"QUERY {carol.nick}")
        done = await desk.hear("Done", after=asked)
        assert "invited to private chat with" in done["content"]["body"]


async def test_the_bots_stay_out_of_chats_with_the_bridge(bridged: Bridged) -> None:
    """Heisenbridge gives up a chat with a third member when it starts anew."""
    async with await bridged.person() as alice:
        await bridged.root.create_room(name="elsewhere")
        chat = await alice.create_room(invite=[bridged.bridge.bot], direct=True)
        later = await alice.create_room(name="a later room")
        await alice.wait_for_members(later, bridged.world.steward.adminbot)

        members = await alice.joined_members(chat)
        assert members <= {alice.user_id, bridged.bridge.bot}


async def test_a_bridge_that_is_down_is_named_so(bridged: Bridged) -> None:
    (*_, last) = await bridged.root.messages(bridged.desk.room)
    before = EventId(last["event_id"])
    await bridged.bridge.stop()
    try:
        listed = await bridged.desk.until("bridge list", "down")
        assert BRIDGE in listed
        await bridged.desk.hear("(IRC) does not answer", after=before)
        assert "no:" in await bridged.desk.ask("appservice list")
        # Several looks later it is still told once.
        checked_ms = last_look(bridged)
        await wait_for(lambda: looked_after(bridged, checked_ms + 2000), 60, "more looks")
    finally:
        await bridged.bridge.start()
    await bridged.desk.hear("(IRC) answers again, after", after=before)
    await bridged.desk.until("bridge list", "up")
    events = await bridged.root.messages(bridged.desk.room, limit=1000)
    (start,) = [at for at, event in enumerate(events) if event["event_id"] == before]
    told = [event["content"].get("body", "") for event in events[start:]]
    assert len([text for text in told if "(IRC) does not answer" in text]) == 1


def last_look(bridged: Bridged) -> int:
    """Return when Steward looked at the bridge last, from its database."""
    path = bridged.world.directory / "steward" / "steward.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as database:
        return int(database.execute("SELECT checked_ms FROM bridge").fetchone()[0])


async def looked_after(bridged: Bridged, moment_ms: int) -> bool:
    return last_look(bridged) > moment_ms


async def test_a_bridge_is_restarted_by_the_operators_hook(bridged: Bridged) -> None:
    wanted = bridged.world.directory.parent / "restart-wanted"
    asked = await bridged.root.send_text(bridged.desk.room, f"bridge restart {BRIDGE}")
    question = await bridged.desk.hear("Restart", after=asked)
    relation = {"rel_type": "m.annotation", "event_id": question["event_id"], "key": "✅"}
    await bridged.root.send(bridged.desk.room, "m.reaction", {"m.relates_to": relation})

    async def is_wanted() -> bool:
        return wanted.exists()

    await wait_for(is_wanted, 60, "the hook's work")
    await bridged.bridge.stop()
    wanted.unlink()
    await bridged.bridge.start()

    done = await bridged.desk.hear("Done", after=EventId(question["event_id"]))
    assert "It answers again, after" in done["content"]["body"]


async def test_who_may_use_it_is_said_with_its_own_words(bridged: Bridged) -> None:
    async with await bridged.person() as alice:
        allowed = await bridged.desk.do(f"bridge allow {BRIDGE} {alice.user_id}", "Done")
        assert "Mask added." in allowed
        assert alice.user_id in await masks(bridged)

        denied = await bridged.desk.do(f"bridge deny {BRIDGE} {alice.user_id}", "Done")
        assert "Mask removed." in denied
        assert alice.user_id not in await masks(bridged)
        pattern = await bridged.desk.ask(f"bridge allow {BRIDGE} @*:{SERVER_NAME}")
        assert "Mask" not in pattern


async def masks(bridged: Bridged) -> str:
    """Return what the bridge itself says of who may use it."""
    chat = await bridged.root.create_room(invite=[bridged.bridge.bot], direct=True)
    await bridged.root.wait_for_members(chat, bridged.bridge.bot)
    asked = await bridged.root.send_text(chat, "MASKS")
    bot = bridged.bridge.bot
    said = await bridged.root.wait_for_message(chat, "Configured masks", sender=bot, after=asked)
    return str(said["content"]["body"])


async def test_registrations_are_shown_without_their_secrets(bridged: Bridged) -> None:
    listed = await bridged.desk.until("appservice list", " ms")
    assert BRIDGE in listed
    assert bridged.bridge.url in listed
    shown = await bridged.desk.ask(f"appservice show {BRIDGE}")
    assert "@irc_.*:steward\\.localhost" in shown
    assert "its own alone" in shown
    assert "••••" in shown
    everything = json.dumps(await bridged.root.messages(bridged.desk.room))
    registration = json.loads(bridged.bridge.registration_path.read_text())
    for token in (registration["as_token"], registration["hs_token"]):
        assert token not in everything
        assert token not in bridged.world.steward.log()
    ours = await bridged.desk.ask("appservice show steward")
    assert "^@adminbot:steward\\.localhost$" in ours
    assert "is none of" in await bridged.desk.ask("appservice show nothing")


async def active_people(bridged: Bridged) -> int:
    """Return the number that adminbot gives."""
    said = await bridged.desk.ask(f"bridge users {BRIDGE}", "on at least")
    return int(next(line for line in said.splitlines() if "on at least" in line).split()[0])


async def true_figures(bridged: Bridged) -> int:
    """See that “bridge list” says what the homeserver knows; return in how many rooms it is."""

    async def agree() -> tuple[int, int] | None:
        said = await bridged.desk.ask("bridge list")
        (line,) = [each for each in said.splitlines() if each.startswith(BRIDGE)]
        _, network, state, _, rooms, active, *_ = re.split(r"\s{2,}", line.strip())
        assert network == "IRC"
        assert state.startswith("up, reached in ")
        known = rooms_in_synapse(bridged), active_in_synapse(bridged.world, GHOSTS, days=1)
        return known if (int(rooms), int(active)) == known else None

    known = await wait_for(agree, 60, "the figures that the homeserver has")
    assert known is not None
    return known[0]


def rooms_in_synapse(bridged: Bridged) -> int:
    """Count the rooms in which bridged people were and one of the bridge still is."""
    path = bridged.world.synapse.directory / "homeserver.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as database:
        rows = database.execute(
            "SELECT COUNT(DISTINCT room_id) FROM room_memberships"
            " WHERE user_id LIKE ? ESCAPE '\\' AND room_id IN"
            " (SELECT room_id FROM local_current_membership WHERE membership = 'join'"
            " AND (user_id LIKE ? ESCAPE '\\' OR user_id = ?))",
            (GHOSTS, GHOSTS, bridged.bridge.bot),
        )
        return int(rows.fetchone()[0])


async def is_suspended(bridged: Bridged, nick: str) -> bool:
    user = f"@irc_{NETWORK}_{nick}:{SERVER_NAME}"
    answer = await bridged.root.request("GET", f"/_synapse/admin/v2/users/{user}")
    return bool(answer["suspended"])
