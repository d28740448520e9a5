"""Where copies that can be made again are put: the one thing that a reader may write, and delete.

Whatever asks for more than ``…/derived/…`` of an archive is refused, so that no mistake of a reader
can touch what is proved.
"""

import asyncio
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

from common.errors import PermanentError

_DERIVED = re.compile(r"v1/[A-Za-z0-9_][A-Za-z0-9._-]*/derived/[A-Za-z0-9_=./-]+")
TEMPORARY = ".writing-"
"""How the name of a file begins that is not whole yet; a killed run may leave one."""


class DerivedStore(Protocol):
    """Objects by key that may be written over.

    Both methods raise ``TransientError`` where the place is away and ``PermanentError`` where it
    refuses.
    """

    async def put(self, key: str, file: Path) -> None:
        """Write a file under a key, whole or not at all, over what is there."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; a missing one is success."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def derived_key(key: str) -> str:
    """Return a key of an archive if it is of a copy.

    Raises:
        PermanentError: it is not.
    """
    if _DERIVED.fullmatch(key) is None or {"..", "."} & {*key.split("/")}:
        raise PermanentError(f"“{key}” is not the key of a copy: a reader writes nothing else.")
    return key


class DirectoryDerived:
    """Copies in an archive that is a directory, or in a directory of one's own."""

    def __init__(
        self, root: Path, *, private: bool, checked: Callable[[str], str] = derived_key
    ) -> None:
        """Begin; ``private`` files and folders are for their owner alone."""
        self._root = root
        self._private = private
        self._checked = checked

    async def put(self, key: str, file: Path) -> None:
        """Copy a file into the directory."""
        await asyncio.to_thread(self._put, self._checked(key), file)

    async def delete(self, key: str) -> None:
        """Delete a file, and its folder if nothing is left in it."""
        await asyncio.to_thread(self._delete, self._checked(key))

    async def close(self) -> None:
        """Do nothing: nothing is held."""

    def _put(self, key: str, file: Path) -> None:
        path = self._root / PurePosixPath(key)
        # A name of its own: who writes the same copy at the same time writes another file.
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            self._make(path.parent)
            mode = 0o600 if self._private else 0o666
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(temporary, flags, mode), "wb") as target:
                with file.open("rb") as source:
                    shutil.copyfileobj(source, target, 2**20)
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(path)
        except OSError as error:
            raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it; a link on the way may lead anywhere."""
        if folder != self._root:
            self._make(folder.parent)
        try:
            folder.mkdir(mode=0o700 if self._private else 0o777, parents=folder == self._root)
        except FileExistsError:
            if folder != self._root and not stat.S_ISDIR(folder.lstat().st_mode):
                raise PermanentError(f"“{folder}” is no folder.") from None

    def _delete(self, key: str) -> None:
        path = self._root / PurePosixPath(key)
        try:
            path.unlink(missing_ok=True)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise PermanentError(f"“{path}” cannot be deleted: {error.strerror}.") from error
