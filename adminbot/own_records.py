"""The only door to our own tables for commands and plans: rights checked, kinds kept apart."""

from dataclasses import dataclass

from adminbot.engine.step import OwnChange, OwnQuery, OwnReader, T
from common.database.pool import Connection, Database
from common.homeserver.errors import BeyondGrantError
from common.homeserver.port import EVERYTHING, Grant


@dataclass(frozen=True)
class OwnRecords:
    """Our own tables within one grant."""

    database: Database
    grant: Grant = EVERYTHING

    async def read(self, query: OwnQuery[T]) -> T:
        """Ask."""
        if not self.grant.allows(query):
            raise BeyondGrantError(query.permission)
        statement = query.to_sql()
        return query.read_rows(await self.database.fetch(statement.sql, *statement.values))

    async def apply(self, connection: Connection, change: OwnChange) -> None:
        """Change something within a transaction."""
        if not self.grant.allows(change):
            raise BeyondGrantError(change.permission)
        for statement in change.to_sql():
            await connection.execute(statement.sql, *statement.values)

    def within(self, grant: Grant) -> "OwnRecords":
        """Return the same, narrowed."""
        return OwnRecords(self.database, grant)

    def on_behalf_of(self, grant: Grant) -> OwnReader:
        """Return the reading half within a grant."""
        return _Reader(self.within(grant))


@dataclass(frozen=True)
class _Reader:
    _records: OwnRecords

    async def read(self, query: OwnQuery[T]) -> T:
        """Ask within the grant."""
        return await self._records.read(query)
