"""The index's file: opened with its tables, for its owner alone."""

import os
import sqlite3
from pathlib import Path

from auditbot.reader.index.parts import want_parts, wished_parts
from auditbot.reader.index.schema import TABLES, VERSION
from auditbot.reader.memory import locked
from common.errors import PermanentError

_CACHE_KIB = 64 * 1024
_WAIT_S = 30
"""For another process that closes the index, or is of a version that knew no turns."""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def open_index(folder: Path) -> sqlite3.Connection:
    """Open the index in a folder, a new one if there is none or it is of another version.

    Raises:
        PermanentError: it cannot be opened.
        sqlite3.OperationalError: the same, for a reason that lies outside of it.
    """
    path = folder / "index.sqlite"
    try:
        # Of two who find none, or an old one, only one makes it anew.
        with locked(folder / "opening.lock"):
            return _opened(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise PermanentError(
            f"The index “{path}” cannot be used ({error}): delete it, it is built anew."
        ) from error
    except OSError as error:
        raise PermanentError(f"The index “{path}” cannot be used: {error.strerror}.") from error


def unusable(error: sqlite3.OperationalError | ExceptionGroup[sqlite3.OperationalError]) -> str:
    """Return what is to be said of an index that could not be read or written just now."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    # The lowest byte: the others say more precisely why.
    if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY:
        return (
            "Another “steward audit” is at work with the index on this machine, and was waited for "
            "in vain: try again when it has ended."
        )
    return (
        f"The index on this machine cannot be used ({error}): make room on the disk, see that its "
        "files belong to this user, or delete “index.sqlite” in its folder: it is built anew."
    )


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
