"""What the Synapse module makes of createRoom requests."""

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from synapse.module_api.errors import ConfigError

from common.synapse_module import StewardModule
from common.synapse_registrations import name_of_token

BOTS = ["@adminbot:x", "@auditbot:x"]
ALICE = "@alice:x"


async def created(
    request: dict[str, Any],
    *,
    creator: str = ALICE,
    only_admins_invite: bool = False,
    admin: bool = False,
    **options: object,
) -> dict[str, Any]:
    """Return a createRoom request as the module leaves it."""
    server = SimpleNamespace(
        default_room_version=SimpleNamespace(identifier="12"),
        block_non_admin_invites=only_admins_invite,
    )
    limits = SimpleNamespace(rc_invites_per_room=SimpleNamespace(burst_count=10))
    api = SimpleNamespace(
        _hs=SimpleNamespace(config=SimpleNamespace(server=server, ratelimiting=limits)),
        register_third_party_rules_callbacks=lambda **_: None,
    )
    config = StewardModule.parse_config({"bots": BOTS, **options})
    requester = SimpleNamespace(user=SimpleNamespace(to_string=lambda: creator))
    await StewardModule(config, api).on_create_room(requester, request, admin)  # type: ignore[arg-type]  # Synapse's API object
    return request


def levels(**content: object) -> dict[str, Any]:
    return {"type": "m.room.power_levels", "content": content}


async def test_version_12_rooms_have_the_bots_as_creators() -> None:
    request = await created({"creation_content": {"additional_creators": ["@bob:x"]}})

    assert request["creation_content"]["additional_creators"] == ["@bob:x", *BOTS]
    assert request["invite"] == BOTS
    assert "power_level_content_override" not in request


async def test_older_rooms_have_the_bots_at_100_beside_their_creator() -> None:
    request = await created({"room_version": "11", "invite": ["@bob:x"]})

    assert request["power_level_content_override"]["users"] == {ALICE: 100} | dict.fromkeys(
        BOTS, 100
    )
    assert request["invite"] == ["@bob:x", *BOTS]


async def test_a_trusted_private_chat_keeps_the_power_of_its_invitees() -> None:
    request = await created(
        {"room_version": "11", "invite": ["@bob:x"], "preset": "trusted_private_chat"}
    )

    assert request["power_level_content_override"]["users"]["@bob:x"] == 100


async def test_power_levels_in_the_initial_state_are_completed_where_they_are() -> None:
    request = await created({"room_version": "10", "initial_state": [levels(users={ALICE: 100})]})

    users = request["initial_state"][0]["content"]["users"]
    assert users == {ALICE: 100} | dict.fromkeys(BOTS, 100)


async def test_a_direct_chat_of_two_people_leaves_the_bots_out_of_its_name() -> None:
    request = await created({"is_direct": True, "invite": ["@bob:x"]})

    assert request["initial_state"] == [
        {
            "type": "io.element.functional_members",
            "state_key": "",
            "content": {"service_members": BOTS},
        }
    ]


async def test_a_direct_chat_with_a_bot_keeps_its_name() -> None:
    request = await created({"is_direct": True, "invite": ["@adminbot:x"]})

    assert "initial_state" not in request
    assert request["invite"] == ["@adminbot:x", "@auditbot:x"]


async def test_direct_chats_can_be_left_out() -> None:
    request = {"is_direct": True, "invite": ["@bob:x"]}

    assert await created(dict(request), direct_chats=False) == request


async def test_chats_with_a_bridges_bot_are_left_alone() -> None:
    bridges = ["@whatsappbot:x"]
    chat = {"is_direct": True, "invite": ["@whatsappbot:x"]}
    portal = {"invite": ["@alice:x", "@whatsapp_1:x"]}

    assert await created(dict(chat), bridge_bots=bridges) == chat
    alone = await created({"invite": ["@alice:x"]}, creator="@whatsappbot:x", bridge_bots=bridges)
    assert alone == {"invite": ["@alice:x"]}
    joined = await created(dict(portal), creator="@whatsappbot:x", bridge_bots=bridges)
    assert set(BOTS) <= set(joined["invite"])
    mixed = await created({"invite": ["@whatsappbot:x", "@bob:x"]}, bridge_bots=bridges)
    assert set(BOTS) <= set(mixed["invite"])


async def test_a_bot_that_makes_a_room_does_not_invite_itself() -> None:
    request = await created({}, creator="@adminbot:x")

    assert request["invite"] == ["@auditbot:x"]


@pytest.mark.parametrize(
    "odd",
    [
        {"invite": 5},
        {"creation_content": "x"},
        {"creation_content": {"additional_creators": 7}},
        {"room_version": "11", "power_level_content_override": {"users": "x"}},
        {"room_version": "11", "initial_state": [{"type": "m.room.power_levels"}]},
        {"room_version": ["11"]},
        {"room_version": "no such version"},
    ],
)
async def test_an_odd_request_is_left_to_synapse(odd: dict[str, Any]) -> None:
    before = {**odd}

    assert await created(odd) == before


@pytest.mark.parametrize(
    ("creators", "creator", "entered"),
    [
        ({}, ALICE, True),
        ({"allow": ["@*:x"]}, ALICE, True),
        ({"allow": ["@*:y"]}, ALICE, False),
        ({"allow": []}, ALICE, False),
        ({"allow": ["@alice"]}, ALICE, False),
        ({"allow": ["@alice:?"]}, ALICE, True),
        ({"deny": ["@_irc_*:x"]}, "@_irc_bob:x", False),
        ({"deny": ["@_irc_*:x"]}, "@not_irc_bob:x", True),
        ({"allow": ["@*:x"], "deny": ["@al*"]}, ALICE, False),
        # Brackets and points are what they are, and nothing but the whole matches.
        ({"allow": ["@alice:[::1]"]}, "@alice:[::1]", True),
        ({"allow": ["@alice:[x]"]}, ALICE, False),
        ({"allow": ["@ali.e:x"]}, ALICE, False),
        ({"deny": ["@alice:x"]}, "@alice:xy", True),
    ],
)
async def test_whose_rooms_are_entered_can_be_chosen(
    creators: dict[str, list[str]], creator: str, *, entered: bool
) -> None:
    request = await created({}, creator=creator, creators=creators)

    assert (request.get("invite") == BOTS) is entered
    assert bool(request) is entered


def test_no_user_id_takes_long_to_match() -> None:
    config = StewardModule.parse_config({"bots": BOTS, "creators": {"deny": ["@" + "*a" * 100]}})
    started = time.thread_time()  # others may use the machine meanwhile

    assert not config.denied("@" + "a" * 250 + "b")

    assert time.thread_time() - started < 0.5


async def test_a_bot_that_was_given_a_level_is_a_creator_instead() -> None:
    # Synapse refuses a room in which a creator has a power level.
    given = {ALICE: 100, "@auditbot:x": 50}

    by_override = await created({"power_level_content_override": {"users": dict(given)}})
    by_state = await created({"initial_state": [levels(users=dict(given))]})

    assert by_override["power_level_content_override"]["users"] == {ALICE: 100}
    assert by_state["initial_state"][0]["content"]["users"] == {ALICE: 100}


@pytest.mark.parametrize("others", [8, 9])
async def test_nobody_is_invited_beyond_what_synapse_lets_a_room_begin_with(others: int) -> None:
    people = [f"@person{number}:x" for number in range(others)]

    request = await created({"invite": list(people)})

    assert request["invite"] == (people + BOTS if others == 8 else people)
    assert request["creation_content"]["additional_creators"] == BOTS


@pytest.mark.parametrize("admin", [True, False])
async def test_where_only_admins_may_invite_others_do_not(*, admin: bool) -> None:
    request = await created({}, admin=admin, only_admins_invite=True)

    assert ("invite" in request) is admin
    assert request["creation_content"]["additional_creators"] == BOTS


@pytest.mark.parametrize(
    ("override", "invites"),
    [
        ({"users": {ALICE: 0}}, False),
        ({"users": {ALICE: 0}, "invite": 0}, True),
        ({"users": {ALICE: 50}}, True),
        ({"users_default": -10}, True),
    ],
)
async def test_a_creator_who_will_lack_the_power_to_invite_does_not(
    override: dict[str, Any], *, invites: bool
) -> None:
    request = await created({"room_version": "11", "power_level_content_override": override})

    assert ("invite" in request) is invites
    assert request["power_level_content_override"]["users"]["@auditbot:x"] == 100


async def test_a_direct_chat_s_own_functional_members_stay() -> None:
    own = {"type": "io.element.functional_members", "content": {"service_members": ["@b:x"]}}

    request = await created({"is_direct": True, "initial_state": [own]})

    assert request["initial_state"] == [own]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "bots"),
        ({"bots": []}, "bots"),
        ({"bots": "@a:x"}, "bots"),
        ({"bots": ["adminbot"]}, "bots"),
        ({"bots": BOTS, "direct_chats": "no"}, "direct_chats"),
        ({"bots": BOTS, "direct": True}, 'no option "direct"; there are bots, direct_chats'),
        ({"bots": BOTS, "creators": ["@*:x"]}, "creators"),
        ({"bots": BOTS, "creators": {"allowed": []}}, 'no option "allowed"'),
        ({"bots": BOTS, "creators": {"allow": "@*:x"}}, "creators.allow"),
        ({"bots": BOTS, "creators": {"deny": [5]}}, "creators.deny"),
    ],
)
def test_a_wrong_configuration_says_what_to_write(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        StewardModule.parse_config(config)


@pytest.mark.parametrize(
    ("results", "name"),
    [
        ({"m.login.registration_token": "abcdefghijklmnop~for~ann.b"}, "ann.b"),
        ({"m.login.registration_token": "abcdefghijklmnop"}, None),
        ({"m.login.registration_token": "short~for~ann"}, None),
        ({"m.login.registration_token": "abcdefghijklmnop~for~"}, None),
        ({"m.login.registration_token": True}, None),
        ({"m.login.dummy": True}, None),
    ],
)
async def test_a_token_that_is_for_a_name_makes_that_account(
    results: dict[str, Any], name: str | None
) -> None:
    assert await name_of_token(results, {"username": "mallory"}) == name
