"""Fetch many objects at a time, in order, and check them on all cores, within a bound of memory."""

import asyncio
import multiprocessing
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple, Unpack

from auditbot.reader.documents import ListedSegment
from auditbot.reader.open_sealed import UnfitIdentityError, unseal
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.contents import SegmentResult, check_segment, check_stored
from auditbot.reader.verify.sealed import SealedResult, check_sealed
from common.errors import PermanentError, StewardError

WIDTH = 16
"""Documents fetched ahead: each is small, and a bucket answers after tens of milliseconds."""
_WORTH_PROCESSES = 4 * 2**20
"""Stored bytes from which on starting processes pays."""

Wanted = TypeVar("Wanted")
Got = TypeVar("Got")
Checked = TypeVar("Checked")
Arguments = TypeVarTuple("Arguments")


@asynccontextmanager
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks; a foreseen failure in one of them comes out as itself, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failed:
        foreseen, bugs = failed.split(StewardError)
        if foreseen is None or bugs is not None:
            raise
        error: Exception = foreseen
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def ahead(
    group: asyncio.TaskGroup,
    wanted: Iterable[Wanted],
    fetch: Callable[[Wanted], Awaitable[Got]],
    width: int = WIDTH,
) -> AsyncIterator[tuple[Wanted, Got | PermanentError]]:
    """Yield what is fetched in order, with several fetches under way; refusals are values."""

    async def one(what: Wanted) -> Got | PermanentError:
        try:
            return await fetch(what)
        except PermanentError as error:
            return error

    waiting: deque[tuple[Wanted, asyncio.Task[Got | PermanentError]]] = deque()
    source = iter(wanted)
    try:
        while True:
            while len(waiting) < width and (what := next(source, None)) is not None:
                waiting.append((what, group.create_task(one(what))))
            if not waiting:
                return
            what, task = waiting.popleft()
            yield what, await task
    finally:
        for _, task in waiting:
            task.cancel()


class Checkers:
    """Checks segments, on all cores once there is enough to check."""

    def __init__(self, server_name: str, identities: tuple[str, ...] = ()) -> None:
        self._server_name = server_name
        self._identities = identities
        self._pool: ProcessPoolExecutor | None = None
        self._bytes = 0
        self.cores = len(os.sched_getaffinity(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    async def check(
        self, listed: ListedSegment, body: bytes, wrapped: bytes | None, *, erased: bool = False
    ) -> SegmentResult:
        """Return what is wrong with a segment; of an erased one only its stored bytes tell."""
        self._bytes += len(body)
        if self._pool is None and self._bytes > _WORTH_PROCESSES and self.cores > 1:
            self._pool = ProcessPoolExecutor(
                self.cores, mp_context=multiprocessing.get_context("spawn")
            )
        identities = () if erased else self._identities
        return await self._run(check, listed, body, self._server_name, identities, wrapped)

    async def check_sealed(
        self, listed: ListedSegment, body: bytes, wrapped: Mapping[str, bytes]
    ) -> SealedResult:
        """Return what is wrong with what is sealed of a segment's records."""
        return await self._run(check_sealed, listed, body, self._identities, wrapped)

    async def _run(
        self, work: Callable[[Unpack[Arguments]], Checked], *arguments: *Arguments
    ) -> Checked:
        if self._pool is None:
            return await asyncio.to_thread(work, *arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, work, *arguments)


def check(
    listed: ListedSegment,
    body: bytes,
    server_name: str,
    identities: tuple[str, ...],
    wrapped: bytes | None,
) -> SegmentResult:
    """Return what is wrong with a segment; of an encrypted one without identity only outside."""
    if not listed.key.endswith(".age"):
        return check_segment(listed, body, server_name)
    if not identities:
        return check_stored(listed, body)
    try:
        clear = unseal(listed.key, body, identities, wrapped)
    except UnfitIdentityError as error:
        # The bytes are compared with what was signed: that the reader's key is another one says
        # nothing against them.
        result = check_stored(listed, body)
        result.unfit = error.key
        return result
    except DamagedArchiveError as error:
        result = check_stored(listed, body)
        result.wrong("unreadable", str(error))
        return result
    return check_segment(listed, body, server_name, clear=clear)
