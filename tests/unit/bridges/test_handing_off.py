"""Somebody is told what to type to a bridge's bot, types it, and hears what became of it."""

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from adminbot.bridges.instance import Bridge, BridgeSettings, assembled
from adminbot.bridges.load import load_kinds
from adminbot.bridging.accounts import Account
from adminbot.bridging.ears import Ears
from adminbot.bridging.speaking import Conversation, Speaking, expected_words, hand_off, spellings
from common.errors import StewardError
from common.ids import RoomId, UserId
from tests.unit.adminbot.world import ALICE, SERVER, FakeClock

BOT = UserId(f"@whatsappbot:{SERVER}")
CHAT = RoomId(f"!chat:{SERVER}")


@dataclass(frozen=True)
class FakeAccount:
    """Whose words are waited for."""

    user: UserId


async def nothing_known(_: Bridge) -> str:
    return "nothing is known"


async def heard_nothing(_: str) -> None:
    """Tell nobody."""


async def handed_off(ears: Ears, clock: FakeClock, *said: str) -> str:
    """Hand an order off to somebody who types it in the moment in which they are told."""
    bridge = assembled(
        "whatsapp",
        kinds=load_kinds(),
        server=SERVER,
        settings=BridgeSettings(kind="mautrix-whatsapp", bot=BOT),
        source="the test",
    )
    command = bridge.vocabulary.command("sync")
    assert command is not None
    arguments = {"target": "groups"}
    words = expected_words(bridge, command, arguments)

    async def type_at_once() -> None:
        for number, (sender, text) in enumerate([(ALICE, words), *((BOT, one) for one in said)]):
            ears.hear(
                {
                    "event_id": f"${number}",
                    "room_id": CHAT,
                    "sender": sender,
                    "type": "m.room.message",
                    "content": {"msgtype": "m.text", "body": text},
                }
            )

    talk = Conversation(
        bridge=bridge,
        command=command,
        account=cast(Account, FakeAccount(ALICE)),
        arguments=arguments,
        room=None,
        key="key",
        tell=heard_nothing,
    )
    speaking = Speaking(ears, clock, nothing_known)
    async with asyncio.timeout(60):
        done = await hand_off(speaking, talk, spellings(bridge, words), (), type_at_once)
    assert talk.place == CHAT
    return done.text


async def test_what_is_typed_at_once_is_heard() -> None:
    clock = FakeClock()
    ears = Ears(clock)

    assert "3 groups" in await handed_off(ears, clock, "Queued syncs for 3 groups")
    assert ears.listeners == []


async def test_a_refusal_that_comes_at_once_is_heard_too() -> None:
    clock = FakeClock()
    ears = Ears(clock)

    with pytest.raises(StewardError, match="Login not found"):
        await handed_off(ears, clock, "Login not found")
    assert ears.listeners == []
