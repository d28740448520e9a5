"""What has to be known to decide, asked of the homeserver now; nothing here is remembered."""

from collections.abc import Collection
from dataclasses import dataclass

from adminbot.engine.actor import Actor, Place, PlaceKind, Target
from adminbot.engine.intake import Request
from common.homeserver.errors import NotAllowedError, NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import (
    GetEvent,
    GetRoom,
    GetRoomState,
    GetStateEvent,
    ListRoomMembers,
    StateEvent,
)
from common.homeserver.synapse.users import GetUser, ListUsers, UserDetails, all_users
from common.ids import RoomId, UserId, server_of
from common.matrix.power import Power, power_of

# The homeserver's statistics lag behind; a room that has many members by them is not two people.
_SURELY_SHARED = 20
# Specification, "m.room.join_rules" and "m.room.history_visibility". Without such an event a
# room is by invitation, and not for the world to read.
_CLOSED_BY = ("invite", "private")
# Somebody whom the room is meant for: joined, invited or knocking.
_OUT = ("leave", "ban")
_FOR_ALL = "world_readable"


@dataclass(frozen=True)
class Facts:
    """The questions; ``me`` is adminbot, ``bots`` all of Steward's accounts."""

    admin: AdminReader
    me: UserId
    bots: frozenset[UserId]
    server_admins: Collection[str]
    control_rooms: Collection[str]

    async def actor(self, user: UserId) -> Actor:
        """Return who asks: the admin flag is the homeserver's, or the configured list's."""
        try:
            found = await self.admin.read(GetUser(user))
        except NotFoundError:
            return Actor(user, closed="unknown to the homeserver")
        return Actor(
            user,
            server_admin=found.admin or user in self.server_admins,
            bridged=found.appservice_id is not None or found.user_type == "bot",
            closed=_closed(found),
        )

    async def place(self, room: RoomId, user: UserId) -> Place:
        """Return what sort of room this is for that person."""
        if room in self.control_rooms:
            outsider = await self._outsider(room)
            return Place(room, PlaceKind.CONTROL, await self._open(room), outsider)
        if await self.direct_with(room) == user and not await self._open(room):
            named = (await self.admin.read(GetRoom(room))).name is not None
            return Place(room, PlaceKind.DIRECT, named=named)
        return Place(room, PlaceKind.SHARED)

    async def speaks_to_us(self, room: RoomId) -> UserId | None:
        """Return the one person all of whose messages in a room are meant for us.

        A room that somebody has given a name is made for more people, even while its maker is
        still alone in it with the bots.

        Raises:
            RefusedError: the homeserver does not tell us, which says nothing about the room.
        """
        named = (await self.admin.read(GetRoom(room))).name
        return None if named else await self.direct_with(room)

    async def direct_with(self, room: RoomId) -> UserId | None:
        """Return the one person who is alone with the bots in a room, ``None`` if it is shared.

        Who is only invited counts: the chat is theirs too, and they will read it.
        """
        if (await self.admin.read(GetRoom(room))).joined_members > _SURELY_SHARED:
            return None
        members = {
            UserId(event.state_key): event.content.get("membership")
            for event in await self.admin.read(GetRoomState(room, "m.room.member"))
            if event.content.get("membership") not in _OUT
        }
        people = [member for member in members if member not in self.bots]
        if len(people) != 1 or members.get(self.me) != "join":
            return None
        return people[0] if members[people[0]] == "join" else None

    async def people_in_charge(self) -> tuple[UserId, ...]:
        """Return every server admin who is a person with an open account."""
        found = [one.name async for one in all_users(self.admin, ListUsers(admins=True))]
        named = [UserId(name) for name in self.server_admins]
        people = [user for user in dict.fromkeys([*found, *named]) if user not in self.bots]
        return tuple([user for user in people if await self._is_in_charge(user)])

    async def _is_in_charge(self, user: UserId) -> bool:
        actor = await self.actor(user)
        return actor.server_admin and actor.closed is None and not actor.bridged

    async def alone_with(self, room: RoomId, user: UserId) -> bool:
        """Say whether nobody but one person, joined or invited, is in a room with the bots.

        An admin room is none, even while there is one admin only: more of them will come.
        """
        if room in self.control_rooms:
            return False
        try:
            members = {
                UserId(event.state_key): event.content.get("membership")
                for event in await self.admin.read(GetRoomState(room, "m.room.member"))
                if event.content.get("membership") not in _OUT
            }
        except (NotFoundError, NotAllowedError):
            return False
        people = [member for member in members if member not in self.bots]
        return people == [user] and members.get(self.me) == "join" and not await self._open(room)

    async def is_for_admins(self, room: RoomId) -> bool:
        """Say whether nobody but server admins reads an admin room at this moment."""
        try:
            return not await self._open(room) and await self._outsider(room) is None
        except (NotFoundError, NotAllowedError):
            return False

    async def target(self, room: RoomId, user: UserId) -> Target:
        """Return what somebody may do in a room; nothing where they are not joined."""
        try:
            members = await self.admin.read(ListRoomMembers(room))
            if user not in members:
                return Target(room, None)
            return Target(room, await self._power(room, user))
        except NotFoundError:
            return Target(room, None)

    async def power(self, room: RoomId, user: UserId) -> Power | None:
        """Return what somebody may do in a room that they are known to be in.

        Its members, who may be many, are not asked for.
        """
        try:
            return await self._power(room, user)
        except NotFoundError:
            return None

    async def still_stands(self, request: Request) -> bool:
        """Say whether the homeserver has this event from this sender, not taken back.

        And whether we were in the room when it was sent: what was said before is not for us.
        """
        try:
            event = await self.admin.read(GetEvent(request.room, request.event))
            if event.sender != request.sender or "redacted_because" in event.unsigned:
                return False
            joined = await self.admin.read(GetStateEvent(request.room, "m.room.member", self.me))
        except (NotFoundError, NotAllowedError):
            # Gone, or we are gone from the room.
            return False
        return _joined_before(joined, request.origin_ms)

    async def _power(self, room: RoomId, user: UserId) -> Power | None:
        create = await self._state(room, "m.room.create")
        if create is None:
            return None
        levels = await self._state(room, "m.room.power_levels")
        return power_of(
            user,
            levels=None if levels is None else levels.content,
            create_sender=create.sender,
            create=create.content,
        )

    async def _state(self, room: RoomId, type_: str) -> StateEvent | None:
        events = await self.admin.read(GetRoomState(room, type_))
        return next((event for event in events if not event.state_key), None)

    async def _open(self, room: RoomId) -> bool:
        """Say whether somebody may come in, or read along, whom nobody in there has invited."""
        rules = await self._state(room, "m.room.join_rules")
        if rules is not None and rules.content.get("join_rule") not in _CLOSED_BY:
            return True
        history = await self._state(room, "m.room.history_visibility")
        if history is not None and history.content.get("history_visibility") == _FOR_ALL:
            return True
        return await self._has_a_back_door(room)

    async def _has_a_back_door(self, room: RoomId) -> bool:
        """Say whether somebody who is gone has left an invitation behind that is no membership.

        Whoever holds the key of an ``m.room.third_party_invite`` comes in by it at any time, in
        the name of its sender, who need not be in the room any more (specification, room version
        12, "Authorization rules", 5.4.1). One of a member says no more than that they may invite.
        """
        left = {
            event.sender
            for event in await self.admin.read(GetRoomState(room, "m.room.third_party_invite"))
            if event.content
        }
        return bool(left) and not left <= set(await self.admin.read(ListRoomMembers(room)))

    async def _outsider(self, room: RoomId) -> UserId | None:
        """Return somebody in an admin room who is no server admin at this moment."""
        for member in await self.admin.read(ListRoomMembers(room)):
            if member not in self.bots and not await self._administers(member):
                return member
        return None

    async def _administers(self, user: UserId) -> bool:
        if server_of(user) != server_of(self.me):
            return False
        actor = await self.actor(user)
        return actor.server_admin and actor.closed is None


def _closed(found: UserDetails) -> str | None:
    claims = {
        "deactivated": found.deactivated,
        "suspended": found.suspended,
        "locked": found.locked,
        "a guest": found.is_guest,
    }
    return next((word for word, claim in claims.items() if claim), None)


def _joined_before(member: StateEvent, moment_ms: int) -> bool:
    if member.content.get("membership") != "join":
        return False
    before = member.unsigned.get("prev_content")
    if isinstance(before, dict) and before.get("membership") == "join":
        # A change of our name or picture: we have been in there for longer.
        return True
    return member.origin_server_ts <= moment_ms
