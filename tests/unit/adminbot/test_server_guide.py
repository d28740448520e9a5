"""The guide for server admins names commands that there are, spelt as they are read."""

import pytest

from adminbot.commands import catalogue
from adminbot.engine.bind import HelpAsked, bind
from adminbot.engine.line import parse_line
from adminbot.engine.values import Setting
from tests.support.server_guide import FENCE, GUIDE, typed
from tests.unit.adminbot.world import NOW, SERVER

BLOCKS = [match[1] for match in FENCE.finditer(GUIDE.read_text("utf-8"))]
LINES = [
    line
    for block in BLOCKS
    for line in typed(block)
    if line != "✅" and not line.startswith("confirm ")
]


def test_the_guide_shows_something() -> None:
    assert len(LINES) > 20


@pytest.mark.parametrize("line", LINES)
def test_what_the_guide_types_is_understood(line: str) -> None:
    command, rest = catalogue().find(parse_line(line))

    assert not isinstance(bind(command, rest, Setting(SERVER, NOW)), HelpAsked)
