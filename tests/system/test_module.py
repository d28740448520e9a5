"""The Synapse module: first words are read, and no room is ever refused because of it."""

import asyncio
import secrets
from typing import Any

import pytest

from common.ids import EventId, RoomId, UserId
from tests.support.clients import NioClient, RawClient
from tests.support.world import MakeWorld, Wish, World

PEOPLE = 5
EACH = 10


async def speak_first(
    person: NioClient, other: UserId, number: int, sent: dict[EventId, str]
) -> None:
    """Make rooms and direct chats; say something in each before anything else can happen."""
    for place in range(EACH):
        room = await person.create_room(f"room {number}.{place}", encrypted=True)
        words = f"first word in room {number}.{place}"
        sent[await person.send_text(room, words)] = words
        chat = await person.direct_chat(other)
        words = f"first word in chat {number}.{place}"
        sent[await person.send_text(chat, words)] = words


async def test_the_first_words_of_fifty_rooms_and_fifty_direct_chats_are_read(
    world: World,
) -> None:
    names = [f"speaker-{number}-{secrets.token_hex(3)}" for number in range(PEOPLE)]
    accounts = [await world.synapse.register(name) for name in names]
    clients = [
        NioClient(world.synapse.url, account, world.directory / account.user_id)
        for account in accounts
    ]
    sent: dict[EventId, str] = {}
    for client in clients:
        await client.open()

    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            other = clients[(number + 1) % PEOPLE].user_id
            group.create_task(speak_first(client, other, number, sent))

    records = await world.steward.wait_for_records(
        lambda record: record["kind"] == "event" and record["event_id"] in sent,
        "the first words",
        count=2 * PEOPLE * EACH,
    )
    for client in clients:
        await client.close()
    assert {record["event_id"]: record["body"] for record in records} == sent
    assert {record["enc_status"] for record in records} == {"decrypted"}
    assert sum(bool(record["is_direct"]) for record in records) == PEOPLE * EACH


async def test_whose_rooms_are_entered_can_be_chosen(make_world: MakeWorld) -> None:
    world = await make_world(
        Wish(module_options={"creators": {"deny": ["@private-*:*"]}, "direct_chats": False}),
        start=False,
    )
    await world.synapse.start()
    async with (
        await world.person("private-alice") as alice,
        await world.person("bob") as bob,
    ):
        by_alice = await alice.create_room()
        by_bob = await bob.create_room()
        chat = await bob.create_room(invite=[alice.user_id], direct=True)

        assert await invited(alice, by_alice) == set()
        assert await invited(bob, by_bob) == {world.steward.adminbot, world.steward.auditbot}
        assert await invited(bob, chat) == {alice.user_id}


@pytest.mark.parametrize("version", ["11", "12"])
async def test_no_room_is_refused_because_of_the_module(
    make_world: MakeWorld, version: str
) -> None:
    # Steward has never run: the bots have no accounts yet. Limits are Synapse's own.
    limits = {"per_room": {"per_second": 0.3, "burst_count": 10}}
    free = {"per_second": 1000, "burst_count": 1000}
    extra = {"rc_invites": {**limits, "per_user": free, "per_issuer": free}}
    world = await make_world(Wish(extra=extra), start=False)
    await world.synapse.start()
    me = f"@alice:{world.synapse.server_name}"
    people = [(await world.synapse.register(f"guest-{number}")).user_id for number in range(10)]
    levels = {me: 100, world.steward.auditbot: 50}
    if version == "12":
        del levels[me]  # a creator has no level
    requests: list[dict[str, Any]] = [
        {},
        {"invite": people[:8]},
        {"invite": people[:9]},
        {"invite": people},
        {"invite": [world.steward.auditbot]},
        {"power_level_content_override": {"users": levels}},
        {"preset": "public_chat", "power_level_content_override": {"users_default": -10}},
        {"preset": "trusted_private_chat", "invite": people[:1], "is_direct": True},
    ]
    if version == "11":
        requests.append(
            {"power_level_content_override": {"users": {me: 60}, "invite": 70, "events": {}}}
        )
    async with await world.person("alice") as alice:
        for request in requests:
            room = await alice.create_room(extra={"room_version": version, **request})

            assert await is_powerful(alice, room, world.steward.adminbot), request


async def invited(person: RawClient, room: RoomId) -> set[str]:
    events = await person.client("GET", f"/rooms/{room}/members?membership=invite")
    return {event["state_key"] for event in events["chunk"]}


async def is_powerful(person: RawClient, room: RoomId, bot: UserId) -> bool:
    create = await person.state(room, "m.room.create")
    if bot in create.get("additional_creators", []):
        return True
    return bool((await person.state(room, "m.room.power_levels"))["users"].get(bot) == 100)


@pytest.mark.parametrize("version", ["11", "12"])
async def test_no_public_room_is_refused_because_a_bot_was_there_first(
    world: World, version: str
) -> None:
    """The homeserver invites after it has made the room; who is in there already breaks that."""
    async with await world.person() as person:
        rooms: list[RoomId] = []

        async def make() -> None:
            extra = {"preset": "public_chat", "room_version": version}
            rooms.append(await person.create_room(name="Square", extra=extra))

        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(make())

        for room in rooms:
            await person.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
