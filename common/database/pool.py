"""One database, PostgreSQL or SQLite, reached through mautrix's ``async_db``.

The promise kept here: when ``transaction()`` ends without an exception, what was written is on
disk; when it ends with one (cancellation included), nothing of it is.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import aiosqlite
import asyncpg
from mautrix.util.async_db import Database as MautrixDatabase
from mautrix.util.async_db import Scheme, UpgradeTable
from mautrix.util.async_db.connection import LoggingConnection

from common.errors import ConfigError, PermanentError, TransientError

T = TypeVar("T")

Row = Mapping[str, Any]
"""One row, by column name. Column types are those of the schema, booleans may be 0 and 1."""


class Connection(Protocol):
    """The part of mautrix's connection that we use; ``$1``-style placeholders in both dialects."""

    async def execute(self, query: str, *args: Any) -> object:
        """Run one statement."""
        ...

    async def executemany(self, query: str, args: Iterable[Sequence[Any]]) -> object:
        """Run one statement for each tuple of arguments."""
        ...

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Row | None:
        """Return the first row, or ``None``."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row, or ``None``."""
        ...


class _Sqlite:
    """A SQLite connection that crosses into its thread once for each query, not three times.

    mautrix opens a cursor, reads it and closes it in three steps; in a transaction of a few small
    queries that is most of the time.
    """

    def __init__(self, connection: LoggingConnection, wrapped: aiosqlite.Connection) -> None:
        self._wrapped = wrapped
        self.execute = connection.execute
        self.executemany = connection.executemany

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]:
        """Return all rows."""
        rows = await self._wrapped.execute_fetchall(_numbered(query), args)
        return cast(Sequence[Row], rows)

    async def fetchrow(self, query: str, *args: Any) -> Row | None:
        """Return the first row, or ``None``."""
        return next(iter(await self.fetch(query, *args)), None)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row, or ``None``."""
        rows = cast(Sequence[Sequence[Any]], await self.fetch(query, *args))
        return rows[0][0] if rows else None


@lru_cache(maxsize=2000)
def _numbered(query: str) -> str:
    """Return a query with its placeholders as SQLite spells them."""
    return re.sub(r"\$(\d+)", r"?\1", query)


class Database:
    """The pool. ``is_postgres`` is for the few statements the two dialects spell differently."""

    def __init__(self, url: str, upgrades: UpgradeTable, *, max_connections: int = 8) -> None:
        sqlite_file = sqlite_file_of(url)
        self.is_postgres = sqlite_file is None
        arguments: dict[str, Any]
        if sqlite_file is None:
            target = url
            arguments = {
                "min_size": 1,
                "max_size": max_connections,
                "command_timeout": STATEMENT_SECONDS,
                # A plan that was made while a table was empty reads all of it, and would be kept
                # until autovacuum looks: in the minute after a start that is most of the time.
                "server_settings": {"plan_cache_mode": "force_custom_plan"},
                "meow_exit_on_ice": False,
            }
        else:
            target = f"sqlite:///{sqlite_file}"
            # One connection: SQLite has one writer anyway, and readers then never meet
            # SQLITE_BUSY. FULL: a commit must survive a power cut, the homeserver has been told 200.
            arguments = {
                "min_size": 1,
                "init_commands": [
                    "PRAGMA journal_mode = WAL",
                    "PRAGMA synchronous = FULL",
                    "PRAGMA foreign_keys = ON",
                    "PRAGMA busy_timeout = 5000",
                ],
            }
        self._pool = MautrixDatabase.create(target, upgrade_table=upgrades, db_args=arguments)
        self._sqlite_file = sqlite_file
        # mautrix's pool gives a free connection to whoever asks first: who releases it and asks again
        # at once, as a reader of the inbox does, gets it before those who wait.
        self._turn = asyncio.Lock() if sqlite_file is not None else None

    async def start(self) -> None:
        """Connect and bring the schema up to date; raise ``TransientError`` if it is away."""
        if self._sqlite_file is not None and not self._sqlite_file.exists():
            # Room keys and messages are in there: nobody else on the machine may read it.
            self._sqlite_file.parent.mkdir(parents=True, exist_ok=True)
            self._sqlite_file.touch(mode=0o600)
        try:
            await self._pool.start()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, aiosqlite.Error) as error:
            raise TransientError(f"The database cannot be reached: {error}") from error

    async def stop(self) -> None:
        """Close every connection; one that hangs is left to the end of the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.stop()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Run the block in one transaction; it is committed durably on exit, or not at all.

        A cancellation may come while the commit is under way; then it is one or the other.

        Raises:
            TransientError: the database is away, slow or busy; nothing was written.
            PermanentError: the database can never store one of the values; nothing was written.
        """
        async with self._acquired() as connection:
            wrapped = connection.wrapped
            typed = _fast(connection)
            if not isinstance(wrapped, aiosqlite.Connection):
                async with wrapped.transaction():
                    yield typed
                return
            try:
                await typed.execute("BEGIN IMMEDIATE")
                yield typed
                await typed.execute("COMMIT")
            except BaseException:
                # mautrix rolls back for Exception only; a cancelled task would otherwise
                # leave the one SQLite connection inside a transaction for ever. Without
                # asking whether there is one: a statement that was cancelled, BEGIN
                # included, still runs in the connection's thread, and this runs after it.
                await wrapped.rollback()
                raise

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one transaction of SQLite, in the connection's own thread.

        As ``transaction()``, but the event loop is asked once and not for each statement: whoever
        waits for the transaction does not wait for everybody else in between. It is not stopped
        by a cancellation: then it may be committed although the caller is not told.

        Raises:
            TransientError: the database is away, slow or busy; nothing was written.
            PermanentError: the database can never store one of the values; nothing was written.
        """
        async with self._acquired() as connection:
            wrapped = connection.wrapped
            if not isinstance(wrapped, aiosqlite.Connection):
                raise TypeError("only SQLite's connection has a thread")
            # No public method runs more than one statement with arguments in that thread.
            in_thread = cast(_InThread, wrapped._execute)  # noqa: SLF001  # see above
            return await in_thread(_in_transaction, wrapped._conn, work)  # noqa: SLF001  # the same

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]:
        """Return all rows of one query outside any transaction."""
        async with self._reading() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Row | None:
        """Return the first row of one query, or ``None``."""
        async with self._reading() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row of one query, or ``None``."""
        async with self._reading() as connection:
            return await connection.fetchval(query, *args)

    async def count(self, query: str, *args: Any) -> int:
        """Return the number that one query answers, which may have to read a whole table for it.

        With millions of rows that takes PostgreSQL longer than any other statement may.
        """
        async with self._acquired() as connection:
            if isinstance(connection.wrapped, aiosqlite.Connection):
                return int(await _fast(connection).fetchval(query, *args))
            return int(await connection.fetchval(query, *args, timeout=COUNT_SECONDS))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        async with self._acquired() as connection:
            yield _fast(connection)

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[LoggingConnection]:
        """Lend a connection; tell the database's errors apart from everybody else's."""
        try:
            async with AsyncExitStack() as stack:
                # acquire_direct, because acquire() hands the same connection to child tasks
                # through a context variable, and two tasks must never share a transaction.
                try:
                    async with asyncio.timeout(ACQUIRE_SECONDS):
                        if self._turn is not None:
                            await stack.enter_async_context(self._turn)
                        connection = await stack.enter_async_context(self._pool.acquire_direct())
                except (OSError, TimeoutError) as error:
                    raise TransientError(
                        f"No connection to the database: {str(error) or 'time-out'}"
                    ) from error
                yield connection
        except _REFUSED as error:
            raise _refused(error) from error
        except _AWAY as error:
            raise _unusable(error) from error


class _InThread(Protocol):
    """aiosqlite's way into a connection's thread, which has no types."""

    def __call__(self, function: Callable[..., T], *args: object) -> Coroutine[None, None, T]: ...


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return result


def _fast(connection: LoggingConnection) -> Connection:
    wrapped = connection.wrapped
    if isinstance(wrapped, aiosqlite.Connection):
        return _Sqlite(connection, wrapped)
    return cast(Connection, connection)


ACQUIRE_SECONDS = 20
STATEMENT_SECONDS = 30
COUNT_SECONDS = 3600
CLOSE_SECONDS = 10

_REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    aiosqlite.IntegrityError,
)
# Everything else a database says: away, read-only, full, out of order, not as we know it. None
# of it is the fault of what was to be written, so the work is kept.
_AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    ConnectionError,
    TimeoutError,  # asyncpg's command_timeout
    aiosqlite.Error,
)


def _unusable(error: Exception) -> TransientError | PermanentError:
    # asyncpg's own check of an argument is an InterfaceError, and a ValueError too.
    if isinstance(error, ValueError):
        return _refused(error)
    return TransientError(f"The database cannot be used at the moment: {str(error) or 'time-out'}")


def _refused(error: Exception) -> PermanentError:
    # The text of such an error quotes the value, which may be what somebody wrote.
    return PermanentError(f"The database refused a value: {type(error).__name__}")


def sqlite_file_of(url: str) -> Path | None:
    """Return the file of a SQLite URL, ``None`` for PostgreSQL; refuse anything else."""
    scheme, _, rest = url.partition(":")
    if scheme in {"postgres", "postgresql"}:
        return None
    if scheme == "sqlite" and rest.strip("/"):
        # sqlite:NAME and sqlite:///NAME are relative, sqlite:////NAME is absolute.
        return Path(rest.removeprefix("///")).absolute()
    raise ConfigError("database.url must begin with “postgres://” or “sqlite:”.")


__all__ = ["Connection", "Database", "Row", "Scheme", "UpgradeTable", "sqlite_file_of"]
