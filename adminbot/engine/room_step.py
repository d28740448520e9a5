"""Steps about rooms that have to look before they change, at the moment they are taken."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from adminbot.engine.calls import IN_THEIR_NAME, LEAVE, UPLOAD, Calls
from common.homeserver.client_server.membership import InviteUser, UnbanUser
from common.homeserver.client_server.settings import SetRoomAvatar
from common.homeserver.client_server.state import SetPowerLevels, SetState
from common.homeserver.port import Danger, Permission
from common.homeserver.synapse.rooms import GetRoomState, GetStateEvent, ListRoomMembers
from common.homeserver.synapse.users import JoinUser
from common.i18n import Msg, t
from common.ids import RoomId, UserId
from common.matrix.power import level_in


@dataclass(frozen=True, kw_only=True)
class AdjustPower:
    """Change single numbers of the power levels and leave all others as they are then.

    ``users``, ``events`` and ``levels`` hold what is to be; ``None`` takes a number away.
    ``only_if`` holds what single people must have at that moment, ``only_if_levels`` what other
    numbers must be; otherwise nothing happens, since somebody else has changed it meanwhile.
    ``lender``: whose power the people's numbers are given by, if they have as much at that moment:
    what was promised for later is not given any more by who has lost it meanwhile.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetRoomState, ListRoomMembers, SetPowerLevels)

    room: RoomId
    sentence: Msg
    users: Mapping[UserId, int | None] = field(default_factory=dict)
    events: Mapping[str, int | None] = field(default_factory=dict)
    levels: Mapping[str, int | None] = field(default_factory=dict)
    only_if: Mapping[UserId, int] = field(default_factory=dict)
    only_if_levels: Mapping[str, int] = field(default_factory=dict)
    lender: UserId | None = None

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence

    def applied_to(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the power levels with the changes."""
        changed = _patched(content, self.levels)
        for part, changes in (("users", self.users), ("events", self.events)):
            if changes:
                held = content.get(part)
                changed[part] = _patched(held if isinstance(held, Mapping) else {}, changes)
        return changed


@dataclass(frozen=True, kw_only=True)
class StepDown:
    """Have somebody of this server give up power in a room, in their own name.

    That works against whoever has as much power as we have, whom we cannot demote; what they have
    left is ``level``, or what everybody has. Their own wish is enough; against it only a server
    admin may (``by`` is who asks).
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetRoomState, SetPowerLevels, *IN_THEIR_NAME)

    room: RoomId
    user: UserId
    level: int | None
    by: UserId

    @property
    def server_admins_only(self) -> bool:
        """Whether it is not their own wish."""
        return self.user != self.by

    def describe(self) -> Msg:
        """Return what it does."""
        if self.level is None:
            return t("Have {user} give up their power, in their own name", user=self.user)
        return t(
            "Have {user} step down to power level {level}, in their own name",
            user=self.user,
            level=self.level,
        )

    def applied_to(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the power levels with less for them, or as they are if they have less already."""
        held = content.get("users")
        users = held if isinstance(held, Mapping) else {}
        usual = level_in(content, "users_default") or 0
        now = level_in(users, self.user)
        left = usual if self.level is None else self.level
        if (usual if now is None else now) <= left:
            return dict(content)
        return {**content, "users": _patched(users, {self.user: self.level})}


def _patched(held: Mapping[str, Any], changes: Mapping[Any, int | None]) -> dict[str, Any]:
    patched = {**held, **changes}
    return {name: value for name, value in patched.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class EndBan:
    """Lift a ban that we set, as was promised; one that somebody else has set since then stays."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetStateEvent, UnbanUser)

    room: RoomId
    user: UserId

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Lift the ban of {user} from {room}", user=self.user, room=self.room)


@dataclass(frozen=True, kw_only=True)
class InviteFrom:
    """Invite everybody who is in another room, or was, and is not in this one yet.

    ``requester`` must be a moderator of the other room: they answer for its members, who would
    otherwise be invited by us to whatever somebody among them makes, faster than anybody could.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (ListRoomMembers, GetRoomState, InviteUser)

    room: RoomId
    source: RoomId
    requester: UserId | None
    sentence: Msg

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class MoveIn:
    """After an upgrade: into the new room with what the homeserver has not carried over.

    ``state`` are types of state events; ``members``: invite who was in the old room; ``join``:
    have those of this server join at once. ``since_ms``: the new room is younger than this; whoever
    rules the old one can have its tombstone name any other room at any moment.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetRoomState, ListRoomMembers, SetState, JoinUser, InviteUser)

    room: RoomId
    state: tuple[str, ...]
    since_ms: int
    members: bool = True
    join: bool = False
    sentence: Msg

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class SetPicture:
    """Give a room a picture that is not on the homeserver yet."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (UPLOAD, SetRoomAvatar)

    room: RoomId
    data: bytes
    content_type: str
    sentence: Msg

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class Dismiss:
    """Have adminbot leave a room and stay out of it until it is invited."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = LEAVE

    room: RoomId
    asked_by: UserId

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Leave {room}", room=self.room)
