"""A copy of what the server keeps about one person: its parts, and handing it over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.answer import Mono
from adminbot.engine.calls import OWN, SEND_FILE, Calls
from adminbot.engine.step import Row, Statement
from common.config.secret import Secret
from common.homeserver.port import Danger, Permission
from common.homeserver.synapse.media import ListUserMedia
from common.homeserver.synapse.user_lookup import (
    GetAccountData,
    GetExperimentalFeatures,
    GetMemberships,
    ListPushers,
    Whois,
)
from common.homeserver.synapse.user_rights import GetRateLimit
from common.homeserver.synapse.users import GetUser, ListUserDevices
from common.i18n import Msg, t
from common.ids import UserId

PARTS = (
    "account",
    "sessions",
    "connections",
    "rooms",
    "account-data",
    "notifications",
    "media",
    "rate-limit",
    "features",
    "steward",
)
"""Each a file of the copy; ``adminbot.exporting`` knows where each comes from."""


@dataclass(frozen=True, kw_only=True)
class CollectPart:
    """Read one part of the copy and keep it, sealed, until all are there."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (
        GetUser,
        ListUserDevices,
        Whois,
        GetMemberships,
        GetAccountData,
        ListPushers,
        GetRateLimit,
        GetExperimentalFeatures,
        ListUserMedia,
        OWN,
    )

    export: str
    user: UserId
    part: str

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Read of {user}: {part}", user=self.user, part=Mono(self.part))


@dataclass(frozen=True, kw_only=True)
class HandOverExport:
    """Encrypt the copy and send it to one person's direct chat; then nothing of it is kept.

    It opens with the passphrase, or with the key to ``recipient``, an age public key.
    """

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (*SEND_FILE, OWN)

    export: str
    user: UserId
    to: UserId
    at_ms: int
    passphrase: Secret | None = None
    recipient: str | None = None

    def describe(self) -> Msg:
        """Return what it does."""
        return t(
            "Send what was read of {user}, encrypted, to {to} alone", user=self.user, to=self.to
        )


@dataclass(frozen=True)
class ExportedLately:
    """How often somebody has had a copy of their own data since a moment, in milliseconds."""

    permission: ClassVar = Permission.PUBLIC

    user: UserId
    since_ms: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT COUNT(*) AS number FROM admin_action WHERE sender = $1 AND at_ms >= $2"
            " AND phase = 'done' AND step = 0 AND command LIKE 'me export%'",
            (self.user, self.since_ms),
        )

    def read_rows(self, rows: Sequence[Row]) -> int:
        """Return the number."""
        return int(rows[0]["number"])
