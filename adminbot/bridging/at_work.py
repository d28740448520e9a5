"""In which rooms a bridge still is at work: looked at anew when somebody of it leaves, and daily."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.bridges.instance import Bridge
from adminbot.bridging.registry import Registry
from adminbot.bridging.watch import BRIDGE_TYPES, Watch
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import GetRoomState, ListRoomMembers
from common.ids import RoomId

PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class AtWork:
    """Forgets rooms that a bridge has gone from; whoever is in a room says whether it has."""

    registry: Registry
    watch: Watch
    admin: AdminReader
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def settle_all(self) -> None:
        """Look at every room that is known, slowly: what was missed while we were away."""
        rows = await self.registry.database.fetch("SELECT bridge, room_id FROM bridge_room")
        for row in rows:
            await self.settle(row["bridge"], RoomId(row["room_id"]))
            await self.sleep(PAUSE_SECONDS)

    async def settle(self, name: str, room: RoomId) -> None:
        """Forget a room if the bridge is at work there no more."""
        bridge = self.registry.bridges.get(name)
        if bridge is None or await self._is_at_work(bridge, room):
            return
        self.watch.rooms.get(room, set()).discard(name)
        async with self.registry.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM bridge_room WHERE bridge = $1 AND room_id = $2", name, room
            )

    async def _is_at_work(self, bridge: Bridge, room: RoomId) -> bool:
        bots = bridge.namespaces.bots
        try:
            members = await self.admin.read(ListRoomMembers(room))
            if not any(user in bots or bridge.namespaces.covers(user) for user in members):
                return False
            described = [
                bool(event.content)
                for type_ in BRIDGE_TYPES
                for event in await self.admin.read(GetRoomState(room, type_))
                if event.sender in bots
            ]
        except NotFoundError:
            return False
        # A bridge that takes its word back has said so; one that never said any may be there.
        return any(described) or not described
