"""Showing how far long work is: typing after a moment, then one message that is edited in place.

Losing any of it costs nothing: the outcome is told at the end in a message of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from adminbot.engine.answer import Answer, Mono, answer, lasting, say
from adminbot.engine.intake import Request
from adminbot.engine.outcome import Fate
from adminbot.jobs import Jobs, Running
from adminbot.replies import Replies
from common.clock import Clock
from common.errors import StewardError
from common.homeserver.port import Progress
from common.i18n import Msg, t
from common.ids import EventId
from common.telemetry.log import Log

TYPING_AFTER_SECONDS = 1.0
MESSAGE_AFTER_SECONDS = 5.0
EDIT_SECONDS = 4.0
TYPE_AGAIN_SECONDS = 20.0
"""Before clients stop showing it by themselves; see ``adminbot.replies.TYPING_MS``."""

log = Log("adminbot")


@dataclass
class Ticker:
    """What is known of the work in hand; told to by whoever does it."""

    total: int
    done: int = 0
    begun_with: int = 0
    waiting: bool = False
    within: Progress | None = None

    def step_over(self) -> None:
        """One more step is over, done or not."""
        self.done += 1
        self.waiting = False
        self.within = None

    def waits(self) -> None:
        """The homeserver is away or asks for patience."""
        self.waiting = True

    def inner(self, progress: Progress) -> None:
        """The homeserver tells how far its own task is."""
        self.within = progress


@dataclass(frozen=True)
class Showing:
    """Shows the progress of jobs to who asked for them."""

    replies: Replies
    jobs: Jobs
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @asynccontextmanager
    async def of(self, request: Request, job: Running) -> AsyncIterator[Ticker]:
        """Show how far a job is while the block runs."""
        counts = await self.jobs.counts(job.event)
        over = job.total - counts.get(Fate.WAITING, 0) - counts.get(Fate.BEGUN, 0)
        ticker = Ticker(job.total, over, over)
        shown = _Shown(self, request, job, ticker, self.clock.monotonic(), job.progress)
        async with _alongside(shown.keep_telling()):
            yield ticker
        await shown.close()

    @asynccontextmanager
    async def busy(self, request: Request) -> AsyncIterator[None]:
        """Show that we are at it if the block takes longer than a moment."""
        async with _alongside(self._type(request)):
            yield

    async def _type(self, request: Request) -> None:
        await self.sleep(TYPING_AFTER_SECONDS)
        async with self.replies.typing(request.room) as still:
            while True:
                await self.sleep(TYPE_AGAIN_SECONDS)
                await still()


@dataclass
class _Shown:
    """The one message about a job; ``message`` is known from before if we were restarted."""

    by: Showing
    request: Request
    job: Running
    ticker: Ticker
    begun: float
    message: EventId | None
    tried: bool = False

    async def keep_telling(self) -> None:
        """Type, then say how far it is, then change what is said, until cancelled."""
        await self.by.sleep(TYPING_AFTER_SECONDS)
        async with self.by.replies.typing(self.request.room):
            await self.by.sleep(MESSAGE_AFTER_SECONDS - TYPING_AFTER_SECONDS)
        while True:
            try:
                if self.message is None:
                    await self._say()
                else:
                    await self._edit(self._now())
            except StewardError as error:
                # The next one will do; what ends this life of the process ends the work too.
                log.info("progress could not be shown", reason=error)
            await self.by.sleep(EDIT_SECONDS)

    async def close(self) -> None:
        """The job is over: leave nothing behind that says how to stop it."""
        try:
            if self.message is None and self.tried:
                await (
                    self._say()
                )  # cut short while it was sent; the same again is the same message
            if self.message is not None:
                took = timedelta(milliseconds=self.by.clock.now_ms() - self.job.started_ms)
                await self._edit(ended(self.job, self.ticker, took))
        except StewardError as error:
            log.info("the end of a job's progress could not be shown", reason=error)

    async def _say(self) -> None:
        self.tried = True
        self.message = await self.by.replies.send(self.request, self._now(), "progress")
        await self.by.jobs.progress_sent(self.job.event, self.message)

    async def _edit(self, said: Answer) -> None:
        if self.message is not None:
            purpose = f"progress-{self.by.clock.now_ms()}"
            await self.by.replies.edit(self.request, self.message, said, purpose)

    def _now(self) -> Answer:
        return told(self.job, self.ticker, self.by.clock.monotonic() - self.begun)


@asynccontextmanager
async def _alongside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do something beside the block; what either of them raises comes out as it is."""
    raised: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            except BaseException as error:  # noqa: BLE001  # raised again below, outside of the group
                raised = error
            finally:
                task.cancel()
    except BaseExceptionGroup as several:
        raised = several.exceptions[0]  # there is one task, and it ended the block
    if raised is not None:
        raise raised


def told(job: Running, ticker: Ticker, seconds: float) -> Answer:
    """Return what the progress message says."""
    lines: list[Msg] = [_how_far(job, ticker)]
    here = ticker.done - ticker.begun_with
    if here > 0 and seconds > 0:
        rate = here / seconds
        left = timedelta(seconds=(ticker.total - ticker.done) / rate)
        shown = f"{rate:.1f}"
        lines.append(t("{rate} a second, about {left} left", rate=shown, left=lasting(left)))
    if ticker.within is not None:
        lines.extend(_inner(ticker.within))
    if ticker.waiting:
        lines.append(t("The homeserver asks for patience or is away; I wait and go on."))
    stop = t("To stop it: {command}", command=Mono(f"cancel {job.number}"))
    return answer(*lines, say(stop))


def ended(job: Running, ticker: Ticker, took: timedelta) -> Answer:
    """Return what the progress message says once all is over."""
    return answer(_how_far(job, ticker), t("It took {time}.", time=lasting(took)))


def _how_far(job: Running, ticker: Ticker) -> Msg:
    return t(
        "{summary}: {done} of {total}", summary=job.summary, done=ticker.done, total=ticker.total
    )


def _inner(progress: Progress) -> list[Msg]:
    if progress.said is not None:
        return [progress.said]
    if progress.done is None:
        return []
    if progress.total is None:
        return [t("The homeserver has done {done}.", done=progress.done)]
    return [
        t("The homeserver has done {done} of {total}.", done=progress.done, total=progress.total)
    ]
