"""A place to which objects can be added, and nothing else: for what must not be changed again.

It is used from threads, one call at a time, and reads nothing: credentials that may create objects
are enough.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Protocol

from auditbot.storage.syncing import sync_folder, sync_found, sync_made
from common.errors import PermanentError, TransientError


class TakenKeyError(PermanentError):
    """There is an object of this name already; it stays as it is."""


class RefusedError(PermanentError):
    """The place does not let these credentials, or this user, create objects."""


class Adding(Protocol):
    """Objects by key, relative to the place's own prefix, each created once."""

    def create(self, key: str, body: bytes) -> None:
        """Create an object; it is durable when this returns.

        Raises:
            TakenKeyError: there is one.
            RefusedError: it may not be created.
            TransientError: the place is away; whether it was created is not known.
            PermanentError: somebody has to mend something first.
        """
        ...


class DirectoryAdding:
    """Files below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, key: str, body: bytes) -> None:
        """Create a file: whole, or not at all, and never over another one."""
        relative = PurePosixPath(key)
        if relative.is_absolute() or not relative.parts or {"..", "."} & {*relative.parts}:
            raise PermanentError(f"“{key}” is not the key of an object.")
        path = self._root / relative
        temporary = path.with_name(f".writing-{secrets.token_hex(8)}")
        try:
            made = _make(path.parent)
            # Whoever reads the log is another user than who writes it, of the same group.
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            _link(temporary, path, key)
        except OSError as error:
            raise _refusal(error, self._root) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        # Each folder on the way may have been made just now, or by whoever was killed then.
        for folder in path.parents[: len(relative.parts)]:
            with _told_of(folder):
                sync_folder(folder)
        for folder in (self._root, *(one for one in made if one in self._root.parents)):
            with _told_of(folder.parent):
                (sync_made if folder in made else sync_found)(folder)


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; return those that were not there, the uppermost first."""
    missing = [*takewhile(lambda one: not one.is_dir(), (folder, *folder.parents))][::-1]
    try:
        for one in missing:
            one.mkdir(exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise PermanentError(
            f"“{folder}” cannot be made, because it, or what should be a folder above it, is a file: "
            "move that away."
        ) from None
    return missing


def _link(temporary: Path, path: Path, key: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise TakenKeyError(f"“{key}” is there already.") from None


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """Say what is wrong with a folder that cannot be synced; the object is there by now.

    Raises:
        PermanentError: this user may not read the folder; this is no refusal.
        TransientError: it does not work now.
    """
    try:
        yield
    except PermissionError:
        raise PermanentError(
            f"“{folder}” may not be read by this user, so it is not known whether what was created "
            "there would survive a power cut: have the user allowed to read it."
        ) from None
    except OSError as error:
        raise TransientError(f"“{folder}” cannot be synced: {error.strerror}.") from None


def _refusal(error: OSError, root: Path) -> PermanentError | TransientError:
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return RefusedError(f"{root} does not let this user create files ({error.strerror}).")
    return TransientError(f"{root} cannot be used: {error.strerror}.")
