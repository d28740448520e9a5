"""A fresh database of ours for one test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mautrix.util.async_db import UpgradeTable

from common.database.migrations import upgrade_table
from common.database.pool import Database, sqlite_file_of


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open a database with our schema in it."""
    file = sqlite_file_of(url)
    if file is not None and not file.exists():
        # Not by all the steps for each test: they are some hundred commits.
        empty = await asyncio.to_thread(_empty)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(empty)
    database = Database(url, _steps())
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


def sqlite_url(directory: Path) -> str:
    """Return the URL of a SQLite database in a directory."""
    return f"sqlite:///{directory / 'steward.db'}"


@cache
def _steps() -> UpgradeTable:
    """Return the steps to our schema, read from their files once."""
    return upgrade_table()


@cache
def _empty() -> bytes:
    """Return a SQLite file with our schema and nothing else in it."""

    async def make(url: str) -> None:
        database = Database(url, upgrade_table())
        await database.start()
        await database.stop()

    with TemporaryDirectory() as directory:
        asyncio.run(make(sqlite_url(Path(directory))))
        return (Path(directory) / "steward.db").read_bytes()
