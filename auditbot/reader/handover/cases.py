"""Cases: what an officer put together, kept on this machine until it is handed over."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from auditbot.reader.index.library import Library, Stored
from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.parse import parse
from common.errors import PermanentError, UserError

_MOST_ITEMS = 100_000


class Item(msgspec.Struct, frozen=True):
    """A record that belongs to a case: that of an event, with all that belongs to it."""

    stream: str
    seq: int
    event_id: str | None
    added_ms: int
    added_by: str
    why: str = ""


class Case(msgspec.Struct, frozen=True):
    """A case."""

    name: str
    archive: str
    created_ms: int
    created_by: str
    description: str = ""
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases in a folder, one file each."""

    folder: Path

    def create(self, case: Case) -> None:
        """Begin a case.

        Raises:
            UserError: there is one of this name, or it is no name.
        """
        self.check_new(case.name)
        self.save(case)

    def check_new(self, name: str) -> None:
        """Make sure that a case of this name can be begun.

        Raises:
            UserError: there is one, or it is no name.
        """
        if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
            raise UserError(
                f"“{name}” is no name for a case: write it without “/” and “\\”, and not with “.” "
                "at its beginning."
            )
        if self._path(name).exists():
            raise UserError(f"There is a case “{name}” already.")

    def load(self, name: str) -> Case:
        """Return a case.

        Raises:
            UserError: there is none of this name.
            PermanentError: its file is damaged.
        """
        path = self._path(name)
        try:
            return parse(path.read_bytes(), type=Case)
        except FileNotFoundError:
            raise UserError(
                f"There is no case “{name}”: begin it with “steward audit case create”."
            ) from None
        except (OSError, ValueError) as error:
            raise PermanentError(f"The case file “{path}” cannot be read: {error}.") from error

    def names(self) -> list[str]:
        """Return the names of all cases."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(parse(path.read_bytes(), type=Case).name)
            except (OSError, ValueError):
                continue
        return found

    def save(self, case: Case) -> None:
        """Keep a case."""
        private_directory(self.folder)
        body = json.dumps(msgspec.to_builtins(case), indent=1) + "\n"
        write_private(self._path(case.name), body.encode())

    def _path(self, name: str) -> Path:
        safe = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:80]
        if not safe:
            raise UserError(f"“{name}” is no name for a case: use letters or digits.")
        return self.folder / f"{safe}.json"


def with_items(case: Case, items: list[Item]) -> Case:
    """Return a case with more in it; what is in it already stays as it was.

    Raises:
        UserError: it would hold too much.
    """
    known = {(item.stream, item.seq) for item in case.items}
    fresh = [item for item in items if (item.stream, item.seq) not in known]
    if len(case.items) + len(fresh) > _MOST_ITEMS:
        raise UserError(f"A case holds at most {_MOST_ITEMS:,} messages.")
    return msgspec.structs.replace(case, items=(*case.items, *fresh))


def roots_of(library: Library, case: Case) -> list[int]:
    """Return the roots of a case's messages, in the order of the archive.

    Raises:
        UserError: the index does not hold one of them.
    """
    found: dict[int, int] = {}
    for item in case.items:
        stored = library.at(item.stream, item.seq)
        if stored is None:
            raise UserError(
                f"Record {item.seq} of stream {item.stream} is not in the index: it was deleted "
                "on purpose, or the index has to be brought up to date."
            )
        root = root_of_record(library, stored)
        found[root] = min(stored.id, found.get(root, stored.id))
    return sorted(found, key=lambda root: found[root])


def root_of_record(library: Library, stored: Stored) -> int:
    """Return the root of the message that a record belongs to."""
    row = library.connection.execute(
        "SELECT coalesce(root, -id) FROM record WHERE id = ?", (stored.id,)
    ).fetchone()
    return int(row[0])
