"""Folders for clear text on its way: gone when they were used, and swept after a crash."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from common.errors import TransientError

_PREFIX = "steward-clear-"


class ClearFolderError(TransientError):
    """The folder for clear text on its way is full, or cannot be used; the sentence says which."""


@contextmanager
def local_files() -> Iterator[None]:
    """Say in a sentence what is wrong with the files of a ``clear_folder``.

    Raises:
        ClearFolderError: one of them cannot be made, written or read.
    """
    try:
        yield
    except OSError as error:
        raise ClearFolderError(
            f"{_where()} cannot be used ({error.strerror or error}). Attachments are decrypted and "
            "encrypted there, up to four at a time: make room there, or set TMPDIR to a folder "
            "that has it and start Steward again. One of the size auditbot.media_max_bytes takes twice "
            "as much there."
        ) from error


@contextmanager
def clear_folder() -> Iterator[Path]:
    """Lend a folder that only this user may enter, and remove it with all that is in it.

    The lock on it ends with the process, however that ends: ``sweep`` tells by it what was left.

    Raises:
        ClearFolderError: it cannot be made, or not be removed.
    """
    with local_files():
        folder = TemporaryDirectory(prefix=_PREFIX)
    try:
        with local_files():
            descriptor = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with local_files():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(folder.name)
        finally:
            os.close(descriptor)
    finally:
        with local_files():
            folder.cleanup()


def sweep() -> int:
    """Remove what processes that were killed left behind; return how many folders that were.

    Raises:
        ClearFolderError: there is no folder for temporary files.
    """
    with local_files():
        folder = Path(gettempdir())
    return sum(_removed(path) for path in folder.glob(f"{_PREFIX}*"))


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


def _where() -> str:
    try:
        return f"The folder {gettempdir()}"
    except OSError:
        return "No folder for temporary files"
