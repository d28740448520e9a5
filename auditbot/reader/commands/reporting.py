"""``steward audit report``, ``sql`` and ``log``: what is missing, any question, who looked."""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TypeVar

from auditbot.reader.commands.library import (
    Open,
    access_log,
    add_library_options,
    not_everything,
    open_library,
)
from auditbot.reader.commands.options import (
    add_archive_options,
    add_period_options,
    add_zone_option,
    open_archive,
    period_of,
    quantity,
)
from auditbot.reader.commands.transcripts import Judged, results_of, summed
from auditbot.reader.coverage import Tally
from auditbot.reader.documents import Completeness
from auditbot.reader.index.coverage import count_coverage
from auditbot.reader.index.library import Library
from auditbot.reader.index.lost import count_lost
from auditbot.reader.index.receipts import receipts_recorded
from auditbot.reader.index.schema import KINDS
from auditbot.reader.index.sql import ask
from auditbot.reader.index.unrecorded import closed_gaps, unrecorded
from auditbot.reader.read import Period
from auditbot.reader.render.sheets import guarded
from auditbot.reader.render.words import act, log_detail, media_words, one_line, shown_line, why
from auditbot.reader.stated import count_day, differences, segments_of, service_differences
from auditbot.reader.times import moment, span
from common.clock import SystemClock

_SEAL = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_DAY_MS = 86_400_000
_SHOWN = 50
_SETTLED = timedelta(days=3)
"""After so many days a day's messages are read, or final."""
Name = TypeVar("Name")
_AGREED = 2
"""Lines about a day that is as it was stated."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser."""
    command = commands.add_parser(
        "report",
        help="what is missing: of the last week, or any time",
        description="Verify all signatures and tell what is missing: what could not be read by "
        "cause, attachments, gaps, rooms without the bot; and what was done to the export.",
    )
    command.set_defaults(act=_report)
    command.add_argument("--days", type=quantity, default=7, metavar="N", help="default 7")
    command.add_argument(
        "--verify", choices=["all", "signatures", "no"], default="signatures", help="how far"
    )
    add_period_options(command)
    add_zone_option(command)
    add_library_options(command)
    command = commands.add_parser(
        "sql",
        help="ask anything in SQL",
        description="Ask DuckDB; the table is “records”, with all fields of the schema.",
    )
    command.set_defaults(act=_sql)
    command.add_argument("question", metavar="SELECT …")
    command.add_argument("--format", choices=["csv", "jsonl"], default="csv")
    add_library_options(command)
    command = commands.add_parser("log", help="who searched, looked and exported")
    command.set_defaults(act=_log)
    command.add_argument(
        "--since",
        type=_seal,
        metavar="HASH",
        help="what it ended with once, as written down then: it must still be in there",
    )
    add_zone_option(command)
    add_archive_options(command)


@dataclass
class _Missing:
    """What of a time is known to be missing, and what was done to the export."""

    gaps: list[str] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)


async def _report(arguments: argparse.Namespace) -> int:
    period = period_of(arguments)
    if period.start_ms is None and period.end_ms is None:
        period = Period(SystemClock().now_ms() - arguments.days * _DAY_MS, None)
    async with open_library(arguments) as opened:
        results = await results_of(opened, arguments.verify)
        judged = summed(opened, results)
        opened.log.write(
            "report",
            archive=opened.archive.destination,
            start_ms=period.start_ms,
            end_ms=period.end_ms,
        )
        for line in _lines(opened, period, judged, arguments):
            sys.stdout.write(f"{shown_line(line)}\n")
        days = [day for result in results or () for day in result.days]
        differing = 0
        known = {(day.server_name, day.day): day for day in days}
        for day in _within(days, period):
            lines = [_stated(day), *_compared(opened, day)]
            late = list(_service_compared(opened, day, known))
            differing += len(lines) > _AGREED or bool(late)
            lines += [*_service(day), *late]
            sys.stdout.writelines(f"{shown_line(line)}\n" for line in lines)
        if differing:
            sys.stdout.write(
                f"{differing:,} days are not as Steward stated them: the lines above say in what.\n"
            )
        sys.stdout.flush()
    return 1 if judged.is_wrong or differing or opened.faults else 0


def _lines(
    opened: Open, period: Period, judged: Judged, arguments: argparse.Namespace
) -> Iterator[str]:
    library = opened.library
    coverage = count_coverage(library, period)
    missing = _missing(library, period, arguments)
    start = moment(period.start_ms, arguments.zone) if period.start_ms else "the beginning"
    end = moment(period.end_ms, arguments.zone) if period.end_ms else "now"
    yield f"{one_line(opened.archive.destination)}, {start} to {end} ({arguments.zone})"
    # Whoever files the report has only this, and what is counted below is of a part.
    yield from (not_everything(fault) for fault in opened.faults)
    if judged.is_wrong or not opened.faults:
        yield judged.words
    yield ""
    yield f"Events in clear       {coverage.clear:,}"
    yield f"Encrypted             {coverage.total.all:,}"
    yield f"    read at once      {coverage.total.at_once:,}"
    yield f"    read later        {coverage.total.later:,}"
    yield f"    not read          {coverage.total.unread:,}"
    for reason, count in coverage.total.why.most_common():
        yield f"        {count:,}: {why(reason)}"
    if coverage.total.unread:
        yield (
            f"        {coverage.final:,} final: not read within 72 h, or no key helps; "
            f"{coverage.waiting:,} still waited for"
        )
    yield f"    within 60 s       {coverage.share(coverage.soon)}"
    yield f"    within 24 h       {coverage.share(coverage.within_a_day)}"
    yield from _most_unread("Not read, by room", coverage.rooms, one_line)
    yield from _most_unread("Not read, by device", coverage.devices, _device)
    silent = [
        f"{_device(device)} ({tally.all})"
        for device, tally in coverage.devices.items()
        if tally.all and tally.unread == tally.all
    ]
    yield f"Devices never read    {', '.join(silent[:_SHOWN]) or 'none'}"
    lost = count_lost(library, period)
    states = ", ".join(f"{count:,} {media_words(name)}" for name, count in lost.states.items())
    yield f"Attachments missing   {states or 'none'}"
    yield from _indented(lost.names(library, _SHOWN), lost.count)
    yield f"Known gaps            {len(missing.gaps)}"
    yield from _indented(missing.gaps, len(missing.gaps))
    silent_times = list(unrecorded(library, period, arguments.zone, SystemClock().now_ms()))
    yield f"Times without record  {len(silent_times) or 'none known'}"
    yield from _indented(silent_times, len(silent_times))
    first, *rest = receipts_recorded(library, period, arguments.zone)
    yield f"Read receipts         {first}"
    yield from (f"                      {words}" for words in rest)
    yield f"Rooms without the bot {coverage.without_bot.count or 'none known'}"
    yield from (f"    {line}" for line in coverage.without_bot.lines(_SHOWN, arguments.zone))
    yield f"Done to the export    {len(missing.acts)}"
    yield from _indented(missing.acts, len(missing.acts))


def _device(device: tuple[str, str]) -> str:
    return f"{one_line(device[0])} {one_line(device[1])}"


def _most_unread(
    heading: str, tallies: Mapping[Name, Tally], shown: Callable[[Name], str]
) -> Iterator[str]:
    """Yield where most of what could not be read came from, each with its causes."""
    worst = sorted(
        ((name, tally) for name, tally in tallies.items() if tally.unread),
        key=lambda one: (-one[1].unread, str(one[0])),
    )
    if not worst:
        return
    yield f"{heading:<21} {len(worst):,}"
    yield from _indented(
        [
            f"{shown(name)}: {tally.unread:,} of {tally.all:,} ("
            + "; ".join(f"{count:,}: {why(reason)}" for reason, count in tally.why.most_common())
            + ")"
            for name, tally in worst[: _SHOWN + 1]
        ],
        len(worst),
    )


def _indented(lines: list[str], count: int) -> Iterator[str]:
    """Yield the first of some lines, and how many more there are of them."""
    yield from (f"    {line}" for line in lines[:_SHOWN])
    if count > _SHOWN:
        yield f"    … and {count - _SHOWN:,} more"


def _within(days: list[Completeness], period: Period) -> Iterator[Completeness]:
    """Yield the statements of the days that are whole or in part in a period."""
    for day in days:
        try:
            of = date.fromisoformat(day.day)
        except ValueError:
            continue
        if period.meets(of, of):
            yield day


def _compared(opened: Open, day: Completeness) -> Iterator[str]:
    """Yield in what a statement differs from what the archive holds, or that it does not."""
    library = opened.library
    counted = count_day(library, day.server_name, day.day)
    elsewhere = [stream for stream in day.streams if not library.manifests(stream)]
    if elsewhere and opened.faults:
        yield "    not counted again: not everything could be indexed"
        return
    if elsewhere:
        yield f"    not counted again: stream {one_line(elsewhere[0])} is kept elsewhere"
        return
    if counted.not_indexed:
        yield (
            f"    not counted again: {counted.not_indexed:,} of its {counted.segments:,} segments "
            "were deleted or erased on purpose"
        )
        return
    if counted.segments < day.segments and opened.synced is not None and opened.synced.faults:
        yield (
            f"    not counted again: of its {day.segments:,} segments only {counted.segments:,} "
            "can be read here"
        )
        return
    found = list(differences(day, counted))
    if not found:
        yield f"    counted again: the same, {sum(counted.counts.values()):,} records"
        return
    if day.not_sealed:
        yield f"    {day.not_sealed:,} records of it were not stored when it was stated"
    for one in found:
        yield (
            f"    DIFFERS in {one_line(one.what.replace('_', ' '))}: stated {one.stated:,}, "
            f"counted {one.counted:,}"
        )


def _service(day: Completeness) -> Iterator[str]:
    """Yield how soon messages were read, of the day and of the one that is settled with it."""
    settled = str(date.fromisoformat(day.day) - _SETTLED)
    for one in day.service:
        if one.day in {day.day, settled} and one.encrypted:
            soon, within = (
                n * 1000 // one.encrypted / 10 for n in (one.within_60_s, one.within_24_h)
            )
            yield (
                f"    stated of the messages of {one_line(one.day)}: of {one.encrypted:,} encrypted "
                f"{soon:.1f} % read within 60 s, {within:.1f} % within 24 h, "
                f"{one.encrypted - one.read:,} not, {one.final:,} of them final"
            )


def _service_compared(
    opened: Open, day: Completeness, known: Mapping[tuple[str, str], Completeness]
) -> Iterator[str]:
    """Yield in what the archive does not bear out how soon messages were read.

    Of a day whose segments are not all here nothing can be counted again.
    """
    for one in day.service:
        of = known.get((day.server_name, one.day))
        if of is None or of.not_sealed:
            continue
        if segments_of(opened.library, day.server_name, one.day) != (of.segments, of.segments):
            continue
        for difference in service_differences(opened.library, day, one):
            yield (
                f"    DIFFERS in the messages of {one_line(difference.what)}: stated "
                f"{difference.stated:,}, counted {difference.counted:,}"
            )


def _stated(day: Completeness) -> str:
    """Return what the writer said of a day."""
    unread = ", ".join(f"{count:,}: {why(name)}" for name, count in day.undecryptable.items())
    read = (
        f"; {day.undecryptable_read:,} of them read by then"
        if day.undecryptable_read is not None
        else ""
    )
    states = {**day.media, "not_kept": day.media_not_kept}
    lost = ", ".join(
        f"{count:,} {media_words(name)}"
        for name, count in states.items()
        if count and name not in {"stored", "duplicate"}
    )
    return (
        f"Stated of {day.day}  {day.counts.get('event', 0):,} events: {day.clear:,} in clear, "
        f"{day.decrypted:,} decrypted, {sum(day.undecryptable.values()):,} not"
        f"{f' ({unread}{read})' if unread else ''}; "
        f"{day.read_later:,} read later; attachments "
        f"missing: {lost or 'none'}; open: {day.undecryptable_open:,} unread, "
        f"{day.gaps_open:,} gaps, {day.media_open:,} attachments; "
        f"{day.rooms.covered:,} rooms, {day.rooms.not_covered_count:,} without the bot"
        f"{f'; {day.not_sealed:,} RECORDS NOT STORED THEN' if day.not_sealed else ''}"
        f"{_sampled(day)}{_pushed(day)}{_signed(day)}"
    )


def _signed(day: Completeness) -> str:
    """Return whether manifests were late on a day; “Times without record” says when and why."""
    signed = day.manifests
    if signed is None:
        return ""
    late = f" ({signed.late:,} LATE, the longest time without {span(signed.longest_ms)})"
    return f"; {signed.made:,} manifests{late if signed.late else ', none late'}"


def _pushed(day: Completeness) -> str:
    """Return what the homeserver pushed on a day; that numbers are skipped means nothing by itself."""
    pushed = day.transactions
    if pushed is None:
        return ""
    return (
        f"; pushed: {pushed.seen:,} transactions, {pushed.repeated:,} sent again, "
        f"{pushed.skipped:,} numbers in between of other services or none"
    )


def _sampled(day: Completeness) -> str:
    """Return what comparing with the homeserver found on a day."""
    if day.sampled is None:
        return ""
    unread = f" ({day.sampled.not_read:,} could not be)" if day.sampled.not_read else ""
    awaited = sum(day.awaited.values())
    return (
        f"; compared with the homeserver: {day.sampled.rooms:,} rooms{unread}, "
        f"{day.sampled.events:,} events, {day.sampled.missing:,} missing"
        f"{f'; {awaited:,} known of and awaited' if awaited else ''}"
    )


def _missing(library: Library, period: Period, arguments: argparse.Namespace) -> _Missing:
    found = _Missing()
    closed = closed_gaps(library)
    kinds = [KINDS.index(kind) for kind in ("gap", "control")]
    rows = library.connection.execute(
        "SELECT id FROM record WHERE kind IN (?, ?) AND received_ms >= ? AND received_ms < ?"
        " ORDER BY id",
        [*kinds, *period.bounds],
    ).fetchall()
    for stored in library.stored(row[0] for row in rows):
        record = stored.record
        when = moment(record.get("ts_received"), arguments.zone)
        match record.get("kind"):
            case "gap":
                place = (str(record.get("stream")), record.get("seq"))
                end = f", closed {moment(closed[place])} UTC" if place in closed else ""
                found.gaps.append(
                    f"{when} {one_line(record.get('room_id') or '')} {act(record)}{end}"
                )
            case _:
                found.acts.append(f"{when} {one_line(act(record))}")
    return found


async def _sql(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        opened.log.write("sql", archive=opened.archive.destination, query=arguments.question)
        answer = ask(opened.library, arguments.question)
        writer = csv.writer(sys.stdout)
        if arguments.format == "csv":
            # A question can make columns of what somebody wrote (PIVOT).
            writer.writerow([guarded(_visible(name)) for name in answer.columns])
        for row in answer.rows:
            if arguments.format == "csv":
                writer.writerow([guarded(_visible(value)) for value in row])
            else:
                line = dict(zip(answer.columns, row, strict=True))
                sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()
    return 0


def _visible(value: object) -> object:
    # A terminal would obey what somebody hid in a text.
    return one_line(value) if isinstance(value, str) and sys.stdout.isatty() else value


def _seal(text: str) -> str:
    """Return a hash with which the log ended once.

    Raises:
        ArgumentTypeError: it is none.
    """
    if _SEAL.fullmatch(text.strip()) is None:
        raise argparse.ArgumentTypeError(
            f"“{one_line(text)}” is no hash of an entry: it has 64 hexadecimal digits"
        )
    return text.strip().lower()


async def _log(arguments: argparse.Namespace) -> int:
    is_whole = True
    async with open_archive(arguments) as archive:
        log = access_log(archive)
        log.write("access log shown", archive=archive.destination)
        for entry, follows in log.entries():
            is_whole &= follows
            detail = log_detail(entry, arguments.zone)
            when = moment(entry.get("time_ms"), arguments.zone)
            mark = "" if follows else "DOES NOT FOLLOW  "
            sys.stdout.write(
                f"{when} {mark}{one_line(entry.get('user'))} {one_line(entry.get('what'))}"
                f"{f': {detail}' if detail else ''}\n"
            )
    expected = arguments.since
    is_known = expected is None or log.has(expected)
    if not is_known:
        sys.stdout.write(
            f"THE LOG HAS NO ENTRY {expected}: its end was cut off, or this is another log or a "
            "mistyped hash.\n"
        )
    sys.stdout.write(
        "The entries that are here follow each other unbroken.\n"
        if is_whole and not is_known
        else "The log is unbroken.\n"
        if is_whole
        else "THE LOG IS BROKEN: something was taken out or changed.\n"
    )
    sys.stdout.write(f"It ends with {log.seal()}.\n")
    return 0 if is_whole and is_known else 1
