"""Look at the database without changing it: what ``steward doctor`` and nobody else needs."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiosqlite
import asyncpg

from common.database.migrations import upgrade_table
from common.database.pool import sqlite_file_of
from common.errors import TransientError

_QUERY = "SELECT version FROM steward_version"


@dataclass(frozen=True)
class SchemaState:
    """How far the schema is.

    ``version`` is 0 where there is no schema yet; ``expected`` is this program's. ``file`` is
    SQLite's, None for PostgreSQL.
    """

    version: int
    expected: int
    file: Path | None


async def schema_state(url: str, *, timeout_seconds: float) -> SchemaState:
    """Connect and read the version of the schema.

    Raises:
        TransientError: the database cannot be reached or used.
        ConfigError: the address is of neither kind.
    """
    file = sqlite_file_of(url)
    if file is None:
        version = await _postgres_version(url, timeout_seconds)
    else:
        version = await _sqlite_version(file, timeout_seconds)
    return SchemaState(version, len(upgrade_table().upgrades), file)


async def _postgres_version(url: str, timeout_seconds: float) -> int:
    try:
        connection = await asyncpg.connect(url, timeout=timeout_seconds)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise TransientError(str(error) or "no answer in time") from error
    except ValueError as error:
        # Its text may repeat the address, password included.
        raise TransientError("the address is not understood") from error
    try:
        async with connection.transaction(readonly=True):
            return int(await connection.fetchval(_QUERY, timeout=timeout_seconds) or 0)
    except asyncpg.UndefinedTableError:
        return 0
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise TransientError(str(error) or "no answer in time") from error
    finally:
        await connection.close(timeout=timeout_seconds)


async def _sqlite_version(file: Path, timeout_seconds: float) -> int:
    if _is_to_be_made(file):
        return 0
    try:
        # mode=rw: never makes the file, and can read the write-ahead log beside it.
        async with (
            aiosqlite.connect(
                f"file:{quote(str(file))}?mode=rw", uri=True, timeout=timeout_seconds
            ) as connection,
            connection.execute(_QUERY) as cursor,
        ):
            row = await cursor.fetchone()
    except aiosqlite.Error as error:
        if "no such table" in str(error):
            return 0
        raise TransientError(str(error)) from error
    return int(row[0]) if row else 0


def _is_to_be_made(file: Path) -> bool:
    """Whether the file is missing and can be made."""
    if file.exists():
        return False
    folder = next(parent for parent in file.parents if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TransientError(f"{folder} may not be written by this account")
    return True
