"""Going into one room: by invitation, else by the homeserver's force; power for the leader."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import StewardError, TransientError
from common.homeserver.client import AdminClient
from common.homeserver.synapse.rooms import GetStateEvent, MakeRoomAdmin
from common.ids import RoomId, UserId
from common.matrix.client import Json, MatrixClient, MatrixError
from common.matrix.power import ADMIN_LEVEL, power_of
from common.membership.deputy import invite_through


@dataclass(frozen=True)
class Entering:
    """The first of ``bots`` is the leader; ``joined`` is where each is, and is kept up."""

    bots: Sequence[MatrixClient]
    admin: AdminClient
    deputy: MatrixClient | None
    joined: Mapping[UserId, set[RoomId]]

    async def enter_all(self, room: RoomId) -> str | None:
        """Bring every bot into a room; return what prevented it."""
        leader, *others = self.bots
        problems = await self._join_all(room)
        if problems[leader.user_id] is not None:
            problem = await self._force(leader, room)
            if problem is not None:
                return problem
        for bot in others:
            if problems[bot.user_id] is not None:
                problem = await self._bring(leader, bot, room)
                if problem is not None:
                    return problem
        return None

    async def _join_all(self, room: RoomId) -> dict[UserId, str | None]:
        """Have all that are invited already (the module does that) go in side by side."""
        outcomes: dict[UserId, str | TransientError | None] = {}
        async with asyncio.TaskGroup() as group:
            for bot in self.bots:
                group.create_task(self._join_into(outcomes, bot, room))
        problems: dict[UserId, str | None] = {}
        for user_id, outcome in outcomes.items():
            if isinstance(outcome, TransientError):
                raise outcome
            problems[user_id] = outcome
        return problems

    async def _join_into(
        self,
        problems: dict[UserId, str | TransientError | None],
        bot: MatrixClient,
        room: RoomId,
    ) -> None:
        try:
            problems[bot.user_id] = await self.join(bot, room)
        except TransientError as error:
            problems[bot.user_id] = error  # raised in the group it would come out as a group

    async def join(self, bot: MatrixClient, room: RoomId) -> str | None:
        """Have one bot go in by its own right; return what prevented it."""
        if room in self.joined[bot.user_id]:
            return None
        try:
            await bot.join(room)
        except MatrixError as error:
            return f"{bot.user_id} cannot join: {error.message}"
        self.joined[bot.user_id].add(room)
        return None

    async def _force(self, leader: MatrixClient, room: RoomId) -> str | None:
        """Have the homeserver act as the strongest local member: power, and an invitation."""
        try:
            await self.admin.change(MakeRoomAdmin(room=room, user=leader.user_id))
        except TransientError:
            raise
        except StewardError as error:
            if self.deputy is None or await invite_through(
                self.admin, self.deputy, room, leader.user_id
            ):
                return str(error)
        return await self.join(leader, room)

    async def _bring(self, leader: MatrixClient, bot: MatrixClient, room: RoomId) -> str | None:
        try:
            await leader.invite(room, bot.user_id)
        except MatrixError as error:
            # Without power to invite, ask for it once; a ban is lifted by nobody but people.
            forced = await self._force(bot, room)
            return forced and f"{forced} ({error.message})"
        return await self.join(bot, room)

    async def empower(self, room: RoomId) -> str | None:
        """Give the leader power in a room; return what prevented it."""
        leader = self.bots[0]
        if await self._has_power(leader, room):
            return None
        try:
            await self.admin.change(MakeRoomAdmin(room=room, user=leader.user_id))
        except TransientError:
            raise
        except StewardError as error:
            return f"{leader.user_id} has no power: {error}"
        if await self._has_power(leader, room):
            return None
        return f"{leader.user_id} has less than {ADMIN_LEVEL} power, and nobody local has more to give."

    async def _has_power(self, bot: MatrixClient, room: RoomId) -> bool:
        levels = await _content(bot, room, "m.room.power_levels")
        users = levels.get("users") if levels else None
        level = users.get(bot.user_id) if isinstance(users, dict) else None
        if isinstance(level, int) and level >= ADMIN_LEVEL:
            return True
        # Only then is the creation event worth a second request: creators of version 12.
        create = await AdminClient(bot).read(GetStateEvent(room, "m.room.create", ""))
        return power_of(
            bot.user_id, levels=levels, create_sender=create.sender, create=create.content
        ).administers


async def _content(bot: MatrixClient, room: RoomId, event_type: str) -> Json | None:
    try:
        return await bot.state_event(room, event_type)
    except MatrixError as error:
        if error.errcode == "M_NOT_FOUND":
            return None
        raise
