"""Nothing is lost and nothing is doubled, whoever is killed and whenever."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from functools import partial

import aiohttp

from common.ids import EventId, RoomId
from tests.support.clients import NioClient, RawClient, wait_for
from tests.support.world import MakeWorld, Wish, World

KILLS = 5


def times_archived(world: World, events: Sequence[EventId]) -> Counter[str]:
    wanted = set(events)
    return Counter(
        record["event_id"]
        for record in world.steward.records()
        if record["kind"] == "event" and record["event_id"] in wanted
    )


async def all_archived_once(world: World, events: Sequence[EventId]) -> None:
    await wait_for(
        lambda: len(times_archived(world, events)) == len(events),
        60,
        f"all of {len(events)} acknowledged messages in the archive",
    )
    assert set(times_archived(world, events).values()) == {1}


def has_grown(sent: Sequence[EventId], enough: int) -> bool:
    return len(sent) >= enough


async def chatter(person: RawClient, room: RoomId, sent: list[EventId], name: str) -> None:
    """Send until the homeserver is gone; note what it acknowledged."""
    number = 0
    while True:
        number += 1
        try:
            sent.append(await person.send_text(room, f"{name} {number}"))
        except (aiohttp.ClientError, OSError):
            return


async def test_the_homeserver_killed_five_times_under_traffic_loses_nothing(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    alice, bob = await world.person("alice"), await world.person("bob")
    rooms = [await alice.create_room(invite=[bob.user_id]) for _ in range(3)]
    for room in rooms:
        await bob.join(room)
        await alice.wait_for_members(room, world.steward.auditbot)
    sent: list[EventId] = []

    for kill in range(KILLS):
        before = len(sent)
        async with asyncio.TaskGroup() as group:
            for person in (alice, bob):
                for place, room in enumerate(rooms):
                    group.create_task(chatter(person, room, sent, f"{kill}.{place}"))
            # The condition is traffic in flight, and some of it acknowledged.
            await wait_for(partial(has_grown, sent, before + 25), 60, "traffic")
            await world.synapse.kill()
        await world.synapse.start()

    await all_archived_once(world, sent)
    for person in (alice, bob):
        await person.close()


async def test_room_keys_sent_while_steward_is_down_open_what_was_said_meanwhile(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    account = await world.synapse.register("alice")
    async with NioClient(world.synapse.url, account, world.directory / "nio") as alice:
        rooms = [await alice.create_room(f"room {number}", encrypted=True) for number in range(2)]
        for room in rooms:
            await alice.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)

        await world.steward.stop()
        # New sessions: nothing was said in these rooms yet, so the keys are sent now.
        sent = [await alice.send_text(room, f"while you were away {room}") for room in rooms]
        new_room = await alice.create_room("made while away", encrypted=True)
        sent.append(await alice.send_text(new_room, "first word of a new room"))
        await world.steward.start()

        records = [await world.steward.wait_for_event(event) for event in sent]
        assert {record["enc_status"] for record in records} == {"decrypted"}
        assert records[-1]["body"] == "first word of a new room"


async def test_killed_between_the_acknowledgement_and_the_processing(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    async with await world.person() as alice:
        room = await alice.create_room(name="under fire")
        await alice.wait_for_members(room, world.steward.auditbot)
        pushed: list[EventId] = []
        for kill in range(KILLS):
            events = [
                {
                    "event_id": f"${kill}-{number}",
                    "type": "m.room.message",
                    "room_id": room,
                    "sender": alice.user_id,
                    "origin_server_ts": 1_800_000_000_000,
                    "content": {"msgtype": "m.text", "body": f"{kill} {number}"},
                }
                for number in range(100)
            ]

            # What the homeserver does, with a process that dies as soon as it has answered.
            status = await push(world, f"killed-{kill}", events)
            await world.steward.kill()

            assert status == 200
            pushed += [EventId(str(event["event_id"])) for event in events]
            await world.steward.start()
            # A homeserver that did not get the answer repeats the transaction.
            assert await push(world, f"killed-{kill}", events) == 200

        await all_archived_once(world, pushed)


async def test_steward_killed_under_traffic_archives_each_message_once(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    alice = await world.person("alice")
    room = await alice.create_room(name="traffic")
    await alice.wait_for_members(room, world.steward.auditbot)
    sent: list[EventId] = []

    for _ in range(KILLS):
        before = len(sent)
        while len(sent) < before + 20:
            sent.append(await alice.send_text(room, f"message {len(sent)}"))
        await world.steward.kill()
        sent.append(await alice.send_text(room, "nobody listens"))
        await world.steward.start()

    await all_archived_once(world, sent)
    await alice.close()


async def test_a_homeserver_that_starts_after_steward_is_waited_for(
    make_world: MakeWorld,
) -> None:
    world = await make_world(Wish(), start=False)

    await world.steward.launch()
    await world.synapse.start()
    await world.steward.wait_until_ready()

    async with await world.person() as alice:
        room = await alice.create_room()
        await alice.wait_for_members(room, world.steward.auditbot)
        event = await alice.send_text(room, "hello")
        assert (await world.steward.wait_for_event(event))["body"] == "hello"


async def push(world: World, txn_id: str, events: list[dict[str, object]]) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            f"{world.steward.url}/_matrix/app/v1/transactions/{txn_id}",
            data=json.dumps({"events": events}),
            headers={"Authorization": f"Bearer {world.steward.hs_token}"},
        ) as response,
    ):
        return response.status
