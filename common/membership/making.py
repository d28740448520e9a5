"""Rooms that are just being made: the bots wait for the invitation that the module put there.

Whoever goes into a room before the homeserver's own invitation is sent makes it refuse the whole
room to its maker: “already in the room”.
"""

from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from common.clock import Clock
from common.ids import RoomId, UserId

LONGEST_SECONDS = 5.0
"""After this the room is made, or its invitations do not come."""
MOST_ROOMS = 10_000

T = TypeVar("T")

_IN = {"invite", "join"}


class _Create(msgspec.Struct):
    additional_creators: tuple[str, ...] = ()


class _Levels(msgspec.Struct):
    users: dict[str, msgspec.Raw] = {}


class _Member(msgspec.Struct):
    membership: str | None = None


@dataclass
class _Room:
    until: float
    levels_seen: bool = False
    awaited: set[UserId] = field(default_factory=set)


@dataclass
class Making:
    """What is known of rooms in their first seconds, from their events alone."""

    bots: frozenset[UserId]
    clock: Clock
    _rooms: dict[RoomId, _Room] = field(default_factory=dict)

    def look_at(
        self, room: RoomId, type_: str, state_key: str | None, content: bytes, age_ms: int
    ) -> None:
        """Learn from an event of a room; hostile content says nothing."""
        now = self.clock.monotonic()
        if type_ == "m.room.create":
            if 0 <= age_ms < LONGEST_SECONDS * 1000:
                self._forget(now)
                self._rooms[room] = _Room(now + LONGEST_SECONDS)
                self._await(room, _read(content, _Create).additional_creators)
        elif room not in self._rooms:
            return
        elif type_ == "m.room.power_levels":
            self._rooms[room].levels_seen = True
            self._await(room, _read(content, _Levels).users)
        elif type_ == "m.room.member" and _read(content, _Member).membership in _IN:
            self._rooms[room].awaited.discard(UserId(state_key or ""))

    def is_going_on(self, room: RoomId) -> bool:
        """Say whether a room has to be left alone for a moment."""
        known = self._rooms.get(room)
        if known is None or known.until <= self.clock.monotonic():
            return False
        # The levels follow the creation at once, and tell of the module in older versions.
        return bool(known.awaited) or not known.levels_seen

    def _await(self, room: RoomId, named: object) -> None:
        names = set(named) if isinstance(named, tuple | dict) else set()
        self._rooms[room].awaited |= {bot for bot in self.bots if bot in names}

    def _forget(self, now: float) -> None:
        if len(self._rooms) >= MOST_ROOMS:
            self._rooms.clear()
        for room in [room for room, known in self._rooms.items() if known.until <= now]:
            del self._rooms[room]


def _read(content: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return type_()
