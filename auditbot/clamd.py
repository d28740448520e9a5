"""A client of clamd, ClamAV's daemon: INSTREAM and VERSION, over a socket.

Source: ClamAV, clamd(8).
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from auditbot.clear_folder import ClearFolderError, local_files
from auditbot.pipeline.scan import (
    Scan,
    ScannerAwayError,
    ScannerLimitError,
    answer_of,
    version_of,
)
from common.telemetry.log import Log

CONNECT_SECONDS = 10.0
STALL_SECONDS = 60.0
"""For how long it may take nothing of what it is sent."""
ANSWER_SECONDS = 300.0
"""For how long it may think: its own limit (``MaxScanTime``) is two minutes unless it is changed."""
MOST_BYTES = 2**32 - 1
"""The protocol's limit for one chunk. clamd itself looks into nothing above 2 GiB."""

log = Log("audit.scanner")

_PORTION = 256 * 1024
_LARGE_BYTES = 2**20
_REFUSAL_SECONDS = 0.2
_MOST_REPLY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Clamd:
    """Where clamd listens: a path, or HOST:PORT. Nothing is remembered from one use to the next."""

    address: str

    async def version(self) -> str:
        """Return which version it is, with that of its signatures.

        Raises:
            ScannerAwayError: it is not there.
        """
        async with self._connected() as (reader, writer):
            writer.write(b"zVERSION\0")
            return version_of(await self._reply(reader, CONNECT_SECONDS))

    async def scan(self, path: Path, size: int) -> Scan:
        """Have a file looked at; it is sent as it is read.

        Raises:
            ScannerAwayError: the scanner is not there, or too slow.
            ScannerFailedError: it failed at this file.
            ScannerLimitError: the file is too large for it.
            ClearFolderError: the file cannot be read.
        """
        if size > MOST_BYTES:
            raise ScannerLimitError("it is larger than the scanner's protocol allows")
        by = await self.version()
        trouble: ScannerAwayError | ClearFolderError | None = None
        body = b""
        async with self._connected() as (reader, writer), asyncio.TaskGroup() as group:
            # Read meanwhile: what it answered is not to be had any more once the connection broke.
            reply = group.create_task(_everything(reader))
            try:
                await self._sent(path, size, writer, reply)
                body = await self._answer(reply)
            except (ScannerAwayError, ClearFolderError) as error:
                trouble = error
                reply.cancel()
        if trouble is not None:
            raise trouble
        return answer_of(body, by)

    async def _sent(
        self, path: Path, size: int, writer: asyncio.StreamWriter, reply: "asyncio.Task[bytes]"
    ) -> None:
        """Send a file unless it is answered before; what breaks off is seen in the answer.

        All of it is announced as one chunk, so that what is too large is refused before it is sent:
        a refusal in between can get lost with the connection.
        """
        writer.write(b"zINSTREAM\0")
        if size:
            writer.write(struct.pack("!I", size))
        if size > _LARGE_BYTES and await self._drained(writer):
            await asyncio.wait([reply], timeout=_REFUSAL_SECONDS)
        with local_files():
            file = path.open("rb")
        with file:
            while size and not reply.done():
                with local_files():
                    portion = await asyncio.to_thread(file.read, min(_PORTION, size))
                if not portion:
                    raise ScannerAwayError("The file became shorter while it was sent.")
                size -= len(portion)
                writer.write(portion)
                if not await self._drained(writer):
                    return
        if not size:
            writer.write(struct.pack("!I", 0))
            await self._drained(writer)

    async def _drained(self, writer: asyncio.StreamWriter) -> bool:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await writer.drain()
        except TimeoutError:
            raise ScannerAwayError(
                f"It took nothing of what it was sent for {STALL_SECONDS:g} seconds."
            ) from None
        except OSError:
            return False
        return True

    async def _answer(self, reply: "asyncio.Task[bytes]") -> bytes:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await reply
        except TimeoutError:
            raise ScannerAwayError(
                f"It did not answer within {ANSWER_SECONDS:g} seconds."
            ) from None

    async def _reply(self, reader: asyncio.StreamReader, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await reader.readuntil(b"\0")
        except TimeoutError:
            raise ScannerAwayError(f"It did not answer within {seconds:g} seconds.") from None
        except asyncio.IncompleteReadError as error:
            return error.partial
        except (OSError, asyncio.LimitOverrunError) as error:
            raise ScannerAwayError(f"The connection broke ({_words(error)}).") from error

    @asynccontextmanager
    async def _connected(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if self.address.startswith("/"):
                    streams = await asyncio.open_unix_connection(self.address)
                else:
                    host, _, port = self.address.rpartition(":")
                    streams = await asyncio.open_connection(host.strip("[]"), int(port))
        except TimeoutError:
            raise ScannerAwayError("It cannot be reached: no connection in time.") from None
        except OSError as error:
            raise ScannerAwayError(f"It cannot be reached ({_words(error)}).") from error
        try:
            yield streams
        finally:
            # Not waited for: nothing that is still unsent is of any use.
            streams[1].transport.abort()


async def _everything(reader: asyncio.StreamReader) -> bytes:
    """Return all that is answered, up to the end of the connection, whatever ends it."""
    body = b""
    try:
        while len(body) < _MOST_REPLY and (portion := await reader.read(_MOST_REPLY)):
            body += portion
    except OSError as error:
        if not body:
            log.debug("the scanner broke off", reason=_words(error))
    return body


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)
