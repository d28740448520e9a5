"""Read entries in order, let a handler deal with them, move the cursor in the same transaction.

At least once into the handler, exactly once into the database: the cursor and the effect are
committed together. A poison entry is set aside with its reason after some attempts and never
blocks the others; it is tried again at the next start, and when a person asks for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import PermanentError, StartOverError, TransientError
from common.inbox.aside import dealt_with, set_aside, waiting_aside
from common.inbox.port import Entry, EntryKind
from common.inbox.store import StoredInbox, move_cursor
from common.telemetry.log import Log

Effect = Callable[[Connection], Awaitable[None]]
"""What a batch does to the database; committed together with the cursor that leaves it behind."""

Handler = Callable[[Sequence[Entry]], Awaitable[Effect]]
"""Decide what a batch of entries means. May do I/O, but changes nothing by itself: a crash
between the decision and the commit makes it run again."""

Prepare = Callable[[Sequence[Entry], asyncio.Event], Awaitable[None]]
"""A head start on entries whose turn comes next, in memory only: nothing may rely on it. It may
begin with the batch before; the event is set when that one waits for the disk, and for nothing
else."""

BATCH = 400
AHEAD_BYTES = 4 * 2**20
"""A batch of more than this is dealt with before the next one is read."""
LINGER_SECONDS = 0.01
"""How long a batch that is prepared waits for what a push may bring next."""
GATHER_SECONDS = 0.2
"""No batch grows for longer."""
ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
LOOK_SECONDS = 15.0
"""How often it is looked whether a person asked to have entries tried again."""

log = Log("inbox")


@dataclass
class _Ahead:
    """The batch after the present one, if it is being read already."""

    after: int = -1
    entries: asyncio.Task[Sequence[Entry]] | None = None
    storing: asyncio.Event = field(default_factory=asyncio.Event)


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
    prepare: Prepare | None = None
    _ahead: _Ahead = field(default_factory=_Ahead)

    async def run(self) -> None:
        """Deal with entries as they arrive, until cancelled."""
        async with asyncio.TaskGroup() as group:
            await self._run(group)

    async def _run(self, group: asyncio.TaskGroup) -> None:
        wait_seconds, retries = FIRST_WAIT_SECONDS, Retries(self.clock)
        while True:
            seen = self.inbox.arrived.count
            try:
                await retries.look(self)
                if await self.step(group):
                    wait_seconds = FIRST_WAIT_SECONDS
                    continue
                await self.inbox.arrived.changed(seen, timeout_seconds=LOOK_SECONDS)
            except TransientError as error:
                log.warning("will try again", reader=self.reader, wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)

    async def step(self, group: asyncio.TaskGroup | None = None) -> bool:
        """Deal with the next batch; return whether there was one.

        Args:
            group: where the batch after it is prepared meanwhile

        Raises:
            TransientError: nothing was done; the batch comes again.
            StartOverError: likewise, but not in this life of the process.
        """
        after = await self.inbox.cursor(self.reader)
        entries = await self._taken(after)
        if not entries:
            entries = await self._read(after)
            if not entries:
                return False
            if self.prepare is not None:
                # Before the transaction: whoever else wants to write need not wait for it.
                await _quietly(self.prepare, entries, _now())
        if self.prepare is not None:
            entries = await self._gathered(entries, self.prepare)
        if group is not None and self.prepare is not None:
            self._look_ahead(group, self.prepare, entries)
        if await self._try(entries, partial(self._leave, entries[-1])) is not None:
            # One of these entries is poison: find it by dealing with them one at a time.
            for entry in entries:
                await self._deal_with_one(entry)
        return True

    async def _gathered(self, entries: Sequence[Entry], prepare: Prepare) -> Sequence[Entry]:
        """Return a batch with what arrives while it is prepared or just afterwards, prepared too.

        Where much arrives, a transaction for each of the homeserver's pushes makes each push wait
        for what became of the one before; one for several pushes lets them follow each other.
        """
        gathered, size = list(entries), sum(len(entry.body) for entry in entries)
        until = self.clock.monotonic() + GATHER_SECONDS
        while len(gathered) < BATCH and size < AHEAD_BYTES and self.clock.monotonic() < until:
            seen = self.inbox.arrived.count
            more = await self._read(gathered[-1].position, BATCH - len(gathered))
            if more:
                gathered += more
                size += sum(len(entry.body) for entry in more)
                await _quietly(prepare, more, _now())
                continue
            await self.inbox.arrived.changed(seen, timeout_seconds=LINGER_SECONDS)
            if self.inbox.arrived.count == seen:
                break
        return gathered

    async def _read(self, after: int, limit: int = BATCH) -> Sequence[Entry]:
        return await self.inbox.read(after, self.kinds, limit=limit, recipient=self.recipient)

    async def _taken(self, after: int) -> Sequence[Entry]:
        """Return the batch that was read ahead if it is the one whose turn it is."""
        reading, self._ahead.entries = self._ahead.entries, None
        if reading is None:
            return ()
        self._ahead.storing.set()
        entries = await reading
        return entries if self._ahead.after == after else ()

    def _look_ahead(
        self, group: asyncio.TaskGroup, prepare: Prepare, entries: Sequence[Entry]
    ) -> None:
        """Have the batch after this one read and prepared while this one is dealt with."""
        if len(entries) < BATCH or sum(len(entry.body) for entry in entries) > AHEAD_BYTES:
            return
        self._ahead.after = entries[-1].position
        self._ahead.storing = asyncio.Event()
        self._ahead.entries = group.create_task(
            self._read_ahead(prepare, self._ahead.after, self._ahead.storing)
        )

    async def _read_ahead(
        self, prepare: Prepare, after: int, storing: asyncio.Event
    ) -> Sequence[Entry]:
        try:
            entries = await self._read(after)
        except TransientError:
            return ()  # it shows when their turn comes
        if entries:
            await _quietly(prepare, entries, storing)
        return entries

    async def try_aside(self, *, only_due: bool) -> int:
        """Deal with what was set aside, once each; return how much could be dealt with now.

        Raises:
            TransientError: it stays set aside, and comes again.
            StartOverError: likewise.
        """
        done, after = 0, -1
        while entries := await waiting_aside(
            self.database, self.reader, after=after, only_due=only_due
        ):
            for entry in entries:
                error = await self._try([entry], partial(_forget, self.reader, entry))
                if error is None:
                    done += 1
                else:
                    await self._set_aside(entry, error)
            after = entries[-1].position
        if done:
            log.info("entries that were set aside could be dealt with", count=done)
        return done

    async def _try(self, entries: Sequence[Entry], leave: Effect) -> Exception | None:
        """Deal with entries; return what went wrong if it may be an entry's fault."""
        try:
            effect = await self.handle(entries)
            async with self.database.transaction() as connection:
                await effect(connection)
                await leave(connection)
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
            error = await self._try([entry], partial(self._move, entry))
            if error is None:
                return
        await self._set_aside(entry, error)

    async def _set_aside(self, entry: Entry, error: Exception | None) -> None:
        # The message of such an error may quote what somebody wrote: only its kind is told.
        reason = str(error) if isinstance(error, PermanentError) else type(error).__name__
        log.error(
            "an entry was set aside; `steward inbox list` shows what is, and it is tried again "
            "at the next start",
            reader=self.reader,
            position=entry.position,
            kind=entry.kind.value,
            reason=reason,
        )
        async with self.database.transaction() as connection:
            await set_aside(connection, self.reader, entry, reason, now_ms=self.clock.now_ms())
            if entry.position > await self.inbox.cursor_in(connection, self.reader):
                await move_cursor(connection, self.reader, entry.position)

    async def _leave(self, entry: Entry, connection: Connection) -> None:
        await move_cursor(connection, self.reader, entry.position)
        self._ahead.storing.set()  # what comes next is the commit

    async def _move(self, entry: Entry, connection: Connection) -> None:
        await move_cursor(connection, self.reader, entry.position)


@dataclass
class Retries:
    """When a reader's entries that were set aside are tried again: at the start, and on request."""

    clock: Clock
    _looked: float | None = None

    async def look(self, consumer: Consumer) -> None:
        """Try what is due, if it is time to look."""
        now = self.clock.monotonic()
        if self._looked is not None and now - self._looked < LOOK_SECONDS:
            return
        await consumer.try_aside(only_due=self._looked is not None)
        self._looked = now


def _now() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _quietly(prepare: Prepare, entries: Sequence[Entry], storing: asyncio.Event) -> None:
    try:
        await prepare(entries, storing)
    except Exception as error:  # noqa: BLE001  # the same edge: it shows when their turn comes
        log.debug("entries could not be prepared", reason=type(error).__name__)


async def _forget(reader: str, entry: Entry, connection: Connection) -> None:
    await dealt_with(connection, reader, entry)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
