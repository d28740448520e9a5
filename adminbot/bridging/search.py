"""Looking for bridges that nobody named: what the homeserver says of third parties, room state.

No single source knows them all: Heisenbridge writes no bridge event, mautrix declares no
protocol. Rooms are searched slowly, and once a day at most.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.bridging.registry import Registry, Sighting
from adminbot.bridging.watch import BRIDGE_TYPES, describe
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.client import AdminClient
from common.homeserver.errors import RefusedError, StrangeAnswerError
from common.homeserver.synapse.rooms import GetRoomState, all_rooms
from common.ids import RoomId, UserId, server_of
from common.matrix.client import MatrixClient
from common.telemetry.log import Log

SEARCH_AGAIN_MS = 24 * 3_600_000
PAUSE_SECONDS = 0.05
_LONGEST = 255

log = Log("adminbot.bridges")


@dataclass(frozen=True)
class Search:
    """Searches; ``found`` goes to the registry and the table of rooms."""

    registry: Registry
    client: MatrixClient
    admin: AdminClient
    database: Database
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def protocols(self) -> list[Sighting]:
        """Return the bots that the homeserver names (``GET /thirdparty/protocols``)."""
        try:
            answer = await self.client.request("GET", "/_matrix/client/v3/thirdparty/protocols")
        except StartOverError:
            raise
        except StewardError as error:
            log.info("the homeserver does not tell of third parties", reason=error)
            return []
        found: list[Sighting] = []
        # Typed as an object, but whoever stands between may answer anything.
        said: object = answer
        for protocol, described in said.items() if isinstance(said, dict) else ():
            instances = described.get("instances") if isinstance(described, dict) else None
            for instance in instances if isinstance(instances, list) else []:
                bot = instance.get("bot_user_id") if isinstance(instance, dict) else None
                if isinstance(bot, str) and self._is_ours(bot):
                    found.append(Sighting(UserId(bot), (str(protocol),), "protocols"))
        return found

    async def rooms(self) -> bool:
        """Go through all rooms for bridge events, unless that was done lately; say whether."""
        last_ms = await self.database.fetchval("SELECT at_ms FROM bridge_search WHERE id = 1")
        if last_ms is not None and self.clock.now_ms() - int(last_ms) < SEARCH_AGAIN_MS:
            return False
        async for room in all_rooms(self.admin):
            await self._room(room.room_id)
            await self.sleep(PAUSE_SECONDS)
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO bridge_search (id, at_ms) VALUES (1, $1)"
                " ON CONFLICT (id) DO UPDATE SET at_ms = excluded.at_ms",
                self.clock.now_ms(),
            )
        return True

    async def _room(self, room: RoomId) -> None:
        for type_ in BRIDGE_TYPES:
            try:
                events = await self.admin.read(GetRoomState(room, type_))
            except (StartOverError, TransientError):
                raise
            except (RefusedError, StrangeAnswerError):
                continue
            for event in events:
                found = describe(dict(event.content), event.sender)
                if found is None or not self._is_ours(found.bot):
                    continue
                if found.bot == event.sender:
                    await self.registry.sight([Sighting(found.bot, found.protocols, "state")])
                bridge = self.registry.owners.bridge_of_bot(found.bot)
                # What somebody else says of a bridge is not believed; see ``Watch``.
                if bridge is not None and found.bot == event.sender:
                    await self._remember(
                        bridge, room, found.network, found.channel, found.channel_name
                    )

    async def _remember(
        self,
        bridge: str,
        room: RoomId,
        network: str | None,
        channel: str | None,
        channel_name: str | None,
    ) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO bridge_room (bridge, room_id, network, remote, remote_name, seen_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (bridge, room_id) DO NOTHING",
                bridge,
                room,
                network,
                channel,
                channel_name,
                self.clock.now_ms(),
            )

    def _is_ours(self, bot: str) -> bool:
        return (
            bot.startswith("@")
            and len(bot) <= _LONGEST
            and server_of(UserId(bot)) == self.registry.server
        )
