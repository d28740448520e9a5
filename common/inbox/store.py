"""The durable inbox: on disk when ``append`` returns, each entry once for ever.

The entries are in our database or, with SQLite, in a file of their own (``common.inbox.file``).
What is done about them is in our database in either case, and so are the cursors.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from common.clock import Clock
from common.database.pool import Connection, Database
from common.inbox.appending import insert_in_sqlite, keys_of, rows_of, unseen
from common.inbox.port import Entry, EntryKind, NewEntry, Source
from common.inbox.signal import Signal
from common.inbox.space import Space

_OLD = "kind = $1 AND received_ms < $2 AND position <= $3 AND recipient = $4"
_CURSOR = "SELECT position FROM inbox_cursor WHERE reader = $1"


class StoredInbox:
    """The inbox. ``arrived`` is raised whenever something new has been committed.

    ``database`` holds the cursors, and the entries unless ``entries`` is given.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        space: Space | None = None,
        *,
        entries: Database | None = None,
    ) -> None:
        self._database = database
        self._entries = database if entries is None else entries
        self._clock = clock
        self._space = space
        self.arrived = Signal()

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Store what is new, in order, durably; return how many were new.

        A feed stores its token afterwards: the homeserver forgets what a token acknowledges. If
        it never comes to that, the same comes again, and is known by its key.
        """
        if self._space is not None and entries:
            await self._space.check()
        if self._entries.is_postgres:
            async with self._entries.transaction() as connection:
                new = await _insert(connection, entries, self._clock)
        else:
            new = await self._entries.run(partial(insert_in_sqlite, entries, self._clock))
        if new:
            self.arrived.notify()
        return new

    async def knows(self, key: str) -> bool:
        """Return whether there ever was an entry with this key."""
        return bool(await self._entries.fetchval("SELECT 1 FROM inbox_seen WHERE key = $1", key))

    async def newest_position_of(self, source: Source) -> str | None:
        """Return how a feed named what the newest entry of its came with."""
        found = await self._entries.fetchval(
            "SELECT source_pos FROM inbox_entry WHERE source = $1 ORDER BY position DESC LIMIT 1",
            source.value,
        )
        return None if found is None else str(found)

    async def read(
        self, after: int, kinds: Collection[EntryKind], *, limit: int, recipient: str = ""
    ) -> list[Entry]:
        """Return the next entries of the given kinds for ``recipient`` (or for everybody)."""
        names = ", ".join(f"'{kind.value}'" for kind in kinds)
        rows = await self._entries.fetch(
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

    async def waiting(
        self,
        reader: str,
        kinds: Collection[EntryKind],
        *,
        recipient: str | None = None,
        until_ms: int | None = None,
    ) -> int:
        """Return how many entries the reader has still to deal with.

        Args:
            reader: whose cursor counts
            kinds: which entries
            recipient: only those for this account or for everybody
            until_ms: only those received until then
        """
        names = ", ".join(f"'{kind.value}'" for kind in kinds)
        return int(
            await self._entries.fetchval(
                f"SELECT count(*) FROM inbox_entry WHERE kind IN ({names})"  # noqa: S608  # placeholders and constants only
                " AND position > $1 AND received_ms <= $2"
                " AND ($3 = 0 OR recipient IN ('', $4))",
                await self.cursor(reader),
                2**62 if until_ms is None else until_ms,
                int(recipient is not None),
                recipient or "",
            )
        )

    async def prune(self, readers: "Collection[Reader]", *, older_than_ms: int) -> None:
        """Forget what was kept before a moment and every reader has left behind.

        The keys of entries stay for ever. A reader counts only for entries that it reads: one
        that has had nothing to do for weeks does not keep everything.
        """
        rows = await self._database.fetch("SELECT reader, position FROM inbox_cursor")
        reached = {row["reader"]: int(row["position"]) for row in rows}
        async with self._entries.transaction() as connection:
            for kind in EntryKind:
                for recipient, slowest in _left_behind(kind, readers, reached).items():
                    old = (kind.value, older_than_ms, slowest, recipient)
                    # Whether a database is too old a copy to go on from is told by this.
                    last = await connection.fetchval(
                        f"SELECT max(position) FROM inbox_entry WHERE {_OLD}",  # noqa: S608  # a constant
                        *old,
                    )
                    if last is None:
                        continue
                    await connection.execute(
                        "UPDATE inbox_head SET pruned = $1 WHERE pruned < $1", last
                    )
                    await connection.execute(f"DELETE FROM inbox_entry WHERE {_OLD}", *old)  # noqa: S608  # a constant


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


async def _insert(connection: Connection, entries: Sequence[NewEntry], clock: Clock) -> int:
    # The row lock is held until the commit; without it a reader could see position 8, move on, and
    # never see position 7 that was committed later.
    head = await connection.fetchval(
        "UPDATE inbox_head SET position = position + $1 WHERE id = 1 RETURNING position",
        len(entries),
    )
    seen = await connection.fetch(
        "SELECT key FROM inbox_seen WHERE key = ANY($1::text[])", keys_of(entries)
    )
    fresh = unseen(entries, {row["key"] for row in seen})
    if not fresh:
        return 0
    await connection.executemany(
        "INSERT INTO inbox_entry"
        " (position, kind, recipient, source, source_pos, received_ms, body)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        rows_of(fresh, int(head) - len(entries), clock.now_ms()),
    )
    keys = keys_of(fresh)
    if keys:
        await connection.executemany(
            "INSERT INTO inbox_seen (key) VALUES ($1)", [(key,) for key in keys]
        )
    return len(fresh)


async def move_cursor(connection: Connection, reader: str, position: int) -> None:
    """Write how far a reader has come, in the transaction that holds what it did."""
    await connection.execute(
        "INSERT INTO inbox_cursor (reader, position) VALUES ($1, $2)"
        " ON CONFLICT (reader) DO UPDATE SET position = excluded.position",
        reader,
        position,
    )
