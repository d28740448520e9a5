"""Conversations of people whose clients have Element's own cryptography: nothing stays unread."""

from pathlib import Path

import pytest

from common.demo.steward import Record
from common.ids import EventId
from tests.support.js_client import JsClient
from tests.support.world import MakeWorld, World

pytestmark = pytest.mark.xdist_group("js")

MESSAGES, ROOMS_A_CALL = 20, 5


async def records_of(world: World, said: dict[EventId, str]) -> dict[EventId, Record]:
    """Wait for the records of what was said; all of it must have been read at once."""
    records = await world.steward.wait_for_records(
        lambda record: record["kind"] == "event" and record["event_id"] in said,
        "what was said",
        count=len(said),
        deadline_seconds=60,
    )
    found = {EventId(str(record["event_id"])): record for record in records}
    assert {event: record["body"] for event, record in found.items()} == said
    assert {record["enc_status"] for record in records} == {"decrypted"}
    assert {record["enc_trust"] for record in records} == {"cross_signed"}
    return found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rooms", [10, pytest.param(100, marks=pytest.mark.soak)])
async def test_many_rooms_with_twenty_messages_each(
    world: World, tmp_path: Path, rooms: int
) -> None:
    said: dict[EventId, str] = {}
    async with await JsClient.register(world.synapse, tmp_path) as alice:
        for first in range(0, rooms, ROOMS_A_CALL):
            names = [f"room {number}" for number in range(first, first + ROOMS_A_CALL)]
            sent = await alice.call("talk", rooms=names, messages=MESSAGES)
            said |= {EventId(event): text for event, (_, text) in sent.items()}

    assert len(said) == rooms * MESSAGES
    found = await records_of(world, said)
    assert len({record["room_id"] for record in found.values()}) == rooms


async def test_two_people_in_a_room_by_invitation_whose_keys_are_rotated(
    world: World, tmp_path: Path
) -> None:
    async with (
        await JsClient.register(world.synapse, tmp_path) as alice,
        await JsClient.register(world.synapse, tmp_path) as bob,
    ):
        room = await alice.create_room(name="by invitation", settings={"rotation_period_msgs": 3})
        said = {await alice.send_text(room, f"alone, {n}"): f"alone, {n}" for n in range(3)}
        await alice.invite(room, bob.user_id)
        await bob.join(room)
        await alice.wait_for_members(room, bob.user_id)
        for number in range(6):
            for person, name in ((alice, "alice"), (bob, "bob")):
                text = f"{name} says {number}"
                said[await person.send_text(room, text)] = text
        await alice.call("discardSession", roomId=room)
        said[await alice.send_text(room, "with another key")] = "with another key"
        # They can read each other, so what they say is what is meant to be read.
        await bob.wait_for_message(room, "with another key", sender=alice.user_id)

        found = await records_of(world, said)

    sessions = {
        sender: {r["enc_session_id"] for r in found.values() if r["sender"] == sender}
        for sender in (alice.user_id, bob.user_id)
    }
    # Ten messages of alice's and six of bob's, a new key for each three, and one thrown away.
    assert len(sessions[alice.user_id]) >= 4
    assert len(sessions[bob.user_id]) >= 2


async def test_steward_is_killed_and_started_in_the_middle(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world()
    async with await JsClient.register(world.synapse, tmp_path) as alice:
        room = await alice.create_room(name="in the middle")
        await alice.wait_for_members(room, world.steward.auditbot)

        async def say(when: str) -> dict[EventId, str]:
            texts = [f"{when}, {number}" for number in range(3)]
            return {await alice.send_text(room, text): text for text in texts}

        said = await say("before")
        await world.steward.kill()
        said |= await say("while it is away, with the old key")
        await alice.call("discardSession", roomId=room)
        said |= await say("while it is away, with a new key")
        new_room = await alice.create_room(name="made while it is away")
        text = "first words, unheard"
        said[await alice.send_text(new_room, text)] = text
        await world.steward.start()
        said |= await say("afterwards")

        await records_of(world, said)
