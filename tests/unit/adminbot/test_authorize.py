"""Who may do what, where: the whole table."""

from collections.abc import Mapping

import pytest

from adminbot.engine.actor import Actor, Place, PlaceKind, Role, Target
from adminbot.engine.answer import Answer, answer
from adminbot.engine.authorize import Refusal, authorize, may_list
from adminbot.engine.command import Command, command
from common.crypto.port import Trust
from common.homeserver.port import AdminReader, Grant, Permission
from common.homeserver.synapse.rooms import GetRoom, ListRoomMembers
from common.homeserver.synapse.users import GetUser, JoinUser, ListUserDevices
from common.ids import RoomId
from common.matrix.power import Power, power_of
from tests.unit.adminbot.world import ADMIN, ALICE, BOB, CONTROL, DIRECT, SHARED


def a_command(who: Role, needs: Permission = Permission.VIEW) -> Command:
    @command("test it", who=who, needs=needs)
    async def it(admin: AdminReader, room: RoomId) -> Answer:
        """Test.

        Args:
            room: a room
        """
        return answer(room)

    return it


PLACES = {
    "direct": Place(DIRECT, PlaceKind.DIRECT),
    "control": Place(CONTROL, PlaceKind.CONTROL),
    "open control": Place(CONTROL, PlaceKind.CONTROL, open=True),
    "control with others": Place(CONTROL, PlaceKind.CONTROL, outsider=ALICE),
    "audit": Place(CONTROL, PlaceKind.AUDIT),
    "that room": Place(SHARED, PlaceKind.SHARED),
    "other room": Place(RoomId("!other"), PlaceKind.SHARED),
}
ACTORS = {
    "person": Actor(ALICE),
    "officer": Actor(ALICE, compliance=True),
    "server admin": Actor(ADMIN, server_admin=True),
}
POWERS: Mapping[str, Power | None] = {
    "not joined": None,
    "member": Power(0, creator=False, levels={}),
    "moderator": Power(50, creator=False, levels={}),
    "room admin": Power(100, creator=False, levels={}),
    "creator": Power(0, creator=True, levels={}),
}
EVERYWHERE = frozenset(PLACES)

ALLOWED: dict[tuple[Role, str, str], frozenset[str]] = {
    # (role, actor, power in the target room) → places
    **{(Role.ANYONE, actor, power): EVERYWHERE for actor in ACTORS for power in POWERS},
    **{
        (Role.SERVER_ADMIN, "server admin", power): frozenset({"direct", "control"})
        for power in POWERS
    },
    **{(Role.COMPLIANCE, "officer", power): frozenset({"direct", "audit"}) for power in POWERS},
    **{
        (role, actor, power): frozenset({"direct", "that room"})
        for actor in ACTORS
        for role, powers in {
            Role.ROOM_MODERATOR: ("moderator", "room admin", "creator"),
            Role.ROOM_ADMIN: ("room admin", "creator"),
        }.items()
        for power in powers
    },
}
for role in (Role.ROOM_MODERATOR, Role.ROOM_ADMIN):
    for power in POWERS:
        key = (role, "server admin", power)
        ALLOWED[key] = ALLOWED.get(key, frozenset()) | {"direct", "control"}


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("role", list(Role))
def test_the_table(role: Role, actor: str, power: str) -> None:
    target = Target(SHARED, POWERS[power])

    allowed = {
        name
        for name, place in PLACES.items()
        if isinstance(authorize(a_command(role), ACTORS[actor], place, target, None), Grant)
    }

    assert allowed == ALLOWED.get((role, actor, power), frozenset())


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "actor",
    [
        Actor(ADMIN, server_admin=True, bridged=True),
        Actor(ADMIN, server_admin=True, closed="suspended"),
        Actor(ADMIN, server_admin=True, closed="locked"),
        Actor(ADMIN, server_admin=True, closed="deactivated"),
    ],
)
def test_bridged_and_closed_accounts_may_nothing(role: Role, actor: Actor) -> None:
    target = Target(SHARED, POWERS["creator"])

    for place in PLACES.values():
        decision = authorize(a_command(role), actor, place, target, None)

        assert isinstance(decision, Refusal)
        assert decision.silent


@pytest.mark.parametrize("role", list(Role))
def test_a_message_encrypted_by_somebody_else_is_never_obeyed(role: Role) -> None:
    for place in PLACES.values():
        decision = authorize(a_command(role), ACTORS["server admin"], place, None, Trust.MISMATCH)

        assert isinstance(decision, Refusal)
        assert decision.silent


@pytest.mark.parametrize("trust", [trust for trust in Trust if trust is not Trust.MISMATCH])
def test_every_other_device_is_heard(trust: Trust) -> None:
    place = PLACES["direct"]

    decision = authorize(a_command(Role.SERVER_ADMIN), ACTORS["server admin"], place, None, trust)

    assert isinstance(decision, Grant)


def test_a_room_admin_is_granted_requests_about_that_room_only() -> None:
    target = Target(SHARED, POWERS["room admin"])

    grant = authorize(a_command(Role.ROOM_ADMIN), ACTORS["person"], PLACES["direct"], target, None)

    assert isinstance(grant, Grant)
    assert grant.allows(GetRoom(SHARED))
    assert grant.allows(ListRoomMembers(SHARED))
    assert not grant.allows(GetRoom(CONTROL))
    assert not grant.allows(GetUser(ALICE))


def test_anyone_is_granted_public_facts_only_and_a_server_admin_more_in_private() -> None:
    status = a_command(Role.ANYONE, Permission.VIEW)

    person = authorize(status, ACTORS["person"], PLACES["direct"], None, None)
    private = authorize(status, ACTORS["server admin"], PLACES["direct"], None, None)
    public = authorize(status, ACTORS["server admin"], PLACES["that room"], None, None)

    for grant in (person, public):
        assert isinstance(grant, Grant)
        assert grant.anywhere == {Permission.PUBLIC}
        assert not grant.allows(GetRoom(SHARED))
    assert isinstance(private, Grant)
    assert private.anywhere == {Permission.PUBLIC, Permission.VIEW}


def test_a_server_admin_sees_their_own_account_in_private_as_everybody_does() -> None:
    me_sessions = a_command(Role.ANYONE, Permission.PUBLIC)

    grant = authorize(me_sessions, ACTORS["server admin"], PLACES["direct"], None, None)

    assert isinstance(grant, Grant)
    assert grant.allows(ListUserDevices(ACTORS["server admin"].user))
    assert not grant.allows(ListUserDevices(BOB))


def test_everybody_may_look_at_their_own_account_and_at_no_other() -> None:
    grant = authorize(a_command(Role.ANYONE), ACTORS["person"], PLACES["direct"], None, None)

    assert isinstance(grant, Grant)
    assert grant.allows(GetUser(ALICE))
    assert not grant.allows(GetUser(ADMIN))
    assert not grant.allows(JoinUser(ALICE, SHARED))


def test_a_grant_holds_what_the_command_declared_and_no_more() -> None:
    look = a_command(Role.SERVER_ADMIN, Permission.VIEW)

    grant = authorize(look, ACTORS["server admin"], PLACES["direct"], None, None)

    assert isinstance(grant, Grant)
    assert grant.anywhere == {Permission.PUBLIC, Permission.VIEW}


def test_room_commands_are_offered_in_a_direct_chat() -> None:
    assert may_list(a_command(Role.ROOM_ADMIN), ACTORS["person"], PLACES["direct"], None, None)
    assert not may_list(
        a_command(Role.SERVER_ADMIN), ACTORS["person"], PLACES["direct"], None, None
    )


@pytest.mark.parametrize(
    ("version", "user", "users", "administers"),
    [
        ("12", ALICE, {}, True),  # the creator
        ("12", ADMIN, {}, True),  # an additional creator
        ("11", ALICE, {}, False),
        ("11", ALICE, {ALICE: 100}, True),
        ("9", ALICE, {ALICE: "100"}, True),
        ("11", ALICE, {ALICE: True}, False),
        ("11", ALICE, {ALICE: [100]}, False),
        ("11", ALICE, ["not a mapping"], False),
    ],
)
def test_power_is_read_from_hostile_state(
    version: str, user: str, users: object, administers: bool
) -> None:
    create = {"room_version": version, "additional_creators": [ADMIN, 7]}

    power = power_of(
        ALICE if user == ALICE else ADMIN,
        levels={"users": users},
        create_sender=ALICE,
        create=create,
    )

    assert power.administers == administers


@pytest.mark.parametrize("needs", [Permission.VIEW, Permission.PUBLIC])
@pytest.mark.parametrize("power", POWERS)
def test_what_is_for_anyone_looks_into_no_room_but_one_they_are_in(
    needs: Permission, power: str
) -> None:
    target = Target(SHARED, POWERS[power])
    mine = a_command(Role.ANYONE, needs)

    grant = authorize(mine, Actor(ALICE), PLACES["that room"], target, None)

    assert isinstance(grant, Grant)
    inside = power != "not joined" and needs is Permission.VIEW
    assert grant.allows(GetRoom(SHARED)) == inside
    assert not grant.allows(GetRoom(RoomId("!other")))
    assert not grant.allows(JoinUser(ALICE, SHARED))
    assert not grant.allows(GetUser(BOB))
