"""The guide for room admins shows what is answered."""

import pytest

from tests.support.guide import GUIDE, replay
from tests.support.world import World


@pytest.mark.timeout(300)
async def test_every_answer_in_the_guide_is_given(world: World) -> None:
    guide = GUIDE.read_text("utf-8")

    assert await replay(world, guide) == guide
