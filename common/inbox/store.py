"""The durable inbox in our database: on disk when ``append`` returns, each entry once for ever."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from common.clock import Clock
from common.database.pool import Connection, Database
from common.inbox.port import Entry, EntryKind, NewEntry, Source
from common.inbox.signal import Signal
from common.inbox.space import Space

_CURSOR = "SELECT position FROM inbox_cursor WHERE reader = $1"


class StoredInbox:
    """The inbox. ``arrived`` is raised whenever something new has been committed."""

    def __init__(self, database: Database, clock: Clock, space: Space | None = None) -> None:
        self._database = database
        self._clock = clock
        self._space = space
        self.arrived = Signal()

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Store what is new, in order, durably; return how many were new."""
        async with self.appending(entries) as (new, _):
            pass
        return new

    @asynccontextmanager
    async def appending(
        self, entries: Sequence[NewEntry]
    ) -> AsyncIterator[tuple[int, Connection]]:
        """Like ``append``, and lets the caller write more in the same transaction.

        A feed stores its token there: the homeserver forgets what a token acknowledges.
        """
        if self._space is not None and entries:
            await self._space.check()
        async with self._database.transaction() as connection:
            new = await self._insert(connection, entries)
            yield new, connection
        if new:
            self.arrived.notify()

    async def _insert(self, connection: Connection, entries: Sequence[NewEntry]) -> int:
        # The row lock (SQLite: the write lock) is held until the commit; without it a reader
        # could see position 8, move on, and never see position 7 that was committed later.
        head = int(
            await connection.fetchval(
                "UPDATE inbox_head SET position = position + $1 WHERE id = 1 RETURNING position",
                len(entries),
            )
        ) - len(entries)
        fresh = await self._unseen(connection, entries)
        if not fresh:
            return 0
        now = self._clock.now_ms()
        await connection.executemany(
            "INSERT INTO inbox_entry"
            " (position, kind, recipient, source, source_pos, received_ms, body)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            [
                (
                    head + place,
                    entry.kind.value,
                    entry.recipient,
                    entry.source.value,
                    entry.source_pos,
                    now,
                    entry.body,
                )
                for place, entry in enumerate(fresh, start=1)
            ],
        )
        keys = [(entry.key,) for entry in fresh if entry.key is not None]
        if keys:
            await connection.executemany("INSERT INTO inbox_seen (key) VALUES ($1)", keys)
        return len(fresh)

    async def _unseen(self, connection: Connection, entries: Sequence[NewEntry]) -> list[NewEntry]:
        """Return the entries whose key is neither stored nor repeated among them, in order."""
        keys = sorted({entry.key for entry in entries if entry.key is not None})
        if self._database.is_postgres:
            rows = await connection.fetch(
                "SELECT key FROM inbox_seen WHERE key = ANY($1::text[])", keys
            )
        else:
            rows = await connection.fetch(
                "SELECT key FROM inbox_seen WHERE key IN (SELECT value FROM json_each($1))",
                json.dumps(keys),
            )
        seen = {row["key"] for row in rows}
        fresh: list[NewEntry] = []
        for entry in entries:
            if entry.key is not None:
                if entry.key in seen:
                    continue
                seen.add(entry.key)
            fresh.append(entry)
        return fresh

    async def read(
        self, after: int, kinds: Collection[EntryKind], *, limit: int, recipient: str = ""
    ) -> list[Entry]:
        """Return the next entries of the given kinds for ``recipient`` (or for everybody)."""
        names = ", ".join(f"'{kind.value}'" for kind in kinds)
        rows = await self._database.fetch(
            "SELECT position, kind, recipient, source, source_pos, received_ms, body"  # noqa: S608  # placeholders and constants only
            f" FROM inbox_entry WHERE position > $1 AND kind IN ({names})"  # values of our enum
            " AND recipient IN ('', $2) ORDER BY position LIMIT $3",
            after,
            recipient,
            limit,
        )
        return [
            Entry(
                position=row["position"],
                kind=EntryKind(row["kind"]),
                body=bytes(row["body"]),
                source=Source(row["source"]),
                source_pos=row["source_pos"],
                recipient=row["recipient"],
                received_ms=row["received_ms"],
            )
            for row in rows
        ]

    async def cursor(self, reader: str) -> int:
        """Return the last position the reader has dealt with."""
        found = await self._database.fetchval(_CURSOR, reader)
        return int(found or 0)

    async def cursor_in(self, connection: Connection, reader: str) -> int:
        """Return the same within a transaction."""
        return int(await connection.fetchval(_CURSOR, reader) or 0)

    async def waiting(self, reader: str, kinds: Collection[EntryKind]) -> int:
        """Return how many entries the reader has still to deal with."""
        names = ", ".join(f"'{kind.value}'" for kind in kinds)
        return int(
            await self._database.fetchval(
                f"SELECT count(*) FROM inbox_entry WHERE kind IN ({names})"  # noqa: S608  # placeholders and constants only
                " AND position > coalesce("
                "(SELECT position FROM inbox_cursor WHERE reader = $1), 0)",
                reader,
            )
        )

    async def prune(self, readers: "Collection[Reader]", *, older_than_ms: int) -> None:
        """Forget what was kept before a moment and every reader has left behind.

        The keys of entries stay for ever. A reader counts only for entries that it reads: one
        that has had nothing to do for weeks does not keep everything.
        """
        async with self._database.transaction() as connection:
            rows = await connection.fetch("SELECT reader, position FROM inbox_cursor")
            reached = {row["reader"]: int(row["position"]) for row in rows}
            for kind in EntryKind:
                for recipient, slowest in _left_behind(kind, readers, reached).items():
                    await connection.execute(
                        "DELETE FROM inbox_entry WHERE kind = $1 AND received_ms < $2"
                        " AND position <= $3 AND recipient = $4",
                        kind.value,
                        older_than_ms,
                        slowest,
                        recipient,
                    )


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads which entries; ``recipient`` is as in ``StoredInbox.read``."""

    name: str
    kinds: Collection[EntryKind]
    recipient: str = ""


def _left_behind(
    kind: EntryKind, readers: Collection[Reader], reached: Mapping[str, int]
) -> dict[str, int]:
    """Return, for each recipient of such entries, how far the slowest of its readers is."""
    reading = [reader for reader in readers if kind in reader.kinds]
    slowest: dict[str, int] = {}
    for recipient in {"", *(reader.recipient for reader in reading)}:
        positions = [
            reached.get(reader.name, 0)
            for reader in reading
            # Entries for everybody are read by all, those for one account by its readers.
            if recipient in {"", reader.recipient}
        ]
        slowest[recipient] = min(positions, default=0)
    return slowest


async def move_cursor(connection: Connection, reader: str, position: int) -> None:
    """Write how far a reader has come, in the transaction that holds what it did."""
    await connection.execute(
        "INSERT INTO inbox_cursor (reader, position) VALUES ($1, $2)"
        " ON CONFLICT (reader) DO UPDATE SET position = excluded.position",
        reader,
        position,
    )
