"""``steward audit read`` and ``coverage``: straight from the objects, without an index."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from auditbot.reader.commands.options import (
    add_archive_options,
    add_period_options,
    open_archive,
    period_of,
)
from auditbot.reader.coverage import cover
from auditbot.reader.newest import rooms_without_bot
from auditbot.reader.read import Found, Period, object_keys, read
from auditbot.reader.show import show, visible, visible_json


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


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser."""
    command = commands.add_parser(
        "read", help="print records", description="Print records, oldest first, times in UTC."
    )
    command.set_defaults(act=_read)
    command.add_argument("--room", help="a room's ID, address, or a part of its name")
    command.add_argument("--json", action="store_true", help="print the records as JSON Lines")
    add_archive_options(command)
    add_period_options(command)
    command = commands.add_parser(
        "coverage",
        help="count what could be read and what could not",
        description="Count encrypted messages: read at once, read later, and not read by reason; "
        "by room, day and sending device; and the rooms that are not archived.",
    )
    command.set_defaults(act=_cover)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    add_archive_options(command)
    add_period_options(command)


async def _read(arguments: argparse.Namespace) -> int:
    selection = _Selection(period_of(arguments), arguments.room)
    shown = 0
    missing: list[str] = []
    async with open_archive(arguments) as archive:
        try:
            records = read(
                archive.place, selection.period, missing=missing, identities=archive.identities
            )
            async for found in records:
                if not selection.wants(found):
                    continue
                text = _line(found) if arguments.json else show(found.record)
                if text is not None:
                    sys.stdout.write(f"{text}\n")
                    shown += 1
            sys.stdout.flush()
            if not shown and not await object_keys(archive.place):
                sys.stderr.write(f"There is no archive in {archive.destination} yet.\n")
            elif not shown:
                sys.stderr.write("No record of the archive matches.\n")
        finally:
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
    missing: list[str] = []
    async with open_archive(arguments) as archive:
        coverage = await cover(
            archive.place, period_of(arguments), missing=missing, identities=archive.identities
        )
        coverage.not_covered = await rooms_without_bot(archive.place)
    text = json.dumps(coverage.as_json(), ensure_ascii=True) if arguments.json else coverage.text()
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    _tell_missing(missing)
    return 1 if missing else 0
