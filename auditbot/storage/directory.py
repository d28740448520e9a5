"""The archive in a directory: every file appears whole or not at all, and is never overwritten.

The promise kept: when ``put`` returns, the object survives a power cut.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from common.errors import PermanentError, TransientError

_TEMPORARY = ".writing-"
T = TypeVar("T")


class DirectoryStore:
    """Objects as files below ``root``; readable for their owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, body: bytes, sha256: str) -> None:
        """Create a file, durably; the same bytes again are success."""
        if hashlib.sha256(body).hexdigest() != sha256:
            raise PermanentError(f"The object “{key}” was to be written with a wrong checksum.")
        await self._do(self._write, key, body, sha256)

    async def get(self, key: str) -> bytes:
        """Return a file's bytes."""
        return await self._do(self._read, key)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with ``prefix``, in ascending order."""
        for key in await self._do(self._keys, prefix):
            yield key

    async def delete(self, key: str) -> None:
        """Remove a file."""
        await self._do(self._unlink, key)

    async def close(self) -> None:
        """Do nothing: no connection is held."""

    async def _do(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking file work in a thread and say in a sentence what went wrong."""
        try:
            return await asyncio.to_thread(work, *args)
        except FileNotFoundError as error:
            raise PermanentError(f"There is no “{error.filename}” in the archive.") from error
        except PermissionError as error:
            raise PermanentError(
                f"Steward may not use “{error.filename}”: make {self._root} its own directory."
            ) from error
        except OSError as error:
            # A full or failing disk: nothing is lost, and it may be mended at any time.
            raise TransientError(f"{self._root} cannot be used: {error.strerror}.") from error

    def _path(self, key: str) -> Path:
        relative = PurePosixPath(key)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise PermanentError(f"“{key}” is not the key of an object.")
        return self._root / relative

    def _write(self, key: str, body: bytes, sha256: str) -> None:
        path = self._path(key)
        try:
            _make_directories(path.parent)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise PermanentError(
                f"The directory “{error.filename}” cannot be made ({error.strerror}): make "
                f"{self._root} yourself and give it to the user that Steward runs as, or set "
                "auditbot.destination to another place."
            ) from error
        if path.exists():
            _compare(path, sha256)
            return
        temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            try:
                # A rename would replace what another writer put there meanwhile; a link fails.
                path.hardlink_to(temporary)
            except FileExistsError:
                _compare(path, sha256)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)

    def _read(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def _unlink(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _keys(self, prefix: str) -> Sequence[str]:
        # The walk begins at the last whole directory of the prefix.
        start = self._root / PurePosixPath(prefix.rpartition("/")[0])
        return sorted(key for key in self._walk(start) if key.startswith(prefix))

    def _walk(self, start: Path) -> Iterator[str]:
        if not start.is_dir():
            return
        # A folder that cannot be read must not pass for an empty one.
        for folder, _, names in os.walk(start, onerror=_raise):
            for name in names:
                if not name.startswith(_TEMPORARY):
                    yield (Path(folder) / name).relative_to(self._root).as_posix()


def _make_directories(path: Path) -> None:
    if path.is_dir():
        return
    _make_directories(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    # Without this a power cut may take away the directory with everything in it.
    _sync(path.parent)


def _compare(path: Path, sha256: str) -> None:
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise PermanentError(
            f"“{path}” holds other bytes than were to be written there: another Steward writes "
            "to this archive. Stop one of them."
        )
    _sync(path.parent)


def _raise(error: OSError) -> None:
    raise error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
