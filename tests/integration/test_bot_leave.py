"""Having adminbot leave a room, seen by the room's own people."""

from common.demo.waiting import wait_for
from common.ids import RoomId, UserId
from tests.support.clients import RawClient
from tests.support.people import hall
from tests.support.talk import talk_in
from tests.support.world import MakeWorld, Wish, World

ALLOWED = Wish(settings={"rooms": {"dismissal": True, "sweep_interval_seconds": 1}})


async def test_the_operator_has_to_allow_it(world: World) -> None:
    async with hall(world, people=0) as here:
        refused = await here.alice.ask(here.room, "!bot leave")
        assert "has me in every room" in refused.body
        assert "have adminbot leave" not in (await here.alice.ask(here.room, "!bot why")).body
        assert await here.membership(world.steward.adminbot) == "join"


async def test_adminbot_leaves_and_stays_out_until_it_is_invited(make_world: MakeWorld) -> None:
    world = await make_world(ALLOWED)
    adminbot, auditbot = world.steward.adminbot, world.steward.auditbot
    async with talk_in(world) as talk, await world.person() as alice, await world.person() as bob:
        room = await alice.create_room(name="Quiet")
        await alice.wait_for_members(room, adminbot, auditbot)
        await alice.invite(room, bob.user_id)
        await bob.join(room)
        await bob.send_text(room, "!bot leave")
        assert await bob.wait_for_message(room, "for a room admin", sender=adminbot)

        await leave(alice, room, adminbot)

        async def gone() -> bool:
            return adminbot not in await alice.joined_members(room)

        await wait_for(gone, 60, "adminbot to leave")
        assert await talk.admin.wait_for_message(talk.chat, "had me leave", sender=adminbot)
        assert room in await talk.ask("bots missing")
        # Neither what is said nor sweeps bring it back; auditbot stays.
        await alice.send_text(room, "at last")
        swept = await talk.do("bots sweep")
        assert "Failed" not in swept
        assert await alice.joined_members(room) >= {auditbot}
        assert adminbot not in await alice.joined_members(room)
        await world.steward.stop()
        await world.steward.start()
        await alice.send_text(room, "still quiet")
        swept = await talk.do("bots sweep")
        assert adminbot not in await alice.joined_members(room)

        await alice.invite(room, adminbot)

        async def back() -> bool:
            return adminbot in await alice.joined_members(room)

        await wait_for(back, 60, "adminbot to be back")
        assert room not in await talk.ask("bots missing")

        await leave(alice, room, adminbot)
        await wait_for(gone, 60, "adminbot to leave again")
        await talk.do(f"room join-bots {room}")
        await wait_for(back, 60, "adminbot to be brought back by a server admin")


async def leave(person: RawClient, room: RoomId, adminbot: UserId) -> None:
    """Have adminbot leave, as a client does: the command, then the sign for yes."""
    asked = await person.send_text(room, "!bot leave")
    question = await person.wait_for_message(room, "React with", sender=adminbot, after=asked)
    relation = {"rel_type": "m.annotation", "event_id": question["event_id"], "key": "✅"}
    await person.send(room, "m.reaction", {"m.relates_to": relation})
    assert await person.wait_for_message(room, "I leave now", sender=adminbot, after=asked)
