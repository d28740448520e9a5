"""Which keys of content could not be opened when an object's words were put into the index."""

import sqlite3
from collections.abc import Iterable

WHOLE = ""
"""Stands for the whole object: none of its words are in the index."""


def waiting_keys(connection: sqlite3.Connection, object_id: int) -> frozenset[str]:
    """Return the keys with whose content an object's words are still to be completed."""
    rows = connection.execute("SELECT key FROM unopened WHERE object = ?", (object_id,))
    return frozenset(str(key) for (key,) in rows)


def note_unopened(connection: sqlite3.Connection, object_id: int, keys: Iterable[str]) -> None:
    """Note which keys these are from now on, within a transaction."""
    connection.execute("DELETE FROM unopened WHERE object = ?", (object_id,))
    connection.executemany(
        "INSERT INTO unopened (object, key) VALUES (?, ?)", [(object_id, key) for key in keys]
    )
