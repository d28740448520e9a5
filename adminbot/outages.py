"""Tell the admins what other parts of Steward noticed: the archive cannot be stored, or can again.

The promise: each alarm is told, once; a homeserver that is away delays it, nothing loses it.
"""

import asyncio
from dataclasses import dataclass

from adminbot.engine.answer import Answer, say
from adminbot.telling import Telling
from common.alarms import mark_told, untold
from common.database.pool import Database
from common.errors import TransientError
from common.telemetry.log import Log

LOOK_SECONDS = 5.0

log = Log("adminbot.outages")


@dataclass(frozen=True)
class Outages:
    """The standing work."""

    database: Database
    telling: Telling

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            try:
                await self.tell()
            except TransientError as error:
                log.warning("the admins cannot be told yet", reason=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def tell(self) -> None:
        """Tell what was not told yet."""
        for alarm in await untold(self.database):
            await self.telling.to_admins(
                Answer((say(alarm.sentence),)), key=f"alarm-{alarm.number}-{alarm.at_ms}"
            )
            await mark_told(self.database, alarm)
