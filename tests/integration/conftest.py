"""What integration tests share beside the servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
async def database(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[Database]:
    """A database of ours with nothing in it: each test is run with both kinds."""
    if request.param == "sqlite":
        async with open_database(sqlite_url(tmp_path)) as opened:
            yield opened
        return
    made = await postgres.create_database()
    async with open_database(made.url) as opened:
        yield opened
    await postgres.drop_database(made)
