"""What a bridge's metrics say, however they are written."""

import pytest

from adminbot.bridging.probe import figure

METRICS = """\
# HELP some_total How many
some_total{room="a"} 2
some_total{room="b"} 3.5
some_total_more 9
blocked 0
bad_one 1.2.3
endless 1e999
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("some_total", 5.5),
        ("blocked", 0.0),
        ("some", None),
        ("absent", None),
        ("bad_one", None),
        ("endless", None),
    ],
)
def test_a_figure_is_read_or_not_there(name: str, value: float | None) -> None:
    assert figure(METRICS, name) == value
