"""The guide for server admins shows what is answered, but for what is another one each time."""

import pytest

from tests.support.guide import ADMIN_GUIDE, changed, replay
from tests.support.world import MakeWorld, Wish


@pytest.mark.timeout(300)
async def test_every_answer_in_the_guide_is_given(make_world: MakeWorld) -> None:
    guide = ADMIN_GUIDE.read_text("utf-8")
    world = await make_world(Wish())  # of its own: who and what is there stands in the answers

    found = changed(guide, await replay(world, guide, by_admin=True))

    assert not found, "\n".join(found)
