"""Writes down every day how much the server holds, so that it can be seen how it grows."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC

from adminbot.engine.held import held_now
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError
from common.homeserver.port import AdminReader
from common.telemetry.log import Log

LOOK_SECONDS = 6 * 3600.0
AGAIN_SECONDS = 300.0
# Shortly before the day (UTC) ends, so that its last figures are those of its end.
_BEFORE_MIDNIGHT_SECONDS = 120

log = Log("adminbot.storage")


@dataclass(frozen=True)
class StorageWatch:
    """The standing work about the table ``admin_storage_day``."""

    database: Database
    clock: Clock
    admin: AdminReader
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Look several times a day until cancelled; a day's last figures stay."""
        while True:
            wait_seconds = LOOK_SECONDS
            try:
                await self.look()
            except StartOverError:
                raise
            except StewardError as error:
                log.warning("what the server holds could not be looked at", reason=error)
                wait_seconds = AGAIN_SECONDS
            await self.sleep(min(wait_seconds, self._until_midnight()))

    async def look(self) -> None:
        """Look once, and write it down for today."""
        day = self.clock.now().astimezone(UTC).date()
        held = await held_now(self.admin)
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_storage_day (day, files, bytes, rooms, accounts)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (day) DO UPDATE SET"
                " files = excluded.files, bytes = excluded.bytes, rooms = excluded.rooms,"
                " accounts = excluded.accounts",
                str(day),
                held.files,
                held.bytes,
                held.rooms,
                held.accounts,
            )

    def _until_midnight(self) -> float:
        now = self.clock.now().astimezone(UTC)
        passed = now.hour * 3_600 + now.minute * 60 + now.second
        left = 86_400 - passed - _BEFORE_MIDNIGHT_SECONDS
        return left if left > 0 else AGAIN_SECONDS
