"""Carry out what was written down, a few commands at a time, until cancelled."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from adminbot.dispatch import Dispatcher
from adminbot.engine.intake import Request
from adminbot.engine.waiting import Asked, Job
from adminbot.intake import Intake
from adminbot.store import Store
from adminbot.telling import Telling
from common.clock import Clock
from common.errors import StartOverError, StewardError, TransientError
from common.i18n import t
from common.ids import EventId
from common.telemetry.log import Log

AT_ONCE = 4
JOBS_AT_ONCE = 8
MOST_ATTEMPTS = 6
SOON_SECONDS = 0.005
IDLE_SECONDS = 2.0
REST_SECONDS = 5.0
LONGEST_WAIT_MS = 30_000
TIDY_SECONDS = 600.0

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """Something to do about one command; ``long``: a plan to be carried out."""

    event: EventId
    act: Callable[[], Awaitable[None]]
    long: bool = False


# Tried again, here or in the next life of the process; not for the person to hear of.
_NOT_ITS_FAULT = (TransientError, StartOverError)

log = Log("adminbot")


@dataclass
class Worker:
    """The standing work.

    ``busy`` names the commands in hand, ``long`` those of them that are plans being carried
    out, ``resting`` those that failed just now, with when to
    try them again.
    """

    dispatcher: Dispatcher
    intake: Intake
    store: Store
    clock: Clock
    max_age_ms: int
    telling: Telling
    busy: set[EventId] = field(default_factory=set)
    long: set[EventId] = field(default_factory=set)
    resting: dict[EventId, float] = field(default_factory=dict)
    tidied: float = 0.0

    async def run(self) -> None:
        """Work until cancelled.

        The intake wakes us before its transaction is committed, so after a wake the database
        is looked at soon and then ever more rarely.

        Raises:
            StartOverError: everything in hand is taken up again in the next life.
        """
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
        if idle:
            await _surviving("tidying", self._tidy)
        now = self.clock.monotonic()
        self.resting = {event: until for event, until in self.resting.items() if until > now}
        # As of before the database is asked: what ends meanwhile must not be begun again.
        in_hand = self.busy | self.resting.keys()
        work = await _surviving("looking for work", self._waiting)
        started = False
        for each in work or []:
            if each.event in in_hand or each.event in self.busy or not self._has_room_for(each):
                continue
            self.busy.add(each.event)
            if each.long:
                self.long.add(each.event)
            group.create_task(self._do(each))
            started = True
        return started

    async def _waiting(self) -> list[Work]:
        """Return what may be begun: few commands at once, and beside them some long jobs."""
        quick = len(self.busy - self.long) < AT_ONCE
        roomy = len(self.long) < JOBS_AT_ONCE
        executing = await self.store.executing() if roomy else []
        confirmed = await self.store.confirmed() if roomy else []
        jobs = await self.store.jobs(AT_ONCE + len(self.busy) + len(self.resting)) if quick else []
        overdue = await self.store.overdue() if quick else []
        return [
            *(Work(one.event, partial(self._carry_on, one), long=True) for one in executing),
            *(Work(one.event, partial(self._carry_out, one), long=True) for one in confirmed),
            *(Work(one.request.event, partial(self._obey, one)) for one in jobs),
            *(Work(one.event, partial(self.dispatcher.expire, one)) for one in overdue),
        ]

    async def _tidy(self) -> None:
        _, unreadable = await self.store.counts()
        if unreadable:
            # A key may have come in the moment between our looking for it and our writing
            # down that it is missing.
            await self.intake.read_again(None)
        await self.telling.take_back_secrets()
        await self.intake.choices.forget_old()
        if self.clock.monotonic() - self.tidied > TIDY_SECONDS:
            self.tidied = self.clock.monotonic()
            await self.store.forget_old()
            await self.dispatcher.execution.jobs.forget_old()

    def _has_room_for(self, work: Work) -> bool:
        if work.long:
            return len(self.long) < JOBS_AT_ONCE
        return len(self.busy - self.long) < AT_ONCE

    async def _do(self, work: Work) -> None:
        event = work.event
        try:
            await work.act()
        except StartOverError:
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            self.resting[event] = self.clock.monotonic() + REST_SECONDS
            _tell("a command was not brought to its end", error, event)
        finally:
            self.busy.discard(event)
            self.long.discard(event)
            self.intake.woken.set()

    async def _carry_out(self, asked: Asked) -> None:
        await self._reported(asked, self.dispatcher.carry_out)

    async def _carry_on(self, asked: Asked) -> None:
        await self._reported(asked, self.dispatcher.carry_on)

    async def _reported(self, asked: Asked, act: Callable[[Asked], Awaitable[None]]) -> None:
        try:
            await act(asked)
        except _NOT_ITS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            _tell("a plan failed", error, asked.event)
            await self._report(asked, _reference(asked.event))

    async def _report(self, asked: Asked, reference: str = "") -> None:
        try:
            await self.dispatcher.report_interruption(asked, reference)
        except _NOT_ITS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            _tell("what became of a plan could not be said", error, asked.event)
            await self.store.end(asked.event)

    async def _obey(self, job: Job) -> None:
        try:
            await self._answer(job)
        except TransientError as error:
            log.warning("a command has to wait", event=job.request.event, reason=error)
            wait_ms = min(1000 * 2**job.attempts, LONGEST_WAIT_MS)
            await self.store.put_off(job.request.event, wait_ms)

    async def _answer(self, job: Job) -> None:
        request = job.request
        try:
            # It was recent when it was taken in; as much again for waiting in here.
            if self.clock.now_ms() - request.origin_ms > 2 * self.max_age_ms:
                sentence = t("I was away when you asked this. Ask again if you still want it.")
                await self.dispatcher.give_up(request, sentence)
            elif job.attempts >= MOST_ATTEMPTS:
                sentence = t("The homeserver does not answer me. Ask again in a while.")
                await self.dispatcher.give_up(request, sentence)
            else:
                await self.dispatcher.obey(job)
        except _NOT_ITS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            # A bug in one of many commands must neither stop the others nor the archive, and a
            # restart would only meet it again.
            _tell("a command failed", error, request.event)
            await self._say_so(request)

    async def _say_so(self, request: Request) -> None:
        try:
            await self.dispatcher.failed(request, _reference(request.event))
        except _NOT_ITS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one command
            # Nowhere to reply to, most likely: we were removed from the room.
            _tell("a command could not be answered", error, request.event)
            await self.store.end(request.event)


async def _surviving(what: str, act: Callable[[], Awaitable[T]]) -> T | None:
    """Do a part of the standing work; whatever it meets, the work goes on a moment later."""
    try:
        return await act()
    except StartOverError:
        raise
    except TransientError as error:
        log.warning("the database is away; will try again", reason=error)
    except Exception as error:  # noqa: BLE001  # one bad row or bug must not end both bots
        _tell(f"{what} failed", error)
    return None


def _tell(sentence: str, error: Exception, event: EventId | None = None) -> None:
    said = sentence if event is None else f"{sentence}, reference {_reference(event)}"
    if isinstance(error, StewardError):
        log.error(said, event=event, kind=type(error).__name__, reason=error)
    else:
        log.crash(said, error)


def _reference(event: EventId) -> str:
    """Return what connects an answer with a line in the log."""
    return hashlib.sha256(event.encode()).hexdigest()[:8]
