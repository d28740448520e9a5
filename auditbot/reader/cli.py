"""``steward audit``: what compliance officers type."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from auditbot.reader.coverage import cover
from auditbot.reader.read import Found, Period, object_keys, read
from auditbot.reader.show import show, visible, visible_json
from auditbot.storage.open import open_store
from common.config.environment import environment
from common.config.load import has_settings, load
from common.config.schema import S3
from common.errors import ConfigError

CONFIG_FILE = Path("config.yaml")


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which records are wanted."""

    period: Period
    room: str | None

    def wants(self, found: Found) -> bool:
        """Return whether a record of the period is in the room."""
        if self.room is None:
            return True
        record = found.record
        name = str(record.get("room_name") or "").casefold()
        return self.room in {record.get("room_id"), record.get("room_alias")} or (
            self.room.casefold() in name
        )


def main(argv: Sequence[str]) -> int:
    """Run ``steward audit`` with these arguments; return the exit status.

    Raises:
        ConfigError: it is not clear which archive is meant.
        StewardError: the archive cannot be read; ``steward`` itself says so.
    """
    arguments = _parser().parse_args(argv)
    act: Callable[[argparse.Namespace], Coroutine[None, None, int]] = arguments.act
    return asyncio.run(act(arguments))


async def _read(arguments: argparse.Namespace) -> int:
    destination, s3 = _place(arguments.destination, arguments.config)
    selection = _Selection(Period(arguments.start, arguments.end), arguments.room)
    store = open_store(destination, s3)
    shown = 0
    missing: list[str] = []
    try:
        async for found in read(store, selection.period, missing=missing):
            if not selection.wants(found):
                continue
            text = _line(found) if arguments.json else show(found.record)
            if text is not None:
                sys.stdout.write(f"{text}\n")
                shown += 1
        sys.stdout.flush()
        if not shown and not await object_keys(store):
            sys.stderr.write(f"There is no archive in {destination} yet.\n")
        elif not shown:
            sys.stderr.write("No record of the archive matches.\n")
    finally:
        await store.close()
        _tell_missing(missing)
    return 1 if missing else 0


def _line(found: Found) -> str:
    # Programs get the exact line; a terminal would obey what somebody hid in it.
    text = found.line.decode()
    return visible_json(text) if sys.stdout.isatty() else text


def _tell_missing(missing: Sequence[str]) -> None:
    if missing:
        sys.stderr.write("This archive is not complete:\n")
    sys.stderr.writelines(f"    {visible(sentence)}\n" for sentence in missing)


async def _cover(arguments: argparse.Namespace) -> int:
    destination, s3 = _place(arguments.destination, arguments.config)
    store = open_store(destination, s3)
    missing: list[str] = []
    try:
        coverage = await cover(store, Period(arguments.start, arguments.end), missing=missing)
    finally:
        await store.close()
    text = json.dumps(coverage.as_json(), ensure_ascii=True) if arguments.json else coverage.text()
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    _tell_missing(missing)
    return 1 if missing else 0


def _place(destination: str | None, config: Path | None) -> tuple[str, S3]:
    """Return which archive is meant and how its bucket is reached."""
    path = config or (CONFIG_FILE if CONFIG_FILE.exists() else None)
    environ = environment()
    if path is None and not has_settings(environ):
        if destination is not None:
            return destination, S3()
        raise ConfigError(
            "Which archive? Name a configuration with --config, or the place with --destination."
        )
    settings = load(path, environ).auditbot
    place = destination or settings.destination
    if place is None:
        raise ConfigError("auditbot.destination is not set: name the archive with --destination.")
    return place, settings.s3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steward audit", description="Read the archive that auditbot keeps."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "read", help="print records", description="Print records, oldest first, times in UTC."
    )
    command.set_defaults(act=_read)
    command.add_argument("--room", help="a room's ID, address, or a part of its name")
    _add_common_options(command, as_json="print the records as JSON Lines")
    command = commands.add_parser(
        "coverage",
        help="count what could be read and what could not",
        description="Count encrypted messages: read at once, read later, and not read by reason; "
        "by room and by sending device.",
    )
    command.set_defaults(act=_cover)
    _add_common_options(command, as_json="print one JSON object")
    return parser


def _add_common_options(command: argparse.ArgumentParser, *, as_json: str) -> None:
    command.add_argument(
        "--destination", metavar="URL", help="file:DIRECTORY or s3://BUCKET/PREFIX"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="Steward's configuration")
    command.add_argument(
        "--from",
        dest="start",
        type=_moment,
        metavar="TIME",
        help="received at or after: 2026-03-01 or 2026-03-01T14:00 (UTC)",
    )
    command.add_argument(
        "--to",
        dest="end",
        type=_end,
        metavar="TIME",
        help="received before this time, or up to the end of this day",
    )
    command.add_argument("--json", action="store_true", help=as_json)


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"“{text}” is no time; write 2026-03-01 or 2026-03-01T14:00."
        raise argparse.ArgumentTypeError(message) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _end(text: str) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return _moment(text)
    return _moment((day + timedelta(days=1)).isoformat())
