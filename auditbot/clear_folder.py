"""Folders for clear text on its way: gone when they were used, and swept after a crash."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

_PREFIX = "steward-clear-"


@contextmanager
def clear_folder() -> Iterator[Path]:
    """Lend a folder that only this user may enter, and remove it with all that is in it.

    The lock on it ends with the process, however that ends: ``sweep`` tells by it what was left.
    """
    with TemporaryDirectory(prefix=_PREFIX) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def sweep() -> int:
    """Remove what processes that were killed left behind; return how many folders that were."""
    return sum(_removed(path) for path in Path(gettempdir()).glob(f"{_PREFIX}*"))


def _removed(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False  # not ours to enter, or gone meanwhile
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return False  # somebody is at work in it
    finally:
        os.close(descriptor)
    return not path.exists()
