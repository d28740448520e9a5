"""Counting active bridged people in the homeserver's database, as docs/bridges.md says to."""

import re
import sqlite3
from pathlib import Path

from tests.support.world import World

DOCUMENTED = Path(__file__).parents[2] / "docs" / "bridges.md"


def active_in_synapse(world: World, like: str, *, days: int) -> int:
    """Return how many accounts count, by the statement that the documentation gives."""
    found = re.search(r"```sql\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    assert found is not None
    sql = found[1]
    # It is written for PostgreSQL, which is what is recommended; the tests' Synapse has SQLite.
    for written, here in (
        ("CAST(EXTRACT(EPOCH FROM now()) AS bigint)", "CAST(strftime('%s', 'now') AS INTEGER)"),
        ("LIKE '@irc\\_%'", f"LIKE '{like}'"),
        (">= 2)", f">= {days})"),
    ):
        assert written in sql
        sql = sql.replace(written, here)
    path = world.synapse.directory / "homeserver.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as database:
        return int(database.execute(sql).fetchone()[0])
