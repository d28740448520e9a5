"""Maintenance: everybody is told and untold, and sign-ups by token are closed meanwhile.

In worlds of their own: in one of hundreds of people it takes minutes.
"""

import secrets
from contextlib import AsyncExitStack
from functools import partial

from common.demo.waiting import wait_for
from tests.integration.test_notices import notices_to, texts
from tests.support.clients import RawClient
from tests.support.talk import talk_in
from tests.support.world import MakeWorld

LONG_SECONDS = 60.0


async def test_everybody_is_told_and_nobody_signs_up_until_it_is_over(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    mark = secrets.token_hex(4)
    async with AsyncExitStack() as stack:
        talk = await stack.enter_async_context(talk_in(world))
        alice = await stack.enter_async_context(await world.person())
        used_twice, endless, over, leaked = (f"{name}{mark}" for name in ("aa", "bb", "cc", "dd"))
        await talk.do(f"token create --token {used_twice} --uses 2")
        await talk.do(f"token create --token {endless} --unlimited")
        await talk.do(f"token create --token {leaked} --uses 1")
        await talk.do(f"token create --token {over} --uses 1 --expires 5s")
        await wait_for(partial(_closed, alice, over), LONG_SECONDS, "the token to expire")
        assert "No maintenance is under way." in await talk.ask("maintenance status")
        assert "No maintenance is under way." in await talk.ask("maintenance stop")

        question, begun = await talk.both(
            f"maintenance start --lock Away at noon {mark}", deadline_seconds=LONG_SECONDS
        )

        assert "closed until it is over" in question
        assert "Begin maintenance" in begun
        assert "Failed" not in begun
        assert texts(await notices_to(alice))[-1] == f"Away at noon {mark}"
        for one in (used_twice, endless, over, leaked):
            await wait_for(partial(_closed, alice, one), LONG_SECONDS, "the token to be closed")
        assert "is under way since" in await talk.ask("maintenance start Again")
        status = await talk.ask("maintenance status")
        assert talk.admin.user_id in status
        assert "Closed tokens:" in status

        assert "is off" in await talk.ask(f"token disable {leaked}")
        await talk.do("maintenance stop It is over.", deadline_seconds=LONG_SECONDS)

        told = texts(await notices_to(alice))
        assert f"Away at noon {mark}" not in told
        assert told[-1] == "It is over."
        # What was over before stays so, and what was switched off meanwhile does.
        assert [await valid(alice, one) for one in (used_twice, endless, over, leaked)] == [
            True,
            True,
            False,
            False,
        ]
        uses = await talk.ask(f"token show {used_twice}")
        assert "2" in uses
        assert "No maintenance is under way." in await talk.ask("maintenance status")


async def test_it_begins_and_ends_at_a_set_time(make_world: MakeWorld) -> None:
    world = await make_world()
    mark = secrets.token_hex(4)
    async with AsyncExitStack() as stack:
        talk = await stack.enter_async_context(talk_in(world))
        alice = await stack.enter_async_context(await world.person())

        said = await talk.do(f'maintenance start --at "in 2s" Soon {mark}')
        assert "It will be sent on" in said

        async def told() -> bool:
            return f"Soon {mark}" in texts(await notices_to(alice))

        await wait_for(told, LONG_SECONDS, "the notice of maintenance")

        async def begun() -> bool:
            return "Have it:" in await talk.ask("maintenance status")

        await wait_for(begun, LONG_SECONDS, "maintenance to be under way")
        await talk.do('maintenance stop --at "in 2s"')

        async def over() -> bool:
            status = await talk.ask("maintenance status")
            return "No maintenance" in status and f"Soon {mark}" not in texts(
                await notices_to(alice)
            )

        await wait_for(over, LONG_SECONDS, "maintenance to be over")


async def _closed(client: RawClient, token: str) -> bool:
    return not await valid(client, token)


async def valid(client: RawClient, token: str) -> bool:
    """Ask the homeserver whether somebody could sign up by a token, as a client does."""
    path = "/_matrix/client/v1/register/m.login.registration_token/validity"
    answer = await client.request("GET", path, query={"token": token})
    return bool(answer["valid"])
