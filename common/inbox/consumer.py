"""Read entries in order, let a handler deal with them, move the cursor in the same transaction.

At least once into the handler, exactly once into the database: the cursor and the effect are
committed together. A poison entry is set aside with its reason after some attempts and never
blocks the others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import PermanentError, TransientError
from common.inbox.port import Entry, EntryKind
from common.inbox.store import StoredInbox, move_cursor, set_aside
from common.telemetry.log import Log

Effect = Callable[[Connection], Awaitable[None]]
"""What a batch does to the database; committed together with the cursor that leaves it behind."""

Handler = Callable[[Sequence[Entry]], Awaitable[Effect]]
"""Decide what a batch of entries means. May do I/O, but changes nothing by itself: a crash
between the decision and the commit makes it run again."""

BATCH = 200
LONGEST_WAIT_SECONDS = 30.0

log = Log("inbox")


@dataclass(frozen=True)
class Consumer:
    """One reader of the inbox with its own cursor, named ``reader``."""

    reader: str
    kinds: Collection[EntryKind]
    handle: Handler
    inbox: StoredInbox
    database: Database
    clock: Clock
    recipient: str = ""

    async def run(self) -> None:
        """Deal with entries as they arrive, until cancelled."""
        wait_seconds = 0.5
        while True:
            seen = self.inbox.arrived.count
            try:
                if await self.step():
                    wait_seconds = 0.5
                    continue
                await self.inbox.arrived.changed(seen)
            except TransientError as error:
                log.warning("will try again", reader=self.reader, wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)

    async def step(self) -> bool:
        """Deal with the next batch; return whether there was one."""
        after = await self.inbox.cursor(self.reader)
        entries = await self.inbox.read(after, self.kinds, limit=BATCH, recipient=self.recipient)
        if not entries:
            return False
        try:
            await self._deal_with(entries)
        except (
            PermanentError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ):
            # One of these entries is poison (the errors that hostile content provokes in code
            # that trusted it): find it by dealing with them one at a time.
            for entry in entries:
                await self._deal_with_one(entry)
        return True

    async def _deal_with(self, entries: Sequence[Entry]) -> None:
        effect = await self.handle(entries)
        async with self.database.transaction() as connection:
            await effect(connection)
            await move_cursor(connection, self.reader, entries[-1].position)

    async def _deal_with_one(self, entry: Entry) -> None:
        try:
            await self._deal_with([entry])
        except (
            PermanentError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            # The message of such an error may quote what somebody wrote: only its kind is told.
            reason = str(error) if isinstance(error, PermanentError) else type(error).__name__
            log.error(
                "an entry was set aside",
                reader=self.reader,
                position=entry.position,
                kind=entry.kind.value,
                reason=reason,
            )
            async with self.database.transaction() as connection:
                await set_aside(connection, self.reader, entry, reason, now_ms=self.clock.now_ms())
                await move_cursor(connection, self.reader, entry.position)
