"""Any run of characters of a text: a second table of the index, there only where it is wanted.

The table of words knows words and their beginnings. This one knows every run of three characters
and where it stands (SQLite's trigram tokenizer), so any part is found exactly: inside a word, over
several, in Chinese or Thai, with its punctuation. It is about as large as the rest of the index.

That the table exists is what remembers that it is wanted. ``part_object`` holds the objects that
are in it: whatever is missing, because the index is older than the wish or was grown by a version
that knew nothing of it, is added from the objects on this machine. A table that holds texts folded
in another way (:data:`FOLDING`) is made anew.
"""

import sqlite3
from collections.abc import Iterable

from auditbot.reader.index.unopened import WHOLE
from auditbot.reader.index.words import FOLDING, folded
from common.errors import UserError

_TABLES = (
    """CREATE VIRTUAL TABLE parts USING fts5 (
        text, content = '', columnsize = 0, tokenize = 'trigram case_sensitive 1'
    )""",
    "CREATE VIRTUAL TABLE part_terms USING fts5vocab (parts, instance)",
    "CREATE TABLE part_object (object INTEGER PRIMARY KEY)",
)
_RUN = 3
_END = "\x1e"
"""Stands after each text; no folded text has it."""
_AFTER_ALL = "\U0010ffff"
_LONGEST = 64 * 1024


def has_parts(connection: sqlite3.Connection) -> bool:
    """Return whether parts of words are indexed, if only for some objects yet."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'parts'").fetchone()
    return row is not None and row[0] == FOLDING


def wished_parts(connection: sqlite3.Connection) -> bool:
    """Return whether parts of words were wanted, even if they were folded in another way."""
    return bool(connection.execute("SELECT 1 FROM meta WHERE name = 'parts'").fetchone())


def want_parts(connection: sqlite3.Connection) -> None:
    """Make the table, empty, unless it is there."""
    if has_parts(connection):
        return
    drop_parts(connection)
    with connection:
        connection.execute("BEGIN")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('parts', ?)", (FOLDING,))


def drop_parts(connection: sqlite3.Connection) -> bool:
    """Remove the table and give its room back to the disk; return whether there was one."""
    if not wished_parts(connection):
        return False
    with connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM meta WHERE name = 'parts'")
        for name in ("part_terms", "parts", "part_object"):
            connection.execute(f"DROP TABLE {name}")
    connection.execute("VACUUM")
    return True


def parts_text(texts: Iterable[str]) -> str:
    """Return what is indexed of a record's texts.

    Two marks end each text: so every character begins a run of three, and no run that a person can
    ask for goes over the end of one text into the next.
    """
    return "".join(f"{part}{_END}{_END}" for part in map(folded, texts) if part)[:_LONGEST]


def add_parts(
    connection: sqlite3.Connection, object_id: int, rows: Iterable[tuple[int, str]]
) -> None:
    """Add an object's texts, each with the number of its record, within a transaction."""
    connection.executemany("INSERT INTO parts (rowid, text) VALUES (?, ?)", rows)
    connection.execute("INSERT OR IGNORE INTO part_object VALUES (?)", (object_id,))


def take_parts(
    connection: sqlite3.Connection, object_id: int, rows: Iterable[tuple[int, str]]
) -> None:
    """Take an object's texts out again, within a transaction."""
    if not has_parts(connection):
        return
    row = connection.execute(
        "DELETE FROM part_object WHERE object = ? RETURNING 1", (object_id,)
    ).fetchone()
    if row is not None:
        connection.executemany(
            "INSERT INTO parts (parts, rowid, text) VALUES ('delete', ?, ?)", rows
        )


def has_parts_of(connection: sqlite3.Connection, object_id: int) -> bool:
    """Return whether an object's texts are in the table."""
    if not has_parts(connection):
        return False
    row = connection.execute("SELECT 1 FROM part_object WHERE object = ?", (object_id,)).fetchone()
    return row is not None


def clear_parts(connection: sqlite3.Connection) -> None:
    """Take all texts out, within a transaction; the table stays."""
    if has_parts(connection):
        connection.execute("INSERT INTO parts (parts) VALUES ('delete-all')")
        connection.execute("DELETE FROM part_object")


def without_parts(connection: sqlite3.Connection) -> list[int]:
    """Return the objects whose texts are not in the table yet; those without words get both."""
    rows = connection.execute(
        "SELECT id FROM object WHERE state = 'indexed'"
        " AND id NOT IN (SELECT object FROM part_object)"
        " AND id NOT IN (SELECT object FROM unopened WHERE key = ?) ORDER BY id",
        (WHOLE,),
    )
    return [int(row[0]) for row in rows]


def containing(text: str) -> tuple[str, list[object]]:
    """Return the condition that a record's text contains what a person typed, and its values.

    Fewer than three characters are looked up as the beginning of any run of three.

    Raises:
        UserError: nothing is left of the text when case and invisible characters do not count.
    """
    wanted = folded(text)
    if not wanted:
        raise UserError(f"There is nothing to search for in “{text}”.")
    if len(wanted) < _RUN:
        return (
            "record.id IN (SELECT doc FROM part_terms WHERE term >= ? AND term < ?)",
            [wanted, wanted + _AFTER_ALL],
        )
    quoted = wanted.replace('"', '""')
    return "record.id IN (SELECT rowid FROM parts WHERE parts MATCH ?)", [f'"{quoted}"']
