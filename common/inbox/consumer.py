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
from common.errors import PermanentError, StartOverError, TransientError
from common.inbox.port import Entry, EntryKind
from common.inbox.store import StoredInbox, move_cursor, set_aside
from common.telemetry.log import Log

Effect = Callable[[Connection], Awaitable[None]]
"""What a batch does to the database; committed together with the cursor that leaves it behind."""

Handler = Callable[[Sequence[Entry]], Awaitable[Effect]]
"""Decide what a batch of entries means. May do I/O, but changes nothing by itself: a crash
between the decision and the commit makes it run again."""

BATCH = 200
ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.5
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
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            seen = self.inbox.arrived.count
            try:
                if await self.step():
                    wait_seconds = FIRST_WAIT_SECONDS
                    continue
                await self.inbox.arrived.changed(seen)
            except TransientError as error:
                log.warning("will try again", reader=self.reader, wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)

    async def step(self) -> bool:
        """Deal with the next batch; return whether there was one.

        Raises:
            TransientError: nothing was done; the batch comes again.
            StartOverError: likewise, but not in this life of the process.
        """
        after = await self.inbox.cursor(self.reader)
        entries = await self.inbox.read(after, self.kinds, limit=BATCH, recipient=self.recipient)
        if not entries:
            return False
        if await self._try(entries) is not None:
            # One of these entries is poison: find it by dealing with them one at a time.
            for entry in entries:
                await self._deal_with_one(entry)
        return True

    async def _try(self, entries: Sequence[Entry]) -> Exception | None:
        """Deal with entries; return what went wrong if it may be an entry's fault."""
        try:
            effect = await self.handle(entries)
            async with self.database.transaction() as connection:
                await effect(connection)
                await move_cursor(connection, self.reader, entries[-1].position)
        except (TransientError, StartOverError):
            raise
        except ExceptionGroup as group:
            outside = group.subgroup((TransientError, StartOverError))
            if outside is not None:
                raise _first(outside) from group
            return group
        except Exception as error:  # noqa: BLE001  # the edge where hostile entries meet our bugs
            return error
        return None

    async def _deal_with_one(self, entry: Entry) -> None:
        error: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(FIRST_WAIT_SECONDS)
            error = await self._try([entry])
            if error is None:
                return
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


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
