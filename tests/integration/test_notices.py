"""Notices from the server, default rooms and what new people are told: with a real homeserver."""

import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from common.demo.waiting import wait_for
from common.ids import RoomId, UserId
from tests.support.clients import RawClient
from tests.support.talk import Talk, talk_in
from tests.support.world import MakeWorld, World

NOTICES = UserId("@server:steward.localhost")


@dataclass(frozen=True)
class Scene:
    """A server admin at their chat, and three people in a room of their own."""

    talk: Talk
    people: tuple[RawClient, ...]
    room: RoomId

    @property
    def world(self) -> World:
        return self.talk.world

    @property
    def names(self) -> str:
        return ",".join(person.user_id for person in self.people)


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with scene_in(world) as one:
        yield one


@asynccontextmanager
async def scene_in(world: World) -> AsyncIterator[Scene]:
    """Set the scene in a world."""
    async with AsyncExitStack() as stack:
        talk = await stack.enter_async_context(talk_in(world))
        people = tuple([await stack.enter_async_context(await world.person()) for _ in range(3)])
        first, *others = people
        room = await first.create_room(name=secrets.token_hex(4))
        await first.wait_for_members(room, world.steward.adminbot)
        for other in others:
            await first.invite(room, other.user_id)
            await other.join(room)
        yield Scene(talk, people, room)


async def notices_to(person: RawClient) -> list[dict[str, Any]]:
    """Return what somebody was told by the server, as their client shows it."""
    # With a filter of its own: the homeserver keeps the answer to an initial sync for a while.
    unique = json.dumps({"room": {"timeline": {"limit": secrets.randbelow(10**6)}}})
    sync = await person.request("GET", "/_matrix/client/v3/sync", query={"filter": unique})
    for room in sync.get("rooms", {}).get("invite", {}):
        await person.join(room)
    joined = await person.request("GET", "/_matrix/client/v3/joined_rooms")
    found: list[dict[str, Any]] = []
    for room in joined["joined_rooms"]:
        events = await person.messages(room)
        found += [
            event
            for event in events
            if event["sender"] == NOTICES and event["type"] == "m.room.message"
        ]
    return found


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["content"].get("body", "(gone)") for event in events]


async def test_a_notice_is_sent_shown_changed_and_taken_back(scene: Scene) -> None:
    talk, mark = scene.talk, secrets.token_hex(4)

    sent = await talk.do(f"notice room {scene.room} Back at noon {mark}")
    status = await talk.ask("notice status")

    assert "3 people" in sent
    for person in scene.people:
        assert texts(await notices_to(person)) == [f"Back at noon {mark}"]
    line = next(line for line in status.splitlines() if mark in line)
    number = line.split()[0]
    assert "Have it:" in await talk.ask(f"notice status {number}")

    await talk.do(f"notice edit {number} Back at one {mark}")
    first = scene.people[0]
    (told, change) = await notices_to(first)
    assert change["content"]["m.new_content"]["body"] == f"Back at one {mark}"
    assert change["content"]["m.relates_to"]["event_id"] == told["event_id"]

    recalled = await talk.do(f"notice recall {number}")
    assert "3 people" in recalled
    for person in scene.people:
        assert "(gone)" in texts(await notices_to(person))
    assert "Nobody has" in await talk.ask(f"notice recall {number}")


async def test_a_notice_goes_to_whom_it_is_meant_for(scene: Scene) -> None:
    talk, mark = scene.talk, secrets.token_hex(4)
    first, second, third = scene.people

    await talk.do(f"notice {first.user_id} To one {mark}")
    await talk.do(f"notice room --exclude {first.user_id} {scene.room} To the others {mark}")
    preview = await talk.do(f"notice room --preview {scene.room} Draft {mark}")
    quoted = await talk.admin.send_text(talk.chat, f"Many\nlines {mark}")
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": quoted}}}
    await talk.do(f"notice {third.user_id}", extra=reply)

    assert texts(await notices_to(first)) == [f"To one {mark}"]
    assert texts(await notices_to(second)) == [f"To the others {mark}"]
    assert texts(await notices_to(third)) == [f"To the others {mark}", f"Many\nlines {mark}"]
    assert "1 person" in preview
    assert f"Draft {mark}" in texts(await notices_to(talk.admin))
    assert "no account" in await talk.ask("notice @nobody-at-all hello")
    # Everybody: people, and neither the bots nor the account of the notices.
    question = await talk.ask(f"notice all --dry-run Hello {mark}")
    assert "Would do" in question
    assert "@adminbot" not in question
    assert "@_steward" not in question
    await talk.ask(f"notice admins --dry-run Hello {mark}")
    active = await talk.ask(f"notice active 30d --dry-run Hello {mark}")
    assert "everybody seen within 30d" in active


async def test_new_accounts_are_welcomed_within_seconds(make_world: MakeWorld) -> None:
    # Of their own: default rooms are everybody's.
    async with scene_in(await make_world()) as scene:
        await _new_accounts_are_welcomed(scene)


async def _new_accounts_are_welcomed(scene: Scene) -> None:
    talk, mark = scene.talk, secrets.token_hex(4)
    creation = {"creation_content": {"type": "m.space"}}
    space = await scene.people[0].create_room(name="Home", extra=creation)
    await scene.people[0].wait_for_members(space, scene.world.steward.adminbot)

    async def come_into(newcomer: RawClient, *rooms: RoomId) -> None:
        async def inside() -> bool:
            joined = await newcomer.request("GET", "/_matrix/client/v3/joined_rooms")
            return set(rooms) <= set(joined["joined_rooms"])

        await wait_for(inside, 60, "the newcomer to be in the default rooms")

    await talk.do(f"default-rooms add {scene.room}")
    # Once somebody later is in there, the people of this test are no newcomers any more.
    async with await scene.world.person() as first:
        await come_into(first, scene.room)
    await talk.do(f"default-rooms add {space}")
    await talk.do(f"motd set Welcome {mark}")
    try:
        listed = await talk.ask("default-rooms list")
        async with await scene.world.person() as newcomer:
            await come_into(newcomer, scene.room, space)

            async def told() -> bool:
                return texts(await notices_to(newcomer)) == [f"Welcome {mark}"]

            await wait_for(told, 60, "the newcomer to be told")
    finally:
        await talk.do("motd clear")
        await talk.do(f"default-rooms remove {scene.room}")

    assert scene.room in listed
    assert "space" in listed
    # Those who were here already, when that is asked for.
    second = scene.people[1]
    assert second.user_id not in await scene.people[0].joined_members(space)
    said = await talk.do(f"default-rooms backfill {space}", deadline_seconds=60)
    assert "Done" in said
    assert second.user_id in await scene.people[0].joined_members(space)
    await talk.do(f"default-rooms remove {space}")
    assert "joined to no room" in await talk.ask("default-rooms list")


async def test_something_is_announced_in_rooms(scene: Scene) -> None:
    talk, mark = scene.talk, secrets.token_hex(4)
    first = scene.people[0]
    space = await first.create_room(name="Yard", extra={"creation_content": {"type": "m.space"}})
    await first.wait_for_members(space, scene.world.steward.adminbot)
    await first.send_state(
        space, "m.space.child", {"via": ["steward.localhost"]}, state_key=scene.room
    )

    await talk.do(f"announce room {scene.room} One {mark}")
    said = await talk.do(f"announce space {space} Two {mark}")

    assert "1 room" in said
    bot = scene.world.steward.adminbot
    assert await first.wait_for_message(scene.room, f"One {mark}", sender=bot)
    assert await first.wait_for_message(scene.room, f"Two {mark}", sender=bot)
    said = await talk.do(f"announce all Three {mark}", deadline_seconds=60)
    assert "Done" in said
    assert await first.wait_for_message(scene.room, f"Three {mark}", sender=bot)
    assert not any(f"Three {mark}" in str(one["content"]) for one in await first.messages(space))
    # To people instead: who is in a room of the space, and not in the space itself.
    assert "3 people" in await talk.do(f"notice space {space} Four {mark}")
    for person in scene.people:
        assert texts(await notices_to(person)) == [f"Four {mark}"]


async def test_a_notice_goes_to_the_people_of_a_file(scene: Scene) -> None:
    talk, mark = scene.talk, secrets.token_hex(4)
    first, second, third = scene.people

    async def give(data: str) -> dict[str, object]:
        uri = await talk.admin.upload(data.encode(), "people.csv")
        return {
            "msgtype": "m.file",
            "filename": "people.csv",
            "url": uri,
            "info": {"size": len(data.encode()), "mimetype": "text/csv"},
        }

    wrong = await give(f"{first.user_id}\n@nobody-{mark}:steward.localhost\n")
    refused = await talk.ask(f"notice file Hello {mark}", extra=wrong)
    assert f"@nobody-{mark}" in refused
    assert "is no open account" in refused
    people = await give(f'user,name\n{first.user_id},"A, b"\n{second.user_id},\n')
    question, done = await talk.both(f"notice file Hello {mark}", extra=people)

    assert "2 people" in question
    assert "2 people" in done
    assert texts(await notices_to(first)) == [f"Hello {mark}"]
    assert texts(await notices_to(second)) == [f"Hello {mark}"]
    assert texts(await notices_to(third)) == []
    # As a reply to a file that is there already.
    sent = await talk.admin.send(
        talk.chat, "m.room.message", {"body": "people.csv", **await give(third.user_id)}
    )
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": sent}}}
    assert "1 person" in await talk.do(f"notice file Bye {mark}", extra=reply)
    assert texts(await notices_to(third)) == [f"Bye {mark}"]
    assert texts(await notices_to(first)) == [f"Hello {mark}"]
    assert "Send the file with this command" in await talk.ask(f"notice file Nobody {mark}")
    # Later, and not to everybody in it.
    options = f'--at "in 2s" --exclude {second.user_id}'
    said = await talk.do(f"notice file {options} Later {mark}", extra=people)
    number = re.search(r"schedule remove (\d+)", said)
    assert number is not None

    async def told() -> bool:
        return f"Later {mark}" in texts(await notices_to(first))

    await wait_for(told, 30, "the notice to be sent at its time")
    assert f"Later {mark}" not in texts(await notices_to(second))
    said = await talk.do(f'notice file --at "in 3d" Never {mark}', extra=people)
    number = re.search(r"schedule remove (\d+)", said)
    assert number is not None
    assert "notice file" in await talk.ask("schedule list")
    await talk.ask(number[0])
    assert "notice file" not in await talk.ask("schedule list")
