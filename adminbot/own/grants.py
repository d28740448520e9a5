"""Who may make registration tokens without being a server admin, and how many a month."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.calls import OWN, Calls
from adminbot.engine.step import Row, Statement
from common.config.secret import Secret
from common.homeserver.port import Danger, Permission
from common.homeserver.synapse.registration_tokens import (
    CreateRegistrationToken,
    GetRegistrationToken,
)
from common.i18n import Msg, n, t
from common.ids import UserId


@dataclass(frozen=True)
class TokenGrant:
    """One person's quota, and how much of it is used in the month that was asked for."""

    user: UserId
    per_month: int
    granted_by: UserId
    granted_ms: int
    used: int


_WITH_USE = (
    "SELECT g.*, (SELECT COUNT(*) FROM admin_token_request r WHERE r.user_id = g.user_id"
    " AND r.month = $1) AS used FROM admin_token_grant g"
)


@dataclass(frozen=True)
class TokenGrants:
    """Everybody's quota; ``month`` is UTC, as 2026-11."""

    permission: ClassVar = Permission.VIEW

    month: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(f"{_WITH_USE} ORDER BY g.user_id", (self.month,))

    def read_rows(self, rows: Sequence[Row]) -> tuple[TokenGrant, ...]:
        """Return the quotas."""
        return tuple(map(_grant, rows))


@dataclass(frozen=True)
class GrantOf:
    """One person's quota, ``None`` if they have none."""

    permission: ClassVar = Permission.VIEW

    user: UserId
    month: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(f"{_WITH_USE} WHERE g.user_id = $2", (self.month, self.user))

    def read_rows(self, rows: Sequence[Row]) -> TokenGrant | None:
        """Return the quota."""
        return next(map(_grant, rows), None)


@dataclass(frozen=True)
class SetTokenGrant:
    """Let somebody make so many registration tokens a month; 0 takes it back."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    user: UserId
    per_month: int
    by: UserId
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        if not self.per_month:
            return (Statement("DELETE FROM admin_token_grant WHERE user_id = $1", (self.user,)),)
        return (
            Statement(
                "INSERT INTO admin_token_grant (user_id, per_month, granted_by, granted_ms)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) DO UPDATE SET"
                " per_month = excluded.per_month, granted_by = excluded.granted_by,"
                " granted_ms = excluded.granted_ms",
                (self.user, self.per_month, self.by, self.at_ms),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.per_month:
            return t("Let {user} make registration tokens no longer", user=self.user)
        return n(
            "Let {user} make {count} registration token a month",
            "Let {user} make {count} registration tokens a month",
            self.per_month,
            user=self.user,
        )


@dataclass(frozen=True, kw_only=True)
class MakeGrantedToken:
    """Make a registration token for one use within one's own quota, which is looked at again."""

    # Of one's own account everybody has this right, and of no other; the quota is what allows it.
    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetRegistrationToken, CreateRegistrationToken, OWN)

    user: UserId
    token: Secret
    note: str
    made_ms: int
    expires_ms: int
    month: str

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Make a registration token within the quota of {user}", user=self.user)


def _grant(row: Row) -> TokenGrant:
    return TokenGrant(
        user=UserId(row["user_id"]),
        per_month=int(row["per_month"]),
        granted_by=UserId(row["granted_by"]),
        granted_ms=int(row["granted_ms"]),
        used=int(row["used"]),
    )
