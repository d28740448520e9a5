"""What became of reports; the reports themselves are the homeserver's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import UserId

CLOCKS_APART_MS = 60_000
"""So far the homeserver's clock may be ahead of ours."""


@dataclass(frozen=True)
class Handling:
    """Who cares for a report, and who closed it; milliseconds."""

    claimed_by: UserId | None = None
    closed_by: UserId | None = None
    changed_ms: int = 0


def handling_in(found: Mapping[int, Handling], number: int, received_ms: int) -> Handling:
    """Return what became of a report.

    Once the newest report is deleted, the homeserver gives its number to another one after its
    next start: what was written down before a report came in is about the one of before.
    """
    known = found.get(number, Handling())
    return known if known.changed_ms + CLOCKS_APART_MS >= received_ms else Handling()


@dataclass(frozen=True)
class HandlingOf:
    """What became of the reports of one kind (``event``, ``user`` or ``room``), by their number."""

    permission: ClassVar = Permission.VIEW

    kind: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM admin_report WHERE kind = $1", (self.kind,))

    def read_rows(self, rows: Sequence[Row]) -> dict[int, Handling]:
        """Return what became of each that somebody touched."""
        return {
            int(row["report_id"]): Handling(
                _user(row["claimed_by"]), _user(row["closed_by"]), int(row["changed_ms"])
            )
            for row in rows
        }


def _user(value: object) -> UserId | None:
    return UserId(value) if isinstance(value, str) else None


@dataclass(frozen=True, kw_only=True)
class HandleReport:
    """Write down who cares for a report, or who closed it; ``None`` for nobody."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    kind: str
    report: int
    claimed_by: UserId | None
    closed_by: UserId | None
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_report (kind, report_id, claimed_by, closed_by, changed_ms)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (kind, report_id) DO UPDATE SET"
                " claimed_by = excluded.claimed_by, closed_by = excluded.closed_by,"
                " changed_ms = excluded.changed_ms",
                (self.kind, self.report, self.claimed_by, self.closed_by, self.at_ms),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        if self.closed_by is not None:
            return t("Close the report {number}", number=self.report)
        if self.claimed_by is not None:
            return t(
                "Have {user} care for the report {number}",
                user=self.claimed_by,
                number=self.report,
            )
        return t("Open the report {number} again", number=self.report)


@dataclass(frozen=True)
class ForgetReport:
    """Forget what became of a report that there is no more: its number may be another's soon."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    kind: str
    report: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        forget = "DELETE FROM admin_report WHERE kind = $1 AND report_id = $2"
        return (Statement(forget, (self.kind, self.report)),)

    def describe(self) -> str:
        """Return what it does."""
        return t("Forget who cared for the report {number}", number=self.report)
