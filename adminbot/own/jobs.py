"""Plans that are or were carried out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.kept import told
from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import UserId

PAGE_SIZE = 20


@dataclass(frozen=True)
class JobSummary:
    """One job; ``counts`` are steps by how far they came, times are milliseconds."""

    number: int
    requester: UserId
    command: str
    summary: str
    status: str
    total: int
    started_ms: int
    ended_ms: int | None
    reason: str = ""
    """Why it ended before its last step, if it did."""


def _summary(row: Row) -> JobSummary:
    return JobSummary(
        number=int(row["number"]),
        requester=UserId(row["requester"]),
        command=row["command"],
        summary=told(row["summary"]),
        status=row["status"],
        total=int(row["total"]),
        started_ms=int(row["started_ms"]),
        ended_ms=None if row["ended_ms"] is None else int(row["ended_ms"]),
        reason=told(row["reason"]),
    )


@dataclass(frozen=True)
class ListJobs:
    """Somebody's jobs or all, newest first: a page, and one more if another follows."""

    permission: ClassVar = Permission.PUBLIC

    requester: UserId | None
    page: int = 1

    def to_sql(self) -> Statement:
        """Return the statement."""
        start = (self.page - 1) * PAGE_SIZE
        if self.requester is None:
            return Statement(
                "SELECT * FROM admin_job ORDER BY number DESC LIMIT $1 OFFSET $2",
                (PAGE_SIZE + 1, start),
            )
        return Statement(
            "SELECT * FROM admin_job WHERE requester = $1 ORDER BY number DESC LIMIT $2 OFFSET $3",
            (self.requester, PAGE_SIZE + 1, start),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[JobSummary, ...]:
        """Return the jobs."""
        return tuple(_summary(row) for row in rows)


@dataclass(frozen=True)
class GetJob:
    """One job by its number; ``None`` if there is none."""

    permission: ClassVar = Permission.PUBLIC

    number: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM admin_job WHERE number = $1", (self.number,))

    def read_rows(self, rows: Sequence[Row]) -> JobSummary | None:
        """Return the job."""
        return next((_summary(row) for row in rows), None)


@dataclass(frozen=True)
class StepsOf:
    """How far the steps of a job are: fate → number."""

    permission: ClassVar = Permission.PUBLIC

    number: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT step.status AS status, COUNT(*) AS steps FROM admin_job_step step"
            " JOIN admin_job job ON job.event_id = step.event_id WHERE job.number = $1"
            " GROUP BY step.status",
            (self.number,),
        )

    def read_rows(self, rows: Sequence[Row]) -> dict[str, int]:
        """Return the numbers."""
        return {row["status"]: int(row["steps"]) for row in rows}


@dataclass(frozen=True)
class CancelJob:
    """Have a running job stop before its next step."""

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    number: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE admin_job SET status = 'cancelling'"
                " WHERE number = $1 AND status = 'running'",
                (self.number,),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Stop job {number} before its next step", number=self.number)
