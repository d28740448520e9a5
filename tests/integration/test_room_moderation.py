"""Keeping order in a room by commands, each effect read back by somebody's own client."""

import pytest

from common.ids import RoomId
from tests.support.clients import RequestFailedError, wait_for
from tests.support.people import hall, server_admin
from tests.support.world import MakeWorld, World

V11 = {"room_version": "11"}
both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])


@both
async def test_removing_banning_and_letting_back(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here:
        room, bob, carol = here.room, here.bob.user_id, here.carol.user_id

        said = await here.alice.do(room, f"!kick {bob} being rude")
        assert said.body.startswith("Done: Remove")
        assert said.encrypted == encrypted
        left = await here.alice.state(room, "m.room.member", bob)
        assert (left["membership"], left["reason"]) == ("leave", "being rude")

        await here.alice.do(room, f"!ban {bob} {carol} spam")
        assert await here.membership(bob) == "ban"
        assert await here.membership(carol) == "ban"

        said = await here.alice.do(room, f"!unban {bob.partition(':')[0]}*")
        assert said.body.startswith("Done"), said.body
        assert await here.membership(bob) == "leave"
        assert await here.membership(carol) == "ban"
        again = await here.alice.ask(room, f"!unban {bob}")
        assert "is not banned" in again.body


async def test_a_ban_with_a_time_ends_by_itself(world: World) -> None:
    async with hall(world) as here:
        bob = here.bob.user_id
        said = await here.alice.do(here.room, f"!ban {bob} --for 2s")
        assert "until" in said.body
        assert await here.membership(bob) in {"ban", "leave"}

        await here.until_membership(bob, "leave")


async def test_nobody_bans_the_bots_or_somebody_above_them(world: World) -> None:
    async with hall(world, extra=V11) as here:
        room = here.room
        bots = [
            await here.alice.ask(room, f"!ban {bot}")
            for bot in (world.steward.adminbot, world.steward.auditbot)
        ]
        assert all("Steward's own accounts" in said.body for said in bots)
        await here.alice.do(room, f"!promote {here.bob.user_id} 100")

        refused = await here.alice.ask(room, f"!ban {here.bob.user_id}")
        pattern = await here.alice.ask(room, "!ban @*")

        assert "you have 100" in refused.body
        assert "carol" not in refused.body
        assert here.carol.user_id in pattern.body
        assert here.bob.user_id not in pattern.body
        assert world.steward.auditbot not in pattern.body
        assert await here.membership(here.bob.user_id) == "join"


async def test_a_direct_chat_governs_a_named_room_only_by_own_power(world: World) -> None:
    async with hall(world) as here, server_admin(world) as (root, chat):
        theirs = await root.do(chat, f"kick {here.room} {here.bob.user_id}")
        assert "Done" in theirs.body
        assert await here.membership(here.bob.user_id) == "leave"

        alices = await here.alice.client.direct_chat(world.steward.adminbot)
        await here.alice.client.wait_for_members(alices, world.steward.adminbot)
        done = await here.alice.do(alices, f"kick {here.room} {here.carol.user_id}")
        assert "Done" in done.body
        elsewhere = await root.client.create_room("of root")
        await root.client.wait_for_members(elsewhere, world.steward.adminbot)
        refused = await here.alice.ask(alices, f"kick {elsewhere} {root.user_id}")
        assert "room moderator of that room" in refused.body


async def test_emptying_a_room_keeps_the_bots_and_the_powerful(world: World) -> None:
    async with hall(world, extra=V11) as here:
        await here.alice.do(here.room, f"!promote {here.bob.user_id} 100")

        said = await here.alice.do(here.room, "!kick-all --reason over")

        assert "Done" in said.body
        assert await here.membership(here.carol.user_id) == "leave"
        assert await here.membership(here.bob.user_id) == "join"
        assert await here.membership(world.steward.auditbot) == "join"


@both
async def test_muting_and_locking(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted, extra=V11) as here:
        room, bob = here.room, here.bob
        await here.alice.do(room, f"!promote {bob.user_id} 10")

        await here.alice.do(room, f"!mute {bob.user_id}")
        assert await here.level(bob.user_id) == -1
        with pytest.raises(RequestFailedError):
            await bob.send_text(room, "muted")
        await here.alice.do(room, f"!unmute {bob.user_id}")
        assert await here.level(bob.user_id) == 10
        await bob.send_text(room, "again")

        before = await here.alice.state(room, "m.room.power_levels")
        await here.alice.do(room, "!lock")
        with pytest.raises(RequestFailedError):
            await bob.send_text(room, "locked")
        await here.alice.do(room, "!unlock")
        await bob.send_text(room, "open")
        assert await here.alice.state(room, "m.room.power_levels") == before


async def test_a_mute_and_a_lock_with_a_time_end_by_themselves(world: World) -> None:
    async with hall(world, extra=V11) as here:
        before = await here.alice.state(here.room, "m.room.power_levels")
        await here.alice.do(here.room, f"!mute {here.bob.user_id} --for 2s")
        await here.alice.do(here.room, "!lock --for 2s")

        async def as_before() -> bool:
            return await here.alice.state(here.room, "m.room.power_levels") == before

        await wait_for(as_before, 60, "the power levels as they were")


@both
async def test_taking_messages_back(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here:
        room, bob = here.room, here.bob
        sent = [await bob.send_text(room, f"message {number}") for number in range(5)]
        kept = await here.carol.send_text(room, "innocent")
        reply = {"m.relates_to": {"m.in_reply_to": {"event_id": sent[0]}}}

        await here.alice.do(room, "!redact", extra=reply)
        await here.alice.do(room, f"!redact {bob.user_id} --last 2 --reason spam")

        assert await _redacted(here.bob, room) == {sent[0], sent[3], sent[4]}
        await here.alice.do(room, f"!redact {bob.user_id} --since 1h")
        assert await _redacted(here.bob, room) == set(sent)
        assert kept not in await _redacted(here.bob, room)


async def test_what_fresh_joiners_wrote_is_taken_back(world: World) -> None:
    async with hall(world, people=1, extra=V11) as here:
        old = await here.bob.send_text(here.room, "of long ago")
        async with await world.person() as spammer:
            await here.bob.invite(here.room, spammer.user_id)
            await spammer.join(here.room)
            spam = [await spammer.send_text(here.room, "buy") for _ in range(3)]
            picture = {"msgtype": "m.image", "body": "x.png", "url": "mxc://steward.localhost/x"}
            shown = await spammer.send(here.room, "m.room.message", picture)
            await here.alice.do(here.room, f"!promote {here.bob.user_id} 100")
            await here.alice.do(here.room, "!purge-spam --media")
            assert await _redacted(here.bob, here.room) == {shown}

            said = await here.alice.do(here.room, "!purge-spam --ban --since 10m")

            assert "Done" in said.body
            assert await _redacted(here.bob, here.room) == {shown, *spam}
            assert old not in await _redacted(here.bob, here.room)
            assert await here.membership(spammer.user_id) == "ban"


async def test_inviting_and_knocking(world: World) -> None:
    async with (
        hall(world, people=1) as here,
        await world.person() as dora,
        await world.person() as emil,
    ):
        said = await here.alice.do(here.room, f"!invite {dora.user_id} {here.bob.user_id}")
        assert "Done" in said.body
        assert await here.membership(dora.user_id) == "invite"

        await here.alice.do(here.room, "!join-rule knock")
        await emil.client("POST", f"/knock/{here.room}", {"reason": "let me in"})
        listed = await here.alice.ask(here.room, "!knocks list")
        assert emil.user_id in listed.body
        assert "let me in" in listed.body
        # As one presses a button: when it is there.
        await here.alice.client.sync_until(
            lambda: any(
                one.type == "m.reaction"
                and one.content["m.relates_to"]["event_id"] == listed.event_id
                and one.content["m.relates_to"]["key"] == "1️⃣"
                for one in here.alice.client.timeline(here.room)
            ),
            "the button",
        )
        await here.alice.client.react(here.room, listed.event_id, "1️⃣")
        await here.until_membership(emil.user_id, "invite")

        await here.alice.do(here.room, f"!kick {emil.user_id}")
        await emil.client("POST", f"/knock/{here.room}", {})
        listed = await here.alice.ask(here.room, "!knocks list")
        await here.alice.client.react(here.room, listed.event_id, "❌1️⃣")
        await here.until_membership(emil.user_id, "leave")
        await emil.client("POST", f"/knock/{here.room}", {})
        await here.alice.do(here.room, f"!knocks deny {emil.user_id} --reason no")
        assert await here.membership(emil.user_id) == "leave"


async def test_reports_of_this_room_and_no_other(make_world: MakeWorld) -> None:
    world = await make_world()  # every server admin of a world is told of each report
    async with hall(world) as here, hall(world) as there:
        for one in (here, there):
            bad = await one.bob.send_text(one.room, "bad")
            await one.carol.client("POST", f"/rooms/{one.room}/report/{bad}", {"reason": one.room})

        said = await here.alice.ask(here.room, "!reports")

        assert here.bob.user_id in said.body
        assert there.room not in said.body
        assert here.carol.user_id not in said.body


async def _redacted(reader: object, room: RoomId) -> set[str]:
    events = await reader.messages(room, limit=200)  # type: ignore[attr-defined]  # its static type is a wider one
    return {one["event_id"] for one in events if "redacted_because" in one.get("unsigned", {})}
