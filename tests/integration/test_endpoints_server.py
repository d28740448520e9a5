"""Endpoints about the server: tokens, reports, notices, federation, upkeep."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from adminbot.commands.token_list import nobody_may_register, registration_must_be_on
from adminbot.engine.server_steps import KeepValid
from adminbot.own_records import OwnRecords
from adminbot.perform_more import more_performers
from adminbot.server_acts import ServerActs
from common.clock import SystemClock
from common.config.secret import Secret
from common.demo.servers import Synapse, SynapseSpec
from common.errors import TransientError, UserError
from common.homeserver.client import AdminClient
from common.homeserver.client_server.directory import IsPublished, PublishRoom
from common.homeserver.client_server.server import GetClientWellKnown
from common.homeserver.errors import NotFoundError, RefusedError, SwitchedOffError
from common.homeserver.synapse.account_state import ApproveUser, DeactivateUser, ReactivateUser
from common.homeserver.synapse.background import (
    EnableBackgroundUpdates,
    GetBackgroundUpdates,
    ListScheduledTasks,
    ResignEvents,
    StartBackgroundJob,
)
from common.homeserver.synapse.federation import (
    Destination,
    GetDestination,
    ListDestinationRooms,
    ListDestinations,
    ResetConnection,
    all_destination_rooms,
    all_destinations,
)
from common.homeserver.synapse.media import ListLargestRooms
from common.homeserver.synapse.registration_tokens import (
    CreateRegistrationToken,
    DeleteRegistrationToken,
    GetRegistrationToken,
    ListRegistrationTokens,
    UpdateRegistrationToken,
)
from common.homeserver.synapse.reports import (
    DeleteEventReport,
    DeleteUserReport,
    GetEventReport,
    GetUserReport,
    ListEventReports,
    ListUserReports,
    all_event_reports,
    all_user_reports,
)
from common.homeserver.synapse.server_notices import SendServerNotice
from common.homeserver.synapse.user_rights import SetAccountValidity
from common.homeserver.synapse.users import GetUser
from tests.support.admin_api import admin_api, adminbot_api
from tests.support.clients import RawClient, RequestFailedError, wait_for
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres, PostgresDatabase
from tests.support.world import MakeWorld, World

FAR_AHEAD = 4_000_000_000_000
UNREACHABLE = "127.0.0.1:1"


@pytest.fixture
async def admin(world: World) -> AsyncIterator[AdminClient]:
    """The administration API as adminbot."""
    async with adminbot_api(world) as api:
        yield api


@pytest.fixture(scope="module")
async def other_database(postgres: Postgres) -> PostgresDatabase:
    """The database of the other homeserver."""
    return await postgres.create_database()


@pytest.fixture(scope="module")
async def other_synapse(
    other_database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Synapse]:
    """A homeserver on PostgreSQL with what is off by default, and which tries to federate."""
    directory: Path = tmp_path_factory.mktemp("other-synapse")
    extra: dict[str, object] = {
        "federation_domain_whitelist": None,
        "background_updates": {"sleep_enabled": False},
        "serve_client_wellknown": True,
        "account_validity": {"enabled": True, "period": "6w"},
        "server_notices": None,
        "enable_registration": False,
        "room_list_publication_rules": [{"action": "allow"}],
        "experimental_features": {
            "msc3866": {"enabled": True, "require_approval_for_new_accounts": False}
        },
    }
    spec = SynapseSpec(directory=directory, postgres=other_database.psycopg2, extra=extra)
    async with Synapse(spec) as server:
        yield server


@pytest.fixture
async def root(other_synapse: Synapse) -> AsyncIterator[RawClient]:
    """A server admin of the other homeserver."""
    async with await RawClient.register(other_synapse, admin=True) as client:
        yield client


async def test_registration_tokens(world: World, admin: AdminClient) -> None:
    name = f"token.{secrets.token_hex(4)}"

    made = await admin.change(CreateRegistrationToken(token=Secret(name), uses_allowed=1))
    generated = await admin.change(CreateRegistrationToken(length=20, expires_ms=FAR_AHEAD))

    assert (made.token, made.uses_allowed, made.expiry_time) == (name, 1, None)
    assert (len(generated.token), generated.expiry_time) == (20, FAR_AHEAD)
    assert made.valid_at(0)
    assert generated.valid_at(FAR_AHEAD - 1)
    assert not generated.valid_at(FAR_AHEAD + 1)
    flow: dict[str, Any] = {
        "username": f"user-{secrets.token_hex(4)}",
        "password": secrets.token_hex(8),
        "auth": {"type": "m.login.registration_token", "token": name},
    }
    url = f"{world.synapse.url}/_matrix/client/v3/register"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json={}) as response:
            flow["auth"] |= {"session": (await response.json())["session"]}
        async with session.post(url, json=flow) as response:
            assert response.status == 401  # one more step is missing
    pending = await admin.read(GetRegistrationToken(name))
    assert pending.pending == 1
    assert not pending.valid_at(0)
    assert pending in await admin.read(ListRegistrationTokens())
    assert pending in await admin.read(ListRegistrationTokens(valid=False))
    assert pending not in await admin.read(ListRegistrationTokens(valid=True))

    changed = await admin.change(
        UpdateRegistrationToken(token=name, uses_allowed=None, expires_ms=FAR_AHEAD)
    )
    assert (changed.uses_allowed, changed.expiry_time) == (None, FAR_AHEAD)
    with pytest.raises(RefusedError, match="already exists"):
        await admin.change(CreateRegistrationToken(token=Secret(name)))
    await admin.change(DeleteRegistrationToken(name))
    for change in (
        DeleteRegistrationToken(name),
        UpdateRegistrationToken(token=name, uses_allowed=1, expires_ms=None),
    ):
        with pytest.raises(NotFoundError):
            await admin.change(change)
        assert name not in change.describe()
        assert name not in repr(change)
    with pytest.raises(NotFoundError):
        await admin.read(GetRegistrationToken(name))


async def test_reports_on_messages_and_people(make_world: MakeWorld) -> None:
    world = await make_world()  # every server admin of a world is told of each report
    async with adminbot_api(world) as admin:
        await _reports_are_listed_and_deleted(world, admin)


async def _reports_are_listed_and_deleted(world: World, admin: AdminClient) -> None:
    async with await world.person() as reporter, await world.person() as reported:
        room = await reporter.create_room(name="here", invite=[reported.user_id])
        await reported.join(room)
        events = [await reported.send_text(room, text) for text in ("buy", "pills")]
        for event in events:
            await reporter.client("POST", f"/rooms/{room}/report/{event}", {"reason": "spam"})
        about = {"reason": "spammer"}
        await reporter.client("POST", f"/users/{reported.user_id}/report", about)
        by, of = reporter.user_id, reported.user_id

    in_room = [one async for one in all_event_reports(admin, ListEventReports(room=room, limit=1))]
    assert [one.event_id for one in in_room] == events[::-1]
    newest = in_room[0]
    assert (newest.user_id, newest.sender, newest.reason) == (by, of, "spam")
    assert newest.name == "here"
    everything = {one.event_id async for one in all_event_reports(admin)}
    assert set(events) <= everything
    oldest = await admin.read(ListEventReports(room=room, limit=1, direction="f"))
    assert oldest.event_reports[0].event_id == events[0]
    assert (await admin.read(ListEventReports(sender=by))).total == 0
    details = await admin.read(GetEventReport(newest.id))
    assert details.event_json["content"]["body"] == "pills"
    await admin.change(DeleteEventReport(newest.id))
    with pytest.raises(NotFoundError):
        await admin.change(DeleteEventReport(newest.id))
    with pytest.raises(NotFoundError):
        await admin.read(GetEventReport(newest.id))

    (report,) = [one async for one in all_user_reports(admin, ListUserReports(user=of))]
    assert (report.user_id, report.target_user_id, report.reason) == (by, of, "spammer")
    assert await admin.read(GetUserReport(report.id)) == report
    await admin.change(DeleteUserReport(report.id))
    with pytest.raises(NotFoundError):
        await admin.read(GetUserReport(report.id))
    with pytest.raises(NotFoundError):
        await admin.change(DeleteUserReport(report.id))


async def test_a_notice_is_sent_once(world: World, admin: AdminClient) -> None:
    async with await world.person() as person:
        content = {"msgtype": "m.text", "body": "Maintenance at nine."}
        notice = SendServerNotice(
            user=person.user_id, content=content, txn_id=f"t/{secrets.token_hex(4)}"
        )

        event = await admin.change(notice)
        again = await admin.change(notice)

        assert event == again
        synced = await person.sync()
        (room,) = synced["rooms"]["invite"]
        await person.join(room)
        sent = [one for one in await person.messages(room) if one["type"] == "m.room.message"]
    assert [one["event_id"] for one in sent] == [event]
    assert sent[0]["content"] == content


async def test_a_notice_is_refused_where_notices_are_off(root: RawClient, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not enabled"):
        await admin_api(root).change(
            SendServerNotice(user=root.user_id, content={"body": ""}, txn_id="t")
        )
    async with open_database(sqlite_url(tmp_path)) as database:
        acts = ServerActs(admin_api(root), OwnRecords(database))
        with pytest.raises(SwitchedOffError, match="server_notices"):
            await acts.tell_as_server(root.user_id, "Hello", name="t")


async def test_no_token_is_made_where_nobody_may_register(world: World, root: RawClient) -> None:
    why = nobody_may_register()
    with pytest.raises(UserError, match="enable_registration: true"):
        await registration_must_be_on(admin_api(root), why)
    async with await world.person() as person:
        await registration_must_be_on(admin_api(person), why)


async def test_other_servers(root: RawClient) -> None:
    admin = admin_api(root)
    await root.client("POST", "/keys/query", {"device_keys": {f"@somebody:{UNREACHABLE}": []}})

    async def destinations() -> dict[str, Destination]:
        return {one.destination: one async for one in all_destinations(admin)}

    listed = await wait_for(destinations, 60, "the failure to be noted")

    assert listed[UNREACHABLE].failing
    assert listed[UNREACHABLE].retry_interval > 0
    one = await admin.read(GetDestination(UNREACHABLE))
    assert one.failure_ts == listed[UNREACHABLE].failure_ts
    assert (await admin.read(ListDestinations(search="127.0"))).total == 1
    assert (await admin.read(ListDestinations(search="nowhere"))).total == 0
    rooms = [
        one
        async for one in all_destination_rooms(
            admin, ListDestinationRooms(destination=UNREACHABLE)
        )
    ]
    assert rooms == []
    await admin.change(ResetConnection(UNREACHABLE))
    assert not (await admin.read(GetDestination(UNREACHABLE))).failing
    with pytest.raises(RefusedError, match="does not need to be reset"):
        await admin.change(ResetConnection(UNREACHABLE))
    for request in (GetDestination("no.such"), ListDestinationRooms(destination="no.such")):
        with pytest.raises(NotFoundError):
            await admin.read(request)


async def at_rest(admin: AdminClient) -> None:
    """Wait until the new homeserver has made its indexes."""

    async def done() -> bool:
        return not (await admin.read(GetBackgroundUpdates())).current_updates

    await wait_for(done, 60, "the homeserver's database to be up to date")


async def test_a_closed_account_is_opened_again(other_synapse: Synapse, root: RawClient) -> None:
    admin = admin_api(root)
    await at_rest(admin)
    async with await RawClient.register(other_synapse) as person:
        await admin.change(DeactivateUser(person.user_id, erase=True))

        await admin.change(ReactivateUser(person.user_id, Secret("back again")))

        opened = await admin.read(GetUser(person.user_id))
    assert (opened.deactivated, opened.erased) == (False, False)
    await other_synapse.log_in(person.user_id[1:].partition(":")[0], "back again")


async def test_upkeep_of_the_database(root: RawClient) -> None:
    admin = admin_api(root)
    await at_rest(admin)

    assert await admin.change(EnableBackgroundUpdates(enabled=False)) is False
    assert not (await admin.read(GetBackgroundUpdates())).enabled
    for job in (
        StartBackgroundJob("populate_stats_process_rooms"),
        StartBackgroundJob("regenerate_directory"),
        ResignEvents(before_ms=FAR_AHEAD),
    ):
        await admin.change(job)
        with pytest.raises(RefusedError, match="already in queue"):
            await admin.change(job)
    assert await admin.change(EnableBackgroundUpdates(enabled=True)) is True
    assert (await admin.read(GetBackgroundUpdates())).enabled
    assert isinstance(await admin.read(ListScheduledTasks()), tuple)


async def test_the_largest_rooms(
    other_synapse: Synapse, other_database: PostgresDatabase, root: RawClient
) -> None:
    async with await RawClient.register(other_synapse) as other:
        rooms = [await root.create_room(invite=[other.user_id]) for _ in range(2)]
        for room in rooms:
            await other.join(room)
            for _ in range(5):
                await root.send_text(room, f"Hello {other.user_id}")
    connection = await asyncpg.connect(other_database.url)
    await connection.execute("ANALYZE")
    # A column that Synapse reads here and no longer fills.
    with pytest.raises(TransientError):
        await admin_api(root).read(ListLargestRooms())
    await connection.execute(
        "UPDATE event_edges AS e SET room_id ="
        " (SELECT room_id FROM events WHERE events.event_id = e.event_id)"
    )
    await connection.execute("ANALYZE")
    await connection.close()

    largest = await admin_api(root).read(ListLargestRooms())

    assert set(rooms) <= {one.room_id for one in largest}
    assert all(one.estimated_size > 0 for one in largest)


async def test_what_only_some_servers_have(root: RawClient, other_synapse: Synapse) -> None:
    admin = admin_api(root)
    user = root.user_id

    assert await admin.change(SetAccountValidity(user=user)) > 1_700_000_000_000
    ends = await admin.change(SetAccountValidity(user=user, expires_ms=FAR_AHEAD))
    assert ends == FAR_AHEAD
    keep_valid = more_performers(admin, SystemClock())[KeepValid]
    async with await RawClient.register(other_synapse) as person:
        until_ms = SystemClock().now_ms() + 500
        said = await keep_valid(KeepValid(user=person.user_id, until_ms=until_ms), "key")
        assert said == str(until_ms)

        async def over() -> bool:
            try:
                await person.client("GET", "/account/whoami")
            except RequestFailedError as error:
                return "ORG_MATRIX_EXPIRED_ACCOUNT" in str(error)
            return False

        await wait_for(over, 10, "the account to expire")
        renewed = await keep_valid(KeepValid(user=person.user_id), "key")
        assert int(renewed or 0) > until_ms + 41 * 86_400_000
        assert not await over()
    assert not (await admin.change(ApproveUser(user, approved=False))).approved
    assert (await admin.change(ApproveUser(user))).approved
    room = await root.create_room(extra={"preset": "public_chat", "visibility": "public"})
    assert await admin.read(IsPublished(room))
    await admin.change(PublishRoom(room, published=False))
    assert not await admin.read(IsPublished(room))
    await admin.change(PublishRoom(room))
    assert await admin.read(IsPublished(room))
    well_known = await admin.read(GetClientWellKnown())
    assert well_known["m.homeserver"]["base_url"] == f"{root.url}/"


async def test_what_a_server_does_not_have_is_said(admin: AdminClient) -> None:
    with pytest.raises(RefusedError, match="PostgreSQL"):
        await admin.read(ListLargestRooms())
