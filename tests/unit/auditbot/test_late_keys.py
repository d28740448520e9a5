"""An unreadable event is tried again at set times, although nobody reported a new key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from auditbot.bot import Auditbot
from auditbot.late_keys import RETRY_AFTER_MS
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import StoppedClock, encrypted, entries
from tests.unit.auditbot.world import World


async def retry(world: World) -> int:
    """Let a new process look once."""
    bot = cast(Auditbot, world.restart())
    assert bot.late_keys is not None
    return await bot.late_keys.retry_due()


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[World]:
    """An event that waits for its key."""
    async with open_database(sqlite_url(tmp_path)) as database:
        world = World(database, tmp_path, StoppedClock())
        await world.give(world.restart(), entries([encrypted("$1")]))
        world.crypto.asked.clear()
        yield world


async def test_each_time_comes_once_and_a_restart_forgets_none(waiting: World) -> None:
    asked = []
    passed = 0
    for after in RETRY_AFTER_MS:
        waiting.advance(after - passed - 1)
        await retry(waiting)
        waiting.advance(1)
        await retry(waiting)
        await retry(waiting)
        passed = after
        asked.append(len(waiting.crypto.asked))

    waiting.advance(10 * RETRY_AFTER_MS[-1])
    await retry(waiting)

    assert asked == [1, 2, 3, 4, 5, 6, 7]
    assert len(waiting.crypto.asked) == 7


async def test_a_key_that_came_unreported_is_found_at_the_next_time(waiting: World) -> None:
    waiting.crypto.sessions.add("session")

    assert await retry(waiting) == 0
    waiting.advance(RETRY_AFTER_MS[0])
    assert await retry(waiting) == 1

    late = await waiting.events("decryption")
    assert [record["body"] for record in late] == ["clear text of $1"]
    assert await waiting.database.fetchval("SELECT COUNT(*) FROM audit_pending") == 0


async def test_after_a_long_time_away_it_is_tried_once(waiting: World) -> None:
    waiting.advance(RETRY_AFTER_MS[3])

    await retry(waiting)
    await retry(waiting)

    assert len(waiting.crypto.asked) == 1
