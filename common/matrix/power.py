"""Power in a room: from its power levels and create event to what somebody may do there.

Sources: Matrix specification v1.18, ``m.room.power_levels``; room version 12 (MSC4289): the
creators stand above every number. Contents are hostile: any value may have any type.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.ids import UserId

DEFAULT_STATE_LEVEL = 50
ADMIN_LEVEL = 100
_ACTS = {"ban": 50, "kick": 50, "redact": 50, "invite": 0}
_CREATORS_REIGN_FROM = 12
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)


@dataclass(frozen=True)
class Power:
    """Somebody's level in a room, and what the room asks for."""

    level: int
    creator: bool
    levels: Mapping[str, object]

    def may(self, act: str) -> bool:
        """Say whether this suffices for ``ban``, ``kick``, ``redact``, ``invite`` or a state event."""
        return self.creator or self.level >= self.needed(act)

    def needed(self, act: str) -> int:
        """Return the level the room asks for an act, or for sending a state event of that type."""
        if act in _ACTS:
            return _number(self.levels.get(act), _ACTS[act])
        events = self.levels.get("events")
        given = events.get(act) if isinstance(events, Mapping) else None
        return _number(given, _number(self.levels.get("state_default"), DEFAULT_STATE_LEVEL))

    @property
    def moderates(self) -> bool:
        """Whether this is at least a moderator by number."""
        return self.creator or self.level >= DEFAULT_STATE_LEVEL

    @property
    def administers(self) -> bool:
        """Whether this is a room admin."""
        return self.creator or self.level >= ADMIN_LEVEL


def power_of(
    user: UserId,
    *,
    levels: Mapping[str, object] | None,
    create_sender: UserId,
    create: Mapping[str, object],
) -> Power:
    """Return a joined person's power; ``levels`` is ``None`` where there is no such event."""
    reign = version_number(create.get("room_version")) >= _CREATORS_REIGN_FROM
    if reign and user in creators(create_sender, create):
        return Power(ADMIN_LEVEL, creator=True, levels=levels or {})
    if levels is None:
        # No event yet: before version 12 the creator has 100 and everybody else nothing.
        alone = not reign and user == create_sender
        return Power(ADMIN_LEVEL if alone else 0, creator=False, levels={})
    users = levels.get("users")
    given = users.get(user) if isinstance(users, Mapping) else None
    default = _number(levels.get("users_default"), 0)
    return Power(_number(given, default), creator=False, levels=levels)


def creators(create_sender: UserId, create: Mapping[str, object]) -> frozenset[str]:
    """Return who created a version 12 room (MSC4289: ``additional_creators``)."""
    more = create.get("additional_creators")
    others = [name for name in more if isinstance(name, str)] if isinstance(more, list) else []
    return frozenset({create_sender, *others})


def version_number(version: object) -> int:
    """Return a room version as a number, 1 where none is named and 0 for an unknown name."""
    if version is None:
        return 1
    return int(version) if isinstance(version, str) and version.isdecimal() else 0


def level_in(levels: Mapping[str, object], name: str) -> int | None:
    """Return one number of a content, ``None`` where none is given."""
    missing = -(2**60)
    found = _number(levels.get(name), missing)
    return None if found == missing else found


def _number(value: object, default: int) -> int:
    # Rooms before version 10 may hold levels as strings.
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else default
    return value if isinstance(value, int) and not isinstance(value, bool) else default


@dataclass(frozen=True)
class RoomPowers:
    """Everybody's power in a room: its power levels and create event, as they are now."""

    levels: Mapping[str, object] | None
    create_sender: UserId
    create: Mapping[str, object]

    def of(self, user: UserId) -> Power:
        """Return somebody's power; what they would have where they are not in the room."""
        return power_of(
            user, levels=self.levels, create_sender=self.create_sender, create=self.create
        )

    @property
    def creators(self) -> frozenset[str]:
        """Who stands above every number; nobody before room version 12."""
        if version_number(self.create.get("room_version")) < _CREATORS_REIGN_FROM:
            return frozenset()
        return creators(self.create_sender, self.create)

    @property
    def named(self) -> Mapping[str, int]:
        """Those who have a level of their own; what is no number or no text is left out."""
        users = (self.levels or {}).get("users")
        given = users if isinstance(users, Mapping) else {}
        return {
            name: _number(level, 0)
            for name, level in given.items()
            if isinstance(name, str) and isinstance(level, int | str)
        }
