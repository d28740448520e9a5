"""Until when registration tokens were to be valid that are switched off meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import Msg, t


@dataclass(frozen=True)
class End:
    """When it was to end, in milliseconds; ``None`` for never."""

    until_ms: int | None


@dataclass(frozen=True)
class EndOf:
    """The end of one token by its digest; ``None`` if it is not known."""

    permission: ClassVar = Permission.VIEW

    digest: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT until_ms FROM admin_token_end WHERE digest = $1", (self.digest,))

    def read_rows(self, rows: Sequence[Row]) -> End | None:
        """Return the end."""
        return next(
            (End(None if row["until_ms"] is None else int(row["until_ms"])) for row in rows), None
        )


@dataclass(frozen=True)
class RememberEnd:
    """Remember until when a token was to be valid."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    digest: str
    until_ms: int | None

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_token_end (digest, until_ms) VALUES ($1, $2)"
                " ON CONFLICT (digest) DO UPDATE SET until_ms = excluded.until_ms",
                (self.digest, self.until_ms),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Remember until when it was to be valid")
