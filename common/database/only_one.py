"""One Steward for each database: two would answer every command twice and share one device.

PostgreSQL: an advisory lock of a session of its own, which goes with the session. SQLite: a lock on
a file beside the database, which goes with the process. Neither is left behind by a crash.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from common.database.pool import sqlite_file_of
from common.errors import TransientError, UserError
from common.telemetry.log import Log

_LOCK = 0x57E3A2D
"""The number that stands for Steward among a database's advisory locks."""
_CONNECT_SECONDS = 20
_STATEMENT_SECONDS = 10
_PATIENCE_SECONDS, _LOOK_SECONDS = 5.0, 0.25
"""A process that was just killed may keep its session for a moment."""
_CHECK_SECONDS = 15.0
_KEEPALIVE = {
    # A machine that vanished must not keep the lock for the two hours that are usual.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

log = Log("database")


class AnotherRunsError(UserError):
    """Another Steward holds the database."""

    def __init__(self) -> None:
        super().__init__(
            "Another Steward runs on this database. Stop it first, or give this one a "
            "database.url of its own."
        )


@asynccontextmanager
async def only_one(url: str) -> AsyncIterator[None]:
    """Hold the database for this process while the block runs.

    Raises:
        AnotherRunsError: another process holds it, or (PostgreSQL) took it while the connection
            was lost; then the block is cancelled.
        TransientError: the database cannot be reached.
    """
    file = sqlite_file_of(url)
    if file is not None:
        with _file_lock(file.with_name(f"{file.name}.lock")):
            yield
        return
    connection = await _take(url)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(_keep(url, connection))
        try:
            yield
        finally:
            keeping.cancel()


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AnotherRunsError from error
        yield
    finally:
        os.close(descriptor)


async def _take(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a connection that holds the lock."""
    try:
        connection = await asyncpg.connect(
            url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_STATEMENT_SECONDS,
            server_settings=_KEEPALIVE,
        )
    except _AWAY as error:
        raise _away(error) from error
    try:
        await _lock(connection)
    except _AWAY as error:
        connection.terminate()
        raise _away(error) from error
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _lock(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    for _ in range(int(_PATIENCE_SECONDS / _LOOK_SECONDS)):
        # Of the schema too: several programs may share a database.
        if await connection.fetchval(
            "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))", _LOCK
        ):
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise AnotherRunsError


def _away(error: Exception) -> TransientError:
    return TransientError(f"The database cannot be reached: {str(error) or 'time-out'}")


async def _keep(url: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Take the lock anew whenever the connection that holds it is lost."""
    try:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await connection.fetchval("SELECT 1")
            except _AWAY:
                connection.terminate()
                connection = await _take_again(url)
    finally:
        connection.terminate()


async def _take_again(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    while True:
        try:
            return await _take(url)
        except TransientError as error:
            log.warning("the database's lock is lost for now", reason=error)
            await asyncio.sleep(_CHECK_SECONDS)
