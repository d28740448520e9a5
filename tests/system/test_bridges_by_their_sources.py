"""Each kind that cannot run here, with a bot that answers as the kind's own source says.

On a real homeserver with a real Steward; ``tests/support/bridge_scripts.py`` names the sources.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adminbot.bridges.load import load_kinds
from common.demo.servers import free_port
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId
from tests.support.acting import acting_registration
from tests.support.asking import Asking
from tests.support.bridge_scripts import Scripts
from tests.support.clients import RawClient
from tests.support.scripted_bot import ScriptedBot
from tests.support.world import SERVER_NAME, Wish, World, prepare_world

pytestmark = [pytest.mark.xdist_group("bridges-by-source"), pytest.mark.timeout(240)]

PATIENCE_SECONDS = 2.0
BRIDGES = {
    "meta": ("mautrix-meta", "metabot"),
    "sms": ("mautrix-gmessages", "gmessagesbot"),
    "slack": ("mautrix-slack", "slackbot"),
    "oldslack": ("matrix-appservice-slack", "slack_bot"),
    "dc": ("mautrix-discord", "discordbot"),
    "guilds": ("matrix-appservice-discord", "discord_bot"),
    "teams": ("teams", "teamsbot"),
    "mail": ("postmoogle", "postmoogle"),
}
# The same programs in other versions, and those of whom the words below are enough.
OTHERS = {
    "signal": ("mautrix-signal", "signalbot"),
    "oldsignal": ("mautrix-signal", "oldsignalbot"),
    "oldsms": ("mautrix-gmessages", "oldgmessagesbot"),
    "newtg": ("mautrix-telegram", "newtelegrambot"),
    "newdc": ("mautrix-discord", "newdiscordbot"),
}
MUTE = {
    **BRIDGES,
    "hookshot": ("matrix-hookshot", "hookshot"),
    "signal": ("mautrix-signal", "signalbot"),
    "irc": ("matrix-appservice-irc", "appservice-irc"),
    "whatsapp": ("mautrix-whatsapp", "whatsappbot"),
}
CAN_BE_PINGED = [name for name in BRIDGES if name not in {"guilds", "mail"}]


@dataclass
class Sourced:
    world: World
    scripts: Scripts
    bots: Mapping[str, ScriptedBot]
    root: RawClient
    desk: Asking

    async def person(self) -> tuple[RawClient, Asking]:
        person = await self.world.person()
        return person, await Asking.in_direct_chat(person, self.world.steward.adminbot)

    def bot(self, bridge: str) -> ScriptedBot:
        return self.bots[{**BRIDGES, **OTHERS}[bridge][1]]

    async def room_of(self, owner: RawClient) -> tuple[RoomId, Asking]:
        adminbot = self.world.steward.adminbot
        room = await owner.create_room(name="A room", invite=[self.root.user_id])
        await owner.wait_for_members(room, adminbot)
        return room, Asking(owner, room, adminbot)

    async def chat_of(self, person: RawClient, bridge: str) -> RoomId:
        """Return the chat in which somebody's words to a bot stand."""

        async def found() -> RoomId | None:
            heard = self.bot(bridge).heard
            return next((room for room, who, _ in heard if who == person.user_id), None)

        room = await wait_for(found, 60, f"words of {person.user_id} to {bridge}")
        assert room is not None
        return room


@pytest.fixture(scope="module")
async def sourced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sourced]:
    directory = tmp_path_factory.mktemp("by-source")
    scripts = Scripts()
    settings = directory / "bridges.yaml"
    async with AsyncExitStack() as stack:
        registration, token = acting_registration(directory)
        names = [*scripts.all(), *(mute(name) for name in MUTE)]
        world = await prepare_world(
            directory / "world",
            Wish(
                port=free_port(),
                registrations=[registration],
                module_options={"bridge_bots": [str(user(name)) for name in names]},
                settings={
                    "bridges": {
                        "settings": str(settings),
                        "kinds": [str(path) for path in impatient_kinds(directory)],
                        "acting_token": token,
                        "check_interval_seconds": 2,
                    }
                },
            ),
        )
        await stack.enter_async_context(world.synapse)
        root = await RawClient.register(world.synapse, "root", admin=True)
        await stack.enter_async_context(root)
        bots = {
            name: await stack.enter_async_context(
                ScriptedBot(
                    await RawClient.register(world.synapse, name), scripts.all().get(name, {})
                )
            )
            for name in names
        }
        admin_room = await root.create_room(
            name="Slack's admin room",
            invite=[bots["slack_bot"].me.user_id, world.steward.adminbot],
        )
        settings.write_text(json.dumps(groups(admin_room, noting_hook(directory))))
        await stack.enter_async_context(world.steward)
        desk = await Asking.in_direct_chat(root, world.steward.adminbot)
        yield Sourced(world, scripts, bots, root, desk)


def noting_hook(directory: Path) -> Path:
    """Write a hook of the operator's that notes for whom it was called."""
    hook = directory / "allow"
    hook.write_text(f'#!/bin/sh\necho "$# $1 for $STEWARD_BRIDGE" >> {directory / "allowed"}\n')
    hook.chmod(0o700)
    return hook


def groups(admin_room: RoomId, hook: Path) -> dict[str, dict[str, object]]:
    """Return what docs/bridges.md tells operators to write, and the same with mute bots."""
    found: dict[str, dict[str, object]] = {
        name: {"kind": kind, "bot": str(user(bot))}
        for name, (kind, bot) in {**BRIDGES, **OTHERS}.items()
    }
    # The words for a log-in are the same; what is answered is not.
    found["oldsms"]["vocabulary"] = "legacy"
    found["newtg"]["vocabulary"] = "bridgev2"
    found["oldslack"]["admin_room"] = admin_room
    found["meta"]["on_allow"] = [str(hook)]
    mutes: dict[str, dict[str, object]] = {
        f"mute-{name}": {"kind": f"impatient-{kind}", "bot": str(user(mute(name)))}
        for name, (kind, _) in MUTE.items()
    }
    return {**found, **mutes}


def impatient_kinds(directory: Path) -> list[Path]:
    """Write each kind anew as one that waits for two seconds only, for the bots that say nothing."""
    kinds, paths = load_kinds(), []
    for name, _ in MUTE.values():
        kind = msgspec.to_builtins(kinds[name])
        kind["id"] = f"impatient-{name}"
        for vocabulary in kind["vocabularies"]:
            for command in vocabulary["commands"].values():
                for step in command["steps"]:
                    step["timeout_seconds"] = PATIENCE_SECONDS
        path = directory / f"{name}.yaml"
        path.write_text(json.dumps(kind))
        paths.append(path)
    return paths


async def test_meta_asks_for_cookies_in_the_persons_own_chat(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        which = await desk.ask("bridge login meta", "Stopped")
        assert "Please specify a login flow" in which

        asked = await alice.send_text(desk.room, "bridge login meta --flow facebook")
        await desk.hear("Login URL: <https://www.facebook.com/>", after=asked)
        chat = await sourced.chat_of(alice, "meta")
        assert await alice.joined_members(chat) == {alice.user_id, user("metabot")}
        # Longer than the pause after which an answer counts as complete.
        cookies = await alice.send_text(chat, '{"xs": "a-secret-cookie"}')
        done = await desk.hear("Done", after=asked)

        assert "You are logged in as Alice Example" in done["content"]["body"]
        await wait_for(lambda: taken_back(alice, chat, cookies), 60, "the cookies taken back")
        await nowhere_else(sourced, alice, desk, "a-secret-cookie")
        assert "Alice Example" in await sourced.desk.ask("bridge logins meta")


async def test_meta_says_that_a_cookie_is_missing(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login meta --flow facebook")
        await desk.hear("Login URL", after=asked)
        await alice.send_text(await sourced.chat_of(alice, "meta"), '{"c_user": "1"}')
        stopped = await desk.hear("Stopped", after=asked)
        assert "Missing some keys" in stopped["content"]["body"]


async def test_metas_chats_rooms_and_refusals(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        assert "Created chat with" in await desk.ask("bridge pm meta bob", "Done")
        assert "not found" in await desk.ask("bridge pm meta nobody", "Stopped")
        assert "Logged out" in await desk.ask("bridge logout meta 100012345", "Done")

        room, here = await sourced.room_of(alice)
        taken = await here.do("!bridge connect meta taken", "Stopped")
        assert "already bridged" in taken
        assert "Successfully plumbed" in await here.do("!bridge connect meta 123", "Done")
        relay = await here.do("!bridge relay meta", "Stopped")
        assert "does not allow relay mode" in relay
        assert await here.do("!bridge disconnect meta", "Done")
        assert user("metabot") not in await alice.joined_members(room)


async def test_google_messages_shows_a_code_to_one_person_alone(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login sms --flow qr")
        chat = await sourced.chat_of(alice, "sms")
        await alice.wait_for_message(chat, "p=first")
        assert await alice.joined_members(chat) == {alice.user_id, user("gmessagesbot")}
        sourced.scripts.phone.let("refresh")
        await alice.wait_for_message(chat, "p=second")
        sourced.scripts.phone.let("scan")

        done = await desk.hear("Done", after=asked)
        assert "You are logged in." in done["content"]["body"]
        await nowhere_else(sourced, alice, desk, "support.google.com/messages")

        assert "You're not logged in" in await desk.ask("bridge pm sms +44", "Stopped")
        assert "not found" in await desk.ask("bridge logout sms abc", "Stopped")


async def test_google_messages_is_refused_on_the_telephone(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login sms --flow qr")
        await alice.wait_for_message(await sourced.chat_of(alice, "sms"), "p=first")
        sourced.scripts.phone.let("Pairing cancelled on phone")
        stopped = await desk.hear("Stopped", after=asked)
        assert "Pairing cancelled on phone" in stopped["content"]["body"]


async def test_a_log_in_is_cancelled_with_the_bridges_own_word(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login sms --flow qr")
        chat = await sourced.chat_of(alice, "sms")
        picture = EventId((await alice.wait_for_message(chat, "p=first"))["event_id"])
        number = await number_of_job(desk)

        await alice.send_text(desk.room, f"cancel {number}")

        over = await desk.hear("Cancelled:", after=asked)
        assert "The bridge was told “!gm cancel”, and says: Login cancelled." in body_of(over)
        assert sourced.bot("sms").words_of(alice.user_id) == ["!gm login qr", "!gm cancel"]
        await wait_for(lambda: taken_back(alice, chat, picture), 60, "the code taken back")
        # Nothing of it is left over: the next one begins as the first did.
        again = await alice.send_text(desk.room, "bridge login sms --flow qr")
        await alice.wait_for_message(chat, "p=first", after=picture)
        sourced.scripts.phone.let("scan")
        await desk.hear("You are logged in.", after=again)


async def test_a_hand_over_is_cancelled_before_anything_was_typed(sourced: Sourced) -> None:
    """Server admins type themselves; see ``bridges.acting_token``."""
    asked = await sourced.root.send_text(sourced.desk.room, "bridge login meta --flow facebook")
    await sourced.desk.hear("!fb login facebook", after=asked)
    number = await number_of_job(sourced.desk)

    await sourced.root.send_text(sourced.desk.room, f"cancel {number}")

    over = await sourced.desk.hear("Cancelled:", after=asked)
    assert "before anything was typed" in body_of(over)


async def test_who_typed_themselves_is_told_how_to_end_it(sourced: Sourced) -> None:
    asked = await sourced.root.send_text(sourced.desk.room, "bridge login meta --flow facebook")
    await sourced.desk.hear("!fb login facebook", after=asked)
    number = await number_of_job(sourced.desk)
    chat = await sourced.root.create_room(invite=[user("metabot")], direct=True)
    await sourced.root.wait_for_members(chat, user("metabot"))
    await sourced.root.send_text(chat, "!fb login facebook")
    await sourced.desk.hear("Login URL", after=asked)

    await sourced.root.send_text(sourced.desk.room, f"cancel {number}")

    over = await sourced.desk.hear("Cancelled:", after=asked)
    assert "type there: !fb cancel" in body_of(over)


async def test_signal_from_its_code_to_logging_out(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login signal")
        chat = await sourced.chat_of(alice, "signal")
        await alice.wait_for_message(chat, "sgnl://linkdevice")
        sourced.scripts.signal.let("scan")
        await desk.hear("You are logged in.", after=asked)
        await nowhere_else(sourced, alice, desk, "sgnl://linkdevice")

        assert "Created chat with" in await desk.ask("bridge pm signal +441632960123", "Done")
        assert "not found" in await desk.ask("bridge pm signal +440", "Stopped")
        assert "Logged out" in await desk.ask("bridge logout signal 0123-uuid", "Done")


@pytest.mark.parametrize(
    ("bridge", "commands", "typed"),
    [
        (
            "oldsignal",
            ("login", "pm +441632960123", "logout"),
            ["!signal login", "!signal help", "!signal link", "!signal pm +441632960123", "!signal logout"],
        ),
        ("oldsms", ("login", "pm +441632960123"), ["!gm login", "!gm pm +441632960123"]),
        (
            "newtg",
            ("login --flow qr", "pm carol"),
            ["!tg login qr", "!tg start-chat carol"],
        ),
        (
            "newdc",
            ("login --flow qr", "pm 222"),
            ["!discord login-qr", "!discord help", "!discord login qr", "!discord start-chat 222"],
        ),
    ],
)  # fmt: skip
async def test_other_versions_are_spoken_to_in_their_words(
    sourced: Sourced, bridge: str, commands: tuple[str, ...], typed: list[str]
) -> None:
    alice, desk = await sourced.person()
    async with alice:
        for name, before in (("oldsignal", "bridgev2"), ("newdc", "go-legacy")):
            # They are recognised anew, should this be run again.
            await sourced.desk.ask(f"bridge words {name} {before}", "Done")
        for words in commands:
            verb, _, rest = words.partition(" ")
            await desk.ask(f"bridge {verb} {bridge} {rest}", "Done")
        assert sourced.bot(bridge).words_of(alice.user_id) == typed


async def test_slack_by_token_with_relay(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        nonsense = await desk.ask("bridge login slack --flow nonsense", "Stopped")
        assert "Available options" in nonsense
        asked = await alice.send_text(desk.room, "bridge login slack --flow token")
        await desk.hear("Login URL: <https://app.slack.com/client>", after=asked)
        chat = await sourced.chat_of(alice, "slack")
        await alice.send_text(chat, '{"auth_token": "xoxc-secret", "cookie_token": "xoxd-s"}')
        await desk.hear("You are logged in", after=asked)
        await nowhere_else(sourced, alice, desk, "xoxc-secret")

        assert "already have a direct chat" in await desk.ask("bridge pm slack bob", "Done")
        _, here = await sourced.room_of(alice)
        assert "plumbed" in await here.do("!bridge connect slack T1-C1", "Done")
        assert "relayed through Example" in await here.do("!bridge relay slack", "Done")
        assert "Stopped relaying" in await here.do("!bridge relay slack --off", "Done")
        refused = await here.do("!bridge disconnect slack", "Stopped")
        assert "don't have permission to unbridge" in refused


async def test_slacks_older_bridge_sends_a_link_and_links_in_its_admin_room(
    sourced: Sourced,
) -> None:
    alice, desk = await sourced.person()
    async with alice:
        done = await desk.ask("bridge login oldslack", "Done")
        assert "sent a link into your chat" in done
        await nowhere_else(sourced, alice, desk, "secret-state")
        assert "not logged into any" in await desk.ask("bridge logout oldslack", "Stopped")

        room, here = await sourced.room_of(alice)
        refused = await here.do("!bridge connect oldslack C404", "Stopped")
        assert "doesn't have visibility on channel" in refused
        linked = await here.do("!bridge connect oldslack C0123456789", "Done")
        assert "Remember to invite the slack bot" in linked
        typed = sourced.bot("oldslack").words_of(sourced.world.steward.adminbot)
        assert f"link --channel_id C0123456789 --room {room}" in typed
        assert "Unlinked" in await here.do("!bridge disconnect oldslack", "Done")


async def test_discord_by_code_guild_and_channel(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login dc")
        chat = await sourced.chat_of(alice, "dc")
        await alice.wait_for_message(chat, "discord.com/ra/")
        sourced.scripts.discord.let("scan")
        await desk.hear("You are logged in as alice_dc", after=asked)
        await nowhere_else(sourced, alice, desk, "discord.com/ra/")

        assert "Successfully bridged guild" in await desk.ask("bridge guild dc 111", "Done")
        assert "guild not found" in await desk.ask("bridge guild dc 404", "Stopped")
        room, here = await sourced.room_of(alice)
        assert "Channel not found" in await here.do("!bridge connect dc 404", "Stopped")
        assert "successfully bridged" in await here.do("!bridge connect dc 222", "Done")
        assert "Saved webhook" in await here.do("!bridge relay dc", "Done")
        assert "deleted webhook" in await here.do("!bridge relay dc --off", "Done")
        assert await here.do("!bridge disconnect dc", "Done")
        assert user("discordbot") not in await alice.joined_members(room)
        assert "Logged out" in await desk.ask("bridge logout dc", "Done")


async def test_discord_refuses_a_log_in_and_has_nothing_to_cancel(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login dc")
        await alice.wait_for_message(await sourced.chat_of(alice, "dc"), "discord.com/ra/")
        number = await number_of_job(desk)
        await alice.send_text(desk.room, f"cancel {number}")
        over = await desk.hear("Cancelled:", after=asked)
        assert "No ongoing command." in body_of(over)
        sourced.scripts.discord.let("captcha-required")

        asked = await alice.send_text(desk.room, "bridge login dc")
        sourced.scripts.discord.let("captcha-required")
        stopped = await desk.hear("Stopped", after=asked)
        assert "captcha-required" in body_of(stopped)


@pytest.mark.parametrize(
    ("word", "expected", "head"),
    [
        ("approve", "I have bridged this room", "Done"),
        ("deny", "declined by the Discord guild", "Stopped"),
        ("nothing", "Timed out waiting for a response", "Stopped"),
    ],
)
async def test_discords_older_bridge_waits_for_the_guild(
    sourced: Sourced, word: str, expected: str, head: str
) -> None:
    alice, _ = await sourced.person()
    async with alice:
        room, here = await sourced.room_of(alice)
        asked = await alice.send_text(room, "!bridge connect guilds 222 --guild 111")
        question = await here.hear("confirm", after=asked)
        await say_yes(alice, room, question)
        await alice.wait_for_message(room, "asking permission from the guild")
        sourced.scripts.guild.let(word)
        said = await here.hear(head, after=EventId(question["event_id"]))
        assert expected in body_of(said)


async def test_teams_sends_a_link_and_invites_into_the_space(sourced: Sourced) -> None:
    alice, desk = await sourced.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login teams")
        chat = await sourced.chat_of(alice, "teams")
        await alice.wait_for_message(chat, "login.microsoftonline.com")
        sourced.scripts.microsoft.let("done")
        done = await desk.hear("Done", after=asked)
        assert "login.microsoftonline.com" not in body_of(done)
        await nowhere_else(sourced, alice, desk, "secret-state")

        await desk.ask("bridge joinspace teams", "Done")
        invited = (await alice.sync())["rooms"]["invite"]
        assert any(
            event["sender"] == user("teamsbot")
            for room in invited.values()
            for event in room["invite_state"]["events"]
        )
        sourced.scripts.microsoft.let("not any more")
        assert "must authenticate" in await desk.ask("bridge joinspace teams", "Stopped")


async def test_a_mailbox_belongs_to_who_asked(sourced: Sourced) -> None:
    alice, _ = await sourced.person()
    async with alice:
        _, here = await sourced.room_of(alice)
        assert "already taken" in await here.do("!bridge connect mail taken", "Stopped")
        assert "not allowed" in await here.do("!bridge connect mail forbidden", "Stopped")
        assert "set to" in await here.do("!bridge connect mail info", "Done")
        assert "!pm mailbox info" in sourced.bot("mail").words_of(alice.user_id)
        assert "disabled" in await here.do("!bridge disconnect mail", "Done")


@pytest.mark.parametrize("bridge", CAN_BE_PINGED)
async def test_a_ping_is_answered_by_the_bot(sourced: Sourced, bridge: str) -> None:
    expected = "list the linked rooms" if bridge == "oldslack" else "Its bot answered after"
    assert expected in await sourced.desk.ask(f"bridge ping {bridge}", "Done")


async def test_a_bot_that_says_nothing_is_named_so(sourced: Sourced) -> None:
    """Each kind, for a ping or, where it has none, for a room."""
    alice, _ = await sourced.person()
    async with alice, asyncio.TaskGroup() as group:
        for bridge in set(MUTE) - {"guilds", "mail"}:
            group.create_task(silent_ping(sourced, bridge))
        for bridge, options in (("guilds", "--guild 1"), ("mail", "")):
            _, here = await sourced.room_of(alice)
            said = await here.do(f"!bridge connect mute-{bridge} 1 {options}", "did not answer")
            assert str(user(mute(bridge))) in said


async def test_who_may_use_it_is_told_to_a_hook_or_where_to_say_it(sourced: Sourced) -> None:
    async with await sourced.world.person() as alice:
        assert "Done" in await sourced.desk.do(f"bridge allow meta {alice.user_id}", "Done")
        assert allowed_of(sourced, alice) == [f"1 {alice.user_id} for meta"]

        denied = await sourced.desk.ask(f"bridge deny meta {alice.user_id}")
        assert "bridge.permissions" in denied
        assert "on_deny" in denied
        assert "!pm users" in await sourced.desk.ask(f"bridge allow mail {alice.user_id}")
        assert "No hook restarts sms" in await sourced.desk.ask("bridge restart sms")
        here = await Asking.in_direct_chat(alice, sourced.world.steward.adminbot)
        await here.ask(f"bridge allow meta {alice.user_id}")
        assert len(allowed_of(sourced, alice)) == 1, "it is for server admins"


def allowed_of(sourced: Sourced, person: RawClient) -> list[str]:
    """Return how the operator's hook was called for somebody."""
    called = (sourced.world.directory.parent / "allowed").read_text().splitlines()
    return [line for line in called if person.user_id in line]


async def silent_ping(sourced: Sourced, bridge: str) -> None:
    asked = await sourced.root.send_text(sourced.desk.room, f"bridge ping mute-{bridge}")
    # How many seconds says something of the machine.
    words = f"{user(mute(bridge))} did not answer in "
    said = await sourced.desk.hear(words, after=asked, deadline_seconds=120)
    assert "Whether it runs is not known" in body_of(said)


async def number_of_job(desk: Asking) -> int:
    """Return the number by which the one thing is stopped that somebody has under way."""
    said = await desk.until("jobs", "login  ")
    found = re.search(r"^(\d+) .* login .*running", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1])


async def say_yes(person: RawClient, room: RoomId, question: Mapping[str, Any]) -> None:
    relation = {"rel_type": "m.annotation", "event_id": question["event_id"], "key": "✅"}
    await person.send(room, "m.reaction", {"m.relates_to": relation})


async def nowhere_else(sourced: Sourced, person: RawClient, desk: Asking, secret: str) -> None:
    """See that something secret stands in the person's chat with the bot at most."""
    assert secret not in json.dumps(await person.messages(desk.room, limit=1000))
    assert secret not in json.dumps(await sourced.root.messages(sourced.desk.room, limit=1000))
    assert secret not in sourced.world.steward.log()


async def taken_back(person: RawClient, room: RoomId, event: EventId) -> bool:
    found = await person.client("GET", f"/rooms/{room}/event/{event}")
    return bool(found["content"] == {})


def body_of(event: Mapping[str, Any]) -> str:
    return str(event["content"]["body"])


def mute(bridge: str) -> str:
    return f"mute-{bridge}"


def user(name: str) -> UserId:
    return UserId(f"@{name}:{SERVER_NAME}")
