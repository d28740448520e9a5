"""Registration tokens by command, used as people use them."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from common.clock import SystemClock
from common.homeserver.errors import NotFoundError
from common.homeserver.synapse.registration_tokens import (
    ListRegistrationTokens,
    RegistrationToken,
)
from common.homeserver.synapse.users import ListUserRooms
from common.ids import UserId
from tests.integration.test_user_commands import Desk, desk
from tests.support.clients import wait_for
from tests.support.commanding import Commander
from tests.support.world import MakeWorld, Wish

__all__ = ["desk"]

_DAY_MS = timedelta(days=1).total_seconds() * 1000


async def secret_of(desk: Desk) -> str:
    """Return the token that was last told in private."""
    secrets_told = [each["body"] for each in await desk.root.said() if "Link:" in each["body"]]
    lines = [line.strip() for line in secrets_told[-1].splitlines() if line.strip()]
    return str(lines[lines.index("Token:") + 1])


async def all_tokens(desk: Desk) -> dict[str, RegistrationToken]:
    return {one.token: one for one in await desk.api.read(ListRegistrationTokens())}


async def register_with(desk: Desk, token: str) -> int:
    """Make an account with a token, as a client does; return the last status."""
    url = f"{desk.world.synapse.url}/_matrix/client/v3/register"
    body: dict[str, object] = {"username": f"new-{secrets.token_hex(4)}", "password": "a-b-c-d-e"}
    status = 0
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=body) as response:
            flow, status = (await response.json())["session"], response.status
        for stage in (
            {"type": "m.login.registration_token", "token": token},
            {"type": "m.login.dummy"},
        ):
            async with session.post(
                url, json={**body, "auth": {**stage, "session": flow}}
            ) as response:
                status = response.status
    return status


async def test_a_token_is_made_used_up_and_told(desk: Desk) -> None:
    root = desk.root

    made = await root.ask("token create --for “the choir”")

    token = await secret_of(desk)
    assert token not in made
    assert (await all_tokens(desk))[token].uses_allowed == 1
    (picture,) = await root.files("token.png")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert "the choir" in await root.ask("token list --state valid")
    assert await register_with(desk, token) == 200
    assert await register_with(desk, token) == 401

    async def told() -> bool:
        return any("is used up" in each["body"] for each in await root.said())

    await wait_for(told, 60, "being told that the token is used up")
    await root.ask(f"token update {token[:6]} --uses 5 --expires 2h")
    assert (await all_tokens(desk))[token].uses_allowed == 5
    assert "1 of 5" in await root.ask(f"token show {token}")


async def test_a_token_is_switched_off_and_on_and_deleted(desk: Desk) -> None:
    root = desk.root
    name = f"choir-{secrets.token_hex(4)}"

    await root.ask(f"token create --token {name} --unlimited --never")
    found = (await all_tokens(desk))[name]
    assert (found.uses_allowed, found.expiry_time) == (None, None)
    assert await register_with(desk, name) == 200
    await root.ask(f"token disable {name}")
    assert await register_with(desk, name) == 401
    assert "off already" in await root.ask(f"token disable {name}")
    # For Synapse 0 uses are any number: only its end keeps it from being used.
    for prolonged in ("--expires 2h", "--never"):
        assert "The token is off" in await root.ask(f"token update {name} {prolonged}")
        assert await register_with(desk, name) == 401
    assert name[:3] in await root.ask("token list --state off")
    await root.ask(f"token enable {name}")
    found = (await all_tokens(desk))[name]
    assert (found.uses_allowed, found.expiry_time) == (None, None)
    assert await register_with(desk, name) == 200
    await root.do(f"token delete {name}")
    assert name not in await all_tokens(desk)
    assert "no such token" in await root.ask(f"token show {name}")
    listed = await root.ask("token stats")
    assert "Accounts made" in listed


async def test_what_is_over_is_pruned_and_what_is_switched_off_stays(desk: Desk) -> None:
    root, mark = desk.root, secrets.token_hex(4)
    used, expired, off, valid = (f"{what}-{mark}" for what in ("used", "old", "off", "good"))
    for name, options in ((used, ""), (expired, "--expires 8s"), (off, ""), (valid, "")):
        await root.ask(f"token create --token {name} {options}")
    assert await register_with(desk, used) == 200
    await root.ask(f"token disable {off}")

    async def over() -> bool:
        expires = (await all_tokens(desk))[expired].expiry_time or 0
        return expires < SystemClock().now_ms()

    await wait_for(over, 30, "a token to expire")
    done = await root.do("token prune")

    assert "Done" in done
    there = (await all_tokens(desk)).keys()
    assert there & {used, expired, off, valid} == {off, valid}


async def test_tokens_are_made_by_the_dozen(desk: Desk) -> None:
    root = desk.root

    said = await root.do("token batch 12 --uses 2 --csv")

    (data,) = await root.files("tokens.csv")
    tokens = data.decode().split()[1:]
    assert len(tokens) == 12
    assert not any(token in said for token in tokens)
    there = await all_tokens(desk)
    assert {there[token.lstrip("'")].uses_allowed for token in tokens} == {2}


async def register_as(desk: Desk, token: str, name: str) -> UserId:
    """Make an account with a token under a name, as a client does; return what it is called."""
    url = f"{desk.world.synapse.url}/_matrix/client/v3/register"
    body: dict[str, object] = {"username": name, "password": "a-b-c-d-e", "inhibit_login": True}
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=body) as response:
            flow = (await response.json())["session"]
        answer: dict[str, str] = {}
        for stage in (
            {"type": "m.login.registration_token", "token": token},
            {"type": "m.login.dummy"},
        ):
            async with session.post(
                url, json={**body, "auth": {**stage, "session": flow}}
            ) as response:
                answer = await response.json()
    # Who has to be approved first is told no name.
    return UserId(answer.get("user_id", f"@{name}:{desk.world.synapse.server_name}"))


async def test_who_comes_with_a_token_is_joined_to_its_rooms(desk: Desk) -> None:
    root, client = desk.root, desk.root.client
    room = await client.create_room(name="Choir")
    other = await client.create_room(name="Band")
    for each in (room, other):
        await client.wait_for_members(each, desk.world.steward.adminbot)
    await root.ask(f"token create --rooms {room} --for choir")
    for_choir = await secret_of(desk)
    assert "I tell you of each account" in await root.ask(f"token watch {for_choir}")
    assert "already" in await root.ask(f"token watch {for_choir}")
    await root.ask(f"token create --rooms {other} {room} --for band")
    for_band = await secret_of(desk)

    async with asyncio.TaskGroup() as group:
        singing = group.create_task(register_as(desk, for_choir, f"singer-{secrets.token_hex(4)}"))
        drumming = group.create_task(
            register_as(desk, for_band, f"drummer-{secrets.token_hex(4)}")
        )
    singer, drummer = singing.result(), drumming.result()

    async def joined() -> bool:
        rooms = [await desk.api.read(ListUserRooms(user)) for user in (singer, drummer)]
        return {room} <= set(rooms[0]) and {room, other} <= set(rooms[1])

    await wait_for(joined, 90, "being joined to the rooms of the tokens")
    assert other not in await desk.api.read(ListUserRooms(singer))
    shown = await root.ask(f"token show {for_choir}")
    assert singer in shown
    assert drummer not in shown
    listed = await root.ask("registrations list")
    assert singer in listed
    assert "band" in next(line for line in listed.splitlines() if drummer in line)
    assert drummer in await root.ask("token stats")

    async def told() -> set[UserId]:
        said = [str(each["body"]) for each in await root.said()]
        return {who for who in (singer, drummer) if f"New account: {who}" in "".join(said)}

    await wait_for(told, 90, "being told who came with the token that is watched")
    assert await told() == {singer}
    assert "no longer" in await root.ask(f"token watch {for_choir} off")
    assert "no room !nowhere" in await root.ask("token create --rooms !nowhere:example.org")


async def test_an_account_is_made_by_a_link_under_its_own_name_alone(desk: Desk) -> None:
    root, name = desk.root, f"ann-{secrets.token_hex(4)}"

    prepared = await root.ask(
        f'user create {name} --name "Ann Example" --email {name}@example.org --invite-link'
    )

    assert "prepared" in prepared
    token = await secret_of(desk)
    assert token not in prepared
    with pytest.raises(NotFoundError):
        await desk.account(UserId(f"@{name}:{desk.world.synapse.server_name}"))
    assert await register_as(desk, token, f"mallory-{secrets.token_hex(4)}") == (
        f"@{name}:{desk.world.synapse.server_name}"
    )
    user = UserId(f"@{name}:{desk.world.synapse.server_name}")

    async def complete() -> bool:
        found = await desk.account(user)
        return found.displayname == "Ann Example" and bool(found.threepids)

    await wait_for(complete, 90, "the account that was prepared")
    assert (await desk.account(user)).threepids[0].address == f"{name}@example.org"

    async def told() -> bool:
        return any(f"{user} has made the account" in each["body"] for each in await root.said())

    await wait_for(told, 90, "being told that the account was made")
    assert (await desk.world.synapse.log_in(name, "a-b-c-d-e")).user_id == user


async def test_an_ordinary_person_invites_within_their_quota(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person:
        chat = await Commander.of(person, desk.world)
        assert "Ask the server admins" in await chat.ask("me token-request")
        await root.do(f"token grant {person.user_id} 2/month")

        first = await chat.ask("me token-request my sister")

        assert "my sister" in first
        told = [each["body"] for each in await chat.said() if "Link:" in each["body"]]
        lines = [line.strip() for line in told[-1].splitlines() if line.strip()]
        token = lines[lines.index("Token:") + 1]
        found = (await all_tokens(desk))[token]
        assert (found.uses_allowed, found.expiry_time is not None) == (1, True)
        assert await register_with(desk, token) == 200
        listed = await root.ask("token list --state used")
        line = next(one for one in listed.splitlines() if "my sister" in one)
        assert person.user_id in line
        assert "Made this month" in await root.ask("token grant list")
        await chat.ask("me token-request")
        assert "have made them" in await chat.ask("me token-request")
        await root.do(f"token grant {person.user_id} 3/month")
        assert "Left this month: 0" in await chat.ask("me token-request")
        await root.ask(f"token grant revoke {person.user_id}")
        assert "Ask the server admins" in await chat.ask("me token-request")
        assert "me token-request" in await root.ask(f"log --user {person.user_id}")
        assert "Session" in await root.ask("me sessions")
        await root.do(f"token grant {person.user_id} 4/month")
        room = await person.create_room(name="Kitchen")
        await person.invite(room, root.client.user_id)
        await person.wait_for_members(room, desk.world.steward.adminbot)
        asked = await person.send_text(room, "!me token-request")
        said = await person.wait_for_message(room, "", sender=chat.adminbot, after=asked)
        assert "direct chat" in said["content"]["body"]


async def test_a_secret_and_its_file_are_gone_after_a_while(make_world: MakeWorld) -> None:
    world = await make_world(Wish(settings={"adminbot": {"secrets_kept_seconds": 10}}))
    async with await world.person(admin=True) as client:
        root = await Commander.of(client, world)
        await root.ask("token create")

        async def told() -> list[Mapping[str, Any]]:
            return [each for each in await root.said() if each.get("filename") == "token.png"]

        (picture,) = await wait_for(told, 60, "the picture of the token")
        assert await client.download(picture["url"])

        async def gone() -> bool:
            if await told():
                return False
            # Redacted is not enough: the homeserver would still hand out the file itself.
            with pytest.raises(aiohttp.ClientResponseError, match="404"):
                await client.download(picture["url"])
            return True

        await wait_for(gone, 60, "the secret taken back")
