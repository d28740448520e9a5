"""A room's history as files, for a server admin in the direct chat."""

import json
import secrets
from typing import Any

import pytest

from common.ids import RoomId
from tests.support.clients import RawClient
from tests.support.commanding import Commander
from tests.support.people import hall
from tests.support.world import World


async def _lines(root: Commander) -> list[list[dict[str, Any]]]:
    """Return the files that were sent, each as its lines."""
    return [
        [json.loads(line) for line in data.decode().splitlines()]
        for data in await root.files("room-1.jsonl")
    ]


async def _root(world: World) -> RawClient:
    return await world.person(f"root-{secrets.token_hex(3)}", admin=True)


async def test_what_was_said_is_sent_in_order(world: World) -> None:
    async with await _root(world) as client, await world.person() as alice:
        root = await Commander.of(client, world)
        room = await alice.create_room(name="Fair")
        await alice.wait_for_members(room, world.steward.adminbot)
        said = [await alice.send_text(room, f"{number}\u2028\n{{}}") for number in range(30)]
        gone = await alice.send_text(room, "taken back")
        await alice.request(
            "PUT", f"/_matrix/client/v3/rooms/{room}/redact/{gone}/{secrets.token_hex(4)}", {}
        )

        done = await root.do(f'room export {room} --reason "a complaint"', typed=room)

        assert "1 file, in our direct chat" in done
        ((heading, *events),) = await _lines(root)
        assert heading["room_id"] == room
        assert heading["reason"] == "a complaint"
        assert heading["for"] == client.user_id
        assert events[0]["type"] == "m.room.create"
        messages = [one for one in events if one["type"] == "m.room.message"]
        assert [one["event_id"] for one in messages] == [*said, gone]
        assert messages[3]["content"]["body"] == "3\u2028\n{}"
        assert messages[-1]["redacted"] is True
        assert "body" not in messages[-1]["content"]
        # Nobody else is told.
        assert not [
            one
            for one in await alice.messages(room)
            if one["sender"] == world.steward.adminbot and "jsonl" in str(one["content"])
        ]


async def test_only_some_of_it_and_only_with_a_reason(world: World) -> None:
    async with await _root(world) as client, await world.person() as alice:
        root = await Commander.of(client, world)
        room = await alice.create_room(name="Fair")
        await alice.wait_for_members(room, world.steward.adminbot)
        await alice.send_text(room, "now")

        assert "reason" in await root.ask(f"room export {room}")
        assert "in a few words why" in await root.ask(f"room export {room} --reason x")
        assert "after the beginning" in await root.ask(
            f"room export {room} --reason because --from today --to yesterday"
        )
        assert "is for server admins" in await (await Commander.of(alice, world)).ask(
            f"room export {room} --reason because"
        )
        await root.do(f"room export {room} --reason because --to yesterday", typed=room)
        await root.do(f"room export {room} --reason because --from yesterday", typed=room)

        (nothing, all_of_it) = await _both(root)
        assert len(nothing) == 1
        assert nothing[0]["until_ms"] is not None
        assert "now" in [one["content"].get("body") for one in all_of_it[1:]]


async def _both(root: Commander) -> list[list[dict[str, Any]]]:
    found = await _lines(root)
    assert len(found) == 2
    return found


@pytest.mark.parametrize("encrypted", [True], ids=["encrypted"])
async def test_what_is_encrypted_is_marked_and_not_opened(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here, await _root(world) as client:
        root = await Commander.of(client, world)
        room: RoomId = here.room
        words = f"secret {secrets.token_hex(4)}"
        sent = await here.alice.client.send_text(room, words)

        asked = await root.type(f"room export {room} --reason because")
        question = await root.confirm(asked, typed=room)
        assert "cannot be read in the files" in question
        await root.answer(asked, 1)

        ((_, *events),) = await _lines(root)
        (found,) = [one for one in events if one["event_id"] == sent]
        assert found["encrypted"] is True
        assert "ciphertext" in found["content"]
        assert words not in json.dumps(events)
