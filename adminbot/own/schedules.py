"""Commands that are given at set times."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import EventId, RoomId, UserId


@dataclass(frozen=True)
class Scheduled:
    """One of them; times are milliseconds. ``rule`` is as ``adminbot.schedule`` spells it."""

    number: int
    owner: UserId
    room: RoomId
    text: str
    formatted: str | None
    rule: str
    zone: str
    missed: str
    begun_ms: int
    next_ms: int
    last_ms: int | None
    runs: int


def read_scheduled(row: Row) -> Scheduled:
    """Return one row."""
    return Scheduled(
        number=int(row["number"]),
        owner=UserId(row["owner"]),
        room=RoomId(row["room_id"]),
        text=row["text"],
        formatted=row["formatted"],
        rule=row["rule"],
        zone=row["zone"],
        missed=row["missed"],
        begun_ms=int(row["begun_ms"]),
        next_ms=int(row["next_ms"]),
        last_ms=None if row["last_ms"] is None else int(row["last_ms"]),
        runs=int(row["runs"]),
    )


@dataclass(frozen=True)
class Schedules:
    """All that is scheduled, the next first."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT * FROM admin_schedule WHERE next_ms IS NOT NULL ORDER BY next_ms, number"
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Scheduled, ...]:
        """Return the schedules."""
        return tuple(read_scheduled(row) for row in rows)


@dataclass(frozen=True, kw_only=True)
class AddSchedule:
    """Give a command at set times from now on, in the name of who asks."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    event: EventId
    owner: UserId
    room: RoomId
    text: str
    formatted: str | None
    rule: str
    zone: str
    missed: str
    begun_ms: int
    next_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_schedule (number, event_id, owner, room_id, text, formatted,"
                " rule, zone, missed, begun_ms, next_ms)"
                " VALUES ((SELECT COALESCE(MAX(number), 0) + 1 FROM admin_schedule),"
                " $1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (event_id) DO NOTHING",
                (
                    self.event,
                    self.owner,
                    self.room,
                    self.text,
                    self.formatted,
                    self.rule,
                    self.zone,
                    self.missed,
                    self.begun_ms,
                    self.next_ms,
                ),
            ),
        )

    def kept(self) -> Statement:
        """Return what asks for the number that it was given."""
        return Statement("SELECT number FROM admin_schedule WHERE event_id = $1", (self.event,))

    def describe(self) -> str:
        """Return what it does."""
        return t("Give the command “{command}” in your name", command=self.text)


@dataclass(frozen=True)
class RemoveSchedule:
    """Give a command no longer."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    number: int
    text: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements; the number is not given to another."""
        return (
            Statement(
                "UPDATE admin_schedule SET next_ms = NULL, text = '', formatted = NULL"
                " WHERE number = $1",
                (self.number,),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Do not give the command “{command}” any more", command=self.text)


DIGEST = "digest "
"""How the command begins that a digest is."""


@dataclass(frozen=True)
class DigestOf:
    """Which digest somebody gets, as “daily” or “weekly”, and when next; ``None`` for none."""

    permission: ClassVar = Permission.PUBLIC

    user: UserId

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT text, next_ms FROM admin_schedule WHERE owner = $1 AND next_ms IS NOT NULL"
            " AND text LIKE $2 ORDER BY number DESC",
            (self.user, f"{DIGEST}%"),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[str, int] | None:
        """Return the kind and the moment, in milliseconds."""
        return next(
            ((row["text"].removeprefix(DIGEST), int(row["next_ms"])) for row in rows), None
        )


@dataclass(frozen=True)
class EndDigest:
    """Send somebody no digest any more; ``but`` is a new one's event, which stays."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    user: UserId
    but: EventId | None = None

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE admin_schedule SET next_ms = NULL, text = '', formatted = NULL"
                " WHERE owner = $1 AND next_ms IS NOT NULL AND text LIKE $2 AND event_id <> $3",
                (self.user, f"{DIGEST}%", self.but or ""),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Send {user} no digest any more", user=self.user)


@dataclass(frozen=True)
class BeginDigest:
    """Send somebody a digest again and again, in the place of one they get already."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    schedule: AddSchedule

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        ending = EndDigest(self.schedule.owner, self.schedule.event)
        return (*ending.to_sql(), *self.schedule.to_sql())

    def describe(self) -> str:
        """Return what it does."""
        return t("Send {user} a digest in this chat", user=self.schedule.owner)
