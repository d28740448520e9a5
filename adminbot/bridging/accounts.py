"""What an account does about bridges: a chat with the bot, words in it, a room made ready.

The account is adminbot's own, or a person's who asked for it at that moment (through the
registration behind ``bridges.acting_token``).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.bridges.kind import Kind
from common.clock import Clock
from common.database.pool import Database
from common.errors import StewardError
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import ListRoomMembers
from common.homeserver.synapse.users import ListUserRooms
from common.i18n import t
from common.ids import RoomId, UserId
from common.matrix.client import CLIENT, Json, MatrixClient, MatrixError, segment

JOIN_SECONDS = 20.0
POLL_SECONDS = 0.1
MOST_ROOMS_LOOKED_AT = 200
BOT_LEVEL = 50

OWN_CHAT = "chat"


@dataclass(frozen=True)
class Account:
    """One account's hands."""

    client: MatrixClient
    admin: AdminReader
    database: Database
    clock: Clock
    on_behalf_of: UserId | None = None
    """Who types themselves, where ``client`` cannot."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    @property
    def user(self) -> UserId:
        """Whose hands."""
        return self.on_behalf_of or self.client.user_id

    async def say(self, room: RoomId, words: str, *, key: str) -> None:
        """Type words as a person does: bots ignore notices."""
        content: Json = {"msgtype": "m.text", "body": words}
        await self.client.send(room, "m.room.message", content, key)

    async def chat_with(self, bridge: str, kind: Kind, bot: UserId) -> RoomId:
        """Return this account's own chat with a bridge's bot; made if there is none."""
        known = await self.place(bridge, OWN_CHAT)
        if known is not None and await self._is_chat(known, bot, kind):
            return known
        room = await self._found(bot) or await self._made(bot)
        await self.remember(bridge, OWN_CHAT, room)
        return room

    async def place(self, bridge: str, place: str) -> RoomId | None:
        """Return a room that was remembered."""
        found = await self.database.fetchval(
            "SELECT room_id FROM bridge_chat WHERE bridge = $1 AND user_id = $2 AND place = $3",
            bridge,
            self.user,
            place,
        )
        return None if found is None else RoomId(found)

    async def remember(self, bridge: str, place: str, room: RoomId) -> None:
        """Remember a room."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO bridge_chat (bridge, user_id, place, room_id)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (bridge, user_id, place)"
                " DO UPDATE SET room_id = excluded.room_id",
                bridge,
                self.user,
                place,
                room,
            )

    async def enter(self, room: RoomId) -> None:
        """Accept an invitation; being in there already is as good."""
        await self.client.join(room)

    async def name_of(self, room: RoomId) -> str | None:
        """Return a room's name."""
        try:
            name = (await self.client.state_event(room, "m.room.name")).get("name")
        except MatrixError:
            return None
        return name if isinstance(name, str) else None

    async def prepare(self, room: RoomId, bot: UserId) -> None:
        """Have a bot in a room and able to work there.

        Raises:
            StewardError: it does not come.
        """
        if bot not in await self._members(room):
            try:
                await self.client.invite(room, bot)
            except MatrixError as error:
                raise StewardError(
                    t("{bot} could not be invited: {why}", bot=bot, why=error.message)
                ) from error
        await self._give_power(room, bot)

    async def wait_for(self, room: RoomId, bot: UserId) -> None:
        """Wait until a bot is in a room; ``StewardError`` if it does not come."""
        until = self.clock.monotonic() + JOIN_SECONDS
        while bot not in await self._members(room):
            if self.clock.monotonic() > until:
                raise StewardError(
                    t("{bot} did not accept the invitation. Does the bridge run?", bot=bot)
                )
            await self.sleep(POLL_SECONDS)

    async def _give_power(self, room: RoomId, bot: UserId) -> None:
        try:
            levels = await self.client.state_event(room, "m.room.power_levels")
            users = levels.get("users")
            given = users.get(bot) if isinstance(users, dict) else None
            if isinstance(given, int) and given >= BOT_LEVEL:
                return
            held = users if isinstance(users, dict) else {}
            changed = {**levels, "users": {**held, bot: BOT_LEVEL}}
            await self.client.put_state(room, "m.room.power_levels", "", changed)
        except MatrixError as error:
            raise StewardError(
                t("{bot} could not be given the power it needs: {why}", bot=bot, why=error.message)
            ) from error

    async def _members(self, room: RoomId) -> tuple[UserId, ...]:
        return await self.admin.read(ListRoomMembers(room))

    async def _is_chat(self, room: RoomId, bot: UserId, kind: Kind) -> bool:
        try:
            members = set(await self._members(room))
        except RefusedError:
            return False
        if not {self.user, bot} <= members:
            return False
        return kind.chat not in {"two_members", "stored"} or len(members) == len({self.user, bot})

    async def _found(self, bot: UserId) -> RoomId | None:
        shared = set(await self._rooms(self.user)) & set(await self._rooms(bot))
        for room in sorted(shared)[:MOST_ROOMS_LOOKED_AT]:
            members = set(await self._members(room))
            if members == {self.user, bot} and await self._plain(room):
                return room
        return None

    async def _rooms(self, user: UserId) -> tuple[RoomId, ...]:
        try:
            return tuple(await self.admin.read(ListUserRooms(user)))
        except RefusedError:
            return ()

    async def _plain(self, room: RoomId) -> bool:
        """Say whether a room is an ordinary chat: no portal, no name of a network, not encrypted."""
        try:
            state = await self.client.state(room)
        except MatrixError:
            return False
        special = {"m.bridge", "uk.half-shot.bridge", "m.room.encryption", "m.room.name"}
        return not any(event.get("type") in special for event in state)

    async def _made(self, bot: UserId) -> RoomId:
        answer = await self.client.request(
            "POST",
            f"{CLIENT}/v3/createRoom",
            # The bot takes back what must not stay: codes of its own, passwords of theirs.
            {"preset": "trusted_private_chat", "is_direct": True, "invite": [bot]},
        )
        room = RoomId(str(answer["room_id"]))
        await self._mark_direct(bot, room)
        await self.wait_for(room, bot)
        return room

    async def _mark_direct(self, bot: UserId, room: RoomId) -> None:
        """Put the chat among the direct ones (specification, ``m.direct``)."""
        path = f"{CLIENT}/v3/user/{segment(self.user)}/account_data/m.direct"
        try:
            direct = await self.client.request("GET", path)
        except MatrixError:
            direct = {}
        rooms = direct.get(bot)
        known = rooms if isinstance(rooms, list) else []
        await self.client.request("PUT", path, {**direct, bot: [*known, room]})
