"""Who writes into an index does so alone; who only looks waits for nobody.

Two processes may have the same index: the officers' page and a command, or two commands. What one
indexes the other finds, so it waits for its turn instead of doing the same at the same time.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from common.errors import PermanentError

_LOCK = "index.lock"
_LOOK_AGAIN_S = 0.2

IN_USE = "another “steward audit” is at work with the same index, which is used as it is"
"""Why something was not indexed now."""


@asynccontextmanager
async def own_turn(folder: Path, tell: Callable[[], None]) -> AsyncIterator[None]:
    """Be the only one who writes into the index in a folder, after whoever does so now.

    Args:
        folder: where the index is
        tell: is called once if there is somebody to wait for

    Raises:
        PermanentError: the folder cannot be used.
    """
    with _opened(folder) as handle:
        if not _is_taken(folder, handle):
            tell()
            # Not flock's own waiting, which Ctrl-C does not end.
            while not _is_taken(folder, handle):  # noqa: ASYNC110  # another process ends it
                await asyncio.sleep(_LOOK_AGAIN_S)
        yield


@contextmanager
def turn_if_free(folder: Path) -> Iterator[bool]:
    """The same, but wait for nobody; yields whether nobody else writes.

    Raises:
        PermanentError: the folder cannot be used.
    """
    with _opened(folder) as handle:
        yield _is_taken(folder, handle)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _is_taken(folder: Path, handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _unusable(folder, error) from error
    return True


def _unusable(folder: Path, error: OSError) -> PermanentError:
    return PermanentError(f"“{folder}” cannot be used: {error.strerror}.")
