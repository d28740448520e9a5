"""What was decided comes back as it was, and nothing else does."""

from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta

import pytest

from adminbot.engine.answer import Answer, Button, File, Mono, Pill, answer, facts, say
from adminbot.engine.codec import Codec, CodecError
from adminbot.engine.step import SayInRoom
from adminbot.known import known_types
from common.config.secret import Secret
from common.homeserver.synapse.users import JoinUser
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId

CODEC = Codec(known_types())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        2.5,
        "ä\ud7ff",
        b"\x00\xff",
        ("a", ("b",)),
        {"a": (1, 2)},
        Secret("x"),
        datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        timedelta(hours=1.5),
        JoinUser(UserId("@a:b"), RoomId("!c")),
        SayInRoom(room=RoomId("!c"), said=answer(say(t("x {y}", y=Pill("@a:b"))))),
        Answer(
            answer("a", facts([(t("b"), Mono("c"))])).blocks,
            files=(File("a.csv", "text/csv", b"1"),),
            buttons=(Button("❌", "no", "reports close 1"),),
            private=answer("secret"),
        ),
    ],
)
def test_a_value_comes_back(value: object) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value


def test_a_sentence_comes_back_translatable() -> None:
    message = CODEC.decode(CODEC.encode(n("{count} room", "{count} rooms", 2)))

    assert isinstance(message, Msg)
    assert (message.template, message.plural, message.number) == (
        "{count} room",
        "{count} rooms",
        2,
    )


@dataclass(frozen=True)
class Foreign:
    """Nothing that is registered."""

    name: str = ""


def test_what_is_not_registered_neither_goes_nor_comes() -> None:
    with pytest.raises(CodecError):
        CODEC.encode(Foreign())
    with pytest.raises(CodecError):
        CODEC.decode(Codec({f"{Foreign.__module__}.Foreign": Foreign}).encode(Foreign()))


def test_every_kind_of_step_can_be_stored() -> None:
    steps = [one for one in known_types().values() if hasattr(one, "danger")]

    assert len(steps) > 3
    for step in steps:
        assert is_dataclass(step)
        kinds = {str(each.type) for each in fields(step)}
        assert not any("Enum" in kind for kind in kinds), step
