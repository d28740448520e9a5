"""What admins are told unasked: that a bot lost its device.

In the control rooms; where none is configured, in the server admins' direct chats with adminbot.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from adminbot.engine.actor import Place, PlaceKind
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.users import ListUserRooms, ListUsers, all_users
from common.i18n import SOURCE, Language, t, translated
from common.identity import LostDevice, lost_devices
from common.ids import EventId, RoomId, UserId
from common.telemetry.log import Log

log = Log("adminbot.alarms")

T = TypeVar("T")

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_ROOMS_LOOKED_AT = 300


class Messenger(Protocol):
    """What is needed of ``common.matrix.messenger.Messenger``."""

    async def send(self, room_id: RoomId, content: dict[str, Any], *, txn_id: str) -> EventId:
        """Send, encrypted where the room is; once for each ``txn_id``."""
        ...


class Places(Protocol):
    """What is needed of ``adminbot.facts.Facts``."""

    async def place(self, room: RoomId, user: UserId) -> Place:
        """Return what sort of room this is for that person."""
        ...


@dataclass(frozen=True)
class AdminChats:
    """Finds each server admin's direct chat with adminbot."""

    database: Database
    admin: AdminReader
    places: Places
    bots: Collection[UserId]
    server_admins: Collection[str]
    """Those of the configuration, besides those whom the homeserver calls so."""

    async def find(self) -> list[RoomId]:
        """Return one room for each server admin who has such a chat."""
        flagged = ListUsers(admins=True, deactivated=False)
        people = {user.name async for user in all_users(self.admin, flagged)}
        people |= {UserId(user) for user in self.server_admins}
        found: list[RoomId] = []
        for person in sorted(people - set(self.bots)):
            chat = await self._chat_with(person)
            if chat is not None:
                found.append(chat)
        return found

    async def _chat_with(self, person: UserId) -> RoomId | None:
        try:
            for room in await self._candidates(person):
                if (await self.places.place(room, person)).kind is PlaceKind.DIRECT:
                    return room
        except RefusedError as error:
            log.warning("a direct chat could not be looked for", person=person, reason=error)
        return None

    async def _candidates(self, person: UserId) -> Sequence[RoomId]:
        """Return where they have talked to us, newest first; then where else we both are."""
        rows = await self.database.fetch(
            "SELECT room_id FROM admin_command WHERE sender = $1"
            " GROUP BY room_id ORDER BY MAX(origin_ms) DESC LIMIT $2",
            person,
            _ROOMS_LOOKED_AT,
        )
        talked = [RoomId(row["room_id"]) for row in rows]
        theirs = await self.admin.read(ListUserRooms(person))
        return [*talked, *(room for room in theirs if room not in talked)][:_ROOMS_LOOKED_AT]


@dataclass(frozen=True)
class Alarms:
    """Tells the control rooms, or without any, everybody in ``chats``; the log has it anyway."""

    database: Database
    messenger: Messenger
    rooms: Sequence[str]
    chats: Callable[[], Awaitable[Sequence[RoomId]]]
    language: Language = SOURCE

    async def tell(self) -> None:
        """Tell of what happened before this start, once."""
        lost = await self._patiently(self._lost)
        if not lost:
            return
        rooms = [RoomId(room) for room in self.rooms] or await self._chats()
        for device in lost:
            for room in rooms:
                await self._tell(room, device)

    async def _chats(self) -> Sequence[RoomId]:
        try:
            return await self._patiently(self.chats)
        except StartOverError:
            raise
        except StewardError as error:
            log.error("the server admins could not be told", reason=error)
            return ()

    async def _tell(self, room: RoomId, lost: LostDevice) -> None:
        text = t(
            "The device {device} of {user} was deleted, for example by resetting the account's "
            "password or signing it out. A new one was made and signed. Messages sent in between "
            "may stay unreadable for the bot.",
            device=lost.device_id,
            user=lost.user_id,
        )
        content = {"msgtype": "m.notice", "body": translated(text, self.language)}

        async def send() -> EventId:
            return await self.messenger.send(room, content, txn_id=f"lost-{lost.device_id}")

        try:
            await self._patiently(send)
        except StartOverError:
            raise
        except StewardError as error:
            log.error("a room could not be told", room=room, reason=error)

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await act()
            except TransientError:
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)

    async def _lost(self) -> list[LostDevice]:
        # Marked before it is sent: a room that takes no message must not be told for ever.
        async with self.database.transaction() as connection:
            return await lost_devices(connection, recorded=False)
