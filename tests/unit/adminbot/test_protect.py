"""Accounts that no command touches."""

import msgspec
import pytest

from adminbot.commands.protect import keep_an_admin, own_accounts, target, targets
from adminbot.engine.actor import Actor, Caller, Place, PlaceKind
from adminbot.engine.supply import Settings
from common.errors import UserError
from common.homeserver.errors import RefusedError
from common.homeserver.synapse.user_lookup import IsUsernameAvailable
from common.homeserver.synapse.users import UserDetails
from common.ids import UserId
from tests.unit.adminbot.test_dispatch import the_server
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    BOB,
    DIRECT,
    ME,
    NOW,
    PUPPET,
    SETTINGS,
    FakeAdmin,
)

CALLER = Caller(Actor(ADMIN, server_admin=True), Place(DIRECT, PlaceKind.DIRECT), None, None, NOW)


@pytest.fixture
def admin() -> FakeAdmin:
    return the_server()


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (ME, "own accounts"),
        (UserId("@_steward:example.org"), "own accounts"),
        (PUPPET, "belongs to the application service irc"),
        (ADMIN, "your own account"),
        (UserId("@nobody:example.org"), "no account"),
        (UserId("@alice:elsewhere.org"), "another server"),
        (UserId("@adminbot:elsewhere.org"), "another server"),
    ],
)
async def test_they_are_refused_with_the_reason(admin: FakeAdmin, user: UserId, said: str) -> None:
    with pytest.raises(UserError, match=said):
        await target(admin, SETTINGS, CALLER, user)


async def test_everybody_else_may_be_touched(admin: FakeAdmin) -> None:
    assert [one.name for one in await targets(admin, SETTINGS, CALLER, (ALICE, BOB, ALICE))] == [
        ALICE,
        BOB,
    ]
    assert (await target(admin, SETTINGS, CALLER, ADMIN, oneself=True)).name == ADMIN


async def test_a_reserved_name_is_left_alone(admin: FakeAdmin) -> None:
    def reserved(request: object) -> RefusedError | None:
        if isinstance(request, IsUsernameAvailable):
            return RefusedError(400, "M_EXCLUSIVE", "This user ID is reserved.")
        return None

    admin.refuse_read = reserved

    with pytest.raises(UserError, match="reserved by the homeserver"):
        await target(admin, SETTINGS, CALLER, ALICE)


async def test_who_is_configured_to_be_protected_is(admin: FakeAdmin) -> None:
    config = SETTINGS.config
    adminbot = msgspec.structs.replace(config.adminbot, protected_accounts=(ALICE,))
    settings = Settings(msgspec.structs.replace(config, adminbot=adminbot))

    with pytest.raises(UserError, match="protected by the configuration"):
        await target(admin, settings, CALLER, ALICE)


async def test_the_last_server_admin_stays(admin: FakeAdmin) -> None:
    root = admin.users[ADMIN]

    # The bridge's account has the right too, but no person is behind it.
    with pytest.raises(UserError, match="No server admin would be left"):
        await keep_an_admin(admin, SETTINGS, [root])

    admin.users[ALICE] = UserDetails(ALICE, admin=True, suspended=True)
    with pytest.raises(UserError, match="No server admin would be left"):
        await keep_an_admin(admin, SETTINGS, [root])
    admin.users[ALICE] = UserDetails(ALICE, admin=True)
    await keep_an_admin(admin, SETTINGS, [root])
    await keep_an_admin(admin, SETTINGS, [UserDetails(BOB)])
    with pytest.raises(UserError, match="No server admin would be left"):
        await keep_an_admin(admin, SETTINGS, [root, admin.users[ALICE]])


def test_steward_has_three_accounts() -> None:
    assert own_accounts(SETTINGS.config) == {ME, "@auditbot:example.org", "@_steward:example.org"}
