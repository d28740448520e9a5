"""Whether attachments are malware: asked of a scanner, and what becomes of those it cannot tell.

The promise kept: while a scanner is set, no attachment is archived without a word on what it said,
and no attachment is lost because it is away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from auditbot.media_queue import AGAIN_AFTER_MS, MediaQueue, Wanted
from auditbot.pipeline.scan import (
    NOT_SCANNED,
    Scan,
    ScannerAwayError,
    ScannerFailedError,
    ScannerLimitError,
)
from common.alarms import raise_alarm
from common.clock import Clock
from common.database.pool import Database
from common.telemetry.log import Log

PATIENCE_MS = 120_000
"""How long a scanner may be away before anybody is told: it starts anew when it is upgraded."""
_AWAY, _LIMIT = "away", "limit"

log = Log("audit.scanner")


class Scanner(Protocol):
    """What is needed of ``auditbot.clamd.Clamd``."""

    async def version(self) -> str:
        """Return which version it is, if it is there."""
        ...

    async def scan(self, path: Path, size: int) -> Scan:
        """Look at a file."""
        ...


@dataclass
class Scanning:
    """Asks the scanner; remembers its troubles over restarts, tells when they begin and end."""

    scanner: Scanner
    queue: MediaQueue
    clock: Clock
    again_after_ms: tuple[int, ...] = AGAIN_AFTER_MS

    async def is_ready(self, wanted: Wanted) -> bool:
        """Return whether an attachment may be fetched now; otherwise it is tried again later."""
        try:
            await self.scanner.version()
        except ScannerAwayError as error:
            return await self._away(wanted, str(error)) is not None
        return True

    async def look(self, wanted: Wanted, path: Path, size: int) -> Scan | None:
        """Return what the scanner says of a file; ``None`` if it is tried again later.

        Raises:
            ClearFolderError: the file cannot be read.
        """
        try:
            scan = await self.scanner.scan(path, size)
        except ScannerAwayError as error:
            return await self._away(wanted, str(error))
        except ScannerFailedError as error:
            log.warning("the scanner failed at an attachment", reason=error)
            if wanted.attempts < len(self.again_after_ms):
                due_ms = self.clock.now_ms() + self.again_after_ms[wanted.attempts]
                await self.queue.put_off(wanted, due_ms=due_ms)
                return None
            return Scan(NOT_SCANNED, reason=str(error))
        except ScannerLimitError as error:
            log.warning("an attachment is too large for the scanner", bytes=size)
            await self._too_large(size)
            return Scan(NOT_SCANNED, reason=str(error))
        await self._well(size)
        return scan

    async def _away(self, wanted: Wanted, reason: str) -> Scan | None:
        """Put an attachment off; return that it was not scanned, once that took too long."""
        log.warning("the scanner is away", reason=reason)
        now_ms = self.clock.now_ms()
        async with self.queue.database.transaction() as connection:
            row = await connection.fetchrow(
                "SELECT since_ms, told FROM audit_scanner WHERE trouble = $1", _AWAY
            )
            since_ms = now_ms if row is None else min(int(row["since_ms"]), now_ms)
            told = row is not None and bool(row["told"])
            tell = not told and now_ms - since_ms >= PATIENCE_MS
            await connection.execute(
                "INSERT INTO audit_scanner (trouble, since_ms, told, bytes) VALUES ($1, $2, $3, 0)"
                " ON CONFLICT (trouble) DO UPDATE SET since_ms = excluded.since_ms,"
                " told = excluded.told",
                _AWAY,
                since_ms,
                int(told or tell),
            )
            if tell:
                await raise_alarm(
                    connection,
                    f"The malware scanner (auditbot.media_scanner) does not work: {reason} "
                    "Attachments wait for it and are archived when it works again; after three "
                    "days one is archived as not scanned.",
                    now_ms=now_ms,
                )
        if await self.queue.put_off_scan(wanted, now_ms=now_ms):
            return None
        return Scan(NOT_SCANNED, reason=f"the scanner was away for three days: {reason}")

    async def _well(self, size: int) -> None:
        """Note that the scanner has looked at a file; tell it if the opposite was told."""
        database, now_ms = self.queue.database, self.clock.now_ms()
        if not await _has_trouble(database):
            return
        async with database.transaction() as connection:
            # Another one may have told it in the meantime: whoever deletes the row does.
            told = await connection.fetchval(
                "DELETE FROM audit_scanner WHERE trouble = $1 RETURNING told", _AWAY
            )
            await connection.execute(
                "DELETE FROM audit_scanner WHERE trouble = $1 AND bytes <= $2", _LIMIT, size
            )
            if told:
                await raise_alarm(
                    connection,
                    "The malware scanner works again; the attachments that waited for it follow.",
                    now_ms=now_ms,
                )

    async def _too_large(self, size: int) -> None:
        """Tell once that the scanner's limit is too low, until it has taken such a file."""
        now_ms = self.clock.now_ms()
        async with self.queue.database.transaction() as connection:
            known = await connection.fetchval(
                "SELECT bytes FROM audit_scanner WHERE trouble = $1", _LIMIT
            )
            await connection.execute(
                "INSERT INTO audit_scanner (trouble, since_ms, told, bytes) VALUES ($1, $2, 1, $3)"
                " ON CONFLICT (trouble) DO UPDATE SET bytes = CASE WHEN"
                " audit_scanner.bytes < excluded.bytes THEN audit_scanner.bytes"
                " ELSE excluded.bytes END",
                _LIMIT,
                now_ms,
                size,
            )
            if known is None:
                await raise_alarm(
                    connection,
                    f"An attachment of {size:,} bytes is larger than the malware scanner takes: "
                    "it is archived, and recorded as not scanned, as others will be. Raise "
                    "StreamMaxLength, MaxFileSize and MaxScanSize in clamd.conf above the "
                    "homeserver's max_upload_size.",
                    now_ms=now_ms,
                )


async def _has_trouble(database: Database) -> bool:
    return bool(await database.fetchval("SELECT 1 FROM audit_scanner LIMIT 1"))
