"""Whoever waits for the database gets it."""

import asyncio
from pathlib import Path

from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url


async def test_nobody_waits_behind_one_who_asks_again_and_again(tmp_path: Path) -> None:
    """A backlog is recorded in transaction after transaction; what is recorded is stored meanwhile."""
    async with open_database(sqlite_url(tmp_path)) as database, asyncio.TaskGroup() as group:
        begun = asyncio.Event()
        greedy = group.create_task(_transactions(database, begun, most=200))
        await begun.wait()
        assert await database.fetchval("SELECT 1") == 1
        assert not greedy.done()
        assert await database.run(lambda connection: connection.in_transaction)
        assert not greedy.done()


async def _transactions(database: Database, begun: asyncio.Event, *, most: int) -> None:
    for _ in range(most):
        async with database.transaction() as connection:
            begun.set()
            await connection.fetchval("SELECT 1")
