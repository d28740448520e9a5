"""``steward audit parquet``: a copy of the records for query engines, a file for each day."""

import argparse
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from auditbot.reader.commands.library import Open, add_library_options, open_library, reach
from auditbot.reader.commands.options import add_period_options, open_derived, period_of
from auditbot.reader.compact import FILE, Day, days_of, servers_of, write_day
from auditbot.reader.layout import derived_folder, derived_prefix
from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.read import Period
from auditbot.reader.times import counted
from auditbot.storage.derived import TEMPORARY, DerivedStore, DirectoryDerived
from auditbot.storage.reading import DirectoryPlace, Place
from common.errors import ConfigError, PermanentError, UserError

_SCRATCH = ".steward-parquet-"
_LOCK = ".steward-parquet.lock"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "parquet",
        help="make a copy of the records for query engines",
        description="Write the records of each day (UTC, of receipt) into one Parquet file, sorted "
        "by room and time, and again only where the day's segments have changed. It goes into the "
        "archive, below derived/, which needs the right to write there, or into a directory of "
        "your own. Nothing signs it: prove what matters with the segments that it names.",
    )
    command.set_defaults(act=_build)
    command.add_argument(
        "--into", type=Path, metavar="DIRECTORY", help="write it there, not into the archive"
    )
    command.add_argument(
        "--opened",
        action="store_true",
        help="of an encrypted archive: keep what only your key opens in clear, in --into",
    )
    add_period_options(command)
    add_library_options(command)


@dataclass
class _Target:
    """Where copies go, and what is there."""

    place: Place
    store: DerivedStore
    base: Path | None
    there: dict[str, set[str]] = field(default_factory=dict)
    """Names of files by their folder."""

    async def look(self, servers: Sequence[str]) -> None:
        """Find what is there."""
        for server in servers:
            listing: Any = self.place.list(derived_prefix(server))
            async with aclosing(listing):
                async for item in listing:
                    folder, _, name = item.key.rpartition("/")
                    if not item.deleted:
                        self.there.setdefault(f"{folder}/", set()).add(name)

    def is_made(self, day: Day) -> bool:
        """Return whether a day's copy is there, of the same segments."""
        names = self.there.get(derived_folder(day.server, day.day), set())
        return names == {FILE, day.note}

    async def make(self, day: Day, opened: Open, scratch: Path) -> None:
        """Write a day's copy, then what says of which segments it is."""
        folder = derived_folder(day.server, day.day)
        file, note = scratch / FILE, scratch / day.note
        write_private(file, b"")
        write_day(opened.library, day, file, scratch)
        write_private(note, day.segments.encode())
        await self.store.put(f"{folder}{FILE}", file)
        await self.store.put(f"{folder}{day.note}", note)
        for name in sorted(self.there.get(folder, set()) - {FILE, day.note}):
            await self.store.delete(f"{folder}{name}")

    async def drop(self, folder: str) -> None:
        """Delete the copy of a day of which nothing is left."""
        for name in sorted(self.there[folder]):
            await self.store.delete(f"{folder}{name}")


async def _build(arguments: argparse.Namespace) -> int:
    if arguments.opened and arguments.into is None:
        raise ConfigError("--opened is for a directory of your own: name one with --into.")
    period = period_of(arguments)
    async with open_library(arguments) as opened:
        _refuse_archive(arguments.into, opened.archive.place)
        days = days_of(opened.library, period)
        _refuse_sealed(days, arguments)
        dates = [day.day.isoformat() for day in days]
        opened.log.write(
            "parquet",
            archive=opened.archive.destination,
            into=str(arguments.into or ""),
            opened=arguments.opened,
            start_ms=period.start_ms,
            end_ms=period.end_ms,
            days=len(days),
            first_day=min(dates, default=None),
            last_day=max(dates, default=None),
        )
        with _alone(arguments.into or opened.archive.cache):
            await _copy(arguments, days, period, opened)
    return 1 if opened.faults else 0


def _refuse_archive(into: Path | None, place: Place) -> None:
    """Make sure that a copy of one's own does not get among the archive's objects.

    Raises:
        UserError: it would.
    """
    if into is None or not isinstance(place, DirectoryPlace):
        return
    if into.resolve().is_relative_to(place.root.resolve()):
        raise UserError(
            f"“{into}” is in the archive's own directory: name another one with --into, or leave "
            "the option out to have the copy where the archive keeps such copies."
        )


async def _copy(
    arguments: argparse.Namespace, days: Sequence[Day], period: Period, opened: Open
) -> None:
    target = _target(arguments, opened)
    try:
        await _fill(target, days, period, opened)
    finally:
        await target.store.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run out, which would take this one's files for those of a run that was killed.

    Raises:
        UserError: another run is at work there.
        PermanentError: the folder cannot be used.
    """
    private_directory(folder.absolute())
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(folder / _LOCK, flags, 0o600)
    except OSError as error:
        raise PermanentError(f"“{folder}” cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another “steward audit parquet” is at work, with “{folder}”: nothing was written "
                "by this one. Run it again when the other has ended; days that are done are not "
                "written twice."
            ) from None
        yield
    finally:
        os.close(handle)


async def _fill(target: _Target, days: Sequence[Day], period: Period, opened: Open) -> None:
    await target.look(servers_of(opened.library))
    made = 0
    for day in days:
        if target.is_made(day):
            continue
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=target.base) as scratch:
            await target.make(day, opened, Path(scratch))
        made += 1
        sys.stdout.write(
            f"{day.day}: {counted(day.records, 'record')} of "
            f"{counted(len(day.parts), 'segment')}.\n"
        )
        sys.stdout.flush()
    # An index that nobody brought up to date does not know what is gone, only what it has not seen.
    is_known = opened.synced is not None and not opened.faults
    gone = _over(target, days, period) if is_known else []
    for folder in gone:
        await target.drop(folder)
    sys.stdout.write(
        f"{counted(made, 'day')} {'was' if made == 1 else 'were'} written, {len(days) - made:,} are as they were"
        f"{f', {len(gone):,} were deleted, as in the archive' if gone else ''}. "
        f"The index reaches {reach(opened.library)}.\n"
    )


def _over(target: _Target, days: Sequence[Day], period: Period) -> list[str]:
    """Return the folders of days of the period of which the archive holds nothing any more."""
    left = {derived_folder(day.server, day.day) for day in days}
    found = []
    for folder in sorted(set(target.there) - left):
        try:
            day = date.fromisoformat(folder.rpartition("dt=")[2].rstrip("/"))
        except ValueError:
            continue
        if period.meets(day, day):
            found.append(folder)
    return found


def _refuse_sealed(days: Sequence[Day], arguments: argparse.Namespace) -> None:
    if arguments.opened or not any(day.is_sealed for day in days):
        return
    if arguments.into is None:
        raise UserError(
            "This archive is encrypted to officers, and what was opened is not written back into "
            "it: whoever can read the bucket could read all of it. Name a directory of your own "
            "with --into, and add --opened."
        )
    raise UserError(
        "This archive is encrypted to officers: the files would hold in clear what only your key "
        "opens. If that is what you want, on an encrypted disk, add --opened."
    )


def _target(arguments: argparse.Namespace, opened: Open) -> _Target:
    if arguments.into is None:
        return _Target(opened.archive.place, open_derived(arguments), None)
    folder: Path = arguments.into.absolute()
    for left in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left)  # of a run that was killed: it may hold what was opened
    for unfinished in folder.glob(f"v1/*/derived/**/{TEMPORARY}*"):
        unfinished.unlink(missing_ok=True)
    # Its own right to enter, also where it was there before.
    if arguments.opened:
        folder.chmod(0o700)
    return _Target(DirectoryPlace(folder), DirectoryDerived(folder, private=True), folder)
