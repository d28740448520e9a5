"""Where an archive is kept, as far as a reader needs it: list and get, nothing else.

What lies there may have been put there by anybody: sizes are bounded, and no name leads outside.
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from common.errors import PermanentError, TransientError

MOST_BYTES = 2**30
"""No object of an archive but an attachment is as large."""
PIECE_BYTES = 2**20

_TEMPORARY = ".writing-"
T = TypeVar("T")


class MissingObjectError(PermanentError):
    """An object is not where it is said to be."""


class TooLargeError(PermanentError):
    """An object is larger than it may be."""


@dataclass(frozen=True, slots=True)
class Item:
    """An object as the listing tells.

    ``versions`` are the store's own names of what was written under the key, newest first;
    empty where the store keeps one only. ``deleted`` says that a delete marker hides them.
    """

    key: str
    size: int
    modified_ms: int
    versions: tuple[str, ...] = ()
    deleted: bool = False


class Place(Protocol):
    """Objects by key, relative to the archive's own prefix.

    Every method raises ``TransientError`` where the place is away and ``PermanentError`` where
    it refuses; both say in a sentence what to do.
    """

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of the last listing, each in a sentence."""
        ...

    def list(self, prefix: str) -> AsyncIterator[Item]:
        """Yield what begins with ``prefix``, hidden versions included, in ascending order."""
        ...

    async def get(
        self, key: str, version: str | None = None, *, most_bytes: int = MOST_BYTES
    ) -> bytes:
        """Return an object's bytes.

        Raises:
            MissingObjectError: there is none, or not in this version.
            TooLargeError: it has more than ``most_bytes``.
        """
        ...

    def pieces(self, key: str, version: str | None = None) -> AsyncIterator[bytes]:
        """Yield an object's bytes piece by piece; errors as of ``get``."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class DirectoryPlace:
    """An archive in a directory. Links are not followed: they may lead anywhere."""

    remarks: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """Return the directory."""
        return self._root

    async def list(self, prefix: str) -> AsyncIterator[Item]:
        """Yield the files whose path begins with ``prefix``."""
        for item in await self._do(self._items, prefix):
            yield item

    async def get(
        self,
        key: str,
        version: str | None = None,  # noqa: ARG002  # a directory keeps one version
        *,
        most_bytes: int = MOST_BYTES,
    ) -> bytes:
        """Return a file's bytes; a directory has no versions."""
        return await self._do(self._read, key, most_bytes)

    async def pieces(
        self,
        key: str,
        version: str | None = None,  # noqa: ARG002  # a directory keeps one version
    ) -> AsyncIterator[bytes]:
        """Yield a file's bytes."""
        handle = await self._do(self._open, key)
        with os.fdopen(handle, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece

    async def close(self) -> None:
        """Do nothing: nothing is held."""

    async def _do(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.to_thread(work, *args)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingObjectError(f"There is no “{args[0]}” in the archive.") from error
        except PermissionError as error:
            raise PermanentError(f"“{error.filename}” may not be read by this user.") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise PermanentError(f"“{args[0]}” is a link, which is not followed.") from error
            raise TransientError(f"{self._root} cannot be read: {error.strerror}.") from error

    def _open(self, key: str) -> int:
        relative = PurePosixPath(key)
        if relative.is_absolute() or not relative.parts or {"..", "."} & {*relative.parts}:
            raise PermanentError(f"“{key}” is not the key of an object.")
        # Step by step, so that no part of the way is a link.
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in relative.parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            handle = os.open(
                relative.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder
            )
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise PermanentError(f"“{key}” is no regular file.")
        return handle

    def _read(self, key: str, most_bytes: int) -> bytes:
        with os.fdopen(self._open(key), "rb") as file:
            body = file.read(most_bytes + 1)
        if len(body) > most_bytes:
            raise TooLargeError(f"“{key}” is larger than it may be ({most_bytes} bytes).")
        return body

    def _items(self, prefix: str) -> Sequence[Item]:
        start = self._root / PurePosixPath(prefix.rpartition("/")[0])
        found = (item for item in self._walk(start) if item.key.startswith(prefix))
        return sorted(found, key=lambda item: item.key)

    def _walk(self, start: Path) -> Iterator[Item]:
        if not start.is_dir():
            return
        # A folder that cannot be read must not pass for an empty one.
        for folder, _, names in os.walk(start, onerror=_raise):
            for name in names:
                path = Path(folder) / name
                if not name.startswith(_TEMPORARY):
                    try:
                        status = path.lstat()
                    except FileNotFoundError:
                        continue  # removed while this goes on
                    key = path.relative_to(self._root).as_posix()
                    yield Item(key, status.st_size, status.st_mtime_ns // 1_000_000)


def _raise(error: OSError) -> None:
    raise error
