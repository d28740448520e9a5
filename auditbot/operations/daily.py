"""What is done by itself once a UTC day: legal holds on what was stored since, and a statement."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from auditbot.operations import completeness, legal_holds
from auditbot.operations.desk import Desk
from auditbot.pipeline.segment import DAY_MS
from common.alarms import raise_alarm
from common.database.pool import Connection
from common.errors import PermanentError, TransientError
from common.telemetry.log import Log

LOOK_SECONDS = 900.0
ACTOR = "steward"

log = Log("audit.daily")

_HOLDS = "legal holds"
_STATED = "completeness"
_MOST_DAYS = 7
"""How many days are made up for."""


@dataclass
class Daily:
    """The daily work. ``recorded`` is told when it wrote records."""

    desk: Desk
    recorded: Callable[[], None]

    async def run(self) -> None:
        """Do what is due, until cancelled; what failed is tried again at each look."""
        while True:
            try:
                await self.look()
            except (PermanentError, TransientError) as error:
                log.warning("the daily work will be tried again", wait=LOOK_SECONDS, reason=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Do what is due today."""
        today = self.desk.clock.now_ms() // DAY_MS
        await self._keep_held(today)
        await self._state(today)

    async def _keep_held(self, today: int) -> None:
        last, told = await self._last(_HOLDS)
        if last >= today:
            return
        done = await legal_holds.settle(self.desk, actor=ACTOR)
        if done.set or done.lifted:
            self.recorded()
        async with self.desk.database.transaction() as connection:
            if done.trouble is not None and done.trouble != told:
                await raise_alarm(connection, done.text, now_ms=self.desk.clock.now_ms())
            day = last if done.trouble is not None else today
            await _did(connection, _HOLDS, day, done.trouble)

    async def _state(self, today: int) -> None:
        """State the days that are over; those of a long absence had no running Steward."""
        last, _ = await self._last(_STATED)
        for day in range(max(last + 1, today - _MOST_DAYS), today):
            if not await completeness.state_day(self.desk, day):
                return
            async with self.desk.database.transaction() as connection:
                await _did(connection, _STATED, day, None)

    async def _last(self, task: str) -> tuple[int, str | None]:
        row = await self.desk.database.fetchrow("SELECT * FROM audit_daily WHERE task = $1", task)
        return (0, None) if row is None else (row["day"], row["trouble"])


async def _did(connection: Connection, task: str, day: int, trouble: str | None) -> None:
    await connection.execute(
        "INSERT INTO audit_daily (task, day, trouble) VALUES ($1, $2, $3)"
        " ON CONFLICT (task) DO UPDATE SET day = excluded.day, trouble = excluded.trouble",
        task,
        day,
        trouble,
    )
