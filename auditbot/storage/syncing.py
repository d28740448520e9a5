"""Names in folders that are to survive a power cut."""

import errno
import os
from contextlib import suppress
from pathlib import Path

_CANNOT = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}
"""What a file system answers that syncs no folders: to ask it again changes nothing."""


def sync_folder(path: Path) -> None:
    """Have the names in a folder survive a power cut, as far as its file system can do that.

    Raises:
        OSError: this user may not read the folder, or it does not work now.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


def sync_made(folder: Path) -> None:
    """Have a folder that was just made survive a power cut, wherever it was made.

    Raises:
        OSError: it does not work now.
    """
    try:
        sync_folder(folder.parent)
    except PermissionError:
        # Who may make folders in one need not be able to read it: then everything is synced, once.
        os.sync()


def sync_found(folder: Path) -> None:
    """The same of a folder that was there already, which somebody else may have made just now.

    Raises:
        OSError: it does not work now.
    """
    # Where the one above may not be read, whoever made it had to see to that.
    with suppress(PermissionError):
        sync_folder(folder.parent)
