"""``steward audit recheck --export-keys``: room keys for an expert's own client."""

import argparse
import asyncio
import getpass
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from auditbot.reader.commands.library import Open
from auditbot.reader.commands.options import period_of
from auditbot.reader.recheck.gathering import Gathered, gather
from auditbot.reader.recheck.key_file import key_file
from auditbot.reader.recheck.shelf import Shelf
from auditbot.reader.render.words import one_line
from common.config.secret import Secret
from common.errors import ConfigError, PermanentError, UserError

WRITTEN, FAULTS, SOME_WITHOUT = 0, 1, 3
_LONGEST_LINE = 4097


def add_key_options(command: argparse.ArgumentParser) -> None:
    """Add where room keys go, and under which passphrase."""
    command.add_argument(
        "--export-keys",
        type=Path,
        metavar="FILE",
        help="instead of comparing: write the room keys of these messages into a new file, under a "
        "passphrase, for a Matrix client to import",
    )
    command.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="its first line is the passphrase; /dev/stdin and /dev/fd/3 are files too (default: "
        "it is asked for)",
    )


def asked_for(arguments: argparse.Namespace) -> dict[str, object]:
    """Return which messages were asked for, for the access log."""
    period = period_of(arguments)
    return {
        "events": len(arguments.event_ids),
        "event_ids": " ".join(arguments.event_ids) or None,
        "room": arguments.room,
        "start_ms": period.start_ms,
        "end_ms": period.end_ms,
    }


def passphrase_of(arguments: argparse.Namespace) -> Secret | None:
    """Return the passphrase for room keys, ``None`` if none are to be exported.

    Raises:
        ConfigError: the options do not go together, or the passphrase cannot be read.
        UserError: none was given, or the file for the keys is there already.
    """
    if arguments.export_keys is None:
        if arguments.passphrase_file is not None:
            raise ConfigError("--passphrase-file is for --export-keys: name a file there, too.")
        return None
    if os.path.lexists(arguments.export_keys):
        raise _there_already(arguments.export_keys)
    text = _read(arguments.passphrase_file) if arguments.passphrase_file else _ask()
    if not text:
        raise UserError("No passphrase was given: whoever gets the file could read everything.")
    return Secret(text)


async def export_keys(
    arguments: argparse.Namespace,
    opened: Open,
    ids: Sequence[int],
    trouble: str | None,
    passphrase: Secret,
) -> int:
    """Write the room keys of these records into a file; return the exit status.

    Args:
        arguments: what was typed
        opened: the archive
        ids: the records
        trouble: why there are none, in a sentence
        passphrase: what the file is to open with

    Raises:
        UserError: no keys are kept of them, or the file is there already.
        PermanentError: it, or the access log, cannot be written.
        TransientError: the archive is away.
    """
    path: Path = arguments.export_keys
    shelf = Shelf(opened.archive.place, opened.library)
    found = await gather(opened.library, shelf, ids, arguments.room)
    opened.log.write(
        "room keys exported",
        archive=opened.archive.destination,
        **asked_for(arguments),
        found=len(found.sessions),
        output=str(path),
    )
    if trouble is not None:
        raise UserError(trouble)
    for fault in dict.fromkeys(shelf.faults):
        sys.stderr.write(f"NOT ALL ROOM KEYS CAN BE USED: {one_line(fault)}\n")
    if not found.sessions:
        raise UserError(f"No room key that can be used is kept of {found.messages:,} messages.")
    _write_new(path, await asyncio.to_thread(key_file, found.sessions, passphrase))
    sys.stderr.write(_told(path, found))
    if shelf.faults or opened.faults:
        return FAULTS
    return SOME_WITHOUT if found.without else WRITTEN


def _told(path: Path, found: Gathered) -> str:
    return (
        f"{path}: {len(found.sessions):,} room keys, for {found.messages - found.without:,} of "
        f"{found.messages:,} messages. With the passphrase they open all that was said with them "
        "from the first of these messages on: delete the file when it was used.\n"
    )


def _ask() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask at: name a --passphrase-file.")
    try:
        text = getpass.getpass("Passphrase for the file: ")
        again = getpass.getpass("The same once more: ")
        text.encode()
    except UnicodeError:
        raise UserError(
            "What was typed is no text in UTF-8: nothing was written. Set the terminal to UTF-8, or "
            "name a --passphrase-file."
        ) from None
    except EOFError:
        text = again = ""
    if again != text:
        raise UserError("The two are not the same: nothing was written.")
    return text


def _read(path: Path) -> str:
    """Return the first line of a file that nobody else can read.

    Raises:
        ConfigError: it cannot be read, is no text, too long for one, or others can read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigError(f"Others can read “{path}”: type “chmod 600 {path}” first.")
            line = file.readline(_LONGEST_LINE)
            if len(line) == _LONGEST_LINE:
                raise ConfigError(
                    f"The first line of “{path}” is longer than {_LONGEST_LINE - 1:,} bytes: is it "
                    "the right file?"
                )
            return line.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"“{path}” cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"“{path}” holds what is no text in UTF-8.") from None


def _write_new(path: Path, body: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o600)
    except FileExistsError:
        raise _there_already(path) from None
    except OSError as error:
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error


def _there_already(path: Path) -> UserError:
    return UserError(f"“{path}” is there already: name another file, none is written over.")
