"""When it is told that a bridge stopped answering, and that it is back."""

import pytest

from adminbot.bridges.outage import Noticed, Outage, noticed

WELL, AWAY, TOLD = Outage(), Outage(5), Outage(5, told=True)


@pytest.mark.parametrize(
    ("before", "up", "expected", "means"),
    [
        (WELL, True, False, Noticed(WELL)),
        (WELL, False, False, Noticed(Outage(9))),
        (AWAY, False, False, Noticed(TOLD, tell_down=True)),
        (TOLD, False, False, Noticed(TOLD)),
        (TOLD, True, False, Noticed(WELL, tell_back=True)),
        (AWAY, True, False, Noticed(WELL)),
        (AWAY, None, False, Noticed(AWAY)),
        (TOLD, None, False, Noticed(TOLD)),
        (AWAY, False, True, Noticed(AWAY)),
    ],
)
def test_each_end_of_an_outage_is_told_once(
    before: Outage, up: bool | None, expected: bool, means: Noticed
) -> None:
    assert noticed(before, up=up, expected=expected, now_ms=9) == means
