"""A real mautrix-telegram 0.15.3, with a small Telegram data centre of ours, managed from chat."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from common.demo.process import LOOPBACK
from common.demo.servers import free_port
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId
from tests.support.acting import acting_registration
from tests.support.asking import Asking
from tests.support.clients import RawClient
from tests.support.telegram import GARDENERS, RELAY_BOT, MautrixTelegram, TelegramDataCentre
from tests.support.world import SERVER_NAME, MakeWorld, Wish, World, prepare_world

BRIDGE = "telegram"
CAROL = UserId(f"@telegram_3003:{SERVER_NAME}")
ADMINBOT = UserId(f"@adminbot:{SERVER_NAME}")

pytestmark = [pytest.mark.xdist_group("telegram"), pytest.mark.timeout(300)]


@dataclass
class Telegram:
    world: World
    bridge: MautrixTelegram
    centre: TelegramDataCentre
    root: RawClient
    desk: Asking


@pytest.fixture(scope="module")
async def telegram(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Telegram]:
    directory = tmp_path_factory.mktemp("telegram")
    port = free_port()
    async with AsyncExitStack() as stack:
        centre = await stack.enter_async_context(TelegramDataCentre(directory / "centre"))
        bridge = MautrixTelegram(
            directory / "bridge",
            f"http://{LOOPBACK}:{port}",
            SERVER_NAME,
            admin=ADMINBOT,
            centre=centre,
        )
        acting, token = acting_registration(directory)
        world = await prepare_world(
            directory / "world",
            Wish(
                port=port,
                registrations=[bridge.registration_path, acting],
                module_options={"bridge_bots": [bridge.bot]},
                settings={
                    "bridges": {
                        "registrations": [str(bridge.registration_path)],
                        "acting_token": token,
                        "active_days": 1,
                        "check_interval_seconds": 1,
                    }
                },
            ),
        )
        await stack.enter_async_context(world.synapse)
        root = await stack.enter_async_context(
            await RawClient.register(world.synapse, "root", admin=True)
        )
        await stack.enter_async_context(bridge)
        await stack.enter_async_context(world.steward)
        desk = await Asking.in_direct_chat(root, world.steward.adminbot)
        yield Telegram(world, bridge, centre, root, desk)


async def own_chat(person: RawClient, bot: UserId) -> RoomId:
    """Return the chat with the bot that adminbot opened for somebody."""

    async def found() -> str | None:
        path = f"/user/{person.user_id}/account_data/m.direct"
        try:
            direct = await person.client("GET", path)
        except Exception:  # noqa: BLE001  # there is none yet
            return None
        rooms = direct.get(bot)
        return rooms[0] if rooms else None

    room = await wait_for(found, 60, "the chat with the bridge's bot")
    return RoomId(str(room))


async def test_from_scanning_the_code_to_logging_out(telegram: Telegram) -> None:
    alice = await telegram.world.person()
    async with alice:
        desk = await Asking.in_direct_chat(alice, telegram.world.steward.adminbot)

        asked = await alice.send_text(desk.room, f"bridge login {BRIDGE}")
        chat = await own_chat(alice, telegram.bridge.bot)
        picture = await alice.wait_for_message(
            chat, "tg://login?token=", sender=telegram.bridge.bot
        )
        assert picture["content"]["msgtype"] == "m.image"
        assert await alice.joined_members(chat) == {alice.user_id, telegram.bridge.bot}
        assert await telegram.centre.scan() == 1
        done = await desk.hear("You are logged in as @alice_tg", after=asked)
        assert done
        for who, room in ((alice, desk.room), (telegram.root, telegram.desk.room)):
            assert "tg://login" not in json.dumps(await who.messages(room))
        assert "tg://login" not in telegram.world.steward.log()

        # In a newer version's words, which it does not know: it is asked for help, and recognised.
        await telegram.desk.ask(f"bridge words {BRIDGE} bridgev2", "Done")
        made = await desk.ask(f"bridge pm {BRIDGE} carol", "Done")
        assert "Created private chat room with Carol" in made
        typed = [e["content"].get("body") for e in await alice.messages(chat)]
        asked_in_turn = ["!tg start-chat carol", "!tg help", "!tg pm carol"]
        assert [words for words in typed if words in asked_in_turn] == asked_in_turn
        assert "to 0.15.3" in await telegram.desk.ask(f"bridge show {BRIDGE}")
        portal = await wait_for(lambda: invitation(alice, CAROL), 60, "an invitation by carol")
        room = RoomId(str(portal))
        await alice.join(room)
        await alice.send_text(room, "hello carol")
        await wait_for(lambda: arrived(telegram, "hello carol"), 60, "the message at Telegram")
        await telegram.centre.say("hello alice")
        await alice.wait_for_message(room, "hello alice", sender=CAROL)

        assert "Telegram" in await telegram.desk.ask("bridge list")
        assert room in await telegram.desk.until(f"bridge rooms {BRIDGE}", room)
        assert CAROL in await telegram.desk.until(f"bridge users {BRIDGE}", CAROL)
        assert "@alice_tg" in await telegram.desk.ask(f"bridge logins {BRIDGE}")

        assert "Logged out successfully." in await desk.ask(f"bridge logout {BRIDGE}", "Done")
        assert "logged out" in await telegram.desk.ask(f"bridge logins {BRIDGE}")


async def test_the_relay_bot_is_named(telegram: Telegram) -> None:
    alice = await telegram.world.person()
    async with alice:
        room = await alice.create_room(name="A group", invite=[telegram.root.user_id])
        await alice.wait_for_members(room, telegram.world.steward.adminbot)
        here = Asking(alice, room, telegram.world.steward.adminbot)

        said = await here.ask(f"!bridge relay {BRIDGE}", "if it is in the group there")

        assert f"@telegram_2002:{SERVER_NAME}" in said


async def test_a_connection_goes_through_the_bridges_question(telegram: Telegram) -> None:
    """It asks for “continue”; that group is none of the bot's, which it then says."""
    alice = await telegram.world.person()
    async with alice:
        room = await alice.create_room(name="A group", invite=[telegram.root.user_id])
        await alice.wait_for_members(room, telegram.world.steward.adminbot)
        here = Asking(alice, room, telegram.world.steward.adminbot)

        said = await here.do(f"!bridge connect {BRIDGE} -1001234567890", "Stopped")

        assert "Failed to get info of telegram chat" in said
        typed = [e["content"].get("body") for e in await alice.messages(room)]
        assert "!tg continue" in typed


async def test_a_group_is_connected_relayed_and_disconnected(telegram: Telegram) -> None:
    """Nobody in the room has an account at Telegram: the relay bot speaks for them."""
    centre, alice = telegram.centre, await telegram.world.person()
    async with alice:
        room, here = await room_of(telegram, alice)

        connected = await here.do(f"!bridge connect {BRIDGE} -{GARDENERS}", "Done")
        assert "Bridging complete." in connected
        # As the bridge itself describes the room by then.
        assert "at Telegram" in await here.until("!bridge status", "Gardeners")

        relay = await here.ask(f"!bridge relay {BRIDGE}", "passes on what people say here")
        assert f"@telegram_{RELAY_BOT}:{SERVER_NAME}" in relay

        # The bridge looks who is in the group first; what is said before is not passed on.
        await alice.wait_for_members(room, CAROL)
        await alice.send_text(room, "hello gardeners")
        await wait_for(lambda: relayed(telegram, "hello gardeners"), 60, "the message at Telegram")
        sent = await centre.sent_by(RELAY_BOT, GARDENERS)
        (said,) = [text for text in sent if "hello gardeners" in text]
        assert alice.user_id.partition(":")[0].removeprefix("@") in said
        await centre.say_in(GARDENERS, "hello from the garden")
        await alice.wait_for_message(room, "hello from the garden", sender=CAROL)
        assert room in await telegram.desk.until(f"bridge rooms {BRIDGE}", room)

        assert await here.do(f"!bridge disconnect {BRIDGE}", "Done")
        # Its bot has said that they go, or has gone itself, before the last of them has.
        await wait_for(lambda: nobody_bridged(telegram, alice, room), 60, "the bridge out of it")
        assert "No bridge is at work" in await here.ask("!bridge status")


async def test_a_log_in_with_a_password_and_bringing_groups_over(telegram: Telegram) -> None:
    centre, alice = telegram.centre, await telegram.world.person()
    await centre.set_password("a better secret")
    async with alice:
        desk = await Asking.in_direct_chat(alice, telegram.world.steward.adminbot)
        asked = await alice.send_text(desk.room, f"bridge login {BRIDGE}")
        chat = await own_chat(alice, telegram.bridge.bot)
        await alice.wait_for_message(chat, "tg://login?token=", sender=telegram.bridge.bot)
        await centre.scan()
        question = await desk.hear("Please send your password", after=asked)

        wrong = await alice.send_text(chat, "not that one")
        await desk.hear("Incorrect password.", after=EventId(question["event_id"]))
        right = await alice.send_text(chat, "a better secret")
        await desk.hear("You are logged in as @alice_tg", after=asked)

        for event in (wrong, right):
            await wait_for(lambda: is_taken_back(alice, chat, event), 60, "the password")  # noqa: B023  # used at once
        for who, room in ((alice, desk.room), (telegram.root, telegram.desk.room)):
            assert "a better secret" not in json.dumps(await who.messages(room))
        assert "a better secret" not in telegram.world.steward.log()

        await centre.join()
        assert "Synchronization complete." in await desk.ask(f"bridge sync {BRIDGE}", "Done")
        named = await wait_for(lambda: invited_to(alice, "Cyclists"), 60, "the group's room")
        await alice.join(RoomId(str(named)))
        await alice.wait_for_members(RoomId(str(named)), CAROL)
        await alice.send_text(RoomId(str(named)), "I ride along")
        await wait_for(lambda: arrived(telegram, "I ride along"), 60, "the message at Telegram")

        assert "Logged out" in await desk.ask(f"bridge logout {BRIDGE}", "Done")
    await centre.set_password(None)


async def test_a_log_in_is_cancelled_at_its_question(telegram: Telegram) -> None:
    await telegram.centre.set_password("never typed")
    alice = await telegram.world.person()
    async with alice:
        desk = await Asking.in_direct_chat(alice, telegram.world.steward.adminbot)
        asked = await alice.send_text(desk.room, f"bridge login {BRIDGE}")
        chat = await own_chat(alice, telegram.bridge.bot)
        await alice.wait_for_message(chat, "tg://login?token=", sender=telegram.bridge.bot)
        await telegram.centre.scan()
        await desk.hear("Please send your password", after=asked)
        progress = await desk.hear("To stop it", after=asked)
        found = re.search(r"cancel (\d+)", progress["content"]["body"])
        assert found is not None

        await alice.send_text(desk.room, found[0])

        over = await desk.hear("Cancelled:", after=asked)
        assert "Login (password entry) cancelled." in over["content"]["body"]
    await telegram.centre.set_password(None)


async def test_ping_asks_the_bot_too(telegram: Telegram) -> None:
    pinged = await telegram.desk.ask(f"bridge ping {BRIDGE}", "Done")
    assert "The homeserver reaches it in" in pinged
    assert "You're not logged in." in pinged


async def test_a_log_in_that_hangs_without_telegram_is_named_so(
    tmp_path_factory: pytest.TempPathFactory, make_world: MakeWorld
) -> None:
    directory = tmp_path_factory.mktemp("no-telegram")
    port = free_port()
    bridge = MautrixTelegram(
        directory / "bridge", f"http://{LOOPBACK}:{port}", SERVER_NAME, admin=ADMINBOT, centre=None
    )
    acting, token = acting_registration(directory)
    own_kind = directory / "impatient.yaml"
    own_kind.write_text(IMPATIENT)
    settings = directory / "bridges.yaml"
    settings.write_text(
        json.dumps(
            {"telegram": {"registration": str(bridge.registration_path), "kind": "impatient"}}
        )
    )
    world = await make_world(
        Wish(
            port=port,
            registrations=[bridge.registration_path, acting],
            module_options={"bridge_bots": [bridge.bot]},
            settings={
                "bridges": {
                    "settings": str(settings),
                    "kinds": [str(own_kind)],
                    "acting_token": token,
                }
            },
        )
    )
    async with bridge, await world.person() as alice:
        desk = await Asking.in_direct_chat(alice, world.steward.adminbot)

        said = await desk.ask(f"bridge login {BRIDGE}", "did not answer in 12 seconds")

        assert "the other network may be away" in said

        # Whoever cancels is not kept waiting by a bridge that hangs.
        asked = await alice.send_text(desk.room, f"bridge login {BRIDGE}")
        running = await desk.until("jobs", "running")
        found = re.search(r"^(\d+) .*running", running, re.MULTILINE)
        assert found is not None
        await alice.send_text(desk.room, f"cancel {found[1]}")
        over = await desk.hear("Cancelled:", after=asked)
        assert "told “!tg cancel”; what it does is not known" in over["content"]["body"]


IMPATIENT = """
id: impatient
name: mautrix-telegram with little patience
network: Telegram
family: mautrix
driven: real
sources: ["this test"]
bots: [telegrambot]
prefix: "!tg"
chat: two_members
vocabularies:
  - name: python
    versions: 0.15.3
    commands:
      cancel:
        steps:
          - {say: cancel, timeout_seconds: 3, done: ["cancelled.", "No ongoing command."]}
      login:
        by: person
        steps:
          - {say: login-qr, shows: qr, timeout_seconds: 12, done: ["Successfully logged in as {remote}"]}
"""


async def room_of(telegram: Telegram, owner: RawClient) -> tuple[RoomId, Asking]:
    """Return a room of somebody's with adminbot in it."""
    adminbot = telegram.world.steward.adminbot
    room = await owner.create_room(name="A group", invite=[telegram.root.user_id])
    await owner.wait_for_members(room, adminbot)
    return room, Asking(owner, room, adminbot)


async def nobody_bridged(telegram: Telegram, person: RawClient, room: RoomId) -> bool:
    members = await person.joined_members(room)
    return not members & {telegram.bridge.bot, CAROL}


async def relayed(telegram: Telegram, text: str) -> bool:
    return any(text in said for said in await telegram.centre.sent_by(RELAY_BOT, GARDENERS))


async def is_taken_back(person: RawClient, room: RoomId, event: EventId) -> bool:
    return bool((await person.client("GET", f"/rooms/{room}/event/{event}"))["content"] == {})


async def invited_to(person: RawClient, name: str) -> str | None:
    """Return a room of that name that somebody was invited to."""
    rooms = (await person.sync())["rooms"].get("invite", {})
    for room, invited in rooms.items():
        events = invited["invite_state"]["events"]
        if any(event["content"].get("name") == name for event in events):
            return str(room)
    return None


async def invitation(person: RawClient, sender: UserId) -> str | None:
    """Return a room that somebody was invited to."""
    rooms = (await person.sync())["rooms"].get("invite", {})
    for room, invited in rooms.items():
        if any(event["sender"] == sender for event in invited["invite_state"]["events"]):
            return str(room)
    return None


async def arrived(telegram: Telegram, text: str) -> bool:
    return text in await telegram.centre.sent()
