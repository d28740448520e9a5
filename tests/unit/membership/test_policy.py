"""Which rooms the bots enter where bridges are at work."""

from collections.abc import Mapping

import pytest

from common.homeserver.synapse.rooms import StateEvent
from common.ids import EventId, UserId
from common.membership.policy import is_bridge_chat

BOT = UserId("@whatsappbot:x")
OWN = (UserId("@adminbot:x"), UserId("@auditbot:x"))


def room(**members: str) -> tuple[StateEvent, ...]:
    return tuple(
        StateEvent("m.room.member", BOT, EventId("$e"), f"@{name}:x", content=content(membership))
        for name, membership in members.items()
    )


def content(membership: str) -> Mapping[str, object]:
    return {"membership": membership}


@pytest.mark.parametrize(
    ("members", "chat"),
    [
        ({"alice": "join", "whatsappbot": "join"}, True),
        ({"alice": "join", "whatsappbot": "invite"}, True),
        ({"whatsappbot": "join", "alice": "invite"}, True),
        ({"adminbot": "join", "whatsappbot": "join"}, True),
        ({"adminbot": "join"}, True),
        ({"alice": "join", "bob": "join", "whatsappbot": "join"}, False),
        ({"alice": "join", "whatsappbot": "leave"}, False),
        ({"alice": "join", "whatsapp_1": "join"}, False),
        ({"alice": "join", "bob": "join"}, False),
    ],
)
def test_a_chat_with_a_bridges_bot(members: dict[str, str], chat: bool) -> None:
    assert is_bridge_chat(room(**members), (BOT,), OWN) is chat


def test_without_bridges_no_room_is_one() -> None:
    assert not is_bridge_chat(room(adminbot="join"), (), OWN)
