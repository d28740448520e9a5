"""Who searched, looked and took away what: a file that only grows.

Each line names the one before it by its hash, so that nothing can be taken out or changed in the
middle unnoticed; the hash of the last one, written down elsewhere, shows the same of the end.
"""

import fcntl
import hashlib
import json
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditbot.reader.access.writing import RemoteLog
from auditbot.reader.memory import private_directory
from common.clock import Clock
from common.errors import PermanentError

_TAIL_BYTES = 64 * 1024
_FIRST = "0" * 64
_LONGEST = 4096


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
        known = {name: _short(value) for name, value in detail.items()}
        stored: dict[str, object] = {}
        if self.remote is not None:
            of = {"archive": _short(self.archive)} if self.archive else {}
            stored["stored"] = self.remote.write(_user(), what, {**of, **known})
        self._append(what, {**known, **stored})

    def _append(self, what: str, detail: dict[str, object]) -> None:
        try:
            private_directory(self.path.parent)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                last = _last_line(file.fileno())
                entry: dict[str, Any] = {
                    "time_ms": self.clock.now_ms(),
                    "user": _user(),
                    "what": what,
                    **detail,
                    "previous": hashlib.sha256(last).hexdigest() if last else _FIRST,
                }
                file.seek(0, os.SEEK_END)
                file.write(json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
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
        with os.fdopen(handle, "rb") as file:
            last = _last_line(file.fileno())
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
                    try:
                        entry = json.loads(body)
                    except ValueError:
                        entry = {}
                    known = entry if isinstance(entry, dict) else {}
                    yield known, known.get("previous") == previous
                    previous = hashlib.sha256(body).hexdigest()
        except FileNotFoundError:
            return


def _last_line(handle: int) -> bytes:
    size = os.fstat(handle).st_size
    begin = max(size - _TAIL_BYTES, 0)
    tail = os.pread(handle, size - begin, begin)
    return tail.removesuffix(b"\n").rpartition(b"\n")[2]


def _short(value: object) -> object:
    if not isinstance(value, str):
        return value
    # What was typed may hold what no JSON can say.
    return value[:_LONGEST].encode("utf-8", "replace").decode()


def _user() -> str:
    # Not getpass.getuser: that believes what the user's environment says.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
