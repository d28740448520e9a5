"""Looking for bridges that nobody named: third parties, accounts, the state of rooms, membership.

No single source knows them all: Heisenbridge writes no bridge event, mautrix declares no
protocol. Accounts and rooms are searched slowly, and once a day at most.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from adminbot.bridges.instance import Bridge
from adminbot.bridging.registry import Registry, Sighting
from adminbot.bridging.watch import BRIDGE_TYPES, describe
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.client import AdminClient
from common.homeserver.errors import RefusedError, StrangeAnswerError
from common.homeserver.synapse.rooms import GetRoomState, ListRoomMembers, all_rooms
from common.homeserver.synapse.users import ListUserRooms, ListUsers, all_users
from common.ids import RoomId, UserId, localpart_of, server_of
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
        """Go through all accounts and rooms, unless that was done lately; say whether."""
        last_ms = await self.database.fetchval("SELECT at_ms FROM bridge_search WHERE id = 1")
        if last_ms is not None and self.clock.now_ms() - int(last_ms) < SEARCH_AGAIN_MS:
            return False
        await self._accounts()
        async for room in all_rooms(self.admin):
            await self._room(room.room_id)
            await self.sleep(PAUSE_SECONDS)
        for bridge in list(self.registry.bridges.values()):
            await self._rooms_of(bridge)
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO bridge_search (id, at_ms) VALUES (1, $1)"
                " ON CONFLICT (id) DO UPDATE SET at_ms = excluded.at_ms",
                self.clock.now_ms(),
            )
        return True

    async def _accounts(self) -> None:
        """Take up bots by their usual names; the registry asks whose accounts they are.

        An account that may be a bridged person's is none: its name is chosen far away.
        """
        kinds = self.registry.kinds.values()
        ghosts = [pattern for kind in kinds for pattern in kind.ghosts]
        names = {
            name
            for kind in kinds
            for name in kind.bots
            if not any(fnmatchcase(name, pattern) for pattern in ghosts)
        }
        found = [
            Sighting(one.name, (), "account")
            async for one in all_users(self.admin, ListUsers(deactivated=False, limit=500))
            if localpart_of(one.name) in names and self.registry.owners.owner_of(one.name) is None
        ]
        await self.registry.sight(found)

    async def _rooms_of(self, bridge: Bridge) -> None:
        """Take up the rooms in which a bridge's bot is together with its people."""
        try:
            rooms = await self.admin.read(ListUserRooms(bridge.bot))
        except (RefusedError, StrangeAnswerError):
            return
        for room in rooms:
            try:
                members = await self.admin.read(ListRoomMembers(room))
            except (RefusedError, StrangeAnswerError):
                continue
            if any(bridge.namespaces.covers(user) for user in members):
                await self._remember(bridge.name, room)
            await self.sleep(PAUSE_SECONDS)

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
        network: str | None = None,
        channel: str | None = None,
        channel_name: str | None = None,
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
