"""What admins are told unasked, in the control rooms: that a bot lost its device."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.identity import LostDevice, lost_devices
from common.ids import EventId, RoomId
from common.telemetry.log import Log

log = Log("adminbot.alarms")

T = TypeVar("T")

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0


class Messenger(Protocol):
    """What is needed of ``common.matrix.messenger.Messenger``."""

    async def send(self, room_id: RoomId, content: dict[str, Any], *, txn_id: str) -> EventId:
        """Send, encrypted where the room is; once for each ``txn_id``."""
        ...


@dataclass(frozen=True)
class Alarms:
    """Tells the control rooms; without any, the log alone has it."""

    database: Database
    messenger: Messenger
    rooms: Sequence[str]

    async def tell(self) -> None:
        """Tell of what happened before this start, once."""
        for device in await self._patiently(self._lost):
            for room in self.rooms:
                await self._tell(RoomId(room), device)

    async def _tell(self, room: RoomId, lost: LostDevice) -> None:
        text = (
            f"The device {lost.device_id} of {lost.user_id} was deleted, for example by resetting "
            "the account's password or signing it out. A new one was made and signed. Messages "
            "sent in between may stay unreadable for the bot."
        )
        content = {"msgtype": "m.notice", "body": text}

        async def send() -> EventId:
            return await self.messenger.send(room, content, txn_id=f"lost-{lost.device_id}")

        try:
            await self._patiently(send)
        except StartOverError:
            raise
        except StewardError as error:
            log.error("a control room could not be told", room=room, reason=error)

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
