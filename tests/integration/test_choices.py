"""Missing arguments are asked for by numbers, in a direct chat and in a room, encrypted or not."""

import pytest

from tests.support.people import hall
from tests.support.world import World


async def test_what_is_missing_is_chosen_one_after_the_other(world: World) -> None:
    async with hall(world) as here:
        alice = here.alice
        chat = await alice.client.direct_chat(world.steward.adminbot)
        await alice.client.wait_for_members(chat, world.steward.adminbot)

        asked = await alice.ask(chat, "join-rule")
        assert "“room” is missing." in asked.body
        assert f"1: Café <b> – {here.room}" in asked.body
        asked = await alice.ask(chat, "1")
        assert "“rule” is missing." in asked.body
        assert "3: knock" in asked.body
        wrong = await alice.ask(chat, "17")
        assert "There is no choice 17" in wrong.body
        said = await alice.do(chat, "3")

        assert "Done" in said.body, said.body
        assert (await alice.state(here.room, "m.room.join_rules"))["join_rule"] == "knock"


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_in_a_room_nobody_else_chooses(world: World, encrypted: bool) -> None:
    async with hall(world, encrypted=encrypted) as here:
        alice = here.alice
        asked = await alice.ask(here.room, "!guest")
        assert "1: allow" in asked.body
        if not encrypted:
            await here.bob.send_text(here.room, "1")
        said = await alice.do(here.room, "2")

        assert "Done" in said.body, said.body
        content = await alice.state(here.room, "m.room.guest_access")
        assert content["guest_access"] == "forbidden"
        # What nobody is asked for is talk.
        marker = await alice.ask(here.room, "!ping")
        timeline = [one.event_id for one in alice.client.timeline(here.room)]
        talked = await alice.client.send_text(here.room, "1")
        said = await alice.ask(here.room, "!ping")
        later = [
            one
            for one in alice.client.timeline(here.room)
            if one.event_id not in timeline and talked in str(one.content)
        ]
        assert later == []
        assert marker.event_id != said.event_id
