"""Gives commands that are due, each once, in the name of who scheduled them.

A run is a command like any other: it is written down in the transaction that moves the schedule
on, and who asked for it is looked at again when it is carried out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from adminbot import schedule
from adminbot.engine.answer import moment_of
from adminbot.engine.intake import Request, Source
from adminbot.own.schedules import Scheduled, read_scheduled
from adminbot.store import Store
from common.clock import Clock
from common.database.pool import Database
from common.errors import StewardError, TransientError
from common.ids import EventId
from common.telemetry.log import Log

LOOK_SECONDS = 1.0
GRACE = timedelta(seconds=60)
"""Later than this is a run that was missed."""
MOST_AT_ONCE = 100

log = Log("adminbot.scheduler")


@dataclass(frozen=True)
class Scheduler:
    """The standing work."""

    database: Database
    clock: Clock
    store: Store
    woken: asyncio.Event
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Give what is due until cancelled."""
        while True:
            try:
                await self.give_due()
            except TransientError as error:
                log.warning("the database is away; will try again", reason=error)
            await self.sleep(LOOK_SECONDS)

    async def give_due(self) -> int:
        """Give every command whose time has come; return how many runs that were."""
        rows = await self.database.fetch(
            "SELECT * FROM admin_schedule WHERE next_ms <= $1 ORDER BY next_ms LIMIT $2",
            self.clock.now_ms(),
            MOST_AT_ONCE,
        )
        runs = 0
        for row in rows:
            scheduled = read_scheduled(row)
            try:
                runs += await self._give(scheduled)
            except TransientError:
                raise
            except StewardError as error:
                log.error("a schedule cannot be read", schedule=scheduled.number, reason=error)
                await self._move(scheduled, [], None)
        return runs

    async def _give(self, one: Scheduled) -> int:
        begun, first = moment_of(one.begun_ms), moment_of(one.next_ms)
        if begun is None or first is None:
            raise StewardError("its times are none")
        now = self.clock.now()
        times, following = schedule.due(one.rule, one.zone, begun=begun, first=first, now=now)
        wanted = schedule.to_run(times, missed=one.missed, now=now, grace=GRACE)
        if len(wanted) < len(times):
            missed = len(times) - len(wanted)
            log.warning("runs were missed and are left out", schedule=one.number, runs=missed)
        next_ms = None if following is None else int(following.timestamp() * 1000)
        moments = [int(moment.timestamp() * 1000) for moment in wanted]
        return await self._move(one, moments, next_ms)

    async def _move(self, one: Scheduled, runs: list[int], next_ms: int | None) -> int:
        """Move a schedule on and write its runs down as commands, in one transaction."""
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            moved = await connection.fetchrow(
                "UPDATE admin_schedule SET next_ms = $1, last_ms = $2, runs = runs + $3"
                " WHERE number = $4 AND next_ms = $5 RETURNING number",
                next_ms,
                now_ms if runs else one.last_ms,
                len(runs),
                one.number,
                one.next_ms,
            )
            if moved is None:
                return 0  # removed at this moment
            for due_ms in runs:
                await self.store.take_in(connection, _request(one, due_ms, now_ms), None)
        if runs:
            self.woken.set()
        return len(runs)


def _request(one: Scheduled, due_ms: int, now_ms: int) -> Request:
    return Request(
        event=EventId(f"$steward-schedule-{one.number}-{due_ms}"),
        room=one.room,
        sender=one.owner,
        origin_ms=now_ms,
        text=one.text,
        formatted=one.formatted,
        thread=None,
        addressed=True,
        source=Source.SCHEDULE,
    )
