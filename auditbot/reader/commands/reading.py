"""``steward audit read`` and ``coverage``: what the signed manifests list, record by record.

With ``--unsigned`` straight from the objects, and then nothing vouches for what is shown.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from auditbot.reader.commands.library import (
    Open,
    access_log,
    add_library_options,
    not_everything,
    open_library,
    reach,
)
from auditbot.reader.commands.options import add_period_options, open_archive, period_of
from auditbot.reader.coverage import Coverage, cover
from auditbot.reader.index.coverage import count_coverage
from auditbot.reader.index.library import Library
from auditbot.reader.newest import rooms_without_bot
from auditbot.reader.read import Found, Period, object_keys, read
from auditbot.reader.show import show, visible, visible_json
from auditbot.reader.transcript.provenance import removed

_UNSIGNED = (
    "NOT PROVED: this is what lies in the archive now, whoever put it there. Without --unsigned "
    "only what signed manifests list is shown.\n"
)


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
        "read",
        help="print records",
        description="Print the records that signed manifests list, oldest first, times in UTC.",
    )
    command.set_defaults(act=_read)
    command.add_argument("--room", help="a room's ID, address, or a part of its name")
    command.add_argument("--json", action="store_true", help="print the records as JSON Lines")
    _add_options(command)
    command = commands.add_parser(
        "coverage",
        help="count what could be read and what could not",
        description="Count encrypted messages: read at once, read later, and not read by reason; "
        "by room, day and sending device; and the rooms that are not archived.",
    )
    command.set_defaults(act=_cover)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_options(command)


def _add_options(command: argparse.ArgumentParser) -> None:
    add_period_options(command)
    command.add_argument(
        "--unsigned",
        action="store_true",
        help="straight from the objects, without an index: also what no manifest lists yet, and "
        "nothing is proved",
    )
    add_library_options(command)


async def _read(arguments: argparse.Namespace) -> int:
    selection = _Selection(period_of(arguments), arguments.room)
    if arguments.unsigned:
        return await _read_unsigned(arguments, selection)
    async with open_library(arguments) as opened:
        _log(opened, "read", selection.period, arguments.room)
        shown = await _print(_records(opened.library, selection.period), selection, arguments)
        if not shown and opened.library.until_ms is None:
            sys.stderr.write(
                f"There is no archive in {visible(opened.archive.destination)} yet, or nothing "
                "in it is signed: --unsigned shows what lies there.\n"
            )
        elif not shown:
            sys.stderr.write("No record of the archive matches.\n")
        return _tell_removed(opened, selection.period)


async def _read_unsigned(arguments: argparse.Namespace, selection: _Selection) -> int:
    missing: list[str] = []
    async with open_archive(arguments) as archive:
        access_log(archive).write(
            "read", archive=archive.destination, room=arguments.room, unsigned=True
        )
        sys.stderr.write(_UNSIGNED)
        try:
            records = read(
                archive.place, selection.period, missing=missing, identities=archive.identities
            )
            shown = await _print(records, selection, arguments)
            if not shown and not await object_keys(archive.place):
                sys.stderr.write(f"There is no archive in {visible(archive.destination)} yet.\n")
            elif not shown:
                sys.stderr.write("No record of the archive matches.\n")
        finally:
            _tell_missing(missing)
    return 1 if missing else 0


async def _print(
    records: AsyncIterator[Found], selection: _Selection, arguments: argparse.Namespace
) -> int:
    """Print the records that are wanted; return how many."""
    shown = 0
    async for found in records:
        if not selection.wants(found):
            continue
        text = _line(found) if arguments.json else show(found.record)
        if text is not None:
            sys.stdout.write(f"{text}\n")
            shown += 1
    sys.stdout.flush()
    return shown


async def _records(library: Library, period: Period) -> AsyncIterator[Found]:
    """Yield the indexed records of a period; each was compared with its signature before."""
    ids = library.connection.execute(
        "SELECT id FROM record WHERE received_ms >= ? AND received_ms < ?"
        " ORDER BY received_ms, id",
        period.bounds,
    )
    for stored in library.stored(row[0] for row in ids):
        yield Found(stored.record, stored.line, stored.content)


def _line(found: Found) -> str:
    # Programs get the exact line, or the record with what was sealed of it; a terminal would obey
    # what somebody hid in it.
    text = found.line.decode()
    if found.content is not None:
        text = json.dumps(found.record, ensure_ascii=False, separators=(",", ":"))
    return visible_json(text) if sys.stdout.isatty() else text


def _log(opened: Open, act: str, period: Period, room: str | None = None) -> None:
    opened.log.write(
        act,
        archive=opened.archive.destination,
        room=room,
        start_ms=period.start_ms,
        end_ms=period.end_ms,
    )


def _tell_removed(opened: Open, period: Period) -> int:
    for sentence in removed(opened.library, period):
        sys.stderr.write(f"To know: {visible(sentence)}\n")
    return 1 if opened.faults else 0


def _tell_missing(missing: Sequence[str]) -> None:
    if missing:
        sys.stderr.write("This archive is not complete:\n")
    sys.stderr.writelines(f"    {visible(sentence)}\n" for sentence in missing)


async def _cover(arguments: argparse.Namespace) -> int:
    period = period_of(arguments)
    if arguments.unsigned:
        return await _cover_unsigned(arguments, period)
    async with open_library(arguments) as opened:
        _log(opened, "coverage", period)
        if not arguments.json:
            # Whoever files the figures has only this, and they are of a part.
            sys.stdout.writelines(f"{not_everything(fault)}\n" for fault in opened.faults)
        coverage = count_coverage(opened.library, period)
        _print_coverage(coverage, arguments, faults=opened.faults)
        sys.stderr.write(f"The index reaches {reach(opened.library)}.\n")
        return _tell_removed(opened, period)


async def _cover_unsigned(arguments: argparse.Namespace, period: Period) -> int:
    missing: list[str] = []
    async with open_archive(arguments) as archive:
        access_log(archive).write("coverage", archive=archive.destination, unsigned=True)
        sys.stderr.write(_UNSIGNED)
        coverage = await cover(
            archive.place, period, missing=missing, identities=archive.identities
        )
        coverage.without_bot = await rooms_without_bot(archive.place)
    _print_coverage(coverage, arguments)
    _tell_missing(missing)
    return 1 if missing else 0


def _print_coverage(
    coverage: Coverage, arguments: argparse.Namespace, *, faults: Sequence[str] = ()
) -> None:
    told = {**coverage.as_json(), "not_indexed": list(faults)}
    text = json.dumps(told, ensure_ascii=True) if arguments.json else coverage.text()
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
