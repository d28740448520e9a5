"""Carrying out a plan that was written down: each step once, through restarts and outages.

Before a step is sent it is marked as begun and noted in the trail, afterwards as done or failed.
A step that was cut short is repeated only where doing it twice is the same as doing it once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast

from adminbot.audit_trail import AuditTrail, Phase, Subject
from adminbot.engine.answer import Answer, say
from adminbot.engine.intake import Request
from adminbot.engine.outcome import Fate, Finished, Taken, Tell, tell
from adminbot.engine.plan import Bulk
from adminbot.engine.step import OwnChange, Step, calls_homeserver, changes_own
from adminbot.jobs import Jobs, Running, is_cancelled
from adminbot.own_records import OwnRecords
from adminbot.progress import Ticker
from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import SwitchedOffError
from common.homeserver.port import AdminReader, AdminWriter, FollowedChange, Grant
from common.i18n import Msg, t
from common.ids import EventId

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 15.0
PATIENCE_SECONDS = 3600.0
"""How long a step of many waits for a homeserver that is away before it counts as failed."""
POLL_SECONDS = 0.5
LONGEST_POLL_SECONDS = 5.0
ASK_AGAIN_SECONDS = 15.0
"""How often a long job looks if it is still wanted, and still allowed."""

_KEY = "steward-step-"

Perform = Callable[[Any, str], Awaitable[str | None]]
"""Carries one kind of step out; the string is the same whenever the same step is tried again.

Returns what there is to say of it, if anything.
"""

StillAllowed = Callable[[], Awaitable[str | None]]
"""Returns why not any more, or ``None``."""


def job_of(key: str) -> str:
    """Return the event of the plan whose step was given a key; ``""`` for another key."""
    return key.removeprefix(_KEY).partition("-")[2] if key.startswith(_KEY) else ""


async def step_cancelled(database: Database, key: str) -> bool:
    """Say whether somebody wants the job stopped whose step was given a key."""
    event = job_of(key)
    return bool(event) and await is_cancelled(database, EventId(event))


class Door(Protocol):
    """The administration API, opened only as far as a grant."""

    def on_behalf_of(self, grant: Grant) -> AdminReader:
        """Return the reading half."""
        ...

    def executing_for(self, grant: Grant) -> AdminWriter:
        """Return the changing half."""
        ...


@dataclass(frozen=True)
class Ended:
    """What there is to say of a job that is over; ``stopped`` is why it ended early, if it did."""

    said: Answer
    stopped: str | None


@dataclass(frozen=True)
class Execution:
    """What carrying out needs. ``performers`` are for steps that are no call and no row."""

    jobs: Jobs
    trail: AuditTrail
    admin: Door
    records: OwnRecords
    performers: Mapping[type, Perform]
    reports: Mapping[str, Tell]
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def carry_on(
        self,
        request: Request,
        job: Running,
        grant: Grant,
        ticker: Ticker,
        still_allowed: StillAllowed,
    ) -> Ended:
        """Do what is left of a job; return how it ended."""
        run = _Run(self, request, job, grant, ticker, still_allowed, self.clock.monotonic())
        await run.to_the_end()
        result = await self.jobs.result(job.event)
        finished = Finished(
            summary=job.summary,
            taken=await self.jobs.taken(job.event),
            result=result if isinstance(result, Answer) else None,
            cancelled=run.stop is not None,
            bulk=job.bulk is not None,
        )
        await self.trail.note(run.subject, Phase.DONE, run.stop or "")
        said = self.reports.get(job.report or "", tell)(finished)
        return Ended(said.followed_by(say(run.stop)) if run.stop else said, run.stop)


@dataclass
class _Run:
    """One job being carried out in this life of the process."""

    around: Execution
    request: Request
    job: Running
    grant: Grant
    ticker: Ticker
    still_allowed: StillAllowed
    looked: float
    stop: str | None = None
    fault: BaseException | None = None
    next_start: float = 0.0
    pace: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def subject(self) -> Subject:
        return Subject(self.job.event, self.request.room, self.request.sender, self.job.command)

    async def to_the_end(self) -> None:
        """Take the steps; those of a bulk several at once."""
        if self.job.bulk is not None:
            await self._many_at_once(self.job.bulk)
            return
        async for taken in self.around.jobs.to_do(self.job.event):
            if await self._stopped():
                return
            if not await self._take(taken):
                if await self.around.jobs.cancelled(self.job.event):
                    self.stop = t("Somebody cancelled it.")
                return

    async def _many_at_once(self, bulk: Bulk) -> None:
        queue: asyncio.Queue[list[Taken] | None] = asyncio.Queue(maxsize=bulk.at_once)
        async with asyncio.TaskGroup() as group:
            for _ in range(bulk.at_once):
                group.create_task(self._work(queue))
            async for chain in self._chains(bulk.chain):
                if await self._stopped():
                    break
                await queue.put(chain)
            for _ in range(bulk.at_once):
                await queue.put(None)
        if self.fault is not None:
            raise self.fault

    async def _chains(self, length: int) -> AsyncIterator[list[Taken]]:
        """Yield what is left to do, the steps that belong together as one."""
        chain: list[Taken] = []
        async for taken in self.around.jobs.to_do(self.job.event):
            if chain and chain[0].number // length != taken.number // length:
                yield chain
                chain = []
            chain.append(taken)
        if chain:
            yield chain

    async def _work(self, queue: "asyncio.Queue[list[Taken] | None]") -> None:
        while (chain := await queue.get()) is not None:
            if self.fault is not None or self.stop is not None:
                continue  # emptied, so that who fills it is not left waiting
            try:
                await self._take_chain(chain)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  # handed on by to_the_end, as it is
                self.fault = error

    async def _take_chain(self, chain: list[Taken]) -> None:
        """Take steps that belong together, as long as all goes well."""
        assert self.job.bulk is not None  # noqa: S101  # only a bulk has chains
        first = chain[0].number // self.job.bulk.chain * self.job.bulk.chain
        # One of them may have failed in an earlier life of the process.
        well = chain[0].number == first or not await self.around.jobs.failed_among(
            self.job.event, first, chain[-1].number
        )
        for taken in chain:
            if well:
                await self._paced()
                well = await self._take(taken)
            else:
                why = t("Not done, since what goes before it was not.")
                await self._note(taken, Fate.FAILED, Phase.FAILED, why)

    async def _paced(self) -> None:
        """Wait until the next step may begin."""
        assert self.job.bulk is not None  # noqa: S101  # only a bulk has workers
        if self.job.bulk.per_second is None:
            return
        async with self.pace:
            now = self.around.clock.monotonic()
            if self.next_start > now:
                await self.around.sleep(self.next_start - now)
            self.next_start = max(now, self.next_start) + 1 / self.job.bulk.per_second

    async def _stopped(self) -> bool:
        """Say whether the job is to end early: cancelled, or not allowed any more."""
        if self.fault is not None or self.stop is not None:
            return True
        now = self.around.clock.monotonic()
        if await self.around.jobs.cancelled(self.job.event):
            self.stop = t("Somebody cancelled it.")
        elif now - self.looked > ASK_AGAIN_SECONDS:
            self.looked = now
            self.stop = await self.still_allowed()
        return self.stop is not None

    async def _take(self, taken: Taken) -> bool:
        """Take one step; return whether the next one may follow."""
        jobs, number = self.around.jobs, taken.number
        if taken.fate is Fate.BEGUN and not taken.step.idempotent:
            task = await jobs.task_of(self.job.event, number)
            if task is None:
                await self._note(taken, Fate.UNSURE, Phase.FAILED, t("I was interrupted."))
                return False
        await self._note(taken, Fate.BEGUN, Phase.ABOUT_TO, "")
        try:
            kept = await self._do(taken)
        except StartOverError:
            raise
        except TransientError as error:
            fate = Fate.FAILED if taken.step.idempotent else Fate.UNSURE
            await self._note(taken, fate, Phase.FAILED, _why(error))
            return False
        except StewardError as error:
            await self._note(taken, Fate.FAILED, Phase.FAILED, str(error))
            if isinstance(error, SwitchedOffError) and self.job.bulk is not None:
                self.stop = str(error)  # a thousand others would say the same
            return False
        if kept is not None:
            # Not above: that it cannot be written down does not make it a failure.
            async with jobs.database.transaction() as connection:
                await self._done(connection, taken, kept)
        self.ticker.step_over()
        return True

    async def _note(self, taken: Taken, fate: Fate, phase: Phase, detail: str) -> None:
        async with self.around.jobs.database.transaction() as connection:
            await self.around.jobs.mark(
                connection, self.job.event, taken.number, fate, detail=detail
            )
            await self.around.trail.note_in(
                connection, self.subject, phase, detail or taken.step.describe(), step=taken.number
            )
        if fate is not Fate.BEGUN:
            self.ticker.step_over()

    async def _do(self, taken: Taken) -> str | None:
        """Act; return what is to be kept of the answer, ``None`` if it is written down already."""
        step = taken.step
        if changes_own(step):
            # The change and that it was made, in one transaction: exactly once.
            async with self.around.jobs.database.transaction() as connection:
                await self.around.records.within(self.grant).apply(
                    connection, cast(OwnChange, step)
                )
                kept = ""
                if hasattr(step, "kept"):
                    statement = step.kept()
                    kept = str(await connection.fetchval(statement.sql, *statement.values))
                await self._done(connection, taken, kept)
            return None
        if not calls_homeserver(step):
            said = await self._patiently(step, lambda: self._perform(step, taken.number))
            return str(said or "")
        if hasattr(step, "follow"):
            return await self._followed(cast(FollowedChange, step), taken.number)
        writer = self.around.admin.executing_for(self.grant)
        answer = await self._patiently(step, lambda: writer.change(cast(Any, step)))
        # What a request has to say of its answer; see ``common.homeserver.port``.
        return step.answered(answer) if hasattr(step, "answered") else ""

    async def _done(self, connection: Connection, taken: Taken, kept: str) -> None:
        await self.around.jobs.mark(
            connection, self.job.event, taken.number, Fate.DONE, detail=kept
        )
        await self.around.trail.note_in(
            connection, self.subject, Phase.DID, taken.step.describe(), step=taken.number
        )

    async def _perform(self, step: Step, number: int) -> str | None:
        if not self.grant.allows(step):
            raise StewardError(t("This is not within what you may have done here."))
        perform = self.around.performers[type(step)]
        return await perform(step, f"{_KEY}{number}-{self.job.event}")

    async def _followed(self, step: FollowedChange, number: int) -> str:
        """Begin what the homeserver goes on with; return what there is to say at its end."""
        task = await self.around.jobs.task_of(self.job.event, number)
        if task is None:
            writer = self.around.admin.executing_for(self.grant)
            task = str(await writer.change(step))
            async with self.around.jobs.database.transaction() as connection:
                await self.around.jobs.mark(
                    connection, self.job.event, number, Fate.BEGUN, task=task
                )
        reader = self.around.admin.on_behalf_of(self.grant)
        wait_seconds = POLL_SECONDS
        while True:
            request = step.follow(task)
            progress = await self._patiently(None, lambda: reader.read(request))  # noqa: B023  # used at once
            if progress.finished:
                if progress.failed is not None:
                    raise StewardError(progress.failed)
                return str(progress.said or "")
            self.ticker.inner(progress)
            await self.around.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 1.5, LONGEST_POLL_SECONDS)

    async def _patiently(self, step: Step | None, act: Callable[[], Awaitable[Any]]) -> Any:
        """Try again while the homeserver is away, where that is safe and worth it.

        A single command fails soon, for somebody waits for it; a job of many steps waits for a
        homeserver that restarts, and so does following what goes on there.
        """
        patient = step is None or (self.job.bulk is not None and step.idempotent)
        wait_seconds, until = FIRST_WAIT_SECONDS, self.around.clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await act()
            except TransientError as error:
                if not patient or self.around.clock.monotonic() > until:
                    raise
                if await self.around.jobs.cancelled(self.job.event):
                    raise
                asked_ms = getattr(error, "retry_after_ms", None)
                asked = asked_ms / 1000 if isinstance(asked_ms, int | float) else 0.0
                self.ticker.waits()
                await self.around.sleep(max(wait_seconds, min(asked, LONGEST_WAIT_SECONDS)))
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)


def _why(error: TransientError) -> Msg:
    """Say why it could not be done although it was tried again."""
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return t("The homeserver met an error of its own (500); its log says which.")
    return t("The homeserver does not answer.")
