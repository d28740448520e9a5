"""What is known of bridges, and what admins decide about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from adminbot.bridges.instance import NO_LIMIT, shown_limit
from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import RoomId, UserId


@dataclass(frozen=True)
class BridgeRow:
    """One bridge as it stands in the table; times in milliseconds."""

    name: str
    kind: str
    bot: UserId
    source: str
    expressions: tuple[str, ...]
    vocabulary: str | None
    limit: int | None
    means: tuple[str, ...]
    paused_by: str | None
    paused_ms: int | None
    changed_ms: int | None
    told: bool
    stopped: bool
    warned_ms: int | None
    first_seen_ms: int
    checked_ms: int | None
    up: bool | None
    ping_ms: int | None
    trouble: str | None
    blocked: bool | None
    answered_ms: int | None
    down_ms: int | None
    down_told: bool
    hook_trouble: str | None
    hook_tried_ms: int | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class BridgeFigures:
    """What is counted of one bridge."""

    rooms: int = 0
    active: int = 0
    suspended: int = 0
    logins: int = 0
    in_ms: int | None = None
    out_ms: int | None = None


@dataclass(frozen=True)
class BridgedRoom:
    """A room that a bridge is at work in."""

    bridge: str
    room: RoomId
    network: str | None
    remote: str | None
    remote_name: str | None
    connected_by: str | None
    in_ms: int | None
    out_ms: int | None


@dataclass(frozen=True)
class Login:
    """Somebody's log-in at a bridge, as far as it was seen."""

    bridge: str
    user: UserId
    remote: str | None
    state: str
    at_ms: int


@dataclass(frozen=True)
class Ghost:
    """A bridged account that sent something lately, and on how many days."""

    user: UserId
    days: int
    last_day: int
    suspended: bool


@dataclass(frozen=True)
class ListBridges:
    """Every bridge that is known."""

    permission: ClassVar = Permission.PUBLIC

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM bridge ORDER BY name")

    def read_rows(self, rows: Sequence[Row]) -> tuple[BridgeRow, ...]:
        """Return the bridges by name."""
        return tuple(bridge_row(row) for row in rows)


@dataclass(frozen=True)
class FiguresOfBridges:
    """Rooms, active people and traffic of every bridge; ``since`` is the first day that counts."""

    permission: ClassVar = Permission.VIEW

    since: int
    at_least: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT name,"
            " (SELECT COUNT(*) FROM bridge_room r WHERE r.bridge = bridge.name) AS rooms,"
            " (SELECT MAX(in_ms) FROM bridge_room r WHERE r.bridge = bridge.name) AS in_ms,"
            " (SELECT MAX(out_ms) FROM bridge_room r WHERE r.bridge = bridge.name) AS out_ms,"
            " (SELECT COUNT(*) FROM bridge_suspended s WHERE s.bridge = bridge.name) AS suspended,"
            " (SELECT COUNT(*) FROM bridge_login l WHERE l.bridge = bridge.name"
            " AND l.state = 'in') AS logins,"
            " (SELECT COUNT(*) FROM (SELECT a.ghost FROM bridge_active a"
            " WHERE a.bridge = bridge.name AND a.day >= $1"
            " GROUP BY a.ghost HAVING COUNT(*) >= $2) AS counted) AS active"
            " FROM bridge",
            (self.since, self.at_least),
        )

    def read_rows(self, rows: Sequence[Row]) -> dict[str, BridgeFigures]:
        """Return the figures by the bridge's name."""
        return {
            row["name"]: BridgeFigures(
                rooms=int(row["rooms"]),
                active=int(row["active"]),
                suspended=int(row["suspended"]),
                logins=int(row["logins"]),
                in_ms=_number(row["in_ms"]),
                out_ms=_number(row["out_ms"]),
            )
            for row in rows
        }


@dataclass(frozen=True)
class RoomsOfBridge:
    """The rooms of one bridge, those with the newest traffic first."""

    permission: ClassVar = Permission.VIEW

    bridge: str
    offset: int = 0
    most: int = 50

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT * FROM bridge_room WHERE bridge = $1"
            " ORDER BY COALESCE(in_ms, out_ms, 0) DESC, room_id LIMIT $2 OFFSET $3",
            (self.bridge, self.most, self.offset),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[BridgedRoom, ...]:
        """Return the rooms."""
        return tuple(_room(row) for row in rows)


@dataclass(frozen=True)
class BridgesOfRoom:
    """Which bridges are at work in a room."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM bridge_room WHERE room_id = $1", (self.room,))

    def read_rows(self, rows: Sequence[Row]) -> tuple[BridgedRoom, ...]:
        """Return what is known of each."""
        return tuple(_room(row) for row in rows)


@dataclass(frozen=True)
class LoginsOfBridge:
    """Who is known to have logged in at a bridge."""

    permission: ClassVar = Permission.VIEW

    bridge: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT * FROM bridge_login WHERE bridge = $1 ORDER BY user_id", (self.bridge,)
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Login, ...]:
        """Return the log-ins."""
        return tuple(_login(row) for row in rows)


@dataclass(frozen=True)
class LoginsEverywhere:
    """Who is logged in at any bridge, as far as it was seen."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM bridge_login WHERE state = 'in' ORDER BY bridge, user_id")

    def read_rows(self, rows: Sequence[Row]) -> tuple[Login, ...]:
        """Return the log-ins."""
        return tuple(_login(row) for row in rows)


@dataclass(frozen=True)
class GhostsOfBridge:
    """The bridged accounts that sent something since a day, the most active first."""

    permission: ClassVar = Permission.VIEW

    bridge: str
    since: int
    at_least: int = 1

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT a.ghost AS ghost, COUNT(*) AS days, MAX(a.day) AS last_day,"
            " MAX(CASE WHEN s.ghost IS NULL THEN 0 ELSE 1 END) AS suspended"
            " FROM bridge_active a LEFT JOIN bridge_suspended s ON s.ghost = a.ghost"
            " WHERE a.bridge = $1 AND a.day >= $2 GROUP BY a.ghost HAVING COUNT(*) >= $3"
            " ORDER BY days DESC, last_day DESC, a.ghost",
            (self.bridge, self.since, self.at_least),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Ghost, ...]:
        """Return the accounts."""
        return tuple(
            Ghost(
                UserId(row["ghost"]),
                int(row["days"]),
                int(row["last_day"]),
                bool(row["suspended"]),
            )
            for row in rows
        )


@dataclass(frozen=True, kw_only=True)
class SetBridgeLimit:
    """Limit how many bridged people may be active in a month; ``None``: no limit."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    bridge: str
    limit: int | None

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        kept = NO_LIMIT if self.limit is None else self.limit
        return (
            Statement("UPDATE bridge SET chat_limit = $1 WHERE name = $2", (kept, self.bridge)),
        )

    def describe(self) -> str:
        """Return what it does."""
        if self.limit is None:
            return t("Take the limit of {bridge} away", bridge=self.bridge)
        return t(
            "Limit {bridge} to {limit} active remote users a month",
            bridge=self.bridge,
            limit=self.limit,
        )


@dataclass(frozen=True, kw_only=True)
class PauseBridge:
    """Keep a bridge from sending until it is resumed by hand."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    bridge: str
    by: UserId

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement("UPDATE bridge SET paused_by = $1 WHERE name = $2", (self.by, self.bridge)),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Keep everybody of {bridge} from sending", bridge=self.bridge)


@dataclass(frozen=True, kw_only=True)
class ResumeBridge:
    """End a pause that was asked for by hand; a limit may still hold."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    bridge: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        # Whether it may send again is decided by whoever looks at the limit next.
        return (
            Statement(
                "UPDATE bridge SET paused_by = CASE WHEN paused_ms IS NULL THEN NULL"
                " ELSE 'limit' END WHERE name = $1",
                (self.bridge,),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Let {bridge} send again", bridge=self.bridge)


@dataclass(frozen=True, kw_only=True)
class SetBridgeVocabulary:
    """Speak to a bridge in the words of another version."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    bridge: str
    vocabulary: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE bridge SET vocabulary = $1 WHERE name = $2", (self.vocabulary, self.bridge)
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t(
            "Speak to {bridge} in the words of “{vocabulary}”",
            bridge=self.bridge,
            vocabulary=self.vocabulary,
        )


def bridge_row(row: Row) -> BridgeRow:
    """Return a row of the table ``bridge``."""
    return BridgeRow(
        name=row["name"],
        kind=row["kind"],
        bot=UserId(row["bot"]),
        source=row["source"],
        expressions=msgspec.json.decode(row["expressions"], type=tuple[str, ...]),
        vocabulary=row["vocabulary"],
        limit=shown_limit(_number(row["config_limit"]), _number(row["chat_limit"])),
        means=tuple(each for each in row["means"].split(",") if each),
        paused_by=row["paused_by"],
        paused_ms=_number(row["paused_ms"]),
        changed_ms=_number(row["changed_ms"]),
        told=bool(row["told"]),
        stopped=bool(row["stopped"]),
        warned_ms=_number(row["warned_ms"]),
        first_seen_ms=int(row["first_seen_ms"]),
        checked_ms=_number(row["checked_ms"]),
        up=None if row["up"] is None else bool(row["up"]),
        ping_ms=_number(row["ping_ms"]),
        trouble=row["trouble"],
        blocked=None if row["blocked"] is None else bool(row["blocked"]),
        answered_ms=_number(row["answered_ms"]),
        down_ms=_number(row["down_ms"]),
        down_told=bool(row["down_told"]),
        hook_trouble=row["hook_trouble"],
        hook_tried_ms=_number(row["hook_tried_ms"]),
        metrics=msgspec.json.decode(row["metrics"], type=dict[str, float]),
    )


def _room(row: Row) -> BridgedRoom:
    return BridgedRoom(
        bridge=row["bridge"],
        room=RoomId(row["room_id"]),
        network=row["network"],
        remote=row["remote"],
        remote_name=row["remote_name"],
        connected_by=row["connected_by"],
        in_ms=_number(row["in_ms"]),
        out_ms=_number(row["out_ms"]),
    )


def _login(row: Row) -> Login:
    return Login(
        row["bridge"], UserId(row["user_id"]), row["remote"], row["state"], int(row["at_ms"])
    )


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
