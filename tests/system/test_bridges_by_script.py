"""Log-ins, chats and connections with bots that answer as the bridges' sources say.

On a real homeserver with a real Steward; only the bridges are scripts.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.demo.accounts import Account
from common.demo.servers import free_port
from common.demo.waiting import wait_for
from common.ids import DeviceId, EventId, RoomId, UserId
from tests.support.acting import acting_registration
from tests.support.asking import Asking
from tests.support.clients import RawClient
from tests.support.hookshot import Hookshot
from tests.support.invitations import invited_by
from tests.support.provisioning import ProvisioningServer
from tests.support.scripted_bot import Answer, ScriptedBot, Talk, saying
from tests.support.world import SERVER_NAME, Wish, World, prepare_world

pytestmark = [pytest.mark.xdist_group("scripted-bridges"), pytest.mark.timeout(180)]

FEED = "https://example.org/feed.xml"
OLD_RSS = "_neb_rssbot_=40alice=3asteward.localhost"
OLD_GITHUB = "_neb_github_=40alice=3asteward.localhost"


async def scan(talk: Talk) -> None:
    """Show a code, replace it once, take it back, and be logged in."""
    picture = await talk.picture("2@first")
    await talk.replace(picture, "2@second")
    await talk.bot.me.redact(talk.room, picture)
    await talk.say("Successfully logged in as +441632960123")


async def leave_silently(talk: Talk) -> None:
    await talk.leave()


async def tick(talk: Talk) -> None:
    await talk.react("✅")


async def answer_encrypted(talk: Talk) -> None:
    await talk.bot.me.send(
        talk.room, "m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}
    )


async def plumb(talk: Talk) -> None:
    forbidden = "#forbidden" in talk.words
    await talk.say(
        "You do not have permission to use this command" if forbidden else "Room plumbed."
    )


async def no_such_words(talk: Talk) -> None:
    await talk.say("Unknown command, use the `help` command for help.")


@dataclass
class Scripted:
    world: World
    root: RawClient
    desk: Asking
    bots: Mapping[str, ScriptedBot]
    hookshot: Hookshot
    provisioning: ProvisioningServer
    acting_token: str

    @property
    def whatsapp(self) -> ScriptedBot:
        return self.bots["whatsappbot"]

    async def person(self) -> tuple[RawClient, Asking]:
        person = await self.world.person()
        return person, await Asking.in_direct_chat(person, self.world.steward.adminbot)


SCRIPTS: dict[str, dict[str, Answer]] = {
    "whatsappbot": {
        "!wa login": scan,
        "!wa start-chat +44": saying("Created chat with Bob: [Bob](https://matrix.to/#/!x)"),
        "!wa start-chat": saying("Failed to resolve identifier: no such number"),
        "!wa sync contacts": tick,
        "!wa sync": saying("Queued syncs for 3 groups"),
        "!wa unbridge": leave_silently,
        "!wa bridge": saying("Successfully plumbed this room to `123@g.us` on WhatsApp"),
        "!wa list-logins": saying("* `441632960123` (+441632960123) - `CONNECTED`"),
        "!wa logout hidden": answer_encrypted,
        "!wa logout": no_such_words,
        "!wa help": saying("What shall I say?"),
    },
    # mautrix-whatsapp up to v0.10, as Element's page on their WhatsApp bridge has its words.
    "oldwhatsappbot": {
        "!wa start-chat": no_such_words,
        "!wa help": saying("**Authentication**\n**delete-session** - Delete session information"),
        "!wa pm": saying("Created portal room with Bob"),
        "!wa sync groups --create-portals": saying("Synced groups"),
    },
    "gmessagesbot": {"!gm login": saying("Successfully logged in")},
    "signalbot": {"!signal login": saying("Successfully logged in as +441632960123")},
    "discord-bot": {
        "!discord bridge": saying(
            "I'm asking permission from the guild administrators to make this bridge.",
            "The bridge has been declined by the Discord guild.",
        ),
    },
    "appservice-irc": {
        "!bridgeversion": saying("BridgeVersion: 1.0.1"),
        "!plumb": plumb,
        "!unlink": saying("Room unlinked."),
    },
}


def settings_file(directory: Path, provisioning: ProvisioningServer) -> Path:
    """Write what docs/bridges.md tells operators to write."""
    secret = directory / "provisioning.secret"
    secret.write_text(f"{provisioning.secret}\n")
    path = directory / "bridges.yaml"
    path.write_text(
        json.dumps(
            {
                "whatsapp": {"kind": "mautrix-whatsapp", "bot": f"@whatsappbot:{SERVER_NAME}"},
                "oldwa": {"kind": "mautrix-whatsapp", "bot": f"@oldwhatsappbot:{SERVER_NAME}"},
                "provisioned": {
                    "kind": "mautrix-gmessages",
                    "bot": f"@gmessagesbot:{SERVER_NAME}",
                    "provisioning": {"url": provisioning.url, "secret_file": str(secret)},
                },
                "unreachable": {
                    "kind": "mautrix-signal",
                    "bot": f"@signalbot:{SERVER_NAME}",
                    "provisioning": {
                        "url": f"http://127.0.0.1:{free_port()}",
                        "secret_file": str(secret),
                    },
                },
                "discord": {
                    "kind": "matrix-appservice-discord",
                    "bot": f"@discord-bot:{SERVER_NAME}",
                },
                "irc": {
                    "kind": "matrix-appservice-irc",
                    "bot": f"@appservice-irc:{SERVER_NAME}",
                    "own_limit": True,
                },
                "hookshot": {"kind": "matrix-hookshot", "bot": f"@hookshot:{SERVER_NAME}"},
            }
        )
    )
    return path


@pytest.fixture(scope="module")
async def scripted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scripted]:
    directory = tmp_path_factory.mktemp("scripted")
    async with AsyncExitStack() as stack:
        provisioning = await stack.enter_async_context(
            ProvisioningServer(secrets.token_urlsafe(16))
        )
        registration, token = acting_registration(directory)
        world = await prepare_world(
            directory / "world",
            Wish(
                port=free_port(),
                registrations=[registration],
                module_options={"bridge_bots": [f"@{name}:{SERVER_NAME}" for name in SCRIPTS]},
                settings={
                    "bridges": {
                        "settings": str(settings_file(directory, provisioning)),
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
                ScriptedBot(await RawClient.register(world.synapse, name), script)
            )
            for name, script in SCRIPTS.items()
        }
        hookshot = Hookshot(await RawClient.register(world.synapse, "hookshot"))
        await stack.enter_async_context(hookshot.bot)
        await stack.enter_async_context(world.steward)
        desk = await Asking.in_direct_chat(root, world.steward.adminbot)
        yield Scripted(
            world,
            root,
            desk,
            bots,
            hookshot,
            provisioning,
            token,
        )


async def old_bot(scripted: Scripted, localpart: str) -> RawClient:
    """Return one of the old bots: only an application service may make such an account."""
    name = {"type": "m.login.application_service", "username": localpart, "inhibit_login": True}
    identifier = {"type": "m.id.user", "user": localpart}
    headers = {"Authorization": f"Bearer {scripted.acting_token}"}
    url = f"{scripted.world.synapse.url}/_matrix/client/v3"
    async with aiohttp.ClientSession(headers=headers) as session:
        await session.post(f"{url}/register", json=name)
        body = {"type": "m.login.application_service", "identifier": identifier}
        async with session.post(f"{url}/login", json=body) as response:
            found = await response.json()
    account = Account(
        UserId(found["user_id"]), DeviceId(found["device_id"]), found["access_token"], ""
    )
    return RawClient(scripted.world.synapse.url, account)


async def room_of(scripted: Scripted, owner: RawClient) -> tuple[RoomId, Asking]:
    room = await owner.create_room(name="A room", invite=[scripted.root.user_id])
    adminbot = scripted.world.steward.adminbot
    await owner.wait_for_members(room, adminbot)
    return room, Asking(owner, room, adminbot)


async def test_a_code_is_shown_in_the_persons_own_chat_with_the_bridge(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    async with alice:
        done = await desk.ask("bridge login whatsapp --flow qr", "Done")

        assert "You are logged in" in done
        assert scripted.whatsapp.words_of(alice.user_id) == ["!wa login qr"]
        chat = next(room for room, who, _ in scripted.whatsapp.heard if who == alice.user_id)
        assert await alice.joined_members(chat) == {alice.user_id, scripted.whatsapp.me.user_id}
        direct = await alice.client("GET", f"/user/{alice.user_id}/account_data/m.direct")
        assert direct[scripted.whatsapp.me.user_id] == [chat]
        for room in (desk.room, scripted.desk.room):
            everything = json.dumps(
                await (alice if room == desk.room else scripted.root).messages(room)
            )
            assert "2@first" not in everything
            assert "2@second" not in everything
        logins = await scripted.desk.ask("bridge logins whatsapp")
        assert alice.user_id in logins


async def test_nobody_logs_in_where_others_read_along(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        _, here = await room_of(scripted, alice)

        refused = await here.ask("!bridge login whatsapp")

        assert "direct chat" in refused
        assert not scripted.whatsapp.words_of(alice.user_id)


async def test_a_server_admin_is_told_what_to_type_and_heard(scripted: Scripted) -> None:
    """Nobody acts for a server admin: with an admin's rights that would be too much."""
    asked = await scripted.root.send_text(scripted.desk.room, "bridge sync whatsapp groups")
    told = await scripted.desk.hear("!wa sync groups", after=asked)
    assert scripted.whatsapp.me.user_id in told["content"]["body"]

    chat = await scripted.root.create_room(invite=[scripted.whatsapp.me.user_id], direct=True)
    await scripted.root.wait_for_members(chat, scripted.whatsapp.me.user_id)
    await scripted.root.send_text(chat, "!wa sync groups")

    done = await scripted.desk.hear("Done", after=asked)
    assert "Queued syncs for 3 groups" in done["content"]["body"]


async def test_a_private_chat_and_a_refusal_in_the_bridges_words(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    async with alice:
        assert "Created chat with Bob" in await desk.ask(
            "bridge pm whatsapp +441632960123", "Done"
        )
        refused = await desk.ask("bridge pm whatsapp nobody", "Stopped")
        assert "no such number" in refused
        assert "Done" in await desk.ask("bridge sync whatsapp contacts", "Done")


async def test_words_of_another_version_are_recognised_as_such(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    async with alice:
        said = await desk.ask("bridge logout whatsapp", "Stopped")
        assert "does not know this command" in said
        assert "bridge words whatsapp legacy" in said
        shown = await scripted.desk.ask("bridge show whatsapp")
        assert "legacy" in shown


async def test_an_older_bridge_is_recognised_and_spoken_to_in_its_words(
    scripted: Scripted,
) -> None:
    alice, desk = await scripted.person()
    async with alice:
        await scripted.desk.ask("bridge words oldwa bridgev2", "Done")
        done = await desk.ask("bridge pm oldwa +441632960123", "Done")
        assert "Created portal room with Bob" in done
        typed = ["!wa start-chat +441632960123", "!wa help", "!wa pm +441632960123"]
        assert scripted.bots["oldwhatsappbot"].words_of(alice.user_id) == typed
        # It is remembered; and groups are what WhatsApp brings over where nothing is named.
        assert "Synced groups" in await desk.ask("bridge sync oldwa", "Done")
        assert scripted.bots["oldwhatsappbot"].words_of(alice.user_id)[3:] == [
            "!wa sync groups --create-portals"
        ]
        assert "before v0.11" in await scripted.desk.ask("bridge show oldwa")


async def test_a_provisioned_code_is_drawn_replaced_and_taken_back(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    asked_before = len(scripted.provisioning.asked_for)
    async with alice:
        await alice.send_text(desk.room, "bridge login provisioned")
        await wait_for(lambda: first_code(alice), 60, "a code")
        scripted.provisioning.refresh()
        await wait_for(lambda: replaced(alice), 60, "the second code, the first taken back")
        scripted.provisioning.scan()
        assert await alice.wait_for_message(desk.room, "You are logged in as 441632960123")
        await wait_for(lambda: all_taken_back(alice), 60, "no code left")
        assert set(scripted.provisioning.asked_for[asked_before:]) == {alice.user_id}
        log = scripted.world.steward.log()
        assert "first-payload" not in log
        assert scripted.provisioning.secret not in log


async def test_a_code_to_type_into_a_telephone_is_told_and_taken_back(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login provisioned --flow code")
        code = await desk.hear("ABCD-1234", after=asked)
        scripted.provisioning.scan()
        await desk.hear("You are logged in as 441632960123", after=asked)

        async def gone() -> bool:
            path = f"/rooms/{desk.room}/event/{code['event_id']}"
            return bool((await alice.client("GET", path))["content"] == {})

        await wait_for(gone, 20, "the code taken back")


async def test_a_provisioned_log_in_is_cancelled_at_the_bridge(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    cancelled_before = len(scripted.provisioning.cancelled)
    async with alice:
        asked = await alice.send_text(desk.room, "bridge login provisioned")
        await wait_for(lambda: first_code(alice), 60, "a code")
        progress = await desk.hear("To stop it", after=asked)
        found = re.search(r"cancel (\d+)", progress["content"]["body"])
        assert found is not None

        await alice.send_text(desk.room, found[0])

        over = await desk.hear("Cancelled:", after=asked)
        assert "The bridge was told that it is cancelled." in over["content"]["body"]
        assert scripted.provisioning.cancelled[cancelled_before:] == ["p1"]
        assert await codes(alice) == (0, 1)


async def test_a_log_in_that_asks_for_more_than_a_code_goes_on_in_a_chat(
    scripted: Scripted,
) -> None:
    alice, desk = await scripted.person()
    async with alice:
        scripted.provisioning.asks_for_input = True
        try:
            done = await desk.ask("bridge login provisioned", "Done")
        finally:
            scripted.provisioning.asks_for_input = False
        assert "You are logged in." in done
        assert scripted.bots["gmessagesbot"].words_of(alice.user_id) == ["!gm login"]
        assert scripted.provisioning.cancelled[-1] == "p2"

        # The same where the interface cannot be reached at all.
        await desk.ask("bridge login unreachable", "Done")
        assert scripted.bots["signalbot"].words_of(alice.user_id) == ["!signal login"]


async def test_a_code_leaves_a_chat_that_somebody_else_has_entered(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    bob = await scripted.world.person()
    async with alice, bob:
        await alice.send_text(desk.room, "bridge login provisioned")
        await wait_for(lambda: first_code(alice), 60, "a code")
        await alice.invite(desk.room, bob.user_id)
        await bob.join(desk.room)
        seen = EventId((await alice.messages(desk.room))[-1]["event_id"])

        since = (await alice.sync())["next_batch"]
        scripted.provisioning.refresh()

        elsewhere = await invited_by(alice, desk.adminbot, since)
        await alice.join(elsewhere)
        scripted.provisioning.scan()
        await alice.wait_for_message(desk.room, "logged in", after=seen)
        pictures_here = [
            event
            for event in await bob.messages(desk.room)
            if event["content"].get("msgtype") == "m.image"
        ]
        assert not pictures_here


async def test_connecting_a_room_that_says_nothing_when_it_ends(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        room, here = await room_of(scripted, alice)
        connected = await here.do("!bridge connect whatsapp 123", "Done")
        assert "Successfully plumbed" in connected
        assert scripted.whatsapp.me.user_id in await alice.joined_members(room)

        ended = await here.do("!bridge disconnect whatsapp", "Done")
        assert ended
        assert scripted.whatsapp.me.user_id not in await alice.joined_members(room)

        # The same by their other names.
        assert "plumbed" in await here.do("!bridge set whatsapp 123", "Done")
        assert scripted.whatsapp.me.user_id in await alice.joined_members(room)
        assert await here.do("!bridge unset whatsapp", "Done")
        assert scripted.whatsapp.me.user_id not in await alice.joined_members(room)


async def test_discord_waits_for_the_guild(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        _, here = await room_of(scripted, alice)
        scripted.bots["discord-bot"].heard.clear()
        said = await here.do("!bridge connect discord 222 --guild 111", "Stopped")
        assert "declined by the Discord guild" in said
        (words,) = scripted.bots["discord-bot"].words_of(scripted.world.steward.adminbot)
        assert words == "!discord bridge 111 222"


async def test_an_irc_channel_is_plumbed_from_the_admin_room(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        room, here = await room_of(scripted, alice)
        network = "irc.example.net"
        assert "Room plumbed." in await here.do(
            f"!bridge connect irc #chan --network {network}", "Done"
        )
        assert f"!plumb {room} {network} #chan" in scripted.bots["appservice-irc"].words_of(
            scripted.world.steward.adminbot
        )
        assert "Room unlinked." in await here.do("!bridge disconnect irc", "Done")
        refused = await here.do(f"!bridge connect irc #forbidden --network {network}", "Stopped")
        assert "You do not have permission to use this command" in refused
        nothing = await scripted.desk.ask("bridge login irc")
        assert "no words for “login”; with it you can: bridge logout, bridge connect" in nothing


async def test_nothing_is_typed_into_an_encrypted_room(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    async with alice:
        room, _ = await room_of(scripted, alice)
        await alice.send_state(
            room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}, state_key=""
        )
        before = len(scripted.whatsapp.heard)
        refused = await scripted.desk.ask(f"bridge connect whatsapp 123 {room}", "encrypted")
        assert "type it there yourself: !wa bridge 123" in refused
        assert len(scripted.whatsapp.heard) == before
        warned = await scripted.desk.ask(
            f"bridge connect irc #chan {room} --network irc.example.net", "confirm"
        )
        assert "only if its own encryption is on" in warned

        # Of a bridge whose own encryption is on: it is there, but what it says is not for us.
        hidden = await desk.ask("bridge logout whatsapp hidden", "Stopped")
        assert "answered, but that chat is encrypted" in hidden


async def test_what_is_typed_cannot_become_another_command(scripted: Scripted) -> None:
    alice, desk = await scripted.person()
    async with alice:
        before = len(scripted.whatsapp.heard)
        for hostile in ("'+44 logout'", "--force"):
            await desk.ask(f"bridge pm whatsapp -- {hostile}")
        assert len(scripted.whatsapp.heard) == before


async def test_feeds_are_followed_listed_and_left(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        room, here = await room_of(scripted, alice)
        adminbot = scripted.world.steward.adminbot

        scripted.hookshot.managers.discard(adminbot)
        put_back = await here.ask(f"!feed add {FEED}", "Stopped")
        assert "put it back" in put_back
        assert "manageConnections" in put_back

        scripted.hookshot.managers.add(adminbot)
        added = await here.ask(f'!feed add {FEED} --title News --template "New: $LINK"', "Done")
        assert "Done" in added
        listed = await here.ask("!feed list")
        assert "News" in listed
        assert FEED in listed
        content = await alice.state(room, "uk.half-shot.matrix-hookshot.feed", state_key=FEED)
        assert content == {"url": FEED, "label": "News", "template": "New: $LINK"}

        assert "Done" in await here.do(f"!feed remove {FEED}", "Done")
        assert "follows no feed" in await here.ask("!feed list")
        assert "no address of a feed" in await here.ask("!feed add ftp://example.org/x")


async def test_a_repository_needs_a_log_in_to_github(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        _, here = await room_of(scripted, alice)
        refused = await here.ask(
            "!github connect https://github.com/matrix-org/synapse", "Stopped"
        )
        assert "not logged into GitHub" in refused

        scripted.hookshot.logged_in.add(alice.user_id)
        assert "Done" in await here.ask("!github connect matrix-org/synapse", "Done")
        assert "matrix-org/synapse" in await here.ask("!github list")

        scripted.hookshot.managers.add(scripted.world.steward.adminbot)
        assert "Done" in await here.do("!github remove matrix-org/synapse", "Done")
        assert "hears of no repository" in await here.ask("!github list")
        nothing = await here.ask("!github remove matrix-org/synapse")
        assert "is not connected with" in nothing


async def test_a_webhooks_address_goes_to_who_asked(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with alice:
        _, here = await room_of(scripted, alice)
        scripted.hookshot.secrets.clear()
        assert "Done" in await here.ask("!webhook add deploys", "Done")
        assert scripted.hookshot.secrets == {alice.user_id: "deploys"}
        assert "deploys" in await here.ask("!webhook list")

        scripted.hookshot.managers.add(scripted.world.steward.adminbot)
        assert "Done" in await here.do("!webhook remove deploys", "Done")
        assert "has no webhook" in await here.ask("!webhook list")
        other = await here.ask("!bridge connect hookshot x")
        assert "with it you can: feed add, bridge login, github connect, webhook add" in other


async def test_the_old_bots_are_replaced(scripted: Scripted) -> None:
    alice, _ = await scripted.person()
    async with (
        alice,
        await old_bot(scripted, OLD_RSS) as old,
        await old_bot(scripted, OLD_GITHUB) as github,
    ):
        scripted.hookshot.managers.add(scripted.world.steward.adminbot)
        room, here = await room_of(scripted, alice)
        await bring(alice, room, old, github)
        nothing = await scripted.desk.ask("bridge migrate-neb", "not known")
        assert "export" in nothing

        export = json.dumps(
            [
                {
                    "Type": "rssbot",
                    "Config": {"feeds": {FEED: {"rooms": [room], "poll_interval_mins": 60}}},
                },
                {
                    "Type": "github-webhook",
                    "Config": {
                        "Rooms": {room: {"Repos": {"Org/Repo": {"Events": ["push", "watch"]}}}}
                    },
                },
            ]
        ).encode()
        would = await send_export(scripted, export, "bridge migrate-neb --dry-run")
        assert FEED in would
        assert "Would do" in would
        assert "Hookshot is not in there yet" in would
        with pytest.raises(Exception, match="404"):
            await alice.state(room, "uk.half-shot.matrix-hookshot.feed", state_key=FEED)

        moved = await send_export(scripted, export, "bridge migrate-neb", confirm=True)
        assert "github connect https://github.com/org/repo" in moved
        assert "send the same file" in moved
        content = await alice.state(room, "uk.half-shot.matrix-hookshot.feed", state_key=FEED)
        assert content == {"url": FEED}

        # Without the file it is not known what an RSS bot follows, in this room or another.
        unknown, _ = await room_of(scripted, alice)
        await bring(alice, unknown, old)
        assert "In no room" in await scripted.desk.ask("bridge migrate-neb --remove", "again")
        would = await send_export(scripted, export, "bridge migrate-neb --remove --dry-run")
        assert "Would do" in would
        assert "2 old bots stay" in would
        assert old.user_id in await alice.joined_members(room)
        removed = await send_export(scripted, export, "bridge migrate-neb --remove", confirm=True)
        assert "Remove 1 old bot" in removed
        members = await alice.joined_members(room)
        assert old.user_id not in members
        assert github.user_id in members, "its repository is not there yet"

        scripted.hookshot.logged_in.add(alice.user_id)
        assert "Done" in await here.ask("!github connect org/repo", "Done")
        await send_export(scripted, export, "bridge migrate-neb --remove", confirm=True)
        members = await alice.joined_members(room)
        assert github.user_id not in members
        assert scripted.hookshot.bot.me.user_id in members
        assert old.user_id in await alice.joined_members(unknown)
        content = await alice.state(room, "uk.half-shot.matrix-hookshot.feed", state_key=FEED)
        assert content == {"url": FEED}, "what replaced it stays"


async def bring(owner: RawClient, room: RoomId, *bots: RawClient) -> None:
    for bot in bots:
        await owner.invite(room, bot.user_id)
        await bot.join(room)


async def send_export(
    scripted: Scripted, data: bytes, caption: str, *, confirm: bool = False
) -> str:
    """Send a file with a command as its caption."""
    async with scripted.root._session.post(
        f"{scripted.root.url}/_matrix/media/v3/upload", data=data
    ) as response:
        uri = (await response.json())["content_uri"]
    asked = await scripted.root.send(
        scripted.desk.room,
        "m.room.message",
        {
            "msgtype": "m.file",
            "body": caption,
            "filename": "export.json",
            "url": uri,
            "info": {"size": len(data)},
        },
    )
    said = await reply_to(scripted, asked)
    if confirm:
        relation = {"rel_type": "m.annotation", "event_id": said["event_id"], "key": "✅"}
        await scripted.root.send(scripted.desk.room, "m.reaction", {"m.relates_to": relation})
        said = await scripted.desk.hear("Done", after=EventId(said["event_id"]))
    return str(said["content"]["body"])


async def reply_to(scripted: Scripted, asked: EventId) -> dict[str, Any]:
    """Return the first answer to a message; a server admin is told other things meanwhile."""

    async def found() -> dict[str, Any] | None:
        for event in await scripted.root.messages(scripted.desk.room):
            relation = event["content"].get("m.relates_to", {})
            answers = relation.get("m.in_reply_to", {}).get("event_id") == asked
            if answers and event["sender"] == scripted.desk.adminbot:
                return dict(event)
        return None

    reply = await wait_for(found, 60, f"an answer to {asked}")
    assert reply is not None
    return dict(reply)


async def encrypted_events(person: RawClient) -> dict[RoomId, list[dict[str, object]]]:
    """Return what adminbot sent encrypted, room by room: codes go encrypted."""
    rooms = (await person.client("GET", "/joined_rooms"))["joined_rooms"]
    return {RoomId(room): await person.messages(RoomId(room)) for room in rooms}


async def codes(person: RawClient) -> tuple[int, int]:
    """Return how many codes are up and how many were taken back."""
    up = gone = 0
    for events in (await encrypted_events(person)).values():
        for event in events:
            if event["type"] == "m.room.message" and event["content"] == {}:
                gone += 1
            elif (
                isinstance(event["content"], dict) and event["content"].get("msgtype") == "m.image"
            ):
                up += 1
    return up, gone


async def first_code(person: RawClient) -> bool:
    return (await codes(person))[0] == 1


async def replaced(person: RawClient) -> bool:
    return await codes(person) == (1, 1)


async def all_taken_back(person: RawClient) -> bool:
    return await codes(person) == (0, 2)


def user(name: str) -> UserId:
    return UserId(f"@{name}:{SERVER_NAME}")
