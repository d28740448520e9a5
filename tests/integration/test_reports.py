"""Reports reach those who can act on them, and what they press is done: with a real homeserver."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from common.demo.clients import NioClient, Seen
from common.demo.process import ServerError
from common.ids import EventId, RoomId
from tests.support.clients import wait_for
from tests.support.world import MakeWorld, World

WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Scene:
    """Two server admins with a chat each, who misbehaves, and who reports it."""

    world: World
    admin: NioClient
    chat: RoomId
    safety: NioClient
    theirs: RoomId
    mallory: NioClient
    alice: NioClient
    room: RoomId

    async def card(
        self, containing: str, *, by: NioClient | None = None, room: RoomId | None = None
    ) -> Seen:
        return await (by or self.admin).wait_for_message(
            room or self.chat,
            containing=containing,
            sender=self.world.steward.adminbot,
            deadline_seconds=WITHIN_SECONDS,
        )

    async def press(self, card: Seen, key: str) -> Seen:
        """Press a button and say yes to what is asked then; return the outcome."""
        bot = self.world.steward.adminbot
        # As one presses a button: when it is there.
        await self.admin.sync_until(lambda: self._has(card, key), f"the button {key}")
        pressed = await self.admin.react(card.room_id, card.event_id, key)
        asked = await self.admin.wait_for_message(
            card.room_id, containing="React with ✅", sender=bot, after=pressed
        )
        said_yes = await self.admin.react(card.room_id, asked.event_id, "✅")
        return await self.admin.wait_for_message(
            card.room_id, containing="Done", sender=bot, after=said_yes
        )

    def _has(self, card: Seen, key: str) -> bool:
        return any(
            one.type == "m.reaction"
            and one.sender == self.world.steward.adminbot
            and one.content["m.relates_to"].get("event_id") == card.event_id
            and one.content["m.relates_to"].get("key") == key
            for one in self.admin.timeline(card.room_id)
        )

    async def ask(self, text: str, *, yes: bool = False) -> str:
        """Give a command in the admin's chat, say ``yes`` if need be, and return the answer."""
        asked = await self.admin.send_text(self.chat, text)
        said = await self._answer(asked, 0)
        if yes:
            await self.admin.react(self.chat, said.event_id, "✅")
            said = await self._answer(asked, 1)
        return said.body

    async def _answer(self, asked: EventId, number: int) -> Seen:
        """Return what answers a message; what all server admins are told may come before it."""

        def found() -> Seen | None:
            said = self.admin.messages(self.chat, sender=self.world.steward.adminbot)
            replies = [one for one in said if _answered(one) == asked]
            return replies[number] if len(replies) > number else None

        answer = await self.admin.sync_until(
            found, f"an answer to {asked}", deadline_seconds=WITHIN_SECONDS
        )
        assert answer is not None
        return answer

    async def room_reports(self, *, since_ms: int) -> list[dict[str, Any]]:
        """Return reports on rooms as the Synapse module tells server admins of them."""
        path = f"/_synapse/client/steward/v1/room_reports?since={since_ms}"
        return list((await self.admin.request("GET", path))["room_reports"])

    async def report(self, path: str, reason: str) -> None:
        await self.alice.request("POST", f"/_matrix/client/v3/{path}", {"reason": reason})


def _answered(seen: Seen) -> object:
    relation = seen.content.get("m.relates_to", {})
    return relation.get("m.in_reply_to", {}).get("event_id")


@pytest.fixture
async def scene(make_world: MakeWorld) -> AsyncIterator[Scene]:
    world = await make_world()
    async with AsyncExitStack() as stack:

        async def client(name: str, *, admin: bool = False) -> NioClient:
            account = await world.synapse.register(name, admin=admin)
            made = NioClient(world.synapse.url, account, world.directory / name)
            return await stack.enter_async_context(made)

        admin, safety = await client("root", admin=True), await client("safety")
        mallory, alice = await client("mallory"), await client("alice")
        bot = world.steward.adminbot
        chat, theirs = [await each.direct_chat(bot, encrypted=True) for each in (admin, safety)]
        await admin.wait_for_members(chat, bot)
        await safety.wait_for_members(theirs, bot)
        # Not before she has a chat: what all admins are told would begin another one with her.
        right = f"/_synapse/admin/v1/users/{safety.user_id}/admin"
        await admin.request("PUT", right, {"admin": True})
        room = await alice.create_room("Yard", encrypted=True)
        await alice.wait_for_members(room, bot)
        await alice.request(
            "POST", f"/_matrix/client/v3/rooms/{room}/invite", {"user_id": mallory.user_id}
        )
        await mallory.join(room, encrypted=True)
        await alice.wait_for_members(room, mallory.user_id)
        yield Scene(world, admin, chat, safety, theirs, mallory, alice, room)


async def test_reports_appear_and_are_dealt_with(scene: Scene) -> None:
    said = [
        await scene.mallory.send_text(scene.room, words)
        for words in ("something vile", "something worse", "the worst")
    ]
    await scene.alice.wait_for_message(scene.room, containing="the worst")

    await _by_reaction_with_every_admin(scene, said[0])
    name = await _by_name_with_the_contact(scene, said[1])
    await _in_the_room_for_it_after_a_pause(scene, said[2], name)
    await _what_takes_two_is_listed_and_approved(scene)


async def _by_reaction_with_every_admin(scene: Scene, said: EventId) -> None:
    mallory = scene.mallory.user_id
    await scene.report(f"rooms/{scene.room}/report/{said}", "That hurts.")
    await scene.report(f"users/{mallory}/report", "He is rude.")
    await scene.report(f"rooms/{scene.room}/report", "All of it.")
    message, person, room = [
        await scene.card(text)
        for text in ("A message was reported", "A person was reported", "A room was reported")
    ]

    # The message was encrypted; adminbot reads it for those who judge it.
    for words in ("something vile", "That hurts.", mallory, scene.alice.user_id):
        assert words in message.body
    assert "He is rude." in person.body
    assert "All of it." in room.body

    redacted = await scene.press(message, "✂️")
    assert "Done: Redact the reported message" in redacted.body

    async def gone() -> bool:
        event = await scene.alice.request(
            "GET", f"/_matrix/client/v3/rooms/{scene.room}/event/{said}"
        )
        return "redacted_because" in event.get("unsigned", {})

    await wait_for(gone, 60, "the message to be gone")
    assert "Done: Suspend" in (await scene.press(person, "⏸️")).body
    with pytest.raises(ServerError, match="M_USER_SUSPENDED"):
        await scene.mallory.send_text(scene.room, "more of it")
    assert "Done: Dismiss report" in (await scene.press(room, "☑️")).body

    assert "There is none." in await scene.ask("reports list")
    assert (await scene.ask("reports list --closed")).count("closed by") == 3
    # What the watch asks the module for from then on: only what came after a moment.
    (known,) = await scene.room_reports(since_ms=0)
    assert await scene.room_reports(since_ms=known["received_ts"]) == []
    assert await scene.room_reports(since_ms=known["received_ts"] - 1) == [known]


async def _by_name_with_the_contact(scene: Scene, said: EventId) -> str:
    contact = scene.safety.user_id
    assert contact in await scene.ask(f"contact set --user {contact}", yes=True)
    assert contact in await scene.ask("contact show")

    await scene.report(f"rooms/{scene.room}/report/{said}", "That is worse.")
    card = await scene.card("That is worse.", by=scene.safety, room=scene.theirs)
    name = card.body.partition("reported: ")[2].split()[0]
    assert "something worse" in await scene.ask(f"reports show {name}")
    assert f"Done: Care for report {name}" in await scene.ask(f"reports claim {name}")
    assert f"{scene.admin.user_id} cares for it" in await scene.ask("reports list")
    await scene.ask(f"reports close {name}")
    assert "There is none." in await scene.ask("reports list")
    await scene.ask(f"reports reopen {name}")
    assert name in await scene.ask("reports list")
    await scene.ask(f"reports close {name}")
    assert f"Done: Delete report {name}" in await scene.ask(f"reports delete {name}", yes=True)
    assert f"There is no report {name}." in await scene.ask(f"reports show {name}")
    # The other admin was told nothing: it is the contact's.
    told = [each.body for each in scene.admin.messages(scene.chat)]
    assert sum(f"reported: {name}" in body for body in told) == 1  # what “reports show” says
    return name


async def _in_the_room_for_it_after_a_pause(scene: Scene, said: EventId, name: str) -> None:
    world, bot, root = scene.world, scene.world.steward.adminbot, scene.admin
    room = await root.create_room("Safety", encrypted=True, invite=[scene.safety.user_id, bot])
    await scene.safety.join(room, encrypted=True)
    await root.wait_for_members(room, bot, scene.safety.user_id)
    await world.steward.stop()
    config = json.loads(world.steward.config_path.read_text())
    settings = {"trust_and_safety_room": room, "two_person": ["contact clear"]}
    config["adminbot"] = {**config.get("adminbot", {}), **settings}
    world.steward.config_path.write_text(json.dumps(config))
    # Now the homeserver gives the number of the deleted report to another one.
    await world.synapse.stop()
    await world.synapse.start()
    await scene.report(f"rooms/{scene.room}/report/{said}", "That is the worst.")
    await scene.report(f"users/{scene.mallory.user_id}/report", "Still rude.")

    await world.steward.start()

    await scene.card("Still rude.", room=room)
    card = await scene.card("That is the worst.", room=room)
    assert f"reported: {name}" in card.body
    assert "the worst" in card.body
    assert name in await scene.ask("reports list")
    assert "Done: Ban" in (await scene.press(card, "🚫")).body
    path = f"/_matrix/client/v3/rooms/{scene.room}/state/m.room.member/{scene.mallory.user_id}"
    assert (await scene.alice.request("GET", path))["membership"] == "ban"
    assert name not in await scene.ask("reports list")
    await scene.safety.sync()
    told = [each.body for each in scene.safety.messages(scene.theirs)]
    assert not any("That is the worst." in body for body in told)


async def _what_takes_two_is_listed_and_approved(scene: Scene) -> None:
    asked = await scene.ask("contact clear")
    code = asked.rpartition("approve ")[2][:4]
    other = replace(scene, admin=scene.safety, chat=scene.theirs)

    listed = await other.ask("approvals")
    assert code in listed
    assert scene.admin.user_id in listed
    assert "Approved." in await other.ask(f"approve {code}")
    await scene.card("Done: Name no trust & safety contact")
    assert "There is no trust & safety contact yet" in await scene.ask("contact show")
    assert "There is none." in await other.ask("approvals")
