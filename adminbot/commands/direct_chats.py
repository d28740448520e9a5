"""Which rooms are direct chats: no room says so once it is entered, only who keeps it as one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import ListRoomMembers, RoomSummary
from common.homeserver.synapse.user_lookup import GetAccountData
from common.ids import RoomId, UserId, server_of

MOST_IN_A_CHAT = 10
_DIRECT = "m.direct"


@dataclass
class DirectChats:
    """Looks up the direct chats of people of this server, each person once.

    Source: specification, ``m.direct``: the rooms by whom they are with, in each one's account data.
    """

    admin: AdminReader
    server_name: str
    own: frozenset[UserId]
    known: dict[UserId, frozenset[RoomId]] = field(default_factory=dict)

    async def has(self, room: RoomSummary) -> bool:
        """Say whether somebody of this server in a small room keeps it as a direct chat."""
        if room.joined_members > MOST_IN_A_CHAT:
            return False
        try:
            members = await self.admin.read(ListRoomMembers(room.room_id))
        except NotFoundError:
            return False
        for one in members:
            mine = server_of(one) == self.server_name and one not in self.own
            if mine and room.room_id in await self._of(one):
                return True
        return False

    async def _of(self, user: UserId) -> frozenset[RoomId]:
        if user not in self.known:
            try:
                kept = (await self.admin.read(GetAccountData(user))).global_.get(_DIRECT)
            except NotFoundError:
                kept = None
            lists = kept.values() if isinstance(kept, Mapping) else ()
            self.known[user] = frozenset(
                RoomId(one)
                for each in lists
                if isinstance(each, list)
                for one in each
                if isinstance(one, str)
            )
        return self.known[user]
