"""What we know of rooms and the homeserver does not: default rooms, blocks, activity, troubles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import RoomId, UserId


@dataclass(frozen=True)
class DefaultRooms:
    """The rooms and spaces that new accounts are joined to, in the order they were added."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT room_id FROM admin_default_room ORDER BY added_ms, room_id")

    def read_rows(self, rows: Sequence[Row]) -> tuple[RoomId, ...]:
        """Return the rooms."""
        return tuple(RoomId(row["room_id"]) for row in rows)


@dataclass(frozen=True)
class AddDefaultRoom:
    """Join new accounts to a room from now on."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId
    by: UserId
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_default_room (room_id, added_by, added_ms) VALUES ($1, $2, $3)"
                " ON CONFLICT (room_id) DO NOTHING",
                (self.room, self.by, self.at_ms),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Make new accounts join {room}", room=self.room)


@dataclass(frozen=True)
class RemoveDefaultRoom:
    """Join new accounts to a room no longer."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (Statement("DELETE FROM admin_default_room WHERE room_id = $1", (self.room,)),)

    def describe(self) -> str:
        """Return what it does."""
        return t("Do not make new accounts join {room} any more", room=self.room)


@dataclass(frozen=True)
class Blocked:
    """A room that nobody of this server may join, and why."""

    room: RoomId
    reason: str
    by: UserId
    at_ms: int


@dataclass(frozen=True)
class BlockedRooms:
    """The rooms that were blocked through us, newest first."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM admin_blocked_room ORDER BY blocked_ms DESC, room_id")

    def read_rows(self, rows: Sequence[Row]) -> tuple[Blocked, ...]:
        """Return the rooms."""
        return tuple(
            Blocked(
                RoomId(row["room_id"]),
                row["reason"],
                UserId(row["blocked_by"]),
                int(row["blocked_ms"]),
            )
            for row in rows
        )


@dataclass(frozen=True)
class RememberBlock:
    """Keep that a room is blocked, and why."""

    # The block itself is what needs a right; this is our own list of them.
    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId
    reason: str
    by: UserId
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_blocked_room (room_id, reason, blocked_by, blocked_ms)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (room_id) DO UPDATE SET"
                " reason = excluded.reason, blocked_by = excluded.blocked_by,"
                " blocked_ms = excluded.blocked_ms",
                (self.room, self.reason, self.by, self.at_ms),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Keep {room} in the list of blocked rooms", room=self.room)


@dataclass(frozen=True)
class ForgetBlock:
    """Take a room off the list of blocked rooms."""

    # The block itself is what needs a right; this is our own list of them.
    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (Statement("DELETE FROM admin_blocked_room WHERE room_id = $1", (self.room,)),)

    def describe(self) -> str:
        """Return what it does."""
        return t("Take {room} off the list of blocked rooms", room=self.room)


@dataclass(frozen=True)
class RoomActivity:
    """When something was last sent in each room that we saw, milliseconds, to some minutes."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT room_id, last_ms FROM admin_room_activity")

    def read_rows(self, rows: Sequence[Row]) -> Mapping[RoomId, int]:
        """Return the moments by room."""
        return {RoomId(row["room_id"]): int(row["last_ms"]) for row in rows}


@dataclass(frozen=True)
class Trouble:
    """A room that a bot should be in, or have power in, and why it is not so."""

    room: RoomId
    problem: str
    since_ms: int


@dataclass(frozen=True)
class RoomTroubles:
    """The rooms that could not be mended, the longest first."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM membership_problem ORDER BY since_ms, room_id")

    def read_rows(self, rows: Sequence[Row]) -> tuple[Trouble, ...]:
        """Return the rooms."""
        return tuple(
            Trouble(RoomId(row["room_id"]), row["problem"], int(row["since_ms"])) for row in rows
        )


@dataclass(frozen=True)
class PausedSince:
    """Since when the bots enter no rooms (milliseconds); ``None`` if they do."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT since_ms FROM membership_pause")

    def read_rows(self, rows: Sequence[Row]) -> int | None:
        """Return the moment."""
        return next((int(row["since_ms"]) for row in rows), None)


@dataclass(frozen=True)
class Dismissal:
    """A room that its own admins had adminbot leave."""

    room: RoomId
    by: UserId
    since_ms: int


@dataclass(frozen=True)
class Dismissals:
    """The rooms that adminbot was asked to leave, the longest first."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM membership_dismissal ORDER BY since_ms, room_id")

    def read_rows(self, rows: Sequence[Row]) -> tuple[Dismissal, ...]:
        """Return the rooms."""
        return tuple(
            Dismissal(RoomId(row["room_id"]), UserId(row["asked_by"]), int(row["since_ms"]))
            for row in rows
        )
