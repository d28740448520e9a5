"""What this machine remembers of archives: whose key to trust, and how far they had grown.

The promise kept: an archive that was cut back to an older state, or signed anew with another
key, cannot pass for the one that was seen before. The file is its owner's alone (0600), written
beside the old one and moved over it.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from auditbot.reader.parse import parse
from auditbot.storage.addressing import place_name
from auditbot.storage.syncing import sync_folder, sync_made
from common.errors import PermanentError


class Seen(msgspec.Struct, frozen=True):
    """How far a stream had grown when it was verified last."""

    number: int
    key: str
    sha256: str
    size: int
    root: str
    created_ms: int
    seen_ms: int
    contents: bool = True
    """Whether the contents of all its objects were checked, and found right."""
    looked: int | None = None
    """Up to which manifest they were; ``None`` where an older version wrote this."""
    looked_ms: int | None = None
    """When they were last looked into from the beginning."""

    @property
    def looked_until(self) -> int:
        """Return the last manifest whose objects' contents were found right, -1 for none."""
        if self.looked is not None:
            return self.looked
        return self.number if self.contents else -1


class Remembered(msgspec.Struct, frozen=True):
    """What is known of one server's archive at one place."""

    fingerprints: tuple[str, ...] = ()
    streams: dict[str, Seen] = {}
    unlisted: dict[str, int] = {}
    """Objects that no manifest listed yet, with when the newest one was made at that time."""
    named: bool = False
    """Whether a person named the fingerprints; else they were found in the archive first."""
    seen_ms: int | None = None
    """When the archive was last seen here, and nothing was wrong with it."""

    @property
    def last_seen_ms(self) -> int | None:
        """Return when the archive was last right here, ``None`` if it never was."""
        seen = [known.seen_ms for known in self.streams.values()]
        return max([*seen, *filter(None, [self.seen_ms])], default=None)

    def trusting(
        self, given: Collection[str], found: Collection[str], *, is_right: bool
    ) -> "Remembered":
        """Return this with the keys that a person named, who knows better than we do.

        Where the archive does not bear them out they may be misspelt, or the archive is a forged
        one: they are kept only if there are none, so that nothing else is trusted at first sight,
        or if they are among those that were found here first.

        Args:
            given: what was named
            found: those of them that the archive has
            is_right: whether all of it is signed with them, or with what they vouch for
        """
        if not given:
            return self
        keys: Collection[str] = given
        if found and is_right:
            keys = found
        elif self.fingerprints:
            # Whatever else is wrong, a person says that of these the named ones are the right ones.
            keys = set(given) & set(self.fingerprints)
        if not keys:
            return self
        return structs.replace(self, fingerprints=tuple(sorted(keys)), named=True)

    def doubted(self) -> "Remembered":
        """Return this after something was wrong: the next look has to be into everything again."""
        streams = {
            name: structs.replace(seen, contents=False, looked=-1, looked_ms=None)
            for name, seen in self.streams.items()
        }
        return structs.replace(self, streams=streams)


class _File(msgspec.Struct, frozen=True):
    v: int = 1
    archives: dict[str, Remembered] = {}


@dataclass(frozen=True, slots=True)
class Memory:
    """The file."""

    path: Path

    def recall(self, archive: str) -> Remembered:
        """Return what is known of an archive, by its place and server, however that is spelled.

        Raises:
            PermanentError: the file is damaged.
        """
        known = self._load().archives
        # Older versions kept it by the spelling.
        return known.get(named_archive(archive)) or known.get(archive) or Remembered()

    def servers_at(self, destination: str) -> dict[str, Remembered]:
        """Return what is known of each server's archive at a place.

        Raises:
            PermanentError: the file is damaged.
        """
        place = place_name(destination)
        servers = {
            name.rpartition(" ")[2]
            for name in self._load().archives
            if named_archive(name).rpartition(" ")[0] == place
        }
        return {server: self.recall(f"{destination} {server}") for server in sorted(servers)}

    def keep(self, archive: str, known: Remembered) -> None:
        """Remember what is known of an archive now."""
        others = {name: item for name, item in self._load().archives.items() if name != archive}
        archives = {**others, named_archive(archive): known}
        body = json.dumps(msgspec.to_builtins(_File(archives=archives)), indent=1) + "\n"
        private_directory(self.path.parent)
        write_private(self.path, body.encode())

    def _load(self) -> _File:
        try:
            body = self.path.read_bytes()
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise PermanentError(f"“{self.path}” cannot be read: {error.strerror}.") from error
        try:
            return parse(body, type=_File)
        except ValueError as error:
            raise PermanentError(
                f"“{self.path}”, which remembers the archives seen before, is damaged: bring it "
                "back from a backup. If it is deleted, the next verification trusts what it finds."
            ) from error


def named_archive(archive: str) -> str:
    """Return the one name of a server's archive whose place may be spelled in several ways."""
    destination, _, server = archive.rpartition(" ")
    return f"{place_name(destination)} {server}"


def private_directory(path: Path) -> None:
    """Make a directory that only its owner may enter.

    Raises:
        PermanentError: it cannot be made.
    """
    if not path.parent.is_dir():
        private_directory(path.parent)
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
            sync_made(path)
    except OSError as error:
        raise PermanentError(f"“{path}” cannot be used: {error.strerror}.") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others waiting that work with what this file stands for; its folder is made.

    Raises:
        PermanentError: the folder cannot be made.
        OSError: the file cannot.
    """
    private_directory(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_private(path: Path, body: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all; it survives a power cut.

    Raises:
        PermanentError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error


def copy_private(source: Path, path: Path) -> None:
    """Copy a file into one that only its owner may read, from its first byte on.

    Raises:
        PermanentError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name[:100]}-{secrets.token_hex(6)}")
    try:
        with source.open("rb") as read:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as written:
                shutil.copyfileobj(read, written, 2**20)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error


def plain(value: Any) -> Any:
    """Return a struct as JSON's own types."""
    return msgspec.to_builtins(value)
