"""New accounts as server admins hear of them: approval, the watch, and how they came.

The homeserver asks for approval (MSC3866) and has no module of ours, so that with which token
somebody came has to be concluded from what it counts.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from adminbot.own.tokens import digest_of
from common.config.secret import Secret
from common.homeserver.errors import NotAllowedError
from common.homeserver.synapse.registration_tokens import CreateRegistrationToken
from common.homeserver.synapse.registrations import CameWith
from common.homeserver.synapse.users import GetUser, ListUserRooms
from common.ids import RoomId, UserId
from tests.integration.test_token_commands import all_tokens, register_as, secret_of
from tests.integration.test_user_commands import Desk, desk
from tests.support.admin_api import admin_api
from tests.support.clients import RequestFailedError, wait_for
from tests.support.commanding import Commander
from tests.support.databases import open_database
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, Wish, World

__all__ = ["desk"]

APPROVAL = {"msc3866": {"enabled": True, "require_approval_for_new_accounts": True}}


@asynccontextmanager
async def a_desk(make_world: MakeWorld) -> AsyncIterator[Desk]:
    world = await make_world(Wish(module=False, extra={"experimental_features": APPROVAL}))
    async with await world.person(admin=True) as client, await world.person(admin=True) as other:
        made = Desk(world, await Commander.of(client, world), admin_api(other))
        await _nobody_is_new(world, client.user_id, other.user_id)
        yield made


async def _nobody_is_new(world: World, *people: str) -> None:
    """Wait until it is known how they came: whoever is new together is counted together."""
    async with open_database(f"sqlite:///{world.steward.directory / 'steward.db'}") as database:

        async def settled() -> bool:
            known = await database.fetch("SELECT user_id FROM admin_account")
            new = await database.fetchval("SELECT COUNT(*) FROM admin_arrival WHERE came = 'open'")
            return set(people) <= {row["user_id"] for row in known} and int(new) == 0

        await wait_for(settled, 60, "Steward to know how the admins came")


async def test_new_accounts_wait_for_approval_and_are_told_of(make_world: MakeWorld) -> None:
    async with a_desk(make_world) as desk:
        root, client, world = desk.root, desk.root.client, desk.world
        hall = await client.create_room(name="Hall")
        choir = await client.create_room(name="Choir")
        for room in (hall, choir):
            await client.wait_for_members(room, world.steward.adminbot)
        await root.do(f"default-rooms add {hall}")
        assert "No account waits" in await root.ask("registrations list --waiting")
        assert "I tell of new accounts here." in await root.ask("registrations watch on")
        assert "already" in await root.ask("registrations watch on")
        await root.ask(f"token create --rooms {choir} --for choir")
        token = await secret_of(desk)

        ann = await register_as(desk, token, f"ann-{secrets.token_hex(4)}")

        card = await _told(desk, ann)
        assert "waits for approval" in card
        assert "for choir" in card
        assert ann in await root.ask("registrations list --waiting")
        assert await desk.api.read(ListUserRooms(ann)) == ()
        with pytest.raises(RequestFailedError, match="USER_AWAITING_APPROVAL"):
            await _log_in(desk, ann)
        assert "Done" in await root.ask(f"user approve {ann}")
        assert (await desk.account(ann)).approved is True
        await _log_in(desk, ann)

        async def inside() -> bool:
            return {hall, choir} <= set(await desk.api.read(ListUserRooms(ann)))

        await wait_for(inside, 90, "being joined after the approval")
        assert "does not wait" in await root.ask(f"user approve {ann}")

        await _denied_and_unknown(desk)


async def _denied_and_unknown(desk: Desk) -> None:
    """Two come at once with two tokens: nobody is joined on a guess; one of them is denied."""
    root, client = desk.root, desk.root.client
    band = await client.create_room(name="Band")
    await client.wait_for_members(band, desk.world.steward.adminbot)
    await root.ask(f"token create --rooms {band} --for band")
    for_band = await secret_of(desk)
    await root.ask("token create --for nobody")
    for_nobody = await secret_of(desk)

    async with asyncio.TaskGroup() as group:
        coming = [
            group.create_task(register_as(desk, token, f"{name}-{secrets.token_hex(4)}"))
            for token, name in ((for_band, "bea"), (for_nobody, "cem"))
        ]
    bea, cem = (each.result() for each in coming)

    async def told() -> bool:
        return any("cannot tell with which" in each["body"] for each in await root.said())

    await wait_for(told, 120, "being told that it is not known who came with what")
    assert "not known" in await _told(desk, bea)
    await root.do(f"user deny {cem}")
    assert (await desk.account(cem)).deactivated
    (card,) = [one for one in await root.said() if f"New account: {bea}" in one["body"]]
    relation = {"rel_type": "m.annotation", "event_id": card["m.event_id"], "key": "✅"}
    await client.send(root.room, "m.reaction", {"m.relates_to": relation})

    async def approved() -> bool:
        return (await desk.account(bea)).approved is True

    await wait_for(approved, 60, "the approval by a button")
    assert band not in await desk.api.read(ListUserRooms(bea))
    assert (await all_tokens(desk))[for_band].completed == 1
    assert "no longer" in await root.ask("registrations watch off")
    assert "not told" in await root.ask("registrations watch off")


async def _told(desk: Desk, user: UserId) -> str:
    async def card() -> str | None:
        said = [str(each["body"]) for each in await desk.root.said()]
        return next((one for one in said if f"New account: {user}" in one), None)

    found = await wait_for(card, 120, f"being told of {user}")
    assert found is not None
    return found


async def _log_in(desk: Desk, user: UserId) -> None:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": "a-b-c-d-e",
    }
    url = f"{desk.world.synapse.url}/_matrix/client/v3/login"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        if response.status != 200:
            raise RequestFailedError(response.status, await response.json(), "log in")


async def test_where_no_approval_is_asked_for_the_setting_is_named(desk: Desk) -> None:
    async with await desk.world.person() as person:
        said = await desk.root.ask(f"user approve {person.user_id}")

        assert "require_approval_for_new_accounts: true" in said
        assert "No account waits" in await desk.root.ask("registrations list --waiting")
        assert (await desk.api.read(GetUser(person.user_id))).approved is None


async def test_the_module_tells_of_names_that_look_alike_apart(
    make_world: MakeWorld, postgres: Postgres
) -> None:
    """On PostgreSQL; what is looked for has signs that stand for others there."""
    world = await make_world(Wish(postgres=postgres), start=False)
    async with world.synapse, await world.person(admin=True) as root:
        admin = admin_api(root)
        for token in ("for-one", "for-two"):
            await admin.change(CreateRegistrationToken(token=Secret(token)))
        names = {"for-one": "a_b", "for-two": "axb"}
        nobody = Commander(root, RoomId(""), UserId(""))
        desk = Desk(world, nobody, admin)

        users = {token: await register_as(desk, token, name) for token, name in names.items()}

        for token, user in users.items():
            assert await admin.read(CameWith(user)) == digest_of(token)
        assert await admin.read(CameWith(root.user_id)) is None
        assert await admin.read(CameWith()) is None
        async with await world.person() as person:
            with pytest.raises(NotAllowedError):
                await admin_api(person).read(CameWith(users["for-one"]))
