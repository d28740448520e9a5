"""How much the server held on each day; the homeserver only says how much it holds now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from adminbot.engine.held import Held
from adminbot.engine.step import Row, Statement
from common.homeserver.port import Permission


@dataclass(frozen=True)
class HeldByDay:
    """What was held on each day since one; days on which nobody looked are left out."""

    permission: ClassVar = Permission.VIEW

    since: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT * FROM admin_storage_day WHERE day >= $1 ORDER BY day", (self.since,)
        )

    def read_rows(self, rows: Sequence[Row]) -> Mapping[date, Held]:
        """Return the figures by day, the first day first."""
        return {
            date.fromisoformat(row["day"]): Held(
                int(row["files"]), int(row["bytes"]), int(row["rooms"]), int(row["accounts"])
            )
            for row in rows
        }
