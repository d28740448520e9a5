"""Room on the disk: what is accepted must also be recorded, decrypted and stored later.

Before the last of it is used up the homeserver is asked to wait: it keeps what it has, and we keep
what we took. A disk that is full to the last byte would stop the work on what is here already.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.alarms import raise_alarm
from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError
from common.telemetry.log import Log

log = Log("inbox.space")

FreeBytes = Callable[[Path], int]


def free_bytes(directory: Path) -> int:
    """Return how much may still be written in a directory's file system."""
    return shutil.disk_usage(directory).free


@dataclass
class Space:
    """The file system of a database in a file; with PostgreSQL there is none to look at."""

    directory: Path | None
    least_bytes: int
    database: Database
    clock: Clock
    free: FreeBytes = free_bytes
    _full: bool = False

    async def check(self) -> None:
        """Return if there is room.

        Raises:
            TransientError: there is not; nothing may be accepted.
        """
        if self.directory is None:
            return
        free = self.free(self.directory)
        if free >= self.least_bytes:
            if self._full:
                self._full = False
                log.info("there is room on the disk again", free=free)
                await self._tell("There is room on the disk again: events are accepted.")
            return
        sentence = (
            f"The disk that holds Steward's database is nearly full ({free // 2**20} MiB left, "
            f"database.min_free_bytes is {self.least_bytes // 2**20} MiB): the homeserver is asked "
            "to keep its events until there is room."
        )
        if not self._full:
            self._full = True
            log.error("the disk is nearly full: nothing more is accepted", free=free)
            await self._tell(f"{sentence} Nothing is lost; make room.")
        raise TransientError(sentence)

    async def _tell(self, sentence: str) -> None:
        async with self.database.transaction() as connection:
            await raise_alarm(connection, sentence, now_ms=self.clock.now_ms())
