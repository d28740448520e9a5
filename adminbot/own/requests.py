"""What ordinary people ask the server admins for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Permission
from common.ids import UserId


@dataclass(frozen=True)
class AskedLately:
    """How often somebody has written to the admins through us since a moment, in milliseconds."""

    permission: ClassVar = Permission.PUBLIC

    user: UserId
    since_ms: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT COUNT(*) AS number FROM admin_action WHERE sender = $1 AND at_ms >= $2"
            " AND phase = 'done' AND (command LIKE 'request %' OR command LIKE 'report %')",
            (self.user, self.since_ms),
        )

    def read_rows(self, rows: Sequence[Row]) -> int:
        """Return the number."""
        return int(rows[0]["number"])
