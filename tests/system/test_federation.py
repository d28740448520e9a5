"""Two real homeservers: what people of the other one may, and what becomes of what they say."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from auditbot.completing import SETTLE_MS
from common.ids import RoomId, UserId
from tests.integration.test_completing import archivist_of
from tests.support.archive_check import check_archive, read_directory
from tests.support.backup import steward_command
from tests.support.clients import NioClient, RawClient, RequestFailedError, wait_for
from tests.support.databases import sqlite_url
from tests.support.federation import Neighbours, has, prepare_neighbours
from tests.support.talk import Talk, talk_in
from tests.support.world import World

pytestmark = [pytest.mark.xdist_group("federation"), pytest.mark.timeout(180)]

PNG = b"\x89PNG\r\n\x1a\n" + b"not much of a picture"


@pytest.fixture(scope="module")
async def prepared(tmp_path_factory: pytest.TempPathFactory) -> Neighbours:
    """Both homeservers before anything runs."""
    return await prepare_neighbours(tmp_path_factory.mktemp("federation"))


@pytest.fixture(scope="module")
async def prepared_world(prepared: Neighbours) -> World:
    """The world with Steward; its logs are shown when a test fails."""
    return prepared.world


@pytest.fixture(scope="module")
async def neighbours(prepared: Neighbours, prepared_world: World) -> AsyncIterator[Neighbours]:
    """Both homeservers, and Steward at one of them."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(prepared.border_here.standing())
        await stack.enter_async_context(prepared.border_there.standing())
        async with asyncio.TaskGroup() as group:
            for server in (prepared.there, prepared_world.synapse):
                stack.push_async_callback(server.stop)
                group.create_task(server.start())
        await stack.enter_async_context(prepared_world.steward)
        yield prepared


@dataclass(frozen=True)
class ShutOut:
    """A private room there with somebody from here, who has not invited the bots."""

    room: RoomId
    alice: RawClient
    eve: RawClient


@pytest.fixture(scope="module")
async def shut_out(neighbours: Neighbours) -> AsyncIterator[ShutOut]:
    """A room that the bots cannot enter; until they give it up others are tested."""
    async with await neighbours.world.person() as alice, await neighbours.stranger() as eve:
        room = await eve.create_room(invite=[alice.user_id])
        await neighbours.join_there(alice, room)
        yield ShutOut(room, alice, eve)


@asynccontextmanager
async def namesakes(
    neighbours: Neighbours, *, admin: bool = False
) -> AsyncIterator[tuple[RawClient, RawClient]]:
    """Give two people of the same name, one here and one there."""
    name = f"somebody-{secrets.token_hex(3)}"
    async with (
        await neighbours.world.person(name, admin=admin) as here,
        await neighbours.stranger(name, admin=admin) as there,
    ):
        assert here.user_id.partition(":")[0] == there.user_id.partition(":")[0]
        yield here, there


async def said(person: RawClient, room: RoomId, sender: UserId) -> list[dict[str, Any]]:
    """Return what somebody has said, shown or encrypted included, as another client sees it."""
    events = await person.messages(room, limit=1000)
    return [each for each in events if each["sender"] == sender and "state_key" not in each]


async def names_of(person: RawClient, room: RoomId) -> list[str]:
    """Return every name that a room had."""
    events = await person.messages(room, limit=1000)
    return [each["content"]["name"] for each in events if each["type"] == "m.room.name"]


def answered(events: list[dict[str, Any]]) -> set[object]:
    """Return which messages these answer."""
    related = (each["content"].get("m.relates_to", {}) for each in events)
    return {each.get("m.in_reply_to", {}).get("event_id") for each in related}


async def secret_room(neighbours: Neighbours, person: RawClient, stranger: NioClient) -> RoomId:
    """Return an encrypted room here with both bots and somebody from there."""
    steward = neighbours.world.steward
    room = await person.create_room()
    await person.wait_for_members(room, steward.adminbot, steward.auditbot)
    algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
    await person.send_state(room, "m.room.encryption", algorithm)
    await person.invite(room, stranger.user_id)
    await stranger.join(room, encrypted=True)
    return room


async def fails(talk: Talk, server: str) -> bool:
    """Say whether adminbot tells of a server that it cannot be reached."""
    return server in await talk.ask("fed list --failing")


@pytest.mark.usefixtures("shut_out")
async def test_the_namesake_of_an_admin_is_not_obeyed_in_a_room(neighbours: Neighbours) -> None:
    bot = neighbours.world.steward.adminbot
    async with namesakes(neighbours, admin=True) as (root, namesake):
        room = await neighbours.shared_room(root, namesake, "Hall")
        await neighbours.all_arrived(
            namesake, room, "!help", "!room show", "!admin room members", "!name Taken"
        )

        talk = Talk(neighbours.world, root, room)
        assert "Hall" in await talk.ask("!room show")
        await talk.do("!name Ours")

        mine = {each["event_id"] for each in await said(root, room, root.user_id)}
        replies = await said(root, room, bot)
        assert replies
        assert answered(replies) <= mine
        # Nor at the other server, which has the last of these, and so all.
        await has(namesake, room, replies[-1]["event_id"])
        assert answered(await said(namesake, room, bot)) <= mine
        assert await names_of(root, room) == ["Hall", "Ours"]


async def test_the_namesake_of_an_admin_is_not_obeyed_in_a_direct_chat(
    neighbours: Neighbours,
) -> None:
    world, bot = neighbours.world, neighbours.world.steward.adminbot
    lines = ("help", "!help", "about", "room list", "user list", "fed list", "can-i", "yes", "1")
    async with namesakes(neighbours, admin=True) as (root, namesake):
        chat = await namesake.create_room(direct=True, invite=[bot])
        await namesake.wait_for_members(chat, bot, world.steward.auditbot, deadline_seconds=60)
        await neighbours.all_arrived(namesake, chat, *lines)
        account = await neighbours.there.register(f"coder-{secrets.token_hex(3)}", admin=True)
        async with NioClient(neighbours.there.url, account, world.directory / "coder") as coder:
            coded = await coder.direct_chat(bot)
            await coder.wait_for_members(coded, bot, world.steward.auditbot)
            asked = await coder.send_text(coded, "user list")
            record = await neighbours.arrived(asked)

            own = await root.create_room(direct=True, invite=[bot])
            await root.wait_for_members(own, bot)
            talk = Talk(world, root, own)
            assert root.user_id in await talk.ask("user list")
            assert "room: " in await talk.ask("help")

            await coder.sync()
            heard = [each for each in coder.timeline(coded) if each.sender == bot]
        assert record["enc_status"] == "decrypted"
        assert {each.type for each in heard} <= {"m.room.member"}
        assert await said(namesake, chat, bot) == []


async def test_power_in_a_room_does_not_help(neighbours: Neighbours) -> None:
    world, bot = neighbours.world, neighbours.world.steward.adminbot
    async with (
        await world.person() as alice,
        await world.person() as carol,
        await neighbours.stranger() as mallory,
    ):
        room = await neighbours.shared_room(alice, mallory, "Hall")
        await alice.invite(room, carol.user_id)
        await carol.join(room)
        levels = await alice.state(room, "m.room.power_levels")
        levels["users"][mallory.user_id] = 100
        await has(mallory, room, await alice.send_state(room, "m.room.power_levels", levels))
        # The power is real: with their own hands they may do what they cannot have done.
        await mallory.send_state(room, "m.room.topic", {"topic": "power"})
        await neighbours.all_arrived(
            mallory, room, "!name Taken", f"!kick {carol.user_id}", "!room show"
        )

        # Nor can they confirm what somebody else has asked for.
        talk = Talk(world, alice, room)
        question = await talk.answer("!join-rule public")
        code = question["content"]["body"].partition("“confirm ")[2].partition("”")[0]
        assert len(code) == 4
        await has(mallory, room, question["event_id"])
        yes = {"rel_type": "m.annotation", "event_id": question["event_id"], "key": "✅"}
        await mallory.send(room, "m.reaction", {"m.relates_to": yes})
        await neighbours.arrived(await mallory.send_text(room, f"confirm {code}"))
        assert "Hall" in await talk.ask("!room show")
        assert await alice.state(room, "m.room.join_rules") == {"join_rule": "invite"}
        assert carol.user_id in await alice.joined_members(room)

        confirmed = await alice.send_text(room, f"confirm {code}")
        await alice.wait_for_message(room, "Done", sender=bot, after=confirmed)

        assert await alice.state(room, "m.room.join_rules") == {"join_rule": "public"}
        assert await names_of(alice, room) == ["Hall"]
        replies = await said(alice, room, bot)
        mine = {each["event_id"] for each in await said(alice, room, alice.user_id)}
        assert answered([one for one in replies if one["type"] == "m.room.message"]) <= mine


async def test_what_strangers_say_is_archived(neighbours: Neighbours) -> None:
    world, steward = neighbours.world, neighbours.world.steward
    account = await neighbours.there.register(f"bob-{secrets.token_hex(3)}")
    async with (
        await world.person() as alice,
        await neighbours.stranger() as eve,
        NioClient(neighbours.there.url, account, world.directory / "bob") as bob,
    ):
        plain = await neighbours.shared_room(alice, eve)
        uri = await eve.upload(PNG, "picture.png")
        file = {"msgtype": "m.image", "body": "picture.png", "url": uri}
        sent_file = await eve.send(plain, "m.room.message", file)
        sent_plain = await eve.send_text(plain, "in clear")
        secret = await secret_room(neighbours, alice, bob)
        sent_secret = await bob.send_text(secret, "in secret")

        clear, decrypted = [await neighbours.arrived(one) for one in (sent_plain, sent_secret)]
        (media,) = await steward.wait_for_records(
            lambda one: one["kind"] == "media" and one["event_id"] == sent_file,
            "the picture",
            deadline_seconds=60,
        )

    assert (clear["body"], clear["enc_status"], clear["sender"]) == (
        "in clear",
        "clear",
        eve.user_id,
    )
    assert (decrypted["body"], decrypted["enc_status"], decrypted["sender"]) == (
        "in secret",
        "decrypted",
        bob.user_id,
    )
    for record in (clear, decrypted):
        assert record["sender_server"] == neighbours.there.server_name
        assert record["server_name"] == world.synapse.server_name
        assert record["federated"] is True
    assert media["media_status"] == "stored"
    assert (steward.archive / media["media_key"]).read_bytes() == PNG


async def test_a_public_room_there_is_entered(neighbours: Neighbours) -> None:
    steward = neighbours.world.steward
    async with await neighbours.world.person() as alice, await neighbours.stranger() as eve:
        room = await eve.create_room(extra={"preset": "public_chat"})
        await neighbours.join_there(alice, room)

        await eve.wait_for_members(room, steward.adminbot, steward.auditbot, deadline_seconds=60)
        record = await neighbours.arrived(await eve.send_text(room, "for everybody"))

    assert record["body"] == "for everybody"


async def test_a_private_room_there_is_entered_when_somebody_invites(
    neighbours: Neighbours,
) -> None:
    world, steward = neighbours.world, neighbours.world.steward
    async with (
        talk_in(world) as talk,
        await world.person() as alice,
        await neighbours.stranger() as eve,
    ):
        room = await eve.create_room(invite=[alice.user_id])
        await neighbours.join_there(alice, room)

        async def is_told(why: str) -> bool:
            return f"{room}  {why}" in await talk.ask("bots missing")

        refused = "The homeserver refused: No local admin user in room"
        await wait_for(partial(is_told, refused), 60, "the room among those without the bots")
        for bot in (steward.adminbot, steward.auditbot):
            await alice.invite(room, bot)
        await eve.wait_for_members(room, steward.adminbot, steward.auditbot, deadline_seconds=60)
        record = await neighbours.arrived(await eve.send_text(room, "with the bots"))
        powerless = f"{steward.adminbot} has no power"
        await wait_for(partial(is_told, powerless), 60, "the room among those without power")

    assert record["body"] == "with the bots"


async def test_invitations_from_there_are_refused_until_let_through(
    neighbours: Neighbours,
) -> None:
    there = neighbours.there.server_name
    async with (
        talk_in(neighbours.world) as talk,
        await neighbours.world.person() as alice,
        await neighbours.stranger() as spam,
        await neighbours.stranger() as eve,
    ):
        rooms = {one: await one.create_room() for one in (spam, eve)}
        since = (await alice.sync())["next_batch"]

        async def reaches(inviter: RawClient) -> bool:
            """Have alice invited, who declines if she gets to see it; say whether she did."""
            nonlocal since
            refusal = ""
            try:
                await inviter.invite(rooms[inviter], alice.user_id)
            except RequestFailedError as error:
                refusal = error.errcode
            news = await alice.sync(since=since)
            since = news["next_batch"]
            seen = rooms[inviter] in news.get("rooms", {}).get("invite", {})
            assert refusal == ("" if seen else "M_FORBIDDEN")
            if seen:
                await alice.leave(rooms[inviter])
            return seen

        assert await reaches(spam)
        await talk.do(f"invite-block add {spam.user_id}")
        assert not await reaches(spam)
        assert await reaches(eve)
        await talk.do(f"invite-block add {there}")
        assert not await reaches(eve)
        # The same host, but another server: this one.
        assert "within this server" in await talk.ask("invite-block add localhost")
        await talk.do(f"invite-block remove {there}")
        assert await reaches(eve)
        assert not await reaches(spam)
        await talk.do(f"invite-block remove {spam.user_id}")
        assert await reaches(spam)


async def test_a_server_that_was_away_is_reached_again_on_demand(neighbours: Neighbours) -> None:
    there = neighbours.there.server_name
    async with (
        talk_in(neighbours.world) as talk,
        await neighbours.world.person() as alice,
        await neighbours.stranger() as eve,
    ):
        room = await neighbours.shared_room(alice, eve)
        shown = await talk.ask(f"fed user {eve.user_id}")
        assert "is in 1 room of this server" in shown

        await neighbours.there.stop()
        sent = await alice.send_text(room, "is anybody there?")
        await wait_for(partial(fails, talk, there), 60, f"{there} among those that fail")
        assert "Failing since" in await talk.ask(f"fed show {there}")
        await neighbours.there.start()
        # It would be left alone for ten minutes.
        assert await fails(talk, there)
        assert "Tried again" in await talk.do(f"fed retry {there}")

        await has(eve, room, sent)
        assert not await fails(talk, there)
        assert room in await talk.ask(f"fed rooms {there}")
        assert "not waited for" in await talk.ask(f"fed retry {there}")


async def test_what_comes_late_is_archived_once(neighbours: Neighbours) -> None:
    steward, there = neighbours.world.steward, neighbours.there.server_name
    async with (
        talk_in(neighbours.world) as talk,
        await neighbours.world.person() as alice,
        await neighbours.stranger() as bob,
    ):
        room = await neighbours.shared_room(alice, bob)
        await neighbours.arrived(await bob.send_text(room, "before"))
        neighbours.part()
        late, own = [], []
        for number in range(8):
            late.append(await bob.send_text(room, f"there {number}"))
            own.append(await alice.send_text(room, f"here {number}"))
        await neighbours.arrived(own[-1])
        await wait_for(partial(fails, talk, there), 60, f"{there} among those that fail")
        before = {one["event_id"] for one in steward.records(room)}
        neighbours.meet()
        await talk.do(f"fed retry {there}")

        for event in late:
            await neighbours.arrived(event)
        await neighbours.arrived(await bob.send_text(room, "after"))
        # The second feed has gone through the room, too.
        await steward.wait_for_records(
            lambda one: one["kind"] == "graph" and late[-1] in one["detail_json"],
            "the parents of what came late",
            deadline_seconds=60,
        )
        records = [one for one in steward.records(room) if one["kind"] == "event"]

    assert before.isdisjoint(late)
    times = Counter(one["event_id"] for one in records)
    assert set(times.values()) == {1}
    assert times.keys() >= {*late, *own}
    bodies = {one["event_id"]: one["body"] for one in records}
    assert [bodies[event] for event in late] == [f"there {number}" for number in range(8)]


async def test_a_key_that_was_held_up_is_used(neighbours: Neighbours) -> None:
    steward, there = neighbours.world.steward, neighbours.there.server_name
    account = await neighbours.there.register(f"bob-{secrets.token_hex(3)}")
    async with (
        talk_in(neighbours.world) as talk,
        await neighbours.world.person() as alice,
        NioClient(neighbours.there.url, account, neighbours.world.directory / "late") as bob,
    ):
        room = await secret_room(neighbours, alice, bob)
        await neighbours.arrived(await bob.send_text(room, "before"))
        neighbours.part()
        bob.nio.invalidate_outbound_session(room)
        sent = await bob.send_text(room, "with a key of its own")
        await alice.send_text(room, "here")
        await wait_for(partial(fails, talk, there), 60, f"{there} among those that fail")
        neighbours.meet()
        await talk.do(f"fed retry {there}")

        # The message may be here before its key; then another record says what it says.
        (read,) = await steward.wait_for_records(
            lambda one: (
                one["event_id"] == sent
                and one["kind"] in {"event", "decryption"}
                and one["enc_status"] == "decrypted"
            ),
            "what came late, in clear",
            deadline_seconds=60,
        )
        earlier = {
            one["enc_session_id"] for one in steward.records(room) if one["body"] == "before"
        }

    assert read["body"] == "with a key of its own"
    assert earlier
    assert read["enc_session_id"] not in earlier


async def test_what_only_going_back_brings_is_fetched(
    neighbours: Neighbours, tmp_path: Path
) -> None:
    """After an outage a homeserver fetches the newest events alone, the others when asked."""
    world, there = neighbours.world, neighbours.there.server_name
    many = 200  # more than one page
    async with (
        talk_in(world) as talk,
        await world.person() as alice,
        await neighbours.stranger() as bob,
        archivist_of(world, tmp_path, sqlite_url(tmp_path)) as archivist,
    ):
        await archivist.feed()
        await archivist.bot.exporting.settle()
        room = await neighbours.shared_room(alice, bob)
        await neighbours.arrived(await bob.send_text(room, "before"))
        neighbours.part()
        late = [await bob.send_text(room, f"there {number}") for number in range(many)]
        await alice.send_text(room, "here")
        await wait_for(partial(fails, talk, there), 60, f"{there} among those that fail")
        neighbours.meet()
        await talk.do(f"fed retry {there}")
        await has(alice, room, late[-1])

        async def recorded() -> Counter[str]:
            await archivist.feed()
            await archivist.record()
            events = await archivist.records("event", room)
            return Counter(one["event_id"] for one in events if one["event_id"] in late)

        times = await recorded()
        hole = set(late) - times.keys()
        for _ in range(3):
            archivist.clock.more_ms += SETTLE_MS + 60_000
            await archivist.bot.completing.fetch()
            times = await recorded()
        gaps = {
            json.loads(one["detail_json"])["event_id"]
            for one in await archivist.records("gap", room)
        }
        closed = {
            json.loads(one["detail_json"])["event_id"]
            for one in await archivist.records("gap_closed", room)
        }

    assert hole, "the homeserver was given everything; nobody would have to go back"
    assert times == Counter(late)
    assert gaps == closed == hole


async def test_a_room_that_cannot_be_entered_is_given_up(
    neighbours: Neighbours, shut_out: ShutOut
) -> None:
    steward, room = neighbours.world.steward, shut_out.room

    def tries() -> int:
        """Count how often a bot asked the homeserver to be let in."""
        lines = neighbours.world.synapse.child.program.log.read_text().splitlines()
        join = f"POST /_matrix/client/v3/rooms/{quote(room)}/join"
        return sum(join in line for line in lines)

    def given_up() -> bool:
        lines = [line for line in steward.log().splitlines() if room in line]
        return any("could not be entered, or not with power, for now" in line for line in lines)

    await wait_for(given_up, 100, "the bots giving up")
    async with await neighbours.world.person() as bob:
        # The homeserver logs a request when it has answered it: it has, before bob's was.
        before = tries()
        await shut_out.alice.send_text(room, "without the bots")
        await has(shut_out.alice, room, await shut_out.eve.send_text(room, "so far"))
        # What comes after that has been dealt with, so that has been, too.
        other = await bob.create_room()
        await bob.wait_for_members(other, steward.adminbot, steward.auditbot)
        await steward.wait_for_event(await bob.send_text(other, "all is well"))

    assert 0 < before == tries()
    assert await shut_out.eve.joined_members(room) == {
        shut_out.alice.user_id,
        shut_out.eve.user_id,
    }


async def test_the_archive_of_all_this_is_sound(neighbours: Neighbours, tmp_path: Path) -> None:
    steward = neighbours.world.steward
    await steward.stop()
    try:
        checked = check_archive(await asyncio.to_thread(read_directory, steward.archive))
        verified = await steward_command(steward, "audit", "verify", f"--home={tmp_path}")
    finally:
        await steward.start()
    assert verified.status == 0
    events = Counter(one["event_id"] for one in checked.of_kind("event"))
    assert set(events.values()) <= {1}
