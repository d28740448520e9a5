"""New accounts: with which registration token each came, and who is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import Msg, t
from common.ids import RoomId, UserId

OPEN, TOKEN, NONE, UNKNOWN = "open", "token", "none", "unknown"
"""What is known of the token somebody came with."""
_WATCHED = "token-watch "
DUE, DONE, FAILED = "due", "done", "failed"
"""What became of what the token has done for who comes with it."""


@dataclass(frozen=True)
class Arrival:
    """One new account; ``digest`` names the token it was made with (milliseconds)."""

    user: UserId
    created_ms: int
    seen_ms: int
    came: str
    digest: str | None
    state: str
    attempts: int


@dataclass(frozen=True)
class Arrivals:
    """The newest accounts, newest first; or those made with one token."""

    permission: ClassVar = Permission.VIEW

    limit: int
    start: int = 0
    digest: str | None = None

    def to_sql(self) -> Statement:
        """Return the statement."""
        where = "" if self.digest is None else " WHERE digest = $3"
        more = () if self.digest is None else (self.digest,)
        return Statement(
            f"SELECT * FROM admin_arrival{where}"  # noqa: S608  # our own words
            " ORDER BY seen_ms DESC, user_id LIMIT $1 OFFSET $2",
            (self.limit, self.start, *more),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Arrival, ...]:
        """Return the accounts."""
        return tuple(map(arrival_of, rows))


@dataclass(frozen=True)
class CountArrivals:
    """How many accounts have come since we look."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT COUNT(*) AS number FROM admin_arrival")

    def read_rows(self, rows: Sequence[Row]) -> int:
        """Return the number."""
        return int(rows[0]["number"])


@dataclass(frozen=True)
class Watcher:
    """Who is told of new accounts: an admin room, or somebody in their direct chat."""

    room: RoomId | None
    user: UserId


@dataclass(frozen=True)
class Watchers:
    """Everybody who is told of new accounts."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM admin_registration_watch ORDER BY since_ms, user_id")

    def read_rows(self, rows: Sequence[Row]) -> tuple[Watcher, ...]:
        """Return them."""
        return tuple(
            Watcher(RoomId(row["room_id"]) if row["room_id"] else None, UserId(row["user_id"]))
            for row in rows
        )


@dataclass(frozen=True)
class Watch:
    """Tell an admin room, or somebody in their direct chat, of new accounts; or stop it."""

    # What is told is what every server admin may look at.
    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    watcher: Watcher
    on: bool
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        room, user = self.watcher.room or "", self.watcher.user
        if not self.on:
            # An admin room is told once, whoever asked for it; so whoever may can stop it.
            theirs = " AND user_id = $2" if not room else ""
            values = (room,) if room else (room, user)
            delete = f"DELETE FROM admin_registration_watch WHERE room_id = $1{theirs}"  # noqa: S608  # our words
            return (Statement(delete, values),)
        return (
            Statement(
                "INSERT INTO admin_registration_watch (room_id, user_id, since_ms)"
                " VALUES ($1, $2, $3) ON CONFLICT (room_id, user_id) DO NOTHING",
                (room, user, self.at_ms),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        where = self.watcher.room or self.watcher.user
        if self.on:
            return t("Tell {where} of new accounts", where=where)
        return t("Tell {where} of new accounts no longer", where=where)


@dataclass(frozen=True)
class TokenWatchers:
    """Who is told of the accounts made with a token: by the token's digest."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT name FROM admin_memory WHERE name LIKE $1 ORDER BY name", (f"{_WATCHED}%",)
        )

    def read_rows(self, rows: Sequence[Row]) -> Mapping[str, tuple[UserId, ...]]:
        """Return them."""
        found: dict[str, tuple[UserId, ...]] = {}
        for row in rows:
            digest, _, user = row["name"].removeprefix(_WATCHED).partition(" ")
            found[digest] = (*found.get(digest, ()), UserId(user))
        return found


@dataclass(frozen=True)
class WatchToken:
    """Tell somebody of the accounts made with a token, or do so no longer."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    digest: str
    user: UserId
    on: bool
    shown: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        name = f"{_WATCHED}{self.digest} {self.user}"
        if not self.on:
            return (Statement("DELETE FROM admin_memory WHERE name = $1", (name,)),)
        return (
            Statement(
                "INSERT INTO admin_memory (name, value) VALUES ($1, '')"
                " ON CONFLICT (name) DO NOTHING",
                (name,),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        if self.on:
            return t("Tell {user} who comes with {token}", user=self.user, token=self.shown)
        return t("Tell {user} no longer who comes with {token}", user=self.user, token=self.shown)


def arrival_of(row: Row) -> Arrival:
    """Return a row as an account."""
    return Arrival(
        user=UserId(row["user_id"]),
        created_ms=int(row["created_ms"]),
        seen_ms=int(row["seen_ms"]),
        came=str(row["came"]),
        digest=row["digest"],
        state=str(row["state"]),
        attempts=int(row["attempts"]),
    )
