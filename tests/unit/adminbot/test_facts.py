"""What sort of room a room is: who reads along, and who may come in."""

import pytest

from adminbot.engine.actor import PlaceKind
from adminbot.facts import Facts
from adminbot.intake import DirectChats
from common.errors import StewardError
from common.homeserver.errors import NotAllowedError, RefusedError
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.users import UserDetails
from common.ids import UserId
from tests.unit.adminbot.test_dispatch import state, the_server
from tests.unit.adminbot.world import ADMIN, ALICE, AUDITBOT, BOB, CONTROL, DIRECT, ME, FakeAdmin

BOTS = frozenset({ME, AUDITBOT})


def facts(admin: FakeAdmin) -> Facts:
    return Facts(admin, ME, BOTS, (), (CONTROL,))


async def test_a_chat_with_the_bots_alone_is_a_direct_chat() -> None:
    admin = the_server()
    admin.others[DIRECT] = {ALICE: "leave", BOB: "ban"}

    assert (await facts(admin).place(DIRECT, ADMIN)).kind is PlaceKind.DIRECT
    assert await facts(admin).speaks_to_us(DIRECT) == ADMIN


@pytest.mark.parametrize("membership", ["invite", "knock", "join", None, ["leave"], "unheard of"])
async def test_who_is_invited_or_knocks_is_in_the_chat_too(membership: object) -> None:
    admin = the_server()
    admin.others[DIRECT] = {BOB: membership}

    place = await facts(admin).place(DIRECT, ADMIN)

    assert (place.kind, place.private) == (PlaceKind.SHARED, False)
    assert await facts(admin).speaks_to_us(DIRECT) is None


@pytest.mark.parametrize("who", [ME, ADMIN])
async def test_who_is_only_invited_has_no_direct_chat(who: UserId) -> None:
    admin = the_server()
    admin.members[DIRECT] = tuple(one for one in (ADMIN, ME) if one != who)
    admin.others[DIRECT] = {who: "invite"}

    assert await facts(admin).direct_with(DIRECT) is None


@pytest.mark.parametrize(
    ("rule", "is_open"),
    [
        ("invite", False),
        ("private", False),
        ("public", True),
        ("knock", True),
        ("restricted", True),
        ("knock_restricted", True),
        ("org.example.new", True),
        (["invite"], True),
        (None, True),
    ],
)
async def test_where_others_may_join_no_server_fact_is_shown(rule: object, is_open: bool) -> None:
    admin = the_server()
    for room in (DIRECT, CONTROL):
        admin.state[room] = [state("m.room.join_rules", join_rule=rule)]

    direct = await facts(admin).place(DIRECT, ADMIN)
    control = await facts(admin).place(CONTROL, ADMIN)

    assert direct.private is control.private is not is_open
    assert control.open == is_open


@pytest.mark.parametrize(
    ("visibility", "is_open"),
    [("world_readable", True), ("shared", False), ("invited", False), ("joined", False)],
)
async def test_where_the_world_reads_along_no_server_fact_is_shown(
    visibility: str, is_open: bool
) -> None:
    admin = the_server()
    for room in (DIRECT, CONTROL):
        admin.state[room] = [
            state("m.room.join_rules", join_rule="invite"),
            state("m.room.history_visibility", history_visibility=visibility),
        ]

    direct = await facts(admin).place(DIRECT, ADMIN)
    control = await facts(admin).place(CONTROL, ADMIN)

    assert direct.private is control.private is not is_open


@pytest.mark.parametrize(
    "other",
    [
        UserDetails(BOB),
        UserDetails(BOB, admin=True, suspended=True),
        UserDetails(UserId("@root:evil.org"), admin=True),
        None,
    ],
    ids=["no admin", "suspended", "of another server", "unknown"],
)
async def test_an_admin_room_is_for_server_admins_only(other: UserDetails | None) -> None:
    admin = the_server()
    name = other.name if other else UserId("@gone:example.org")
    if other is not None:
        admin.users[name] = other
    assert (await facts(admin).place(CONTROL, ADMIN)).private

    admin.members[CONTROL] = (ADMIN, ME, name)
    place = await facts(admin).place(CONTROL, ADMIN)

    assert (place.kind, place.outsider, place.private) == (PlaceKind.CONTROL, name, False)


async def test_several_admins_share_an_admin_room() -> None:
    admin = the_server()
    admin.users[BOB] = UserDetails(BOB, admin=True)
    admin.members[CONTROL] = (ADMIN, BOB, ME, AUDITBOT)

    assert (await facts(admin).place(CONTROL, ADMIN)).private


async def test_a_refusal_says_nothing_about_a_room_and_is_not_remembered() -> None:
    admin = the_server()
    chats = DirectChats(facts(admin))

    def not_yet(request: object) -> StewardError | None:
        return NotAllowedError(403, "M_FORBIDDEN", "You are not a server admin")

    admin.refuse_read = not_yet
    assert await chats.person_in(DIRECT) is None
    with pytest.raises(RefusedError):
        await chats.facts.speaks_to_us(DIRECT)
    admin.refuse_read = lambda request: None

    assert await chats.person_in(DIRECT) == ADMIN
    asked = len(admin.reads)
    assert await chats.person_in(DIRECT) == ADMIN
    assert len(admin.reads) == asked
    assert isinstance(admin.reads[-2], GetRoom)
