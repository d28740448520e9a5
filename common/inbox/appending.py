"""What is to be stored of new entries; and storing it in SQLite, in one go.

The same as for PostgreSQL (``common.inbox.store``), but in one function: a push is answered when it
is committed, and each time it waits for the event loop in between it waits for all others there.
"""

import json
import sqlite3
from collections.abc import Collection, Sequence

from common.clock import Clock
from common.inbox.port import NewEntry


def keys_of(entries: Sequence[NewEntry]) -> list[str]:
    """Return the keys of entries, in order."""
    return [entry.key for entry in entries if entry.key is not None]


def unseen(entries: Sequence[NewEntry], seen: Collection[str]) -> list[NewEntry]:
    """Return the entries whose key is neither among ``seen`` nor repeated among them, in order."""
    known = set(seen)
    fresh: list[NewEntry] = []
    for entry in entries:
        if entry.key is not None:
            if entry.key in known:
                continue
            known.add(entry.key)
        fresh.append(entry)
    return fresh


def rows_of(entries: Sequence[NewEntry], after: int, now_ms: int) -> list[tuple[object, ...]]:
    """Return the rows of entries that stand after a position."""
    return [
        (
            position,
            entry.kind.value,
            entry.recipient,
            entry.source.value,
            entry.source_pos,
            now_ms,
            entry.body,
        )
        for position, entry in enumerate(entries, start=after + 1)
    ]


def insert_in_sqlite(
    entries: Sequence[NewEntry], clock: Clock, connection: sqlite3.Connection
) -> int:
    """Insert what is new, within a transaction that has the write lock; return how many were new."""
    # The clock is asked with the write lock held: later positions then have later moments. Keys go as
    # one value: a statement for each lets go of Python's lock and waits to have it back.
    (head,) = connection.execute(
        "UPDATE inbox_head SET position = position + ? WHERE id = 1 RETURNING position",
        (len(entries),),
    ).fetchall()[0]
    seen = connection.execute(
        "SELECT key FROM inbox_seen WHERE key IN (SELECT value FROM json_each(?))",
        (_as_json(keys_of(entries)),),
    ).fetchall()
    fresh = unseen(entries, {key for (key,) in seen})
    if not fresh:
        return 0
    connection.executemany(
        "INSERT INTO inbox_entry"
        " (position, kind, recipient, source, source_pos, received_ms, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows_of(fresh, int(head) - len(entries), clock.now_ms()),
    )
    connection.execute(
        "INSERT INTO inbox_seen (key) SELECT value FROM json_each(?)",
        (_as_json(keys_of(fresh)),),
    )
    return len(fresh)


def _as_json(keys: Sequence[str]) -> str:
    # A lone surrogate must be refused: escaped, SQLite would store bytes that are no text.
    return json.dumps(keys, ensure_ascii=False)
