"""State events by which an integration is told what to do in a room, written and looked at again.

Hookshot puts a change back within moments if its own permissions do not grant whoever made it
“manageConnections”; so what was written is read again before it counts as done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.bridges.steps import RemoveOldBot, WriteConnection
from common.errors import StewardError
from common.i18n import t
from common.matrix.client import CLIENT, Json, MatrixClient, MatrixError, segment

LOOKS = 6
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Connections:
    """Writes in the name of adminbot."""

    client: MatrixClient
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def write(self, step: WriteConnection, key: str) -> str | None:
        """Write it, and see whether it stays."""
        del key
        content = dict(step.content)
        try:
            await self.client.put_state(step.room, step.type, step.key, content)
        except MatrixError as error:
            raise StewardError(
                t(
                    "I may not change the integrations of {room}: {why}",
                    room=step.room,
                    why=error.message,
                )
            ) from error
        for _ in range(LOOKS):
            await self.sleep(LOOK_SECONDS)
            if await self._content(step) != content:
                raise StewardError(
                    t(
                        "{bot} put it back. In its configuration, “permissions” must grant "
                        "{me} manageConnections for this service.",
                        bot=step.bot,
                        me=self.client.user_id,
                    )
                )
        return None

    async def remove_bot(self, step: RemoveOldBot, key: str) -> str | None:
        """Remove an old bot from a room; that it is gone already is as good."""
        del key
        path = f"{CLIENT}/v3/rooms/{segment(step.room)}/kick"
        body: Json = {"user_id": step.bot, "reason": "Replaced by Hookshot"}
        try:
            await self.client.request("POST", path, body)
        except MatrixError as error:
            if "not in the room" in error.message.lower():
                return None
            raise StewardError(
                t("{bot} could not be removed: {why}", bot=step.bot, why=error.message)
            ) from error
        return None

    async def _content(self, step: WriteConnection) -> Json | None:
        try:
            return await self.client.state_event(step.room, step.type, step.key)
        except MatrixError:
            return None
