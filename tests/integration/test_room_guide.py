"""The guide for room admins shows what is answered."""

import pytest

from tests.support.guide import GUIDE, replay
from tests.support.world import MakeWorld


@pytest.mark.timeout(300)
async def test_every_answer_in_the_guide_is_given(make_world: MakeWorld) -> None:
    guide = GUIDE.read_text("utf-8")

    # In a world of its own: its people have names that nobody else may have.
    assert await replay(await make_world(), guide) == guide
