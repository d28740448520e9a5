"""Who searched, looked and took away what: a file that only grows.

Each line names the one before it by its hash, so that nothing can be taken out or changed in the
middle unnoticed; the hash of the last one, written down elsewhere, shows the same of the end. A line
that broke off when the machine went down stays as it is, and the next one names it.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditbot.reader.access.details import short
from auditbot.reader.access.writing import RemoteLog, Written
from auditbot.reader.memory import private_directory
from auditbot.storage.syncing import sync_folder
from common.account import account_name
from common.clock import Clock
from common.errors import PermanentError

_PIECE_BYTES = 64 * 1024
_FIRST = "0" * 64
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class AccessLog:
    """The log of one machine's user.

    ``remote`` is where it lies too, out of this machine's reach, if anybody wants that; ``archive``
    is said there with each act.
    """

    path: Path
    clock: Clock
    remote: RemoteLog | None = None
    archive: str = ""

    def write(self, what: str, **detail: object) -> None:
        """Append that something was done; it is on disk when this returns, and stored elsewhere.

        Raises:
            PermanentError: it cannot be written, so what was asked for must not be shown.
            TransientError: the same, because the place is away.
        """
        known = {name: short(value) for name, value in detail.items()}
        if self.remote is not None:
            of = {"archive": self.archive} if self.archive else {}
            known |= _stored(self.remote.write(account_name(), what, {**of, **detail}))
        self._append(what, known)

    def refused(self, what: str, asked: str, **detail: object) -> None:
        """Append that something was asked for and is not shown, before whoever asked is told why.

        A refusal tells of the archive too: that somebody is not in it, or who fits a name.

        Raises:
            PermanentError, TransientError: as ``write``; so the reason must not be told.
        """
        self.write(what, outcome="refused", asked=asked, **detail)

    def _append(self, what: str, detail: dict[str, object]) -> None:
        try:
            private_directory(self.path.parent)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                last, is_ended = _last_line(handle)
                entry: dict[str, Any] = {
                    "time_ms": self.clock.now_ms(),
                    "user": account_name(),
                    "what": what,
                    **detail,
                    "previous": hashlib.sha256(last).hexdigest() if last else _FIRST,
                }
                line = json.dumps(entry).encode() + b"\n"
                _write(handle, line if is_ended else b"\n" + line)
                if not last:
                    sync_folder(self.path.parent)
            finally:
                os.close(handle)
        except OSError as error:
            raise PermanentError(
                f"The access log “{self.path}” cannot be written ({error.strerror}), so nothing "
                "is shown: make room, or give the file to this user."
            ) from error

    def seal(self) -> str:
        """Return what stands for all entries so far: the hash of the last one.

        Written down elsewhere, it shows later that nothing was cut off at the end.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return _FIRST
        try:
            last, _ = _last_line(handle)
        finally:
            os.close(handle)
        return hashlib.sha256(last).hexdigest() if last else _FIRST

    def has(self, seal: str) -> bool:
        """Say whether the log ended with this once, and goes on from there."""
        try:
            with self.path.open("rb") as file:
                hashes = (hashlib.sha256(line.removesuffix(b"\n")).hexdigest() for line in file)
                return seal == _FIRST or seal in hashes
        except FileNotFoundError:
            return seal == _FIRST

    def entries(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """Yield the entries, each with whether it follows the one before it unchanged."""
        previous = _FIRST
        try:
            with self.path.open("rb") as file:
                for line in file:
                    body = line.removesuffix(b"\n")
                    known = _entry(body)
                    yield known, known.get("previous") == previous
                    previous = hashlib.sha256(body).hexdigest()
        except FileNotFoundError:
            return


def _stored(written: Written) -> dict[str, object]:
    """Return what is noted of where an act is stored."""
    noted: dict[str, object] = {"stored": written.key}
    if written.earlier is not None:
        noted["sent_again"] = written.earlier
        noted["sent_again_outcome"] = (
            "stored now"
            if written.is_earlier_confirmed
            else "the name was taken: it had arrived, or “access verify” tells"
        )
    return noted


def _entry(body: bytes) -> dict[str, Any]:
    """Return the entry in a line; of what is none, what begins there."""
    try:
        entry = json.loads(body)
    except (ValueError, RecursionError):
        entry = None
    if isinstance(entry, dict):
        return entry
    return {
        "what": "NO ENTRY, it broke off or was changed",
        "line": body[:_SHOWN].decode("utf-8", "replace"),
    }


def _last_line(handle: int) -> tuple[bytes, bool]:
    """Return the last line, and whether it has an end (so does nothing at all)."""
    begin = os.fstat(handle).st_size
    tail = b""
    while begin and b"\n" not in tail[:-1]:
        length = min(_PIECE_BYTES, begin)
        begin -= length
        tail = os.pread(handle, length, begin) + tail
    return tail.removesuffix(b"\n").rpartition(b"\n")[2], not tail or tail.endswith(b"\n")


def _write(handle: int, line: bytes) -> None:
    """Append a line, durably, or nothing: a full disk leaves no half of it."""
    end = os.fstat(handle).st_size
    try:
        left = memoryview(line)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, end)
        raise
