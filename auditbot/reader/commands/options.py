"""The options that the commands share, and the opening of an archive."""

import argparse
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auditbot.reader.access.settings import AccessPlace, access_place
from auditbot.reader.access.writing import RemoteLog
from auditbot.reader.memory import Memory
from auditbot.reader.open_sealed import read_identities
from auditbot.reader.read import Period
from auditbot.reader.render.words import one_line
from auditbot.storage.addressing import Origin, place_name
from auditbot.storage.derived import DerivedStore, DirectoryDerived
from auditbot.storage.reading import DirectoryPlace, Place
from common.clock import SystemClock
from common.config.environment import environment
from common.config.load import has_settings, load_archive
from common.config.schema import S3
from common.errors import ConfigError, UserError

CONFIG_FILE = Path("config.yaml")
HOME = Path("~/.steward-audit")
_FINGERPRINT_DIGITS = 64
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_MOST = 1_000_000_000
_LONGEST_HOURS = 1_000_000
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([mhd]?)", re.ASCII)
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_SPAN_MS = 366 * 86_400_000

CHAIN = "the environment or the default profile"
_NO_CONFIGURATION = Origin(
    "--destination", "auditbot.s3.{} in a configuration that --config names", credentials=CHAIN
)

Act = Callable[[argparse.Namespace], Coroutine[Any, Any, int]]


@dataclass(frozen=True, slots=True)
class Archive:
    """Which archive is meant, opened."""

    destination: str
    place: Place
    home: Path
    identities: tuple[str, ...]
    remote_log: RemoteLog | None = None
    """Where what is done is written down too, out of this machine's reach."""

    @property
    def memory(self) -> Memory:
        """Return what this machine remembers."""
        return Memory(self.home / "memory.json")

    @property
    def cache(self) -> Path:
        """Return where this archive's objects and index are kept on this machine."""
        found = _folder(self.home, place_name(self.destination))
        older = _folder(self.home, self.destination)
        if older.is_dir() and not found.exists():
            return older  # an older version kept it by the spelling
        return found


def _folder(home: Path, name: str) -> Path:
    return home / "archives" / sha256(name.encode()).hexdigest()[:16]


@asynccontextmanager
async def open_archive(arguments: argparse.Namespace) -> AsyncIterator[Archive]:
    """Open the archive that the options name.

    Raises:
        ConfigError: it is not clear which one is meant.
    """
    destination, s3, origin = which(arguments.destination, arguments.config)
    home = arguments.home.expanduser()
    log_place = access_place(arguments.access_log, home, s3, environment())
    place = open_place(destination, s3, origin)
    identity: Path | None = getattr(arguments, "identity", None)
    try:
        yield Archive(
            destination,
            place,
            home,
            read_identities(identity) if identity else (),
            None if log_place is None else remote_log(log_place, home),
        )
    finally:
        await place.close()


def remote_log(place: AccessPlace, home: Path) -> RemoteLog:
    """Return what adds to the access log at a place."""
    needed = (
        f"It needs credentials that may create objects there (s3:PutObject on {place.url}/access/*) "
        f"and nothing else, not those that read the archive: in “{place.file}”, by a profile, or "
        "from the environment."
        if place.is_bucket
        else f"Have this user allowed to create files below {place.url}."
    )
    return RemoteLog(home / "access", place.name, place.adding(), SystemClock(), needed)


def open_place(destination: str, s3: S3, origin: Origin) -> Place:
    """Return where an archive is kept; nothing is reached yet.

    Raises:
        ConfigError: the destination is no place.
    """
    scheme, _, rest = destination.partition(":")
    if scheme == "file" and rest.strip("/"):
        return DirectoryPlace(Path(rest.removeprefix("//")).absolute())
    if scheme == "s3":
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        if rest.startswith("//") and bucket:
            # The S3 library takes a second to load: not for whoever reads a directory.
            from auditbot.storage.s3_place import S3Place  # noqa: PLC0415  # only for a bucket

            return S3Place(bucket, prefix, s3, origin)
    raise ConfigError(
        f"{origin.place} must be like file:archive, file:///absolute/directory or "
        "s3://bucket/prefix."
    )


def open_derived(arguments: argparse.Namespace) -> DerivedStore:
    """Return where copies of the archive that the options name are written, in the archive."""
    destination, s3, origin = which(arguments.destination, arguments.config)
    scheme, _, rest = destination.partition(":")
    if scheme == "s3":
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        # As above: only for a bucket.
        from auditbot.storage.s3_derived import S3Derived  # noqa: PLC0415  # only for a bucket

        return S3Derived(bucket, prefix, s3, origin)
    return DirectoryDerived(Path(rest.removeprefix("//")).absolute(), private=False)


def which(destination: str | None, config: Path | None) -> tuple[str, S3, Origin]:
    """Return which archive is meant, how its bucket is reached, and where both is said.

    Raises:
        ConfigError: neither a configuration nor a destination says it.
    """
    path = config or (CONFIG_FILE if CONFIG_FILE.exists() else None)
    environ = environment()
    if path is None and not has_settings(environ):
        if destination is not None:
            return destination, S3(), _NO_CONFIGURATION
        raise ConfigError(
            "Which archive? Name a configuration with --config, or the place with --destination."
        )
    try:
        settings = load_archive(path, environ)
    except ConfigError as error:
        # Nobody named the file, and a directory is reached without it.
        if config is not None or destination is None or not destination.startswith("file:"):
            raise
        sys.stderr.write(f"What is configured is not used: {one_line(error)}\n")
        return destination, S3(), _NO_CONFIGURATION
    place = destination or settings.destination
    if place is None:
        raise ConfigError("auditbot.destination is not set: name the archive with --destination.")
    keys = None if settings.s3.access_key_id else CHAIN
    named = "auditbot.destination" if destination is None else "--destination"
    return place, settings.s3, Origin(named, credentials=keys)


def reading_settings(config: Path | None) -> S3:
    """Return how the configuration reaches an archive's store, if there is any."""
    path = config or (CONFIG_FILE if CONFIG_FILE.exists() else None)
    environ = environment()
    if path is None and not has_settings(environ):
        return S3()
    return load_archive(path, environ).s3


def period_of(arguments: argparse.Namespace) -> Period:
    """Return the span of time that --from and --to give, in the zone of --zone.

    Raises:
        UserError: it ends before it begins.
    """
    zone: tzinfo = getattr(arguments, "zone", None) or UTC
    start: str | None = arguments.start
    end: str | None = arguments.end
    return ordered(
        Period(
            None if start is None else _moment(start, zone),
            None if end is None else _end(end, zone),
        )
    )


def ordered(period: Period) -> Period:
    """Return a span of time in which there is something.

    Raises:
        UserError: it ends before it begins: whatever is asked of it, the answer would be nothing.
    """
    start, end = period.bounds
    if start >= end:
        raise UserError(
            "The time that is asked for ends before it begins: give “from” the earlier moment and "
            "“to” the later one."
        )
    return period


def add_place_options(command: argparse.ArgumentParser) -> None:
    """Add which archive is meant."""
    command.add_argument(
        "--destination", metavar="URL", help="file:DIRECTORY or s3://BUCKET/PREFIX"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="Steward's configuration")
    command.add_argument(
        "--home",
        type=Path,
        default=HOME,
        metavar="DIRECTORY",
        help=f"where this machine keeps what it knows of archives (default {HOME})",
    )
    command.add_argument(
        "--access-log",
        metavar="URL",
        help="where what you do is written down before anything is shown: s3://BUCKET/PREFIX or "
        "file:DIRECTORY (default: as access-log.yaml there says, or nowhere but on this machine)",
    )


def add_archive_options(command: argparse.ArgumentParser) -> None:
    """Add which archive is meant, and with which key it is opened."""
    add_place_options(command)
    command.add_argument(
        "--identity", type=Path, metavar="FILE", help="age identity, for an encrypted archive"
    )


def add_period_options(command: argparse.ArgumentParser, what: str = "received") -> None:
    """Add a span of time."""
    command.add_argument(
        "--from",
        dest="start",
        type=_is_moment,
        metavar="TIME",
        help=f"{what} at or after: 2026-03-01 or 2026-03-01T14:00",
    )
    command.add_argument(
        "--to",
        dest="end",
        type=_is_moment,
        metavar="TIME",
        help=f"{what} before this time, or up to the end of this day",
    )


def add_zone_option(command: argparse.ArgumentParser) -> None:
    """Add the time zone in which times are shown and meant."""
    command.add_argument(
        "--zone",
        type=_zone,
        default=UTC,
        metavar="NAME",
        help="time zone for what is shown and typed, such as Europe/Berlin (default UTC)",
    )


def fingerprint(text: str) -> str:
    """Return a fingerprint as it is compared; people group its digits.

    Raises:
        ArgumentTypeError: it is none.
    """
    digits = "".join(text.split()).replace(":", "").replace("-", "").lower()
    if len(digits) != _FINGERPRINT_DIGITS or set(digits) - set("0123456789abcdef"):
        message = f"“{text}” is no fingerprint: it has {_FINGERPRINT_DIGITS} hexadecimal digits."
        raise argparse.ArgumentTypeError(message)
    return digits


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f"“{name}” is no time zone; write one such as Europe/Berlin or UTC."
        raise argparse.ArgumentTypeError(message) from None


def quantity(text: str) -> int:
    """Return a number of things.

    Raises:
        ArgumentTypeError: it is none, or more than anything here can have.
    """
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= _MOST:
        message = f"“{text}” is no number between 0 and {_MOST:,}."
        raise argparse.ArgumentTypeError(message)
    return number


def hours(text: str) -> float:
    """Return a number of hours.

    Raises:
        ArgumentTypeError: it is none, or longer than an archive.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LONGEST_HOURS:
        message = f"“{text}” is no number of hours between 0 and {_LONGEST_HOURS:,}."
        raise argparse.ArgumentTypeError(message)
    return number


def span_ms(text: str) -> int:
    """Return a length of time in milliseconds: “30m”, “12h”, “2d”; a number alone is of hours.

    Raises:
        ArgumentTypeError: it is none, or longer than a year.
    """
    found = _SPAN.fullmatch(text)
    length = float(found[1]) * _UNITS_MS[found[2] or "h"] if found else 0
    if not 1 <= length <= _LONGEST_SPAN_MS:
        message = (
            f"“{text}” is no length of time: write it like 30m, 12h or 2d, a year at most, and "
            "words to search for before it."
        )
        raise argparse.ArgumentTypeError(message)
    return int(length)


def _is_moment(text: str) -> str:
    try:
        year = datetime.fromisoformat(text).year
    except ValueError:
        message = f"“{text}” is no time; write 2026-03-01 or 2026-03-01T14:00."
        raise argparse.ArgumentTypeError(message) from None
    # A day and a zone more must still be in the calendar.
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        message = f"“{text}” is no year of an archive; leave the option out for an open end."
        raise argparse.ArgumentTypeError(message)
    return text


def _moment(text: str, zone: tzinfo) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return int(moment.timestamp() * 1000)


def _end(text: str, zone: tzinfo) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return _moment(text, zone)
    return _moment((day + timedelta(days=1)).isoformat(), zone)
