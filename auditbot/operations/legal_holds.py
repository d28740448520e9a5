"""The store's own legal hold (S3 Object Lock) on what our holds keep, where the bucket has one.

Days are held whole, as retention keeps them: records of one day explain each other. Of a held day
it is every segment with its room keys, and every attachment that the day speaks of. What was set is written down
first, so that only that is lifted again: a legal hold that somebody else had set stays.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from auditbot.operations.desk import Desk, Place
from auditbot.operations.held import Segment, is_named, rooms_of
from auditbot.operations.held_versions import (
    Version,
    media,
    segments,
    sessions,
    unseen,
    version_of,
)
from auditbot.operations.holds import Hold, active
from auditbot.storage.port import ArchiveStore
from common.database.pool import Connection, Row
from common.errors import PermanentError, TransientError

T = TypeVar("T")

_AT_ONCE = 8
_MOST_REFUSALS = 5
"""After so many no more is tried at a place in one pass."""
_BATCH = 200
"""Objects that are set or lifted before it is written down."""


@dataclass
class Settled:
    """What one pass did."""

    set: Counter[str] = field(default_factory=Counter)
    lifted: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    trouble: str | None = None
    """The first thing that went wrong."""

    @property
    def text(self) -> str:
        """Return it for people."""
        lines = []
        if self.set:
            lines.append(f"The bucket's own legal hold was set on {_objects(self.set)}.")
        if self.lifted:
            lines.append(f"The bucket's own legal hold was lifted from {_objects(self.lifted)}.")
        if self.trouble is not None:
            what = f" on {self.refused:,} objects" if self.refused else ""
            lines.append(
                f"The bucket's own legal hold could not be set or lifted{what}: {self.trouble} "
                "Steward itself deletes nothing that is held, but the bucket does not keep others "
                "from it. See that the key may use s3:GetObjectLegalHold and "
                "s3:PutObjectLegalHold, then run “steward audit hold apply”; Steward tries again "
                "by itself."
            )
        return "\n".join(lines)


async def settle(desk: Desk, *, actor: str) -> Settled:
    """Set the legal holds that are missing and lift those that nothing needs; safe to repeat."""
    async with AsyncExitStack() as stack:
        one_pass = _Pass(desk, actor, stack)
        for hold in await active(desk):
            await one_pass.top_up(hold)
        await one_pass.lift()
    return one_pass.done


@dataclass
class _Pass:
    """One pass over all holds."""

    desk: Desk
    actor: str
    stack: AsyncExitStack
    done: Settled = field(default_factory=Settled)
    _stores: dict[Place, ArchiveStore | None] = field(default_factory=dict)
    _refusals: Counter[Place] = field(default_factory=Counter)
    _unsure: set[Place] = field(default_factory=set)
    """Where it is not known of everything whether a hold needs it, so that nothing is lifted."""

    async def top_up(self, hold: Hold) -> None:
        """Set what a hold concerns and is not set yet."""
        await self._look_through(hold)
        rows = [
            *await segments(self.desk, hold),
            *await sessions(self.desk, hold),
            *await media(self.desk, hold),
        ]
        async for place, store, versions in self._batches(rows):
            new = [one for one in versions if not await self._is_noted(hold, one)]
            foreign = await self._each(place, new, partial(self._is_foreign, store))
            if len(foreign) < len(new):
                self._unsure.add(place)
            await self._note(hold, foreign)
            noted = [one for one in versions if one not in new or one in foreign]
            held = await self._each(place, noted, partial(_set, store))
            await self._mark_set(hold, place, list(held))

    async def lift(self) -> None:
        """Lift what was set for holds that are released, where no other hold needs it."""
        rows = await self.desk.database.fetch(
            "SELECT audit_hold_object.* FROM audit_hold_object JOIN audit_hold"
            " ON audit_hold.id = hold_id WHERE released_ms IS NOT NULL"
            " ORDER BY hold_id, destination, endpoint_url, object_key"
        )
        by_hold: dict[str, list[Row]] = {}
        for row in rows:
            by_hold.setdefault(str(row["hold_id"]), []).append(row)
        for hold_id, named in by_hold.items():
            foreign = {version_of(row) for row in named if row["foreign_hold"]}
            async for place, store, versions in self._batches(named):
                if place in self._unsure:
                    continue
                await self._lift(hold_id, place, store, versions, foreign)

    async def _lift(
        self,
        hold_id: str,
        place: Place,
        store: ArchiveStore,
        versions: Sequence[Version],
        foreign: set[Version],
    ) -> None:
        async def lift(version: Version) -> bool:
            if version in foreign or await self._is_needed(version):
                return False
            await store.set_legal_hold(version.key, version.version_id, on=False)
            if await self._is_needed(version):
                # Another process noted a hold's need of it at the same time.
                await store.set_legal_hold(version.key, version.version_id, on=True)
                return False
            return True

        found = await self._each(place, versions, lift)
        await self._mark_lifted(hold_id, place, found)

    async def _look_through(self, hold: Hold) -> None:
        """Find the days that a hold concerns among the segments not looked through for it."""
        rooms = await rooms_of(self.desk, hold)
        digest = hashlib.sha256("\n".join(sorted(rooms)).encode()).hexdigest()[:16]
        held: set[tuple[str, int]] = set()
        for row in await unseen(self.desk, hold, digest):
            day = (str(row["stream"]), int(row["day"]))
            version = version_of(row)
            store = await self._store(version.place)
            if store is None or day in held or version.place in self._unsure:
                continue
            try:
                is_held = await _concerns(store, row, hold, rooms)
            except (PermanentError, TransientError) as error:
                self._doubt(version.place, error)
                continue
            await self._saw(hold, day, row["last_seq"], digest, is_held=is_held)
            if is_held:
                held.add(day)

    async def _batches(
        self, rows: Sequence[Row]
    ) -> AsyncIterator[tuple[Place, ArchiveStore, list[Version]]]:
        by_place: dict[Place, list[Version]] = {}
        for row in rows:
            version = version_of(row)
            by_place.setdefault(version.place, []).append(version)
        for place, versions in by_place.items():
            store = await self._store(place)
            for at in range(0, len(versions), _BATCH):
                if store is not None:
                    yield place, store, versions[at : at + _BATCH]

    async def _store(self, place: Place) -> ArchiveStore | None:
        """Return the store of a place, ``None`` if it keeps no legal holds or is away."""
        if place not in self._stores:
            store = await self.stack.enter_async_context(self.desk.store(place))
            self._stores[place] = None
            try:
                self._stores[place] = store if await store.keeps_legal_holds() else None
            except (PermanentError, TransientError) as error:
                self._doubt(place, error)
        return self._stores[place]

    async def _each(
        self, place: Place, versions: Sequence[Version], act: Callable[[Version], Awaitable[T]]
    ) -> dict[Version, T]:
        """Do something with each version, some at once; return what came of those it worked with.

        After some that fail no more are begun: the others would fail the same way.
        """
        found: dict[Version, T] = {}
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(version: Version) -> None:
            async with gate:
                if self._refusals[place] >= _MOST_REFUSALS:
                    self.done.refused += 1
                    return
                try:
                    found[version] = await act(version)
                except PermanentError as error:
                    self._refuse(place, error, weight=1)
                except TransientError as error:
                    self._refuse(place, error, weight=_MOST_REFUSALS)

        async with asyncio.TaskGroup() as group:
            for version in versions:
                group.create_task(one(version))
        return found

    def _refuse(self, place: Place, error: Exception, *, weight: int) -> None:
        self._refusals[place] += weight
        self.done.refused += 1
        self.done.trouble = self.done.trouble or str(error)

    def _doubt(self, place: Place, error: Exception) -> None:
        self._unsure.add(place)
        self.done.trouble = self.done.trouble or str(error)

    async def _is_noted(self, hold: Hold, version: Version) -> bool:
        return bool(
            await self.desk.database.fetchval(
                "SELECT 1 FROM audit_hold_object WHERE hold_id = $1 AND destination = $2"
                " AND endpoint_url = $3 AND object_key = $4 AND version_id = $5",
                hold.id,
                *version.columns,
            )
        )

    async def _is_foreign(self, store: ArchiveStore, version: Version) -> bool:
        """Return whether somebody else had set the legal hold before us."""
        ours = await self.desk.database.fetchval(
            "SELECT max(foreign_hold) FROM audit_hold_object WHERE destination = $1"
            " AND endpoint_url = $2 AND object_key = $3 AND version_id = $4",
            *version.columns,
        )
        if ours is not None:
            return bool(ours)
        return await store.has_legal_hold(version.key, version.version_id)

    async def _is_needed(self, version: Version) -> bool:
        return bool(
            await self.desk.database.fetchval(
                "SELECT 1 FROM audit_hold_object JOIN audit_hold ON audit_hold.id = hold_id"
                " WHERE released_ms IS NULL AND destination = $1 AND endpoint_url = $2"
                " AND object_key = $3 AND version_id = $4",
                *version.columns,
            )
        )

    async def _note(self, hold: Hold, foreign: dict[Version, bool]) -> None:
        async with self.desk.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO audit_hold_object (hold_id, destination, endpoint_url, object_key,"
                " version_id, foreign_hold) VALUES ($1, $2, $3, $4, $5, $6)"
                " ON CONFLICT (hold_id, destination, endpoint_url, object_key, version_id)"
                " DO NOTHING",
                [(hold.id, *one.columns, int(other)) for one, other in foreign.items()],
            )

    async def _saw(
        self, hold: Hold, day: tuple[str, int], seq: int, rooms: str, *, is_held: bool
    ) -> None:
        async with self.desk.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_hold_day (hold_id, stream, day, seen_seq, rooms, held)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (hold_id, stream, day) DO UPDATE"
                " SET seen_seq = excluded.seen_seq, rooms = excluded.rooms, held = excluded.held",
                hold.id,
                *day,
                seq,
                rooms,
                int(is_held),
            )

    async def _mark_set(self, hold: Hold, place: Place, versions: Sequence[Version]) -> None:
        if not versions:
            return
        async with self.desk.database.transaction() as connection:
            now_ms = self.desk.clock.now_ms()
            await connection.executemany(
                "UPDATE audit_hold_object SET set_ms = $6 WHERE hold_id = $1 AND destination = $2"
                " AND endpoint_url = $3 AND object_key = $4 AND version_id = $5",
                [(hold.id, *one.columns, now_ms) for one in versions],
            )
            await self._record(connection, "legal_hold_set", hold.id, place, len(versions))
        self.done.set[hold.id] += len(versions)

    async def _mark_lifted(self, hold_id: str, place: Place, found: dict[Version, bool]) -> None:
        async with self.desk.database.transaction() as connection:
            await connection.executemany(
                "DELETE FROM audit_hold_object WHERE hold_id = $1 AND destination = $2"
                " AND endpoint_url = $3 AND object_key = $4 AND version_id = $5",
                [(hold_id, *one.columns) for one in found],
            )
            lifted = sum(found.values())
            if lifted:
                await self._record(connection, "legal_hold_lifted", hold_id, place, lifted)
                self.done.lifted[hold_id] += lifted

    async def _record(
        self, connection: Connection, action: str, hold_id: str, place: Place, objects: int
    ) -> None:
        writing = await self.desk.writing(connection)
        if writing is not None:
            detail = {"id": hold_id, "destination": place.destination, "objects": objects}
            writing.control(actor=self.actor, action=action, detail=detail)
            await writing.write(connection)


async def _set(store: ArchiveStore, version: Version) -> None:
    await store.set_legal_hold(version.key, version.version_id, on=True)


async def _concerns(store: ArchiveStore, row: Row, hold: Hold, rooms: frozenset[str]) -> bool:
    if not hold.meets(row["first_ms"], row["last_ms"]):
        return False
    segment = Segment(row["object_key"], row["version_id"], row["sha256"])
    return await is_named(store, segment, hold, rooms)


def _objects(counts: Counter[str]) -> str:
    number = counts.total()
    return "1 object" if number == 1 else f"{number:,} objects"
