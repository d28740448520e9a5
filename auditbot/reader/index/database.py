"""The index's file: opened with its tables, for its owner alone."""

import os
import sqlite3
from pathlib import Path

from auditbot.reader.index.parts import want_parts, wished_parts
from auditbot.reader.index.schema import TABLES, VERSION
from auditbot.reader.memory import private_directory
from common.errors import PermanentError

_CACHE_KIB = 64 * 1024


def open_index(folder: Path) -> sqlite3.Connection:
    """Open the index in a folder, a new one if there is none or it is of another version.

    Raises:
        PermanentError: it cannot be opened.
    """
    private_directory(folder)
    path = folder / "index.sqlite"
    try:
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
    except sqlite3.DatabaseError as error:
        raise PermanentError(
            f"The index “{path}” cannot be used ({error}): delete it, it is built anew."
        ) from error
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, check_same_thread=False)
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
