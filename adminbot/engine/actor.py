"""Who asks, where, and what they are in the room it is about; facts only, asked just now."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from common.crypto.port import Trust
from common.ids import EventId, RoomId, UserId
from common.matrix.power import Power

_NONE = EventId("")


class Role(StrEnum):
    """Who a command is for."""

    ANYONE = "anyone"
    ROOM_MODERATOR = "room moderator"
    ROOM_ADMIN = "room admin"
    SERVER_ADMIN = "server admin"
    COMPLIANCE = "compliance officer"


class PlaceKind(StrEnum):
    """What sort of room a command was given in."""

    DIRECT = "direct chat"
    CONTROL = "admin room"
    AUDIT = "audit room"
    SHARED = "shared room"


class Standing(IntEnum):
    """What somebody is in a room."""

    NONE = 0
    MODERATOR = 50
    ADMIN = 100


@dataclass(frozen=True)
class Actor:
    """The person who asks.

    ``bridged`` are accounts that no person is behind: those of bridges, and bots. ``closed`` is
    why the account may do nothing, e.g. “suspended”.
    """

    user: UserId
    server_admin: bool = False
    compliance: bool = False
    bridged: bool = False
    closed: str | None = None


@dataclass(frozen=True)
class Place:
    """The room a command was given in.

    ``open``: anybody may walk in or read along. ``outsider``: of an admin room, somebody in it
    who is no server admin. ``named``: of a direct chat, that it has a name, so that it is a room
    made for more people which only one is in.
    """

    room: RoomId
    kind: PlaceKind
    open: bool = False
    outsider: UserId | None = None
    named: bool = False

    @property
    def current(self) -> RoomId | None:
        """The room that is meant where none is named."""
        return None if self.kind is PlaceKind.DIRECT and not self.named else self.room

    @property
    def private(self) -> bool:
        """Whether server admins may be answered here."""
        if self.kind is PlaceKind.CONTROL:
            return not self.open and self.outsider is None
        return self.kind is PlaceKind.DIRECT


@dataclass(frozen=True)
class Target:
    """The room a command is about, and the asking person's power there if they are joined."""

    room: RoomId
    power: Power | None


@dataclass(frozen=True)
class Caller:
    """What a command may know of who asks; handed to commands that want it."""

    actor: Actor
    place: Place
    target: Target | None
    trust: Trust | None
    now: datetime
    command: EventId = _NONE
    """The command's name for us: the same whenever its plan is made again."""
    formatted: str | None = None
    """The command as HTML, where its links to people and rooms are."""

    @property
    def acts_as_server_admin(self) -> bool:
        """Whether server facts may be shown here and now."""
        return self.actor.server_admin and self.actor.closed is None and self.place.private
