"""Reports reach those who can act on them, and what they press is done: with a real homeserver."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from common.demo.clients import NioClient, Seen
from common.demo.process import ServerError
from common.ids import RoomId
from tests.support.clients import wait_for
from tests.support.world import MakeWorld, World

WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Scene:
    """A server admin with a chat, somebody who misbehaves, and somebody who reports it."""

    world: World
    admin: NioClient
    chat: RoomId
    mallory: NioClient
    alice: NioClient
    room: RoomId

    async def card(self, containing: str) -> Seen:
        return await self.admin.wait_for_message(
            self.chat,
            containing=containing,
            sender=self.world.steward.adminbot,
            deadline_seconds=WITHIN_SECONDS,
        )

    async def press(self, card: Seen, key: str) -> Seen:
        """Press a button and say yes to what is asked then; return the outcome."""
        # As one presses a button: when it is there.
        await self.admin.sync_until(lambda: self._has(card, key), f"the button {key}")
        pressed = await self.admin.react(self.chat, card.event_id, key)
        bot = self.world.steward.adminbot
        asked = await self.admin.wait_for_message(
            self.chat, "React with ✅", sender=bot, after=pressed
        )
        said_yes = await self.admin.react(self.chat, asked.event_id, "✅")
        return await self.admin.wait_for_message(self.chat, "Done", sender=bot, after=said_yes)

    def _has(self, card: Seen, key: str) -> bool:
        return any(
            one.type == "m.reaction"
            and one.sender == self.world.steward.adminbot
            and one.content["m.relates_to"].get("event_id") == card.event_id
            and one.content["m.relates_to"].get("key") == key
            for one in self.admin.timeline(self.chat)
        )

    async def report(self, path: str, reason: str) -> None:
        await self.alice.request("POST", f"/_matrix/client/v3/{path}", {"reason": reason})


@pytest.fixture
async def scene(make_world: MakeWorld) -> AsyncIterator[Scene]:
    world = await make_world()
    async with AsyncExitStack() as stack:

        async def client(name: str, *, admin: bool = False) -> NioClient:
            account = await world.synapse.register(name, admin=admin)
            made = NioClient(world.synapse.url, account, world.directory / name)
            return await stack.enter_async_context(made)

        admin = await client("root", admin=True)
        mallory, alice = await client("mallory"), await client("alice")
        bot = world.steward.adminbot
        chat = await admin.direct_chat(bot, encrypted=True)
        await admin.wait_for_members(chat, bot)
        room = await alice.create_room("Yard", encrypted=True)
        await alice.wait_for_members(room, bot)
        await alice.request(
            "POST", f"/_matrix/client/v3/rooms/{room}/invite", {"user_id": mallory.user_id}
        )
        await mallory.join(room, encrypted=True)
        await alice.wait_for_members(room, mallory.user_id)
        yield Scene(world, admin, chat, mallory, alice, room)


async def test_reports_appear_and_are_dealt_with_by_reaction(scene: Scene) -> None:
    said = await scene.mallory.send_text(scene.room, "something vile")
    await scene.alice.wait_for_message(scene.room, containing="something vile")
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

    bot = scene.world.steward.adminbot
    asked = await scene.admin.send_text(scene.chat, "reports list")
    listed = await scene.admin.wait_for_message(scene.chat, sender=bot, after=asked)
    assert "There is none." in listed.body
    asked = await scene.admin.send_text(scene.chat, "reports list --closed")
    listed = await scene.admin.wait_for_message(scene.chat, sender=bot, after=asked)
    assert listed.body.count("closed by") == 3
