"""A room's settings changed by commands, each read back by somebody's own client."""

import secrets
from urllib.parse import quote

import pytest

from common.ids import RoomId
from tests.support.clients import RequestFailedError, wait_for
from tests.support.people import Hall, hall, server_admin
from tests.support.world import World

V11 = {"room_version": "11"}
both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


async def alias_target(here: Hall, alias: str) -> str | None:
    try:
        found = await here.bob.client("GET", f"/directory/room/{quote(alias, safe='')}")
    except RequestFailedError:
        return None
    return str(found["room_id"])


@both
async def test_what_a_room_is_called_and_shows(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here:
        room = here.room
        await here.alice.do(room, "!name Tea & <i>biscuits</i>")
        await here.alice.do(room, "!topic all about tea")
        await here.alice.do(room, "!avatar mxc://steward.localhost/abc")
        message = await here.bob.send_text(room, "pin me")
        reply = {"m.relates_to": {"m.in_reply_to": {"event_id": message}}}
        await here.alice.do(room, "!pin", extra=reply)

        assert (await here.alice.state(room, "m.room.name"))["name"] == "Tea & <i>biscuits</i>"
        assert (await here.alice.state(room, "m.room.topic"))["topic"] == "all about tea"
        assert (await here.alice.state(room, "m.room.avatar"))["url"].endswith("/abc")
        assert (await here.alice.state(room, "m.room.pinned_events"))["pinned"] == [message]
        await here.alice.do(room, "!unpin", extra=reply)
        assert (await here.alice.state(room, "m.room.pinned_events"))["pinned"] == []
        shown = await here.alice.ask(room, "!info")
        assert "Tea &amp; &lt;i&gt;biscuits" in shown.content["formatted_body"]


async def test_power_is_given_taken_and_handed_over(world: World) -> None:
    async with hall(world, extra=V11) as here:
        room, bob, carol = here.room, here.bob.user_id, here.carol.user_id
        await here.alice.do(room, f"!promote {bob}")
        assert await here.level(bob) == 50
        await here.alice.do(room, f"!promote {carol} 100")
        equal = await here.alice.ask(room, f"!demote {carol}")
        assert "you have 100" in equal.body
        assert await here.level(carol) == 100
        await here.alice.do(room, f"!demote {bob}")
        assert await here.level(bob) is None

        await here.alice.do(room, "!powerlevel set m.room.topic 100")
        levels = await here.alice.state(room, "m.room.power_levels")
        assert levels["events"]["m.room.topic"] == 100
        await here.alice.do(room, "!powerlevel template announcement")
        levels = await here.alice.state(room, "m.room.power_levels")
        assert (levels["events_default"], levels["users"][carol]) == (50, 100)
        shown = await here.alice.ask(room, "!powerlevel show")
        assert carol in shown.body
        # The bot has no more power than she has: what it cannot take she gives up herself.
        said = await here.alice.do(room, f"!handover {bob}")
        assert "Done" in said.body
        assert await here.level(bob) == 100
        assert await here.level(here.alice.user_id) is None


async def test_who_is_as_powerful_as_the_bot_steps_down_in_their_own_name(world: World) -> None:
    async with hall(world, extra=V11) as here, server_admin(world) as (root, chat):
        room, alice, bob = here.room, here.alice.user_id, here.bob.user_id
        await here.alice.do(room, f"!promote {bob} 100")
        await root.do(chat, f"demote {room} {bob} 50")
        assert await here.level(bob) == 50
        await here.alice.do(room, f"!promote {bob} 100")
        await here.alice.do(room, f"!demote {alice} 50")
        assert await here.level(alice) == 50
        levels = await here.alice.state(room, "m.room.power_levels")
        assert levels["users"][world.steward.adminbot] == 100
        await here.bob.leave(room)
        gone = await root.ask(chat, f"demote {room} {bob}")
        assert "is not in" in gone.body


async def test_in_a_room_of_version_12_the_bot_can_take_what_it_gave(world: World) -> None:
    async with hall(world) as here, server_admin(world) as (root, chat):
        room, bob, carol = here.room, here.bob.user_id, here.carol.user_id
        creator = await here.alice.ask(room, f"!handover {bob}")
        assert "created this room" in creator.body
        await here.alice.do(room, f"!promote {bob} 100")
        await here.alice.do(room, f"!promote {carol} 100")
        refused = await root.ask(chat, f"demote {room} {here.alice.user_id}")
        assert "stands above every power level" in refused.body

        await root.do(chat, f"demote {room} {bob}")

        assert await here.level(bob) is None


@both
async def test_who_may_come_in_and_read(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here:
        room, ask = here.room, here.alice.state
        await here.alice.do(room, "!join-rule public")
        await here.alice.do(room, "!history joined")
        await here.alice.do(room, "!guest forbid")
        await here.alice.do(room, "!directory publish")
        await here.alice.do(room, "!retention set 90d")

        assert (await ask(room, "m.room.join_rules"))["join_rule"] == "public"
        assert (await ask(room, "m.room.history_visibility"))["history_visibility"] == "joined"
        assert (await ask(room, "m.room.guest_access"))["guest_access"] == "forbidden"
        listed = await here.bob.client("GET", f"/directory/list/room/{quote(room)}")
        assert listed["visibility"] == "public"
        assert (await ask(room, "m.room.retention"))["max_lifetime"] == 90 * 86_400_000
        shown = (await here.alice.ask(room, "!retention show")).body
        assert "90 days" in shown
        assert "At the latest, on this server:   3650 days" in shown
        cleared = await here.alice.ask(room, "!retention clear")
        assert "cannot be undone" not in cleared.body
        await here.alice.confirm(cleared)
        assert await ask(room, "m.room.retention") == {}
        await here.alice.do(room, "!directory unpublish")
        listed = await here.bob.client("GET", f"/directory/list/room/{quote(room)}")
        assert listed["visibility"] == "private"
        space = await here.alice.client.create_room("space", extra=SPACE)
        await here.alice.do(room, f"!join-rule restricted --members-of {space}")
        rules = await ask(room, "m.room.join_rules")
        assert rules["allow"] == [{"type": "m.room_membership", "room_id": space}]
        if not encrypted:
            await here.alice.do(room, "!encryption on")
        assert (await ask(room, "m.room.encryption"))["algorithm"] == "m.megolm.v1.aes-sha2"
        assert "steward.localhost" in (await here.alice.ask(room, "!federation info")).body


SPACE = {"creation_content": {"type": "m.space"}}


async def test_addresses(world: World) -> None:
    async with hall(world) as here, hall(world) as there, server_admin(world) as (root, chat):
        room, name = here.room, f"tea-{secrets.token_hex(3)}"
        one, two = (f"#{name}-{number}:steward.localhost" for number in (1, 2))
        await here.alice.do(room, f"!alias add {name}-1 --main")
        await here.alice.do(room, f"!alias add {two}")

        assert await alias_target(here, one) == await alias_target(here, two) == room
        assert (await here.alice.state(room, "m.room.canonical_alias"))["alias"] == one
        await here.alice.do(room, f"!alias main {two}")
        canonical = await here.alice.state(room, "m.room.canonical_alias")
        assert (canonical["alias"], canonical["alt_aliases"]) == (two, [one])
        listed = await here.alice.ask(room, "!alias list")
        assert one in listed.body
        assert two in listed.body
        taken = await there.alice.ask(there.room, f"!alias move {two}")
        assert "alias remove" in taken.body
        assert await alias_target(here, two) == room
        await here.alice.do(room, f"!alias remove {two}")
        assert await alias_target(here, two) is None
        assert (await here.alice.state(room, "m.room.canonical_alias"))["alt_aliases"] == [one]
        # Made by a person's own client, taken by the bot.
        three = f"#{name}-3:steward.localhost"
        await here.bob.client("PUT", f"/directory/room/{quote(three, safe='')}", {"room_id": room})
        await root.do(chat, f"alias move {there.room} {three}")
        assert await alias_target(here, three) == there.room


async def test_a_room_is_upgraded_with_everything_in_it(world: World) -> None:
    async with hall(world, extra=V11) as here:
        room, name = here.room, f"old-{secrets.token_hex(3)}"
        await here.alice.do(room, f"!alias add {name} --main")
        await here.alice.do(room, f"!promote {here.bob.user_id} 50")
        await here.alice.do(room, "!widget url https://example.org/board --name Board")
        await here.alice.do(room, f"!ban {here.carol.user_id}")

        said = await here.alice.do(room, "!upgrade 12")

        assert "Done" in said.body
        new = RoomId((await here.alice.state(room, "m.room.tombstone"))["replacement_room"])
        await here.alice.client.join(new)
        await here.bob.join(new)
        await here.alice.client.wait_for_members(
            new, world.steward.adminbot, world.steward.auditbot, here.bob.user_id
        )
        create = await here.alice.state(new, "m.room.create")
        levels = await here.alice.state(new, "m.room.power_levels")
        assert create["room_version"] == "12"
        assert create["additional_creators"] == [world.steward.auditbot, here.alice.user_id]
        assert create["predecessor"]["room_id"] == room
        assert levels["users"][here.bob.user_id] == 50
        assert await alias_target(here, f"#{name}:steward.localhost") == new
        assert (await here.alice.state(new, "m.room.name"))["name"] == "Café <b>"
        assert (await here.alice.state(new, "m.room.member", here.carol.user_id))[
            "membership"
        ] == "ban"
        state = await here.bob.client("GET", f"/rooms/{quote(new)}/state")
        widgets = [one for one in state if one["type"] == "im.vector.modular.widgets"]
        assert [one["content"]["name"] for one in widgets] == ["Board"]
        # Its maker governs the new one.
        assert "Done" in (await here.alice.do(new, "!topic new")).body


async def test_ends_of_a_room(world: World) -> None:
    async with hall(world) as here:
        before = await here.alice.state(here.room, "m.room.power_levels")
        await here.alice.do(here.room, "!close So long")
        await here.alice.do(here.room, "!reopen")
        assert await here.alice.state(here.room, "m.room.power_levels") == before
        await here.bob.send_text(here.room, "once more")
        await here.alice.do(here.room, "!close Thanks for all the fish")
        with pytest.raises(RequestFailedError):
            await here.bob.send_text(here.room, "one more")
        texts = [event["content"].get("body") for event in await here.bob.messages(here.room)]
        assert "Thanks for all the fish" in texts
        other = await here.alice.client.create_room("other")
        await here.alice.do(here.room, f"!tombstone over there --to {other}")
        tombstone = await here.alice.state(here.room, "m.room.tombstone")
        assert tombstone == {"body": "over there", "replacement_room": other}


async def test_conference_widgets_as_element_adds_them(world: World) -> None:
    async with hall(world) as here:
        await here.alice.do(here.room, "!widget jitsi --domain meet.example.org")
        await here.alice.do(here.room, "!widget element-call")
        await here.alice.do(here.room, "!widget url https://example.org/x --name Board")

        state = await here.bob.client("GET", f"/rooms/{quote(here.room)}/state")
        widgets = {
            one["content"]["name"]: one["content"]
            for one in state
            if one["type"] == "im.vector.modular.widgets"
        }
        jitsi = widgets["Jitsi"]
        assert jitsi["type"] == "jitsi"
        assert jitsi["data"]["domain"] == "meet.example.org"
        assert jitsi["data"]["conferenceId"].startswith("Jitsi")
        assert jitsi["url"].startswith("https://app.element.io/jitsi.html?confId=")
        assert "conferenceDomain=$domain&conferenceId=$conferenceId" in jitsi["url"]
        assert widgets["Element Call"]["url"].startswith("https://call.element.io/room#?")
        assert set(widgets) == {"Jitsi", "Element Call", "Board"}
        refused = await here.alice.ask(here.room, "!widget url http://example.org/x")
        assert "https://" in refused.body
        await here.alice.do(here.room, "!widget remove jitsi")
        listed = await here.alice.ask(here.room, "!widget list")
        assert "jitsi" not in listed.body.lower()
        assert "Board" in listed.body


async def test_spaces(world: World) -> None:
    async with hall(world, extra=SPACE) as here, hall(world, people=0) as there:
        space = here.room
        await here.alice.do(space, f"!space add {there.room} --suggested --order 020")
        child = await here.alice.state(space, "m.space.child", there.room)
        assert child == {"via": ["steward.localhost"], "suggested": True, "order": "020"}
        await here.alice.do(space, f"!space order {there.room} 010")
        await here.alice.do(space, f"!space suggest {there.room} --off")
        child = await here.alice.state(space, "m.space.child", there.room)
        assert child == {"via": ["steward.localhost"], "suggested": False, "order": "010"}
        assert there.room in (await here.alice.ask(space, "!space list")).body

        await here.alice.client.request(
            "POST", f"/_matrix/client/v3/rooms/{space}/invite", {"user_id": there.alice.user_id}
        )
        await there.alice.client.join(space)
        member = await there.alice.do(there.room, f"!space sync-members {space}")
        assert "no moderator" in member.body
        await here.alice.do(space, f"!promote {there.alice.user_id}")
        await there.alice.do(there.room, f"!space sync-members {space}")
        assert await there.membership(here.bob.user_id) == "invite"
        await here.alice.do(space, f"!space remove {there.room}")
        assert await here.alice.state(space, "m.space.child", there.room) == {}


async def test_a_template_changes_only_what_differs(world: World) -> None:
    async with hall(world) as here:
        said = await here.alice.do(here.room, "!apply template announcement")
        assert "Done" in said.body
        levels = await here.alice.state(here.room, "m.room.power_levels")
        rules = await here.alice.state(here.room, "m.room.join_rules")
        assert (levels["events_default"], rules["join_rule"]) == (50, "public")
        again = await here.alice.ask(here.room, "!apply template announcement")
        assert "how it is already" in again.body


@both
async def test_facts_about_a_room(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here:
        await here.bob.send_text(here.room, "one")
        info = await here.alice.ask(here.room, "!info")
        members = await here.alice.ask(here.room, "!members")
        admins = await here.alice.ask(here.room, "!admins")
        stats = await here.alice.ask(here.room, "!stats --since 1h")
        health = await here.alice.ask(here.room, "!health")
        file = await here.alice.ask(here.room, "!members --csv")

        assert "who is invited" in info.body
        assert here.carol.user_id in members.body
        assert here.alice.user_id in admins.body
        assert here.carol.user_id not in admins.body
        if not encrypted:
            # What everybody in a room can see everybody in it may ask for; and nobody else.
            asked = await here.bob.send_text(here.room, "!admins")
            bot = world.steward.adminbot
            alice = here.alice.user_id
            await here.bob.wait_for_message(here.room, alice, sender=bot, after=asked)
            chat = await here.carol.create_room(direct=True, invite=[bot])
            await here.carol.wait_for_members(chat, bot)
            await here.carol.leave(here.room)
            asked = await here.carol.send_text(chat, f"info {here.room}")
            told = await here.carol.wait_for_message(chat, sender=bot, after=asked)
            assert "You are not in that room" in told["content"]["body"]
        assert here.bob.user_id in stats.body
        assert "only admin" in health.body
        assert "5 members in all" in file.body
        refused = await here.alice.ask(here.room, "!members --page x")
        assert "whole number" in refused.body


@both
async def test_what_adminbot_does_in_a_room_by_itself(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here, await world.person() as dora:
        room, bot = here.room, world.steward.adminbot
        await here.alice.do(room, "!welcome set Read the rules first.")
        await here.alice.do(room, "!rules set Be kind.")
        await here.alice.do(room, "!autoreply add 'opening hours' From nine to five.")
        assert "nine to five" in (await here.alice.ask(room, "!autoreply list")).body
        assert "Read the rules" in (await here.alice.ask(room, "!welcome show")).body

        await here.bob.invite(room, dora.user_id)
        await dora.join(room)
        greeting = await here.alice.client.wait_for_message(room, dora.user_id, sender=bot)
        assert "Read the rules first." in greeting.body
        assert greeting.encrypted == encrypted
        assert "Be kind." in (await here.alice.ask(room, "!rules")).body

        asked = await here.alice.client.send_text(room, "What are the OPENING HOURS?")
        reply = await here.alice.client.wait_for_message(room, sender=bot, after=asked)
        assert reply.body == "From nine to five."

        await here.alice.do(room, "!slow 1h")
        first = await dora.send_text(room, "one")
        second = await dora.send_text(room, "two")
        await here.alice.client.send_text(room, "a moderator's")

        async def taken_back() -> set[str]:
            events = await here.bob.messages(room, limit=200)
            return {
                one["event_id"] for one in events if "redacted_because" in one.get("unsigned", {})
            }

        await wait_for(taken_back, 60, "a message that came too soon, taken back")
        assert await taken_back() == {second}
        assert first not in await taken_back()
        await here.alice.do(room, "!slow 0s")

        await here.alice.do(room, "!bot ignore")
        await here.alice.client.send_text(room, "!version")
        named = await here.alice.ask(room, "!admin bot why")
        assert "every room" in named.body
        said = [one.body for one in here.alice.client.messages(room, sender=bot)]
        assert not any("Synapse" in one for one in said)


async def test_a_picture_and_a_list_sent_with_a_command(world: World) -> None:
    async with hall(world) as here, await world.person() as dora, await world.person() as emil:
        room, png = here.room, b"\x89PNG\r\n\x1a\n" + b"x" * 40
        said = await here.alice.send_file(room, "tea.png", png, caption="!avatar", kind="m.image")
        assert "Done" in said.body
        url = (await here.alice.state(room, "m.room.avatar"))["url"]
        server, media = url.removeprefix("mxc://").split("/")
        path = f"{here.bob.url}/_matrix/client/v1/media/download/{server}/{media}"
        async with here.bob._session.get(path) as response:
            assert await response.read() == png
        text = await here.alice.send_file(
            room, "x.txt", b"words", caption="!avatar", kind="m.image"
        )
        assert "no picture" in text.body

        names = f"user_id,team\n{dora.user_id},a\n{emil.user_id},b\n{here.bob.user_id},c\n"
        said = await here.alice.send_file(
            room, "people.csv", names.encode(), caption="!invite-list"
        )
        assert "Done" in said.body
        assert [await here.membership(one.user_id) for one in (dora, emil, here.bob)] == [
            "invite",
            "invite",
            "join",
        ]
