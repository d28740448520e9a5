"""Each room is told once that it is archived, in clear or encrypted as the room is."""

import json
from typing import Any

from common.ids import RoomId
from tests.support.clients import NioClient, RawClient, wait_for
from tests.support.world import MakeWorld, Wish, World

TEXT = "This room is archived by @auditbot. Questions: privacy@example.org"
NEW = "This room is archived by @auditbot for another reason."


def set_notice(world: World, text: str) -> None:
    path = world.steward.config_path
    settings = json.loads(path.read_text())
    settings["auditbot"]["room_notice"] = text
    path.write_text(json.dumps(settings))


async def said(person: RawClient, world: World, room: RoomId) -> list[dict[str, Any]]:
    return [
        event
        for event in await person.messages(room)
        if event["sender"] == world.steward.auditbot
        and event["type"] in {"m.room.message", "m.room.encrypted"}
    ]


async def wait_for_pinned(person: RawClient, room: RoomId, content: object) -> None:
    async def pinned() -> bool:
        return bool(await person.state(room, "m.room.pinned_events") == content)

    await wait_for(pinned, 30, f"{content} pinned in {room}")


async def test_every_room_is_told_once_of_each_text(make_world: MakeWorld) -> None:
    world = await make_world(Wish())
    auditbot = world.steward.auditbot
    account = await world.synapse.register("nina")
    async with (
        await world.person("alice") as alice,
        await world.person("bob") as bob,
        NioClient(world.synapse.url, account, world.directory / "nio") as nina,
        RawClient(world.synapse.url, account) as nina_raw,
    ):
        clear = await alice.create_room(name="Town hall")
        first = await alice.send_text(clear, "pinned by Alice")
        await alice.send_state(clear, "m.room.pinned_events", {"pinned": [first], "x": 1})
        secret = await nina.create_room("Secrets", encrypted=True)
        chat = await alice.create_room(invite=[bob.user_id], direct=True)
        await bob.join(chat)
        space = await alice.create_room(
            name="All", extra={"creation_content": {"type": "m.space"}}
        )
        for room in (clear, chat, space):
            await alice.wait_for_members(room, world.steward.adminbot, auditbot)
        await nina.wait_for_members(secret, world.steward.adminbot, auditbot)

        set_notice(world, TEXT)
        await world.steward.restart()
        notice = await alice.wait_for_message(clear, TEXT, sender=auditbot)
        assert notice["content"]["msgtype"] == "m.notice"
        seen = await nina.wait_for_message(secret, TEXT, sender=auditbot)
        # auditbot has no power there; adminbot has.
        await wait_for_pinned(alice, clear, {"pinned": [first, notice["event_id"]], "x": 1})
        # It is in the archive as any message.
        record = await world.steward.wait_for_event(seen.event_id)
        assert (record["body"], record["enc_status"]) == (TEXT, "decrypted")

        # A room that is made later is told, by which time the others would be told again.
        await world.steward.kill()
        await world.steward.start()
        later = await alice.create_room(name="Later")
        await alice.wait_for_message(later, TEXT, sender=auditbot)
        (encrypted,) = await said(nina_raw, world, secret)
        assert encrypted["type"] == "m.room.encrypted"
        assert TEXT not in str(encrypted)
        counts = [len(await said(alice, world, room)) for room in (clear, later, chat, space)]
        assert counts == [1, 1, 0, 0]

        set_notice(world, NEW)
        await world.steward.restart()
        second = await alice.wait_for_message(clear, NEW, sender=auditbot)
        await nina.wait_for_message(secret, NEW, sender=auditbot)
        await wait_for_pinned(alice, clear, {"pinned": [first, second["event_id"]], "x": 1})
        await world.steward.restart()
        last = await alice.create_room(name="Last")
        await alice.wait_for_message(last, NEW, sender=auditbot)
        assert len(await said(alice, world, clear)) == 2
        assert len(await said(nina_raw, world, secret)) == 2
