"""Plans that need the word of a second server admin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.kept import told
from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import EventId, UserId


@dataclass(frozen=True)
class Waiting:
    """A plan that waits for approval."""

    event: EventId
    code: str
    requester: UserId
    summary: str
    expires_ms: int


@dataclass(frozen=True)
class WaitingApprovals:
    """Plans that wait for a second server admin at a moment, in milliseconds."""

    permission: ClassVar = Permission.VIEW

    now_ms: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT * FROM admin_plan WHERE second = 1 AND status = 'asked' AND expires_ms > $1"
            " ORDER BY expires_ms",
            (self.now_ms,),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Waiting, ...]:
        """Return the plans."""
        return tuple(
            Waiting(
                EventId(row["event_id"]),
                row["code"],
                UserId(row["requester"]),
                told(row["summary"]),
                int(row["expires_ms"]),
            )
            for row in rows
        )


@dataclass(frozen=True)
class Approve:
    """Let a plan of somebody else be carried out; ``event`` is the one that was shown.

    Its code is short: another plan may bear the same.
    """

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    event: EventId
    code: str
    by: UserId
    now_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE admin_plan SET status = 'confirmed', approved_by = $1 WHERE event_id = $2"
                " AND second = 1 AND status = 'asked' AND requester <> $3 AND expires_ms > $4",
                (self.by, self.event, self.by, self.now_ms),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Approve {code}", code=self.code)


@dataclass(frozen=True)
class Deny:
    """Let a plan of somebody else expire at once."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    event: EventId
    code: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE admin_plan SET expires_ms = 0"
                " WHERE event_id = $1 AND second = 1 AND status = 'asked'",
                (self.event,),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Deny {code}", code=self.code)
