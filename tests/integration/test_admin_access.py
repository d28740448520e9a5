"""How Steward reaches the admin API: whose request it is, at which address, and when again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

import pytest

from common.config.secret import Secret
from common.demo.waiting import wait_for
from common.errors import TransientError
from common.homeserver.client import AdminClient
from common.homeserver.port import HttpGet, Json, Permission
from common.homeserver.sender import SenderRequests
from common.homeserver.synapse.server import GetServerVersion
from common.homeserver.synapse.users import GetUserAdmin, ListUsers, SetUserAdmin, all_users
from common.ids import UserId
from common.matrix.client import CLIENT, MatrixClient, connect, open_session
from tests.support.doorway import Doorway
from tests.support.world import MakeWorld, Wish, World


@dataclass(frozen=True)
class ListReports:
    """The two lists of reports; both have a filter called ``user_id``, of who reported."""

    permission: ClassVar = Permission.VIEW

    kind: str
    by_sender: bool = True

    def to_http(self) -> HttpGet:
        return HttpGet(path=f"/_synapse/admin/v1/{self.kind}", by_sender=self.by_sender)

    def read_response(self, body: Json) -> list[Json]:
        found: list[Json] = body[self.kind]
        return found


@dataclass(frozen=True)
class Adminbot:
    """adminbot's account and its admin API, beside the Steward that runs."""

    client: MatrixClient
    sender: UserId
    admin: AdminClient


@pytest.fixture
async def adminbot(world: World) -> AsyncIterator[Adminbot]:
    """The running Steward's adminbot."""
    async with adminbot_of(world) as one:
        yield one


@asynccontextmanager
async def adminbot_of(world: World) -> AsyncIterator[Adminbot]:
    """Give the adminbot of a world."""
    sender = UserId(f"@_steward:{world.synapse.server_name}")
    async with open_session() as session:
        api = connect(
            homeserver_url=world.synapse.url,
            as_token=Secret(world.steward.as_token),
            sender=sender,
            session=session,
        )
        client = MatrixClient(api, world.steward.adminbot)
        yield Adminbot(client, sender, AdminClient(client, sender=SenderRequests(client, sender)))


async def test_lists_of_what_others_did_are_whole(make_world: MakeWorld) -> None:
    world = await make_world()  # every server admin of a world is told of each report
    async with (
        adminbot_of(world) as adminbot,
        await world.person() as reporter,
        await world.person() as other,
    ):
        admin = adminbot.admin
        room = await reporter.create_room(invite=[other.user_id])
        await other.join(room)
        event = await other.send_text(room, "buy pills")
        reason = {"reason": "spam"}
        await reporter.client("POST", f"/rooms/{room}/report/{event}", reason)
        await reporter.client("POST", f"/users/{other.user_id}/report", reason)

        users = {user.name async for user in all_users(admin, ListUsers(limit=3))}
        events = await admin.read(ListReports("event_reports"))
        reports = await admin.read(ListReports("user_reports"))
        masked = await admin.read(ListReports("event_reports", by_sender=False))

    assert {reporter.user_id, other.user_id, adminbot.client.user_id} <= users
    assert [one["event_id"] for one in events if one["user_id"] == reporter.user_id] == [event]
    assert [one["target_user_id"] for one in reports if one["user_id"] == reporter.user_id] == [
        other.user_id
    ]
    # Why all this is needed: as adminbot, only what adminbot itself reported is there.
    assert masked == []


async def test_the_sender_gets_back_the_right_that_somebody_took(adminbot: Adminbot) -> None:
    await adminbot.admin.change(SetUserAdmin(adminbot.sender, admin=False))

    page = await adminbot.admin.read(ListUsers(limit=1))

    assert page.total > 1
    assert await adminbot.admin.read(GetUserAdmin(adminbot.sender))


async def test_the_admin_api_is_asked_at_its_own_address(make_world: MakeWorld) -> None:
    async with Doorway("/_matrix/") as public, Doorway("/_synapse/") as inside:
        settings = {"homeserver": {"url": public.url, "admin_url": inside.url}}
        world = await make_world(Wish(settings=settings), start=False)
        public.target = inside.target = world.synapse.url
        await world.synapse.start()
        await world.steward.start()
        async with open_session() as session:
            api = connect(
                homeserver_url=public.url,
                admin_url=inside.url,
                as_token=Secret(world.steward.as_token),
                sender=UserId(f"@_steward:{world.synapse.server_name}"),
                session=session,
            )
            client = MatrixClient(api, world.steward.adminbot)
            admin = AdminClient(client)
            version = await admin.read(GetServerVersion())
            is_admin = await admin.read(GetUserAdmin(world.steward.adminbot))
            assert await client.joined_rooms() is not None
        sweep = "/_synapse/admin/v1/rooms"
        await wait_for(lambda: sweep in inside.passed, 60, "the sweep")
        await world.steward.stop()

    assert version.server_version.startswith("1.")
    assert is_admin  # so its start used the admin API, too
    assert public.refused == []
    assert inside.refused == []


async def test_the_wait_that_a_homeserver_names_comes_through(make_world: MakeWorld) -> None:
    extra = {
        "login_via_existing_session": {"enabled": True, "require_ui_auth": False},
    }
    world = await make_world(Wish(extra=extra), start=False)
    await world.synapse.start()
    await world.steward.start()
    await world.steward.stop()
    async with open_session() as session:
        api = connect(
            homeserver_url=world.synapse.url,
            as_token=Secret(world.steward.as_token),
            sender=UserId(f"@_steward:{world.synapse.server_name}"),
            session=session,
        )
        client = MatrixClient(api, world.steward.adminbot)
        await client.request("POST", f"{CLIENT}/v1/login/get_token", {})

        with pytest.raises(TransientError) as refused:
            await client.request("POST", f"{CLIENT}/v1/login/get_token", {})

    assert refused.value.retry_after_ms is not None
    assert 30_000 < refused.value.retry_after_ms <= 60_000
