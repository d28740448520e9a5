"""The archive in a directory: every file appears whole or not at all, and is never overwritten.

The promise kept: when ``put`` returns, the object survives a power cut.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from auditbot.storage.errors import ObjectExistsError
from auditbot.storage.port import Abilities, Found, Stored
from auditbot.storage.syncing import sync_folder
from common.errors import PermanentError, TransientError

_TEMPORARY = ".writing-"
_PORTION_BYTES = 2**20
_STALE_SECONDS = 86_400
T = TypeVar("T")


class DirectoryStore:
    """Objects as files below ``root``; readable for their owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: set[Path] = set()
        """Folders whose names are on the disk for certain."""

    @property
    def clock_offset_ms(self) -> int | None:
        """Return nothing: it is this machine's own clock."""
        return None

    async def put(
        self,
        key: str,
        body: bytes,
        sha256: str,
        *,
        locked: bool = True,  # noqa: ARG002  # a file has no lock
        lock_days: int | None = None,  # noqa: ARG002  # a file has no lock
    ) -> Stored:
        """Create a file, durably; the same bytes again are success."""
        if hashlib.sha256(body).hexdigest() != sha256:
            raise PermanentError(f"The object “{key}” was to be written with a wrong checksum.")
        await self._do(self._write, key, lambda file: file.write(body), sha256)
        return Stored()

    def look_first(self, *, on: bool) -> None:
        """Do nothing: a file is never written over."""

    async def put_file(
        self,
        key: str,
        file: Path,
        sha256: str,
        *,
        lock_days: int | None = None,  # noqa: ARG002  # a file has no lock
    ) -> Stored:
        """Create a file from another one."""

        def copy(target: BinaryIO) -> None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, target, _PORTION_BYTES)

        await self._do(self._write, key, copy, sha256)
        return Stored()

    async def replace(self, key: str, body: bytes) -> None:
        """Write a file over what is there; at every moment it is the old or the new one."""
        await self._do(self._replace, key, body)

    async def get(self, key: str, version_id: str | None = None) -> bytes:  # noqa: ARG002  # the port's signature
        """Return a file's bytes; there is one version."""
        return await self._do(self._read, key)

    async def look(self, key: str) -> Found:
        """Return what a file is."""
        path = self._path(key)
        size = (await self._do(path.stat)).st_size
        return Found(await self._do(_digest, path), size)

    async def abilities(self) -> Abilities:
        """Return what a directory can do."""
        return Abilities("directory", versioning=False)

    async def refuses_damage(self, key: str) -> bool | None:  # noqa: ARG002  # the port's signature
        """Return that nothing is sent anywhere; what is written is read back."""
        return None

    async def keeps_legal_holds(self) -> bool:
        """Return that a directory knows no such thing."""
        return False

    async def has_legal_hold(self, key: str, version_id: str) -> bool:  # noqa: ARG002  # the port's signature
        """Return that there is none."""
        return False

    async def set_legal_hold(self, key: str, version_id: str, *, on: bool) -> None:  # noqa: ARG002  # the port's signature
        """Refuse: nothing would keep the file."""
        raise PermanentError(f"The directory {self._root} keeps no legal holds.")

    async def abort_stale(self, prefix: str) -> int:
        """Remove what writes that were interrupted left behind."""
        return await self._do(self._sweep, prefix)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with ``prefix``, in ascending order."""
        for key in await self._do(self._keys, prefix):
            yield key

    async def delete(self, key: str, version_id: str | None = None) -> None:  # noqa: ARG002  # the port's signature
        """Remove a file."""
        await self._do(self._unlink, key)

    async def delete_stored(self, key: str, version_id: str | None) -> None:
        """Remove a file."""
        await self.delete(key, version_id)

    async def destroy(self, key: str, version_id: str | None) -> None:
        """Remove a file; there is one version."""
        await self.delete(key, version_id)

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

    def _prepare(self, key: str) -> Path:
        path = self._path(key)
        try:
            self._keep(path.parent)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise PermanentError(
                f"The directory “{error.filename}” cannot be made ({error.strerror}): make "
                f"{self._root} yourself and give it to the user that Steward runs as, or set "
                "auditbot.destination to another place."
            ) from error
        return path

    def _keep(self, folder: Path) -> None:
        """Make a folder whose name survives a power cut.

        One that is there already may be of a process that was killed before it could see to that.
        """
        if folder in self._kept and folder.is_dir():
            return
        if folder == self._root:
            _make_directories(folder)
            with suppress(PermissionError):  # whoever made it for us need not let us look around
                sync_folder(folder.parent)
        else:
            self._keep(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
        self._kept.add(folder)

    def _write(self, key: str, fill: Callable[[BinaryIO], object], sha256: str) -> None:
        path = self._prepare(key)
        if path.exists():
            _compare(path, sha256)
            return
        with _written(path, fill) as temporary:
            try:
                # A rename would replace what another writer put there meanwhile; a link fails.
                path.hardlink_to(temporary)
            except FileExistsError:
                _compare(path, sha256)
        sync_folder(path.parent)

    def _replace(self, key: str, body: bytes) -> None:
        path = self._prepare(key)
        with _written(path, lambda file: file.write(body)) as temporary:
            temporary.replace(path)
        sync_folder(path.parent)

    def _sweep(self, prefix: str) -> int:
        start = self._root / PurePosixPath(prefix)
        found = list(start.rglob(f"{_TEMPORARY}*")) if start.is_dir() else []
        # Compared with a file of now: the file system's clock may be another machine's.
        before = self._now() - _STALE_SECONDS if found else 0.0
        stale = [path for path in found if path.stat().st_mtime < before]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def _now(self) -> float:
        probe = self._root / f"{_TEMPORARY}{secrets.token_hex(8)}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()

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
    sync_folder(path.parent)


@contextmanager
def _written(path: Path, fill: Callable[[BinaryIO], object]) -> Iterator[Path]:
    """Write a file beside ``path``, durably, and remove it at the end."""
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _compare(path: Path, sha256: str) -> None:
    if _digest(path) != sha256:
        raise ObjectExistsError(
            f"“{path}” holds other bytes than were to be written there: another Steward writes "
            "to this archive. Stop one of them."
        )
    sync_folder(path.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _raise(error: OSError) -> None:
    raise error
