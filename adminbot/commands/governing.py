"""Which rooms somebody looks after, and which have nobody left; Steward's own accounts are no one.

The bots stay in every room, so the homeserver counts a room that everybody has left as inhabited.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from adminbot.commands.here import powers_in
from adminbot.commands.protect import own_accounts
from adminbot.engine.supply import Settings
from common.config.schema import Config
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import (
    GetRoomState,
    ListRoomMembers,
    RoomSummary,
)
from common.homeserver.synapse.users import ListUserRooms
from common.ids import RoomId, UserId, server_of
from common.matrix.power import ADMIN_LEVEL, level_in, version_number

_CREATORS_REIGN_FROM = 12
_EXPECTED = {"invite", "knock"}


@dataclass(frozen=True)
class Inhabited:
    """How many people are in a room besides Steward's accounts, by the homeserver's counts."""

    ours: Mapping[RoomId, int]

    def people(self, room: RoomSummary) -> int:
        """Return how many there are, of whatever server."""
        return max(0, room.joined_members - self.ours.get(room.room_id, 0))

    def people_here(self, room: RoomSummary) -> int:
        """Return how many there are of this server."""
        return max(0, room.joined_local_members - self.ours.get(room.room_id, 0))


async def inhabited(admin: AdminReader, settings: Settings) -> Inhabited:
    """Return it; one question for each of our accounts, however many rooms there are."""
    counts: Counter[RoomId] = Counter()
    for account in sorted(own_accounts(settings.config)):
        counts.update(await admin.read(ListUserRooms(account)))
    return Inhabited(counts)


@dataclass
class Governing:
    """Looks up who is in charge of rooms; where a person of this server is, is asked once."""

    admin: AdminReader
    settings: Settings
    inside: dict[UserId, frozenset[RoomId]] = field(default_factory=dict)

    async def has_admin(self, room: RoomSummary, *, of_this_server: bool = False) -> bool:
        """Say whether a person in a room is an admin of it; our own accounts are no one.

        A room that went away meanwhile has one: there is nothing to be done about it.
        """
        own = own_accounts(self.settings.config)
        if room.creator is not None and version_number(room.version) >= _CREATORS_REIGN_FROM:
            # Nobody can take their power from them: nothing else has to be asked.
            creator = UserId(room.creator)
            if creator not in own and self._is_local(creator) and await self._is_in(creator, room):
                return True
        try:
            powers = await powers_in(self.admin, room.room_id)
            if (level_in(powers.levels or {}, "users_default") or 0) >= ADMIN_LEVEL:
                able = set(await self.admin.read(ListRoomMembers(room.room_id)))
            else:
                named = [UserId(one) for one in powers.named]
                able = {one for one in named if powers.of(one).administers}
                able |= {UserId(one) for one in powers.creators}
                if powers.levels is None:
                    able.add(powers.create_sender)
            people = sorted(able - own, key=lambda one: (not self._is_local(one), one))
            for one in people:
                if (self._is_local(one) or not of_this_server) and await self._is_in(one, room):
                    return True
        except (NotFoundError, UserError):
            return True
        return False

    async def heir(self, room: RoomId) -> UserId | None:
        """Return the most powerful person of this server in a room, who could become its admin."""
        own = own_accounts(self.settings.config)
        powers = await powers_in(self.admin, room)
        members = await self.admin.read(ListRoomMembers(room))
        local = [one for one in members if one not in own and self._is_local(one)]
        return min(local, key=lambda one: (-powers.of(one).level, one), default=None)

    def _is_local(self, user: UserId) -> bool:
        return server_of(user) == self.settings.config.homeserver.server_name

    async def _is_in(self, user: UserId, room: RoomSummary) -> bool:
        if not self._is_local(user):
            return user in await self.admin.read(ListRoomMembers(room.room_id))
        if user not in self.inside:
            self.inside[user] = frozenset(await self.admin.read(ListUserRooms(user)))
        return room.room_id in self.inside[user]


def is_own_chat(config: Config, room: RoomSummary, people: int) -> bool:
    """Say whether a room is a chat of ours with one person, which needs no other admin."""
    return room.creator in own_accounts(config) and people <= 1


async def is_awaited(admin: AdminReader, room: RoomId) -> bool:
    """Say whether somebody is invited to a room, or knocks: a chat of ours not entered yet, say."""
    try:
        state = await admin.read(GetRoomState(room, "m.room.member"))
    except NotFoundError:
        return False
    return any(event.content.get("membership") in _EXPECTED for event in state)
