"""Plans that are being carried out, in the database: every step, and how far it came.

The promise: what was decided is what is done, each step once, whatever crashes in between; and
nothing of it is readable in the database, since steps may hold passwords.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from adminbot.engine.codec import Codec
from adminbot.engine.intake import Request
from adminbot.engine.kept import kept, told
from adminbot.engine.outcome import Fate, Taken
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.text import storable
from common.clock import Clock
from common.crypto.sealing import Sealer
from common.database.pool import Connection, Database, Row
from common.ids import EventId, RoomId, UserId

STEPS_AT_ONCE = 200
KEPT_MS = 30 * 86_400_000
"""How long a finished job can be looked at."""


class Status(StrEnum):
    """Where a job stands."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DONE = "done"


@dataclass(frozen=True)
class Running:
    """A plan that is being carried out; ``number`` is its name for people."""

    event: EventId
    number: int
    room: RoomId
    requester: UserId
    command: str
    summary: str
    status: Status
    total: int
    bulk: Bulk | None
    report: str | None
    progress: EventId | None
    started_ms: int


@dataclass(frozen=True)
class Jobs:
    """The tables ``admin_job`` and ``admin_job_step``."""

    database: Database
    clock: Clock
    codec: Codec
    sealer: Sealer

    async def begin(
        self, connection: Connection, request: Request, plan: Plan, command: str
    ) -> None:
        """Write a plan down as being carried out; a second time changes nothing."""
        result = None if plan.result is None else self._sealed(plan.result, request.event)
        begun = await connection.fetchrow(
            "INSERT INTO admin_job (event_id, number, room_id, requester, command, summary,"
            " fingerprint, status, total, bulk, at_once, per_second, report, result, started_ms,"
            " chain)"
            " VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM admin_job), $2, $3, $4, $5,"
            " $6, 'running', $7, $8, $9, $10, $11, $12, $13, $14)"
            " ON CONFLICT (event_id) DO NOTHING RETURNING event_id",
            request.event,
            request.room,
            request.sender,
            storable(command),
            kept(plan.summary),
            plan.fingerprint,
            len(plan.steps),
            int(plan.bulk is not None),
            plan.bulk.at_once if plan.bulk else 1,
            plan.bulk.per_second if plan.bulk else None,
            plan.report,
            result,
            self.clock.now_ms(),
            plan.bulk.chain if plan.bulk else 1,
        )
        if begun is None:
            return
        await connection.executemany(
            "INSERT INTO admin_job_step (event_id, number, status, step, detail)"
            " VALUES ($1, $2, 'waiting', $3, '')",
            [
                (request.event, number, self._sealed(step, request.event))
                for number, step in enumerate(plan.steps)
            ],
        )

    async def running(self, event: EventId) -> Running | None:
        """Return a job that is not over yet."""
        row = await self.database.fetchrow(
            "SELECT * FROM admin_job WHERE event_id = $1 AND status IN ('running', 'cancelling')",
            event,
        )
        return None if row is None else _running(row)

    async def cancelled(self, event: EventId) -> bool:
        """Say whether somebody wants a job stopped."""
        return await is_cancelled(self.database, event)

    async def to_do(self, event: EventId) -> AsyncIterator[Taken]:
        """Yield the steps that are not over, in order; begun ones were cut short."""
        after = -1
        while True:
            rows = await self.database.fetch(
                "SELECT * FROM admin_job_step WHERE event_id = $1 AND number > $2"
                " AND status IN ('waiting', 'begun') ORDER BY number LIMIT $3",
                event,
                after,
                STEPS_AT_ONCE,
            )
            for row in rows:
                yield self._taken(row)
                after = int(row["number"])
            if len(rows) < STEPS_AT_ONCE:
                return

    async def failed_among(self, event: EventId, first: int, last: int) -> bool:
        """Say whether one of some steps, from ``first`` to ``last``, did not succeed."""
        number = await self.database.fetchval(
            "SELECT COUNT(*) FROM admin_job_step WHERE event_id = $1 AND number BETWEEN $2 AND $3"
            " AND status IN ('failed', 'unsure')",
            event,
            first,
            last,
        )
        return bool(number)

    async def task_of(self, event: EventId, number: int) -> str | None:
        """Return the homeserver's name for what a step began there, if it got that far."""
        task: str | None = await self.database.fetchval(
            "SELECT task FROM admin_job_step WHERE event_id = $1 AND number = $2", event, number
        )
        return task

    async def mark(
        self,
        connection: Connection,
        event: EventId,
        number: int,
        fate: Fate,
        *,
        detail: str = "",
        task: str | None = None,
    ) -> None:
        """Write down how far a step came."""
        await connection.execute(
            "UPDATE admin_job_step SET status = $1, detail = $2, task = COALESCE($3, task)"
            " WHERE event_id = $4 AND number = $5",
            fate.value,
            kept(detail),
            task,
            event,
            number,
        )

    async def progress_sent(self, event: EventId, message: EventId) -> None:
        """Remember the message that shows how far a job is."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_job SET progress_id = $1 WHERE event_id = $2", message, event
            )

    async def counts(self, event: EventId) -> dict[Fate, int]:
        """Return how many steps have which fate."""
        rows = await self.database.fetch(
            "SELECT status, COUNT(*) AS number FROM admin_job_step WHERE event_id = $1"
            " GROUP BY status",
            event,
        )
        return {Fate(row["status"]): int(row["number"]) for row in rows}

    async def taken(self, event: EventId) -> tuple[Taken, ...]:
        """Return all steps with their fates, in order."""
        rows = await self.database.fetch(
            "SELECT * FROM admin_job_step WHERE event_id = $1 ORDER BY number", event
        )
        return tuple(self._taken(row) for row in rows)

    async def result(self, event: EventId) -> object:
        """Return what the command had to say if all went well, or ``None``."""
        sealed = await self.database.fetchval(
            "SELECT result FROM admin_job WHERE event_id = $1", event
        )
        return None if sealed is None else self._opened(sealed, event)

    async def end(self, event: EventId, status: Status, reason: str = "") -> None:
        """A job is over: forget what it was made of, keep what it was and how it went.

        ``reason`` is why it ended before its last step, if it did.
        """
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_job SET status = $1, ended_ms = $2, result = NULL, reason = $3"
                " WHERE event_id = $4",
                status.value,
                self.clock.now_ms(),
                kept(reason),
                event,
            )
            await connection.execute(
                "UPDATE admin_job_step SET step = $1 WHERE event_id = $2", b"", event
            )

    async def forget_old(self) -> None:
        """Drop jobs that ended long ago."""
        before = self.clock.now_ms() - KEPT_MS
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM admin_job_step WHERE event_id IN"
                " (SELECT event_id FROM admin_job WHERE ended_ms < $1)",
                before,
            )
            await connection.execute("DELETE FROM admin_job WHERE ended_ms < $1", before)

    def _sealed(self, value: object, event: EventId) -> bytes:
        return self.sealer.seal(self.codec.encode(value), name=f"admin_job {event}")

    def _opened(self, sealed: Any, event: EventId) -> Any:
        return self.codec.decode(self.sealer.open(bytes(sealed), name=f"admin_job {event}"))

    def _taken(self, row: Row) -> Taken:
        event = EventId(row["event_id"])
        return Taken(
            number=int(row["number"]),
            step=self._opened(row["step"], event),
            fate=Fate(row["status"]),
            detail=told(row["detail"]),
        )


async def is_cancelled(database: Database, event: EventId) -> bool:
    """Say whether somebody wants a job stopped."""
    status = await database.fetchval("SELECT status FROM admin_job WHERE event_id = $1", event)
    return bool(status == Status.CANCELLING)


def _running(row: Row) -> Running:
    bulk = Bulk(int(row["at_once"]), row["per_second"], int(row["chain"])) if row["bulk"] else None
    progress = row["progress_id"]
    return Running(
        event=EventId(row["event_id"]),
        number=int(row["number"]),
        room=RoomId(row["room_id"]),
        requester=UserId(row["requester"]),
        command=row["command"],
        summary=told(row["summary"]),
        status=Status(row["status"]),
        total=int(row["total"]),
        bulk=bulk,
        report=row["report"],
        progress=None if progress is None else EventId(progress),
        started_ms=int(row["started_ms"]),
    )
