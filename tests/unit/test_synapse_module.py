"""What the Synapse module makes of createRoom requests."""

from types import SimpleNamespace
from typing import Any

import pytest

from common.synapse_module import StewardModule

BOTS = ["@adminbot:x", "@auditbot:x"]
ALICE = "@alice:x"


async def created(
    request: dict[str, Any], *, creator: str = ALICE, direct_chats: bool = True
) -> dict[str, Any]:
    version = SimpleNamespace(identifier="12")
    server = SimpleNamespace(default_room_version=version)
    api = SimpleNamespace(
        _hs=SimpleNamespace(config=SimpleNamespace(server=server)),
        register_third_party_rules_callbacks=lambda **_: None,
    )
    config = StewardModule.parse_config({"bots": BOTS, "direct_chats": direct_chats})
    requester = SimpleNamespace(user=SimpleNamespace(to_string=lambda: creator))
    await StewardModule(config, api).on_create_room(requester, request, False)  # type: ignore[arg-type]  # Synapse's API object
    return request


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
    levels = {"type": "m.room.power_levels", "content": {"users": {ALICE: 100}}}

    request = await created({"room_version": "10", "initial_state": [levels]})

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


@pytest.mark.parametrize("config", [{}, {"bots": "@a:x"}, {"bots": ["adminbot"]}])
def test_a_wrong_configuration_says_what_to_write(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bots"):
        StewardModule.parse_config(config)
