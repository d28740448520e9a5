"""The action log: who asked for what, where, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Permission
from common.ids import EventId, RoomId, UserId

PAGE_SIZE = 50
MOST_ROWS = 10_000
ENDED_AT_ONCE = 100


@dataclass(frozen=True)
class Action:
    """One line: ``phase`` is what became of the command, ``detail`` why or with what."""

    event: EventId
    at_ms: int
    sender: UserId
    room: RoomId
    command: str
    phase: str
    step: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class ReadTrail:
    """Lines of the log, newest first; ``words`` stand anywhere in command or detail.

    Without ``steps`` only how each command ended, and what failed in it.
    """

    permission: ClassVar = Permission.VIEW

    sender: UserId | None = None
    command: str | None = None
    words: str | None = None
    since_ms: int = 0
    until_ms: int = 2**62
    steps: bool = False
    limit: int = PAGE_SIZE
    start: int = 0

    def to_sql(self) -> Statement:
        """Return the statement."""
        values: list[object] = [self.since_ms, self.until_ms]
        where = ["at_ms >= $1", "at_ms < $2"]
        if not self.steps:
            where.append(f"phase IN ({_ENDED})")
        if self.sender is not None:
            values.append(self.sender)
            where.append(f"sender = ${len(values)}")
        if self.command is not None:
            values.append(_like(self.command, before="", after="%"))
            where.append(f"command LIKE ${len(values)} ESCAPE '!'")
        if self.words is not None:
            pattern = _like(self.words, before="%", after="%")
            values += [pattern, pattern]
            where.append(
                f"(command LIKE ${len(values) - 1} ESCAPE '!'"
                f" OR detail LIKE ${len(values)} ESCAPE '!')"
            )
        values += [self.limit, self.start]
        # The conditions are ours; every value goes by its number.
        return Statement(
            f"SELECT * FROM admin_action WHERE {' AND '.join(where)}"  # noqa: S608  # see above
            f" ORDER BY at_ms DESC, event_id, step DESC"
            f" LIMIT ${len(values) - 1} OFFSET ${len(values)}",
            tuple(values),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Action, ...]:
        """Return the lines."""
        return tuple(_action(row) for row in rows)


@dataclass(frozen=True)
class EndedSince:
    """How commands ended from a moment on, in milliseconds, oldest first; or the newest alone.

    At most ``ENDED_AT_ONCE`` of them, after the first ``start``.
    """

    permission: ClassVar = Permission.VIEW

    since_ms: int
    newest: bool = False
    start: int = 0

    def to_sql(self) -> Statement:
        """Return the statement."""
        order = "DESC LIMIT 1" if self.newest else f"ASC, event_id, phase LIMIT {ENDED_AT_ONCE}"
        names = ", ".join(f"'{phase}'" for phase in _ENDS)
        return Statement(
            "SELECT * FROM admin_action WHERE at_ms >= $1"  # noqa: S608  # our own words
            f" AND phase IN ({names}) ORDER BY at_ms {order} OFFSET $2",
            (self.since_ms, self.start),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Action, ...]:
        """Return the lines."""
        return tuple(_action(row) for row in rows)


@dataclass(frozen=True)
class StepsOfCommand:
    """What a command did and failed to do, in order."""

    permission: ClassVar = Permission.VIEW

    event: EventId
    limit: int

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT * FROM admin_action WHERE event_id = $1 AND phase IN ('did', 'failed')"
            " ORDER BY step LIMIT $2",
            (self.event, self.limit),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Action, ...]:
        """Return the lines."""
        return tuple(_action(row) for row in rows)


_ENDS = (
    "answered",
    "refused",
    "mistyped",
    "broken",
    "expired",
    "changed meanwhile",
    "done",
    "interrupted",
)


_ENDED = ", ".join(f"'{phase}'" for phase in (*_ENDS, "failed"))


def _action(row: Row) -> Action:
    return Action(
        event=EventId(row["event_id"]),
        at_ms=int(row["at_ms"]),
        sender=UserId(row["sender"]),
        room=RoomId(row["room_id"]),
        command=row["command"],
        phase=row["phase"],
        step=int(row["step"]),
        detail=row["detail"],
    )


def _like(text: str, *, before: str, after: str) -> str:
    escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"{before}{escaped}{after}"
