"""The index's file: opened with its tables, for its owner alone.

Whatever SQLite says of it, when it is opened or later, is one sentence with what to do.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditbot.reader.index.parts import want_parts, wished_parts
from auditbot.reader.index.schema import TABLES, VERSION
from auditbot.reader.memory import locked
from common.errors import PermanentError, StewardError

_FILE = "index.sqlite"
_CACHE_KIB = 64 * 1024
_WAIT_S = 30
"""For another process that closes the index, or is of a version that knew no turns."""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class UnusableIndexError(PermanentError):
    """The index on this machine is damaged, or could not be read or written just now."""


def open_index(folder: Path) -> sqlite3.Connection:
    """Open the index in a folder, a new one if there is none or it is of another version.

    Raises:
        UnusableIndexError: it cannot be opened.
    """
    path = folder / _FILE
    try:
        # Of two who find none, or an old one, only one makes it anew.
        with locked(folder / "opening.lock"), usable(folder):
            return _opened(path)
    except OSError as error:
        raise UnusableIndexError(
            f"The index “{path}” cannot be used: {error.strerror}."
        ) from error


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Have it said in a sentence if the index in a folder turns out to be unusable.

    Also in a group of tasks, unless one of the others failed in a way that nobody foresaw.

    Raises:
        UnusableIndexError: it is.
    """
    try:
        yield
    except (sqlite3.DatabaseError, ExceptionGroup) as error:
        found = _of_index(error)
        if found is None:
            raise
        raise UnusableIndexError(_sentence(found, folder / _FILE)) from error


def _of_index(error: Exception) -> Exception | None:
    """Return what SQLite says of a file, ``None`` if it is something else that failed."""
    if isinstance(error, ExceptionGroup):
        found, others = error.split(_is_of_index)
        if others is not None and others.split(StewardError)[1] is not None:
            return None
        while isinstance(found, ExceptionGroup):
            found = found.exceptions[0]
        return found
    return error if _is_of_index(error) else None


def _is_of_index(error: BaseException) -> bool:
    # A damaged file is of the class itself; of the classes below it all but one tell of our own
    # mistakes.
    return type(error) is sqlite3.DatabaseError or isinstance(error, sqlite3.OperationalError)


def _sentence(error: Exception, path: Path) -> str:
    # The lowest byte: the others say more precisely why.
    if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY:
        return (
            "Another “steward audit” is at work with the index on this machine, and was waited for "
            "in vain: try again when it has ended."
        )
    if isinstance(error, sqlite3.OperationalError):
        return (
            f"The index “{path}” cannot be used ({error}): make room on the disk, see that its "
            "files belong to this user, or delete it and start again: it is built anew."
        )
    return f"The index “{path}” cannot be used ({error}): delete it and start again, it is built anew."


def _opened(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    wants_parts = False
    if _version(connection) not in {None, str(VERSION)}:
        wants_parts = wished_parts(connection)
        connection.close()
        _remove(path)
        connection = _connect(path)
    if _version(connection) is None:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO meta VALUES ('version', ?)", (str(VERSION),))
        connection.commit()
    if wants_parts:
        want_parts(connection)
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _version(connection: sqlite3.Connection) -> str | None:
    known = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'"
    ).fetchone()
    if known is None:
        return None
    row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
    return str(row[0]) if row else ""


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
