"""What we know of the accounts of this server: what they are, and on which days they were seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Permission
from common.ids import UserId

PERSON, GUEST, BRIDGED, BOT = "person", "guest", "bridged", "bot"

_DAYS_OF_PEOPLE = (
    "SELECT s.month, s.days FROM admin_seen s"
    " JOIN admin_account a ON a.user_id = s.user_id AND a.kind = 'person'"
)


@dataclass(frozen=True)
class KindsOfAccounts:
    """What each account is that we know: “person”, “guest”, “bridged” or “bot”."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT user_id, kind FROM admin_account")

    def read_rows(self, rows: Sequence[Row]) -> Mapping[UserId, str]:
        """Return the kind by user ID."""
        return {UserId(row["user_id"]): str(row["kind"]) for row in rows}


@dataclass(frozen=True)
class KindsAmong:
    """What some accounts are; those that were not looked at yet are missing."""

    permission: ClassVar = Permission.VIEW

    users: tuple[UserId, ...]

    def to_sql(self) -> Statement:
        """Return the statement."""
        places = ", ".join(f"${number}" for number in range(1, len(self.users) + 1)) or "NULL"
        return Statement(
            f"SELECT user_id, kind FROM admin_account WHERE user_id IN ({places})",  # noqa: S608  # numbers
            self.users,
        )

    def read_rows(self, rows: Sequence[Row]) -> Mapping[UserId, str]:
        """Return the kind by user ID."""
        return {UserId(row["user_id"]): str(row["kind"]) for row in rows}


@dataclass(frozen=True)
class Month:
    """Who was seen in a month (UTC): each person with the number of days."""

    permission: ClassVar = Permission.VIEW

    month: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT s.user_id, s.days FROM admin_seen s"
            " JOIN admin_account a ON a.user_id = s.user_id AND a.kind = 'person'"
            " WHERE s.month = $1 ORDER BY s.user_id",
            (self.month,),
        )

    def read_rows(self, rows: Sequence[Row]) -> Mapping[UserId, int]:
        """Return the number of days by user ID."""
        return {UserId(row["user_id"]): int(row["days"]).bit_count() for row in rows}


@dataclass(frozen=True)
class ActiveByDay:
    """How many people were seen on each day of some months; a missing day means nobody."""

    permission: ClassVar = Permission.VIEW

    months: tuple[str, ...]

    def to_sql(self) -> Statement:
        """Return the statement."""
        places = ", ".join(f"${number}" for number in range(1, len(self.months) + 1))
        return Statement(_DAYS_OF_PEOPLE + f" WHERE s.month IN ({places})", self.months)

    def read_rows(self, rows: Sequence[Row]) -> Mapping[date, int]:
        """Return the number of people by day."""
        found: dict[date, int] = {}
        for row in rows:
            for day in days_of(str(row["month"]), int(row["days"])):
                found[day] = found.get(day, 0) + 1
        return found


@dataclass(frozen=True)
class MonthsSeen:
    """How many people were seen on more than some days of each month, by month."""

    permission: ClassVar = Permission.VIEW

    more_than: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(_DAYS_OF_PEOPLE)

    def read_rows(self, rows: Sequence[Row]) -> Mapping[str, int]:
        """Return the number of people by month."""
        found: dict[str, int] = {}
        for row in rows:
            counts = int(row["days"]).bit_count() > self.more_than
            found[row["month"]] = found.get(row["month"], 0) + counts
        return found


@dataclass(frozen=True)
class MessagesByDay:
    """How many messages this server's people sent on each day since one."""

    permission: ClassVar = Permission.VIEW

    since: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT day, messages FROM admin_day WHERE day >= $1", (self.since,))

    def read_rows(self, rows: Sequence[Row]) -> Mapping[date, int]:
        """Return the number by day."""
        return {date.fromisoformat(row["day"]): int(row["messages"]) for row in rows}


@dataclass(frozen=True)
class CreatedSince:
    """When each person's account was made, of those made since a moment (milliseconds)."""

    permission: ClassVar = Permission.VIEW

    since_ms: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT created_ms FROM admin_account WHERE kind = 'person' AND created_ms >= $1",
            (self.since_ms,),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[int, ...]:
        """Return the moments."""
        return tuple(int(row["created_ms"]) for row in rows)


@dataclass(frozen=True)
class WatchedSince:
    """Since when visits are written down (milliseconds); ``None`` if they never were."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT since_ms FROM admin_watch")

    def read_rows(self, rows: Sequence[Row]) -> int | None:
        """Return the moment."""
        return next((int(row["since_ms"]) for row in rows), None)


def days_of(month: str, days: int) -> Iterable[date]:
    """Return the days of a month whose bit is set."""
    first = date.fromisoformat(f"{month}-01")
    return (first.replace(day=number + 1) for number in range(31) if days >> number & 1)
