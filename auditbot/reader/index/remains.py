"""What was taken out of the index and still lies in its file: noted, and wiped out.

SQLite's full-text tables do not take out a word that is deleted: they add a mark that it is gone,
and the word stays until what is old and what is new are merged. The pages that a deletion leaves
keep their bytes too, and so does the journal. So whoever takes something out notes it in the same
transaction, and then has everything merged, the file written anew and the journal emptied. What a
crash interrupts, or somebody who reads at the time, is done by the next one.
"""

import sqlite3

from auditbot.reader.index.parts import has_parts

_REMAINS = "remains"


def note_remains(connection: sqlite3.Connection) -> None:
    """Note, within the transaction that takes something out, that it still lies in the file."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (_REMAINS,))


def wipe_remains(connection: sqlite3.Connection) -> None:
    """Wipe out what was taken out, unless nothing was."""
    if not connection.execute("SELECT 1 FROM meta WHERE name = ?", (_REMAINS,)).fetchone():
        return
    with connection:
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        if has_parts(connection):
            connection.execute("INSERT INTO parts (parts) VALUES ('optimize')")
    connection.execute("VACUUM")
    (is_read, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if not is_read:
        with connection:
            connection.execute("DELETE FROM meta WHERE name = ?", (_REMAINS,))
