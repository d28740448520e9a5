"""What is done by itself: what was interrupted, and once a UTC day legal holds and a statement."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from auditbot.operations import completeness, erasure, legal_holds, retention
from auditbot.operations.desk import Desk
from auditbot.pipeline.segment import DAY_MS
from auditbot.segments import StreamPlace
from auditbot.storage.port import ArchiveStore
from auditbot.unread import forget_old
from common.alarms import raise_alarm
from common.database.pool import Connection
from common.errors import PermanentError, TransientError
from common.telemetry.log import Log

LOOK_SECONDS = 900.0
ACTOR = "steward"

log = Log("audit.daily")

_HOLDS = "legal holds"
_STATED = "completeness"
_ANNOUNCED = "announced"
_PATIENCE_MS = 900_000
"""How long a command that was typed has for itself what it announced."""
_AWAY = "away: "
"""What a trouble begins with that goes by itself, where it is remembered."""
_SETTLE_MS = 60_000
"""So long after a day's end what others count of it is written down."""
_MOST_DAYS = 7
"""How many days are made up for."""


@dataclass
class Daily:
    """The daily work. ``recorded`` is told when it wrote records."""

    desk: Desk
    recorded: Callable[[], None]
    enter: Callable[[StreamPlace, ArchiveStore], Awaitable[None]] | None = None
    """Asked before a day is stated: whether this writer may store that."""
    _tried_ms: int | None = None
    """Until when what was announced was tried since the start."""

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
        await self._finish(today)
        await self._state(today)

    async def _keep_held(self, today: int) -> None:
        last, told = await self._last(_HOLDS)
        if last == today:  # a later one is of a clock that was set back since
            return
        done = await legal_holds.settle(self.desk, actor=ACTOR)
        if done.set or done.lifted:
            self.recorded()
        async with self.desk.database.transaction() as connection:
            if done.trouble is not None and done.trouble != told:
                await raise_alarm(connection, done.text, now_ms=self.desk.clock.now_ms())
            day = last if done.trouble is not None else today
            await _did(connection, _HOLDS, day, done.trouble)

    async def _finish(self, today: int) -> None:
        """Finish the erasures and removals that a crash or their store left undone.

        What is refused or held is tried once a day, and after a start: looking for what holds it
        may read much of the archive. What is left because a store is away is tried at each look.
        """
        now_ms = self.desk.clock.now_ms()
        last, told = await self._last(_ANNOUNCED)
        after_ms = self._tried_ms if last == today else None
        due = range(0 if after_ms is None else after_ms, now_ms - _PATIENCE_MS)
        refused, away = list[str](), list[str]()
        for carry_out in (erasure.carry_out, retention.carry_out):
            outcome = await carry_out(self.desk, made_ms=due)
            for _, error in outcome.failed:
                (away if isinstance(error, TransientError) else refused).append(str(error))
            refused += outcome.refused
            away += outcome.away
        # Not what a look of yesterday tried: today all of it is due.
        self._tried_ms = after_ms if away else due.stop
        trouble = None if after_ms is None else told
        if refused:
            trouble = refused[0]
        elif away:
            trouble = _still(told, away[0])
        async with self.desk.database.transaction() as connection:
            if trouble is not None and (told is None or _is_worse(trouble, told)):
                await raise_alarm(connection, _not_gone(trouble), now_ms=now_ms)
            if (last, told) != (today, trouble):
                await _did(connection, _ANNOUNCED, today, trouble)

    async def _state(self, today: int) -> None:
        """State the days that are over; those of a long absence had no running Steward."""
        if self.desk.clock.now_ms() < today * DAY_MS + _SETTLE_MS:
            return
        last, _ = await self._last(_STATED)
        # A day that is not over was stated under a wrong clock; none is stated twice.
        begin = last + 1 if last < today else 0
        days = range(max(begin, today - _MOST_DAYS), today)
        if days:
            await self._enter()
        for day in days:
            if not await completeness.state_day(self.desk, day):
                return
            async with self.desk.database.transaction() as connection:
                await _did(connection, _STATED, day, None)
            await forget_old(self.desk.database, today)

    async def _enter(self) -> None:
        """Return if this writer may store at the present place, or nothing is exported."""
        is_open = await self.desk.database.fetchval("SELECT stream FROM audit_head WHERE id = 1")
        if self.enter is None or is_open is None:
            return
        place = await self.desk.newest_place()
        async with self.desk.store(place) as store:
            await self.enter(StreamPlace(is_open, place.destination, place.endpoint_url), store)

    async def _last(self, task: str) -> tuple[int, str | None]:
        row = await self.desk.database.fetchrow("SELECT * FROM audit_daily WHERE task = $1", task)
        return (0, None) if row is None else (row["day"], row["trouble"])


def _still(told: str | None, away: str) -> str:
    """Return the trouble where a store is away; what it refused before is not over by that."""
    return f"{_AWAY}{away}" if told is None or told.startswith(_AWAY) else told


def _is_worse(trouble: str, told: str) -> bool:
    """Return whether a store refuses now of which it was told only that it is away."""
    return told.startswith(_AWAY) and not trouble.startswith(_AWAY)


def _not_gone(trouble: str) -> str:
    if trouble.startswith(_AWAY):
        return (
            "What was erased or removed by a signed document is not all gone, because its store "
            f"cannot be reached or used now: {trouble.removeprefix(_AWAY)} Steward tries it again "
            "by itself every quarter of an hour until it can."
        )
    return (
        "What was erased or removed by a signed document is not all gone, because the store "
        f"refuses: {trouble} Steward tries it again once a day. See that its key may use "
        "s3:DeleteObject, s3:DeleteObjectVersion and, where the bucket keeps versions, "
        "s3:ListBucketVersions, and how long the bucket locks what lies there."
    )


async def _did(connection: Connection, task: str, day: int, trouble: str | None) -> None:
    await connection.execute(
        "INSERT INTO audit_daily (task, day, trouble) VALUES ($1, $2, $3)"
        " ON CONFLICT (task) DO UPDATE SET day = excluded.day, trouble = excluded.trouble",
        task,
        day,
        trouble,
    )
