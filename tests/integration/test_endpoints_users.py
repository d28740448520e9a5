"""Endpoints about accounts, each against the real Synapse, read back by another way."""

import secrets
from collections.abc import AsyncIterator

import pytest

from common.config.secret import Secret
from common.demo.accounts import Account
from common.homeserver.client import AdminClient
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.synapse.account_state import (
    DeactivateUser,
    LockUser,
    SuspendUser,
)
from common.homeserver.synapse.accounts import (
    CreateUser,
    ResetPassword,
    SetDisplayName,
    SetExternalIds,
    SetThreepids,
    SetUserAvatar,
    SetUserType,
)
from common.homeserver.synapse.devices import (
    DeleteUserDevices,
    GetUserDevice,
    RenameUserDevice,
)
from common.homeserver.synapse.redaction import GetRedaction, RedactUser
from common.homeserver.synapse.user_lookup import (
    CountJoinedRooms,
    CountSentInvites,
    FindUserByExternalId,
    FindUserByThreepid,
    GetAccountData,
    GetExperimentalFeatures,
    GetMemberships,
    IsUsernameAvailable,
    ListPushers,
    Whois,
    why_unavailable,
)
from common.homeserver.synapse.user_rights import (
    AllowCrossSigningReset,
    ClearRateLimit,
    GetRateLimit,
    LogInAs,
    RateLimit,
    SetExperimentalFeatures,
    SetRateLimit,
    ShadowBanUser,
)
from common.homeserver.synapse.users import ExternalId, GetUser, ListUserRooms, ThirdPartyId
from common.ids import DeviceId, UserId
from tests.support.admin_api import adminbot_api, follow
from tests.support.clients import RawClient, RequestFailedError, wait_for
from tests.support.world import World


@pytest.fixture
async def admin(world: World) -> AsyncIterator[AdminClient]:
    """The administration API as adminbot."""
    async with adminbot_api(world) as api:
        yield api


@pytest.fixture
async def person(world: World) -> AsyncIterator[RawClient]:
    """Somebody of this server."""
    async with await world.person() as client:
        yield client


def new_user(world: World) -> UserId:
    return UserId(f"@new-{secrets.token_hex(4)}:{world.synapse.server_name}")


def localpart(user: UserId) -> str:
    return user[1:].partition(":")[0]


async def test_an_account_is_made_and_its_owner_signs_in(world: World, admin: AdminClient) -> None:
    user = new_user(world)
    mail = ThirdPartyId("email", f"{secrets.token_hex(4)}@example.org")
    identity = ExternalId("oidc-test", secrets.token_hex(4))

    assert await admin.read(IsUsernameAvailable(localpart(user)))
    made = await admin.change(
        CreateUser(
            user=user,
            password=Secret("correct horse"),
            display_name="New Person",
            user_type="bot",
            threepids=(mail,),
            external_ids=(identity,),
        )
    )

    account = await world.synapse.log_in(localpart(user), "correct horse")
    assert account.user_id == user
    assert (made.displayname, made.user_type, made.admin) == ("New Person", "bot", False)
    assert await admin.read(FindUserByThreepid(mail.medium, mail.address)) == user
    assert await admin.read(FindUserByExternalId("oidc-test", identity.external_id)) == user
    refused = await why_unavailable(admin, localpart(user))
    assert refused is not None
    assert refused.errcode == "M_USER_IN_USE"
    invalid = await why_unavailable(admin, "Not A Name")
    assert invalid is not None
    assert invalid.errcode == "M_INVALID_USERNAME"


async def test_what_an_account_is_called_and_how_one_signs_in_is_changed(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    user, mail = person.user_id, f"{secrets.token_hex(4)}@example.org"

    await admin.change(SetDisplayName(user, "Somebody Else"))
    await admin.change(SetUserAvatar(user, "mxc://example.org/picture"))
    await admin.change(SetThreepids(user, (ThirdPartyId("email", mail),)))
    await admin.change(SetExternalIds(user, (ExternalId("oidc-test", mail),)))
    await admin.change(SetUserType(user, "support"))

    profile = await person.client("GET", f"/profile/{user}")
    assert profile["displayname"] == "Somebody Else"
    assert profile["avatar_url"] == "mxc://example.org/picture"
    found = await admin.read(GetUser(user))
    assert found.threepids == (ThirdPartyId("email", mail),)
    assert found.external_ids == (ExternalId("oidc-test", mail),)
    assert found.user_type == "support"
    async with await world.person() as other:
        with pytest.raises(RefusedError) as conflict:
            await admin.change(SetExternalIds(other.user_id, found.external_ids))
    assert conflict.value.status == 409

    await admin.change(SetDisplayName(user, ""))
    await admin.change(SetUserAvatar(user, ""))
    await admin.change(SetThreepids(user, ()))
    await admin.change(SetExternalIds(user, ()))
    await admin.change(SetUserType(user, None))
    bare = await admin.read(GetUser(user))
    assert (bare.threepids, bare.external_ids, bare.user_type) == ((), (), None)
    with pytest.raises(RequestFailedError, match="Profile was not found"):
        await person.client("GET", f"/profile/{user}")
    with pytest.raises(NotFoundError):
        await admin.read(FindUserByThreepid("email", mail))


async def test_a_password_is_reset_with_and_without_ending_sessions(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    await admin.change(ResetPassword(person.user_id, Secret("first try"), logout_devices=False))
    assert (await person.client("GET", "/account/whoami"))["user_id"] == person.user_id
    await world.synapse.log_in(localpart(person.user_id), "first try")

    await admin.change(ResetPassword(person.user_id, Secret("second try")))

    with pytest.raises(RequestFailedError, match="M_UNKNOWN_TOKEN"):
        await person.client("GET", "/account/whoami")
    await world.synapse.log_in(localpart(person.user_id), "second try")


async def test_an_account_is_locked_and_suspended_and_let_go(
    admin: AdminClient, person: RawClient
) -> None:
    room = await person.create_room()

    await admin.change(LockUser(person.user_id))
    with pytest.raises(RequestFailedError, match="M_USER_LOCKED"):
        await person.client("GET", "/account/whoami")
    await admin.change(LockUser(person.user_id, locked=False))
    await person.client("GET", "/account/whoami")

    await admin.change(SuspendUser(person.user_id))
    with pytest.raises(RequestFailedError, match="M_USER_SUSPENDED"):
        await person.send_text(room, "hello")
    assert (await admin.read(GetUser(person.user_id))).suspended
    await admin.change(SuspendUser(person.user_id, suspended=False))
    await person.send_text(room, "hello")


async def test_an_account_is_closed(world: World, admin: AdminClient, person: RawClient) -> None:
    room = await person.create_room()
    assert await admin.read(ListUserRooms(person.user_id)) == (room,)

    await admin.change(DeactivateUser(person.user_id, erase=True))
    await admin.change(DeactivateUser(person.user_id, erase=True))

    closed = await admin.read(GetUser(person.user_id))
    assert (closed.deactivated, closed.erased) == (True, True)
    with pytest.raises(RequestFailedError):
        await person.client("GET", "/account/whoami")

    async def gone() -> bool:
        return await admin.read(ListUserRooms(person.user_id)) == ()

    await wait_for(gone, 60, "the account to be out of its rooms")
    with pytest.raises(NotFoundError):
        await admin.change(DeactivateUser(new_user(world)))


async def test_what_is_known_of_an_account(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    user = person.user_id
    async with await world.person() as guest:
        room = await person.create_room(invite=[guest.user_id])
        await guest.join(room)
        await guest.leave(room)
        memberships = await admin.read(GetMemberships(guest.user_id))
    await person.client("PUT", f"/user/{user}/account_data/org.example", {"a": 1})
    await person.client(
        "POST",
        "/pushers/set",
        {
            "app_id": "org.example",
            "app_display_name": "Example",
            "device_display_name": "Phone",
            "kind": "http",
            "lang": "en",
            "pushkey": "key",
            "data": {"url": "https://push.example.org/_matrix/push/v1/notify"},
        },
    )

    assert memberships == {room: "leave"}
    data = await admin.read(GetAccountData(user))
    assert data.global_["org.example"] == {"a": 1}
    assert data.rooms == {}
    (pusher,) = await admin.read(ListPushers(user))
    assert (pusher.app_id, pusher.kind, pusher.pushkey) == ("org.example", "http", "key")
    assert isinstance(await admin.read(Whois(user)), tuple)
    assert await admin.read(CountSentInvites(user, since=0)) >= 1
    assert await admin.read(CountJoinedRooms(user, since=0)) == 1


async def test_rate_limits_and_features_of_ones_own(admin: AdminClient, person: RawClient) -> None:
    user = person.user_id

    assert await admin.read(GetRateLimit(user)) is None
    await admin.change(SetRateLimit(user, messages_per_second=5, burst_count=10))
    assert await admin.read(GetRateLimit(user)) == RateLimit(5, 10)
    await admin.change(ClearRateLimit(user))
    await admin.change(ClearRateLimit(user))
    assert await admin.read(GetRateLimit(user)) is None

    await admin.change(SetExperimentalFeatures(user, {"msc3881": True}))
    assert (await admin.read(GetExperimentalFeatures(user)))["msc3881"]
    with pytest.raises(RefusedError):
        await admin.change(SetExperimentalFeatures(user, {"msc0": True}))


async def test_who_is_shadow_banned_reaches_nobody(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    async with await world.person() as other:
        room = await other.create_room(invite=[person.user_id])
        await person.join(room)

        await admin.change(ShadowBanUser(person.user_id))
        await person.send_text(room, "into the void")
        assert (await admin.read(GetUser(person.user_id))).shadow_banned
        await admin.change(ShadowBanUser(person.user_id, banned=False))
        heard = await person.send_text(room, "out loud")

        said = [event["content"].get("body") for event in await other.messages(room)]
    assert "out loud" in said
    assert "into the void" not in said
    assert heard


async def test_acting_as_somebody_ends_with_its_token(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    now = (await admin.read(GetUser(person.user_id))).created_ms
    assert now is not None

    token = await admin.change(LogInAs(person.user_id, valid_until_ms=now + 10 * 60_000))

    assert "Secret(…)" in repr(token)
    account = Account(person.user_id, DeviceId(""), token.reveal(), "")
    async with RawClient(world.synapse.url, account) as acting:
        assert (await acting.client("GET", "/account/whoami"))["user_id"] == person.user_id
        await acting.client("POST", "/logout")
        with pytest.raises(RequestFailedError, match="M_UNKNOWN_TOKEN"):
            await acting.client("GET", "/account/whoami")


async def test_sessions_are_named_and_ended(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    user, device = person.user_id, DeviceId(person.account.device_id)

    await admin.change(RenameUserDevice(user, device, "Kitchen"))
    assert (await admin.read(GetUserDevice(user, device))).display_name == "Kitchen"

    change = DeleteUserDevices(user, (device, DeviceId("NOSUCH")))
    await admin.change(change)
    await admin.change(change)

    with pytest.raises(NotFoundError):
        await admin.read(GetUserDevice(user, device))
    with pytest.raises(RequestFailedError, match="M_UNKNOWN_TOKEN"):
        await person.client("GET", "/account/whoami")


async def test_an_identity_may_be_replaced_for_ten_minutes(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    with pytest.raises(NotFoundError, match="no master cross-signing key"):
        await admin.change(AllowCrossSigningReset(person.user_id))

    bot = await admin.change(AllowCrossSigningReset(world.steward.adminbot))

    assert bot > 1_700_000_000_000


async def test_what_somebody_wrote_is_redacted(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    async with await world.person() as other:
        rooms = [await other.create_room(invite=[person.user_id]) for _ in range(2)]
        for room in rooms:
            await person.join(room)
            await person.send_text(room, "spam")
            await other.send_text(room, "ham")

        progress = await follow(admin, RedactUser(user=person.user_id, rooms=(rooms[0],)))
        assert (progress.failed, progress.said) == (None, None)
        bodies = [await _bodies(other, room) for room in rooms]
        assert bodies == [["ham"], ["spam", "ham"]]

        await follow(admin, RedactUser(user=person.user_id, reason="spam", limit=10))
        assert await _bodies(other, rooms[1]) == ["ham"]
    with pytest.raises(NotFoundError):
        await admin.read(GetRedaction("nosuch"))


async def _bodies(client: RawClient, room: str) -> list[str]:
    events = await client.messages(room)  # type: ignore[arg-type]  # a plain string will do
    return [one["content"]["body"] for one in events if "body" in one["content"]]
