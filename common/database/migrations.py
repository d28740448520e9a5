"""The schema as numbered steps; each is run once, in one transaction, on either database.

A package that owns tables registers its step here by adding one SQL file to
``common/database/sql``; the file's number, of three digits and its own, is its place. ``{blob}``
stands for ``BYTEA`` in PostgreSQL and ``BLOB`` in SQLite.
"""

from importlib.resources import files

from mautrix.util.async_db import Connection as MautrixConnection
from mautrix.util.async_db import Scheme, UpgradeTable


def upgrade_table() -> UpgradeTable:
    """Return every migration of the database in order, read from the SQL files."""
    return _read("sql", "Steward's database")


def inbox_upgrade_table() -> UpgradeTable:
    """Return the same for a file that holds the inbox alone (SQLite)."""
    return _read("inbox_sql", "Steward's inbox")


def _read(directory: str, database_name: str) -> UpgradeTable:
    table = UpgradeTable(version_table_name="steward_version", database_name=database_name)
    scripts = sorted(
        (entry for entry in files("common.database").joinpath(directory).iterdir()),
        key=lambda entry: entry.name,
    )
    for script in scripts:
        if script.name.endswith(".sql"):
            _register(table, script.name, script.read_text("utf-8"))
    return table


def _register(table: UpgradeTable, name: str, sql: str) -> None:
    async def upgrade(connection: MautrixConnection, scheme: Scheme) -> None:
        blob = "BYTEA" if scheme == Scheme.POSTGRES else "BLOB"
        # Without its comments: one that ends in a semicolon would be cut off as a statement of
        # its own, and asyncpg cannot run an empty one.
        lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
        for statement in "\n".join([*lines, ""]).replace("{blob}", blob).split(";\n"):
            if statement.strip():
                await connection.execute(statement)

    table.register(upgrade, description=name)
