"""What standing work has to remember between two lives of the process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t

MAINTENANCE = "maintenance"
"""JSON: the maintenance that is under way; empty when it is over."""

GAPS = "visits not looked at"
"""JSON: from when until when (milliseconds) nobody looked who was here, over the end of a day."""


@dataclass(frozen=True)
class Remembered:
    """What was remembered under a name, ``None`` if nothing was."""

    permission: ClassVar = Permission.VIEW

    name: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT value FROM admin_memory WHERE name = $1", (self.name,))

    def read_rows(self, rows: Sequence[Row]) -> str | None:
        """Return the value."""
        return next((row["value"] for row in rows), None)


def gaps_in(value: str | None) -> tuple[tuple[int, int], ...]:
    """Return what is remembered as ``GAPS``."""
    return () if not value else msgspec.json.decode(value, type=tuple[tuple[int, int], ...])


@dataclass(frozen=True)
class Remember:
    """Remember something under a name."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    name: str
    value: str
    sentence: str = ""

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_memory (name, value) VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (self.name, self.value),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return self.sentence or t("Remember {name}", name=self.name)
