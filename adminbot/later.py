"""The standing work of keeping promises: takes each step that is due, once, restarts or not.

Before a step is taken it is marked as begun and noted in the trail, afterwards as done or failed.
One that was cut short is repeated only where doing it twice is the same as doing it once.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, cast

from adminbot.audit_trail import AuditTrail, Phase, Subject
from adminbot.engine.answer import Answer, answer
from adminbot.engine.codec import Codec
from adminbot.engine.step import OwnChange, Step, calls_homeserver, changes_own
from adminbot.engine.text import storable
from adminbot.execution import Perform, job_of
from adminbot.own.later import BEGUN, CANCELLED, DONE, FAILED, WAITING, DoLater
from adminbot.own_records import OwnRecords
from common.clock import Clock
from common.crypto.sealing import Sealer
from common.database.pool import Connection, Database, Row
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.port import AdminWriter, Grant
from common.i18n import t
from common.ids import EventId, RoomId, UserId
from common.telemetry.log import Log

AT_ONCE = 20
LONGEST_SLEEP_SECONDS = 30.0
REST_SECONDS = 5.0
SOON_SECONDS = 0.5
KEPT_MS = 30 * 86_400_000
"""How long it can be seen what became of a promise."""

log = Log("adminbot.later")


class Door(Protocol):
    """The administration API, opened only as far as a grant."""

    def executing_for(self, grant: Grant) -> AdminWriter:
        """Return the changing half."""
        ...


class Tell(Protocol):
    """What is needed of ``adminbot.telling.Telling``."""

    async def to_person(self, user: UserId, said: Answer, *, key: str) -> EventId:
        """Say something to one person alone, once for each key."""
        ...


@dataclass
class Later:
    """The table ``admin_later``; ``performers`` are for steps that are no call and no row."""

    database: Database
    clock: Clock
    codec: Codec
    sealer: Sealer
    trail: AuditTrail
    admin: Door
    records: OwnRecords
    performers: Mapping[type, Perform]
    telling: Tell
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def write_down(self, promise: DoLater, key: str) -> None:
        """Promise; the performer of ``DoLater``. A second time with one key changes nothing."""
        sealed = self.sealer.seal(self.codec.encode(promise.step), name=_name(key))
        async with self.database.transaction() as connection:
            made = await connection.fetchrow(
                "INSERT INTO admin_later (key, slot, due_ms, requester, asked_in, status, step,"
                " detail, job) VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8)"
                " ON CONFLICT (key) DO NOTHING RETURNING key",
                key,
                promise.slot,
                int(promise.due.timestamp() * 1000),
                promise.requester,
                promise.asked_in,
                WAITING,
                sealed,
                job_of(key),
            )
            if made is not None:
                await connection.execute(
                    "UPDATE admin_later SET status = $1, over_ms = $2, step = $3"
                    " WHERE slot = $4 AND key <> $5 AND status = $6",
                    CANCELLED,
                    self.clock.now_ms(),
                    b"",
                    promise.slot,
                    key,
                    WAITING,
                )
        self.woken.set()

    async def run(self) -> None:
        """Keep promises until cancelled."""
        while True:
            try:
                wait_seconds = await self._keep()
            except TransientError as error:
                log.warning("what was promised has to wait", reason=error)
                wait_seconds = REST_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self.woken.wait()
            self.woken.clear()

    async def _keep(self) -> float:
        """Take what is due; return after how many seconds to look again."""
        now = self.clock.now_ms()
        due = await self.database.fetch(
            "SELECT admin_later.*, (SELECT COUNT(*) FROM admin_job WHERE event_id = job"
            " AND admin_job.status IN ('running', 'cancelling')) AS under_way"
            " FROM admin_later WHERE status IN ($1, $2) AND due_ms <= $3"
            " ORDER BY due_ms, key LIMIT $4",
            WAITING,
            BEGUN,
            now,
            AT_ONCE,
        )
        # What is to be undone has to be done first, or it would stay for ever.
        early = [row for row in due if row["under_way"]]
        for row in due:
            if not row["under_way"]:
                await self._take_surviving(row)
        if early:
            return SOON_SECONDS
        if len(due) == AT_ONCE:
            return 0.0
        await self._forget_old(now)
        next_ms = await self.database.fetchval(
            "SELECT MIN(due_ms) FROM admin_later WHERE status = $1", WAITING
        )
        left = timedelta(milliseconds=(int(next_ms) if next_ms is not None else now) - now)
        seconds = left.total_seconds()
        return min(seconds, LONGEST_SLEEP_SECONDS) if seconds > 0 else LONGEST_SLEEP_SECONDS

    async def _take_surviving(self, row: Row) -> None:
        try:
            await self._take(row)
        except (TransientError, StartOverError):
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of one promise
            # A bug met by one must neither stop the others nor come back for ever.
            log.crash("a promise failed", error)
            why = t("Something is wrong on my side.")
            await self._over(row, FAILED, Phase.FAILED, why)
            await self._complain(row, why)

    async def _take(self, row: Row) -> None:
        key = str(row["key"])
        try:
            step = cast(Step, self._opened(row))
        except StewardError as error:
            # Written by another Steward: it can never be done, and must be said.
            await self._over(row, FAILED, Phase.FAILED, str(error))
            await self._complain(row, str(error))
            return
        if row["status"] == BEGUN and not step.idempotent:
            why = t("I was interrupted, so it may or may not have happened.")
            await self._over(row, FAILED, Phase.FAILED, why)
            await self._complain(row, t("{step}: {why}", step=step.describe(), why=why))
            return
        if not await self._begin(row, step):
            return
        try:
            await self._do(row, step, key)
        except StartOverError:
            raise
        except TransientError:
            if step.idempotent:
                raise
            # Whether it happened is not known: said above, when it is looked at again.
            self.woken.set()
        except StewardError as error:
            await self._over(row, FAILED, Phase.FAILED, str(error))
            await self._complain(row, t("{step}: {why}", step=step.describe(), why=str(error)))

    async def _begin(self, row: Row, step: Step) -> bool:
        """Mark it as begun; return whether it was still wanted."""
        async with self.database.transaction() as connection:
            begun = await connection.fetchrow(
                "UPDATE admin_later SET status = $1 WHERE key = $2 AND status IN ($3, $4)"
                " RETURNING key",
                BEGUN,
                row["key"],
                WAITING,
                BEGUN,
            )
            if begun is not None:
                await self.trail.note_in(
                    connection, _subject(row), Phase.ABOUT_TO, step.describe()
                )
        return begun is not None

    async def _do(self, row: Row, step: Step, key: str) -> None:
        # What may be done was checked when it was promised, against who asked: no more than this.
        grant = Grant(frozenset({step.permission}))
        if changes_own(step):
            async with self.database.transaction() as connection:
                await self.records.within(grant).apply(connection, cast(OwnChange, step))
                await self._mark(connection, row, DONE, Phase.DID, step.describe())
            return
        if calls_homeserver(step):
            await self.admin.executing_for(grant).change(cast(Any, step))
        else:
            await self.performers[type(step)](step, f"{key}-later")
        await self._over(row, DONE, Phase.DID, step.describe())

    async def _over(self, row: Row, status: str, phase: Phase, detail: str) -> None:
        async with self.database.transaction() as connection:
            await self._mark(connection, row, status, phase, detail)

    async def _mark(
        self, connection: Connection, row: Row, status: str, phase: Phase, detail: str
    ) -> None:
        await connection.execute(
            "UPDATE admin_later SET status = $1, detail = $2, over_ms = $3, step = $4"
            " WHERE key = $5",
            status,
            storable(detail),
            self.clock.now_ms(),
            b"",
            row["key"],
        )
        await self.trail.note_in(connection, _subject(row), phase, detail)

    async def _complain(self, row: Row, why: str) -> None:
        """Tell who asked for it that it was not done."""
        log.warning("a promise could not be kept", slot=row["slot"], reason=why)
        said = answer(
            t("What you wanted to happen by itself did not. {why}", why=why),
            t("Look at it, and do it yourself if it is still wanted."),
        )
        try:
            await self.telling.to_person(
                UserId(row["requester"]), said, key=f"{row['key']}-complaint"
            )
        except StartOverError:
            raise
        except StewardError as error:
            log.error("who had asked for it could not be told", slot=row["slot"], reason=error)

    async def _forget_old(self, now_ms: int) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM admin_later WHERE over_ms < $1", now_ms - KEPT_MS
            )

    def _opened(self, row: Row) -> Any:
        return self.codec.decode(self.sealer.open(bytes(row["step"]), name=_name(row["key"])))


def _name(key: str) -> str:
    return f"admin_later {key}"


def _subject(row: Row) -> Subject:
    return Subject(
        EventId(f"later-{row['key']}"),
        RoomId(row["asked_in"]),
        UserId(row["requester"]),
        row["slot"],
    )
