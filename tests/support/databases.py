"""A fresh database of ours for one test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from common.database.migrations import upgrade_table
from common.database.pool import Database


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Open a database with our schema in it."""
    database = Database(url, upgrade_table())
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


def sqlite_url(directory: Path) -> str:
    """Return the URL of a SQLite database in a directory."""
    return f"sqlite:///{directory / 'steward.db'}"
