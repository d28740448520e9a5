"""What adminbot keeps of a room: how things were before, and what its admins had it do there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import Msg
from common.ids import RoomId

_KEEP = (
    "INSERT INTO admin_room_note (room_id, name, value) VALUES ($1, $2, $3)"
    " ON CONFLICT (room_id, name) DO NOTHING"
)
_REPLACE = (
    "INSERT INTO admin_room_note (room_id, name, value) VALUES ($1, $2, $3)"
    " ON CONFLICT (room_id, name) DO UPDATE SET value = excluded.value"
)


@dataclass(frozen=True)
class RoomNotes:
    """Every note of a room whose name begins with ``prefix``, by name."""

    permission: ClassVar = Permission.VIEW

    room: RoomId
    prefix: str = ""

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT name, value FROM admin_room_note WHERE room_id = $1 ORDER BY name",
            (self.room,),
        )

    def read_rows(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Return the notes."""
        return {row["name"]: row["value"] for row in rows if row["name"].startswith(self.prefix)}


@dataclass(frozen=True)
class RulesOf:
    """The rules of a room, ``None`` if it has none; for everybody who is in it."""

    permission: ClassVar = Permission.PUBLIC

    room: RoomId

    def to_sql(self) -> Statement:
        """Return the statement."""
        sql = "SELECT value FROM admin_room_note WHERE room_id = $1 AND name = 'rules'"
        return Statement(sql, (self.room,))

    def read_rows(self, rows: Sequence[Row]) -> str | None:
        """Return the rules."""
        return next((row["value"] for row in rows), None)


@dataclass(frozen=True, kw_only=True)
class WriteRoomNote:
    """Keep something of a room; ``value`` ``None`` forgets it.

    ``keep``: what is there already stays, say how it was before the first of several changes.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    name: str
    value: str | None
    sentence: Msg
    keep: bool = False

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        where = (self.room, self.name)
        if self.value is None:
            sql = "DELETE FROM admin_room_note WHERE room_id = $1 AND name = $2"
            return (Statement(sql, where),)
        sql = _KEEP if self.keep else _REPLACE
        return (Statement(sql, (*where, self.value)),)

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence
