"""A person verifies the bots by emoji, with the crypto that Element has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.ids import RoomId, UserId
from tests.support.backup import steward_command, steward_running
from tests.support.js_client import JsClient
from tests.support.world import World


@pytest.fixture
async def alice(world: World, tmp_path: Path) -> AsyncIterator[JsClient]:
    async with await JsClient.register(world.synapse, tmp_path) as client:
        yield client


async def direct_chat(alice: JsClient, world: World, *, encrypted: bool) -> RoomId:
    room = await alice.create_room(
        encrypted=encrypted, invite=[world.steward.adminbot], direct=True
    )
    await alice.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
    return room


def logged(world: World, person: UserId) -> str:
    marks = ("the person has to see", f"person={person}")
    lines = [line for line in world.steward.log().splitlines() if all(m in line for m in marks)]
    return lines[-1]


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
@pytest.mark.parametrize("bot", ["adminbot", "auditbot"])
async def test_a_person_verifies_a_bot_in_a_direct_chat(
    world: World, alice: JsClient, bot: str, *, encrypted: bool
) -> None:
    user = UserId(getattr(world.steward, bot))
    room = await direct_chat(alice, world, encrypted=encrypted)
    if not encrypted:
        # matrix-js-sdk knows the identity of those only with whom it shares an encrypted room.
        elsewhere = await direct_chat(alice, world, encrypted=True)
        await alice.send_text(elsewhere, "hello")

    shown = await alice.call("verify", user=user, roomId=room)
    emoji = " ".join(f"{sign} {name}," for sign, name in shown["emoji"]).rstrip(",")
    numbers = " ".join(map(str, shown["decimal"]))

    said = await alice.wait_for_message(room, "I see:", sender=user)
    for text in (said["content"]["body"], logged(world, alice.user_id)):
        assert emoji in text
        assert numbers in text
    assert said["encrypted"] is encrypted
    end = await alice.call("decideVerification", user=user)
    assert end == {"cancelled": None, "code": None, "verified": True, "cross_signed": True}


async def test_a_person_verifies_a_bot_by_to_device_messages(
    world: World, alice: JsClient
) -> None:
    user = world.steward.adminbot
    await direct_chat(alice, world, encrypted=True)
    [device] = await alice.call("deviceTrust", user=user)

    shown = await alice.call("verify", user=user, device=device)

    assert " ".join(map(str, shown["decimal"])) in logged(world, alice.user_id)
    end = await alice.call("decideVerification", user=user)
    assert end["cancelled"] is None


async def test_other_emoji_end_it_and_a_second_try_succeeds(world: World, alice: JsClient) -> None:
    user = world.steward.adminbot
    room = await direct_chat(alice, world, encrypted=True)

    await alice.call("verify", user=user, roomId=room)
    end = await alice.call("decideVerification", user=user, match=False)
    assert (end["verified"], end["code"]) == (False, "m.mismatched_sas")

    await alice.call("verify", user=user, roomId=room)
    end = await alice.call("decideVerification", user=user)
    assert end["verified"]


@pytest.mark.parametrize("match", [True, False], ids=["the same", "other emoji"])
async def test_an_operator_sees_at_the_terminal_what_the_person_has_to_see(
    world: World, alice: JsClient, *, match: bool
) -> None:
    user = world.steward.adminbot
    room = await direct_chat(alice, world, encrypted=True)
    async with steward_running(
        world.steward, "verify", "adminbot", "--seconds", "50", until="Waiting for somebody"
    ) as terminal:
        shown = await alice.call("verify", user=user, roomId=room)
        await alice.call("decideVerification", user=user, match=match)
        out, _ = await terminal.communicate()

    assert terminal.returncode == 0
    begun, _, ended = out.decode().partition("Have them read")
    assert f"{alice.user_id} verifies with the device" in begun
    place = 0
    for sign, name in shown["emoji"]:  # in this order; one may come twice
        place = begun.index(f"{sign} {name}", place) + 1
    assert " ".join(map(str, shown["decimal"])) in begun
    outcome = "verified" if match else "cancelled, "
    assert f"{alice.user_id}: {outcome}" in ended


async def test_nobody_came_to_verify(world: World) -> None:
    said = await steward_command(world.steward, "verify", "auditbot", "--seconds", "0.1")

    assert said.status == 1
    assert "Nobody has finished verifying" in said.err
