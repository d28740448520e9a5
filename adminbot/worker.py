"""Carry out what was written down, a few commands at a time, until cancelled."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from adminbot.dispatch import Dispatcher
from adminbot.intake import Intake
from adminbot.store import Asked, Job, Store
from common.clock import Clock
from common.database.pool import Database
from common.errors import StewardError, TransientError
from common.ids import EventId
from common.telemetry.log import Log

AT_ONCE = 4
MOST_ATTEMPTS = 6
SOON_SECONDS = 0.005
IDLE_SECONDS = 2.0
TIDY_SECONDS = 600.0

Work = Callable[[], Awaitable[None]]

log = Log("adminbot")


@dataclass
class Worker:
    """The standing work. ``busy`` names the commands in hand."""

    dispatcher: Dispatcher
    intake: Intake
    store: Store
    database: Database
    clock: Clock
    max_age_ms: int
    busy: set[EventId] = field(default_factory=set)
    tidied: float = 0.0

    async def run(self) -> None:
        """Work until cancelled.

        The intake wakes us before its transaction is committed, so after a wake the database
        is looked at soon and then ever more rarely.
        """
        await self._recover()
        wait_seconds = SOON_SECONDS
        async with asyncio.TaskGroup() as group:
            while True:
                started = await self._look(group, idle=wait_seconds >= IDLE_SECONDS)
                if await self._woken(wait_seconds) or started:
                    wait_seconds = SOON_SECONDS
                else:
                    wait_seconds = min(wait_seconds * 2, IDLE_SECONDS)

    async def _woken(self, wait_seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await self.intake.woken.wait()
        woken = self.intake.woken.is_set()
        self.intake.woken.clear()
        return woken

    async def _look(self, group: asyncio.TaskGroup, *, idle: bool) -> bool:
        """Start what there is to do; return whether there was any."""
        try:
            if idle:
                await self._tidy()
            work = await self._waiting()
        except TransientError as error:
            log.warning("the database is away; will try again", reason=error)
            return False
        started = False
        for event, act in work:
            if event not in self.busy and len(self.busy) < AT_ONCE:
                self.busy.add(event)
                group.create_task(self._do(event, act))
                started = True
        return started

    async def _waiting(self) -> list[tuple[EventId, Work]]:
        confirmed = await self.store.confirmed()
        jobs = await self.store.jobs(AT_ONCE + len(self.busy))
        overdue = await self.store.overdue()
        return [
            *((one.event, partial(self._carry_out, one)) for one in confirmed),
            *((one.request.event, partial(self._obey, one)) for one in jobs),
            *((one.event, partial(self.dispatcher.expire, one)) for one in overdue),
        ]

    async def _tidy(self) -> None:
        _, unreadable = await self.store.counts()
        if unreadable:
            # A key may have come in the moment between our looking for it and our writing
            # down that it is missing.
            async with self.database.transaction() as connection:
                await self.intake.read_again(connection, None)
        if self.clock.monotonic() - self.tidied > TIDY_SECONDS:
            self.tidied = self.clock.monotonic()
            await self.store.forget_old()

    async def _recover(self) -> None:
        """Report what was cut short when the process last ended."""
        for asked in await self.store.interrupted():
            await self._do(asked.event, partial(self.dispatcher.report_interruption, asked))

    async def _do(self, event: EventId, act: Work) -> None:
        try:
            await act()
        except StewardError as error:
            log.warning("a command was not brought to its end", event=event, reason=error)
        finally:
            self.busy.discard(event)
            self.intake.woken.set()

    async def _carry_out(self, asked: Asked) -> None:
        try:
            await self.dispatcher.carry_out(asked)
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            log.crash(f"a plan failed, reference {_reference(asked.event)}", error)
            await self.dispatcher.report_interruption(asked)

    async def _obey(self, job: Job) -> None:
        request = job.request
        try:
            # It was recent when it was taken in; as much again for waiting in here.
            if self.clock.now_ms() - request.origin_ms > 2 * self.max_age_ms:
                sentence = "I was away when you asked this. Ask again if you still want it."
                await self.dispatcher.give_up(request, sentence)
            else:
                await self.dispatcher.obey(job)
        except TransientError as error:
            log.warning("a command has to wait", event=request.event, reason=error)
            await self._put_off(job)
        except StewardError as error:
            # Nowhere to reply to, most likely: we were removed from the room.
            log.warning("a command could not be answered", event=request.event, reason=error)
            await self.store.finish(request.event)
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            # A bug in one of many commands must neither stop the others nor the archive, and a
            # restart would only meet it again.
            reference = _reference(request.event)
            log.crash(f"a command failed, reference {reference}", error)
            await self.store.finish(request.event)
            await self.dispatcher.broken(request, reference)

    async def _put_off(self, job: Job) -> None:
        if job.attempts + 1 < MOST_ATTEMPTS:
            await self.store.put_off(job.request.event, 1000 * 2**job.attempts)
            return
        await self.store.finish(job.request.event)
        sentence = "The homeserver does not answer me. Ask again in a while."
        await self.dispatcher.give_up(job.request, sentence)


def _reference(event: EventId) -> str:
    """Return what connects an answer with a line in the log."""
    return hashlib.sha256(event.encode()).hexdigest()[:8]
