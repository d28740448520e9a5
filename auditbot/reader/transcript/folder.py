"""A folder with a file for each room and day, as mails and RSMF are written.

A day is one that senders' servers claim, so days come and go in the order of the archive: what is
of one room and day is brought together first, each file is written once, and none over another.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from auditbot.reader.memory import private_directory, write_private
from common.errors import PermanentError, UserError

Json = dict[str, Any]
Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True, order=True)
class RoomDay:
    """A room on one day, or at no time that any calendar has."""

    room: str
    day: str

    @property
    def name(self) -> str:
        """Return how a file of it is called, without an ending."""
        # So long that nobody finds a second room of the same name.
        digest = hashlib.sha256(self.room.encode("utf-8", "replace")).hexdigest()[:32]
        return f"{self.day}-{digest}"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written into a folder."""

    files: int
    remarks: tuple[str, ...]
    """What a person should know of single files, in sentences."""


def by_room_and_day(
    shown: Iterable[Shown], view_of: Callable[[Shown], Json]
) -> Iterator[tuple[RoomDay, list[Shown]]]:
    """Yield what is shown by room and day, each pair once, in the order that it came in."""
    found: dict[RoomDay, list[Shown]] = {}
    for one in shown:
        view = view_of(one)
        day = str(view["when"])[:10]
        is_day = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day)
        where = RoomDay(str(view["room_id"]) or "no room", day if is_day else "no-time")
        found.setdefault(where, []).append(one)
    for where in sorted(found):
        yield where, found[where]


def refuse_used(folder: Path) -> None:
    """Make sure that nothing of another export is taken for a part of this one.

    Raises:
        UserError: the folder has files already.
    """
    try:
        is_used = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise PermanentError(f"“{folder}” cannot be used: {error.strerror}.") from error
    if is_used:
        raise UserError(
            f"There are files in “{folder}” already, which would be taken for a part of this "
            "export: move that folder away, or name another place with --output."
        )


def begin(folder: Path) -> None:
    """Make the folder.

    Raises:
        UserError: it has files already.
        PermanentError: it cannot be made.
    """
    refuse_used(folder)
    private_directory(folder)


def write_new(path: Path, body: bytes) -> None:
    """Write a file that only its owner may read, never over another.

    Raises:
        PermanentError: there is one of this name, or it cannot be written.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise PermanentError(
            f"“{path}” is there already, and nothing is written over it: the export is not whole."
        ) from None
    except OSError as error:
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error
    try:
        write_private(path, body)
    except PermanentError:
        path.unlink(missing_ok=True)
        raise
