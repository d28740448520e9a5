"""``steward audit sync``, ``search``, ``rooms`` and ``people``."""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from auditbot.reader.commands.library import (
    Open,
    add_library_options,
    add_parts_option,
    open_library,
    reach,
)
from auditbot.reader.commands.options import (
    add_period_options,
    add_zone_option,
    period_of,
    quantity,
    span_ms,
)
from auditbot.reader.commands.outputs import add_force_option
from auditbot.reader.commands.transcripts import refuse, requested, summed
from auditbot.reader.conversation import Message, load
from auditbot.reader.index.context import (
    MOST_BESIDE,
    MOST_CONTEXT,
    MOST_OF_THREAD,
    Surroundings,
    Window,
    around,
)
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import (
    Known,
    Query,
    never_read,
    not_searched,
    people,
    rooms,
    search,
    unread,
    unsearched,
)
from auditbot.reader.memory import write_private
from auditbot.reader.render.audiences import Audiences
from auditbot.reader.render.rows import table
from auditbot.reader.render.sheets import write_csv, write_jsonl, write_parquet
from auditbot.reader.render.words import one_line
from auditbot.reader.times import counted, moment
from auditbot.reader.transcript.build import MOST_MESSAGES, gather
from auditbot.reader.transcript.formats import FORMATS, write
from auditbot.reader.transcript.provenance import removed
from common.errors import ConfigError, UserError

_CHUNK = 200
_MOST_GONE = 5
_MOST_NAMES = 10
_DOCUMENTS = FORMATS.keys() - {"csv", "jsonl"}
_FILES = {*_DOCUMENTS, "parquet"}
"""The formats that no terminal shows."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser."""
    command = commands.add_parser(
        "sync",
        help="bring the index on this machine up to date",
        description="Fetch what is new in the archive, compare it with its signatures and "
        "hashes, and index it. The other commands do this by themselves.",
    )
    command.set_defaults(act=_sync)
    add_parts_option(command)
    add_library_options(command)
    command = commands.add_parser(
        "search",
        help="find messages",
        description="Find messages by words, people, rooms and time; each is shown with its "
        "edits, deletion and reactions.",
    )
    command.set_defaults(act=_search)
    command.add_argument(
        "text", nargs="*", help="words, “in quotation marks” together, begin* for a beginning"
    )
    add_query_options(command)
    command.add_argument("--limit", type=_limit, metavar="N", help="at most so many messages")
    command.add_argument("--newest", action="store_true", help="the newest first")
    command.add_argument(
        "--context",
        nargs="?",
        type=_window,
        const=Window(),
        metavar="TIME",
        help="show what was said around each message, too, and mark those that were found: 12 hours "
        "before and after in direct chats and the whole thread in rooms; with a time such as 30m, "
        "2h or 1d so long before and after in every room, and the whole thread",
    )
    command.add_argument(
        "--format",
        choices=["table", "parquet", *FORMATS],
        default="table",
        help="how to write them (default table); all but table, csv and jsonl need --output, and "
        "eml, rsmf and dat write a folder",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="write them to a file")
    add_force_option(command)
    add_library_options(command)
    for name, act, what in (("rooms", _rooms, "rooms"), ("people", _people, "senders")):
        command = commands.add_parser(name, help=f"list the {what} of the archive")
        command.set_defaults(act=act)
        command.add_argument("part", nargs="?", default="", help="a part of a name or ID")
        add_library_options(command)


def add_query_options(command: argparse.ArgumentParser) -> None:
    """Add what is wanted."""
    for name, what in (
        ("person", "a sender's ID, or a part of the name; may be given again"),
        ("room", "a room's ID, address, or a part of its name; may be given again"),
        ("type", "an event type such as m.room.message; may be given again"),
    ):
        command.add_argument(
            f"--{name}", action="append", default=[], metavar=name.upper(), help=what
        )
    command.add_argument(
        "--with",
        dest="together",
        action="append",
        default=[],
        metavar="PERSON",
        help="what this person and each other one named like this wrote in rooms that all of them "
        "were in; give it twice or more",
    )
    command.add_argument(
        "--containing",
        action="append",
        default=[],
        metavar="TEXT",
        help="this run of characters, also inside of words, such as 'art of a wor', 明天 or "
        "@example.org; case and accents do not count; given again, all of them",
    )
    command.add_argument(
        "--undecryptable", action="store_true", help="only what could not be read at once"
    )
    add_period_options(command, "received or sent")
    add_zone_option(command)


def query_of(arguments: argparse.Namespace) -> Query:
    """Return what the options ask for.

    Raises:
        UserError: it cannot be meant.
    """
    if len(arguments.together) == 1:
        raise UserError("Name at least two people with --with, or one with --person.")
    return Query(
        people=tuple(arguments.person),
        rooms=tuple(arguments.room),
        types=tuple(arguments.type),
        period=period_of(arguments),
        text=" ".join(getattr(arguments, "text", None) or []),
        undecryptable=arguments.undecryptable,
        together=tuple(arguments.together),
        containing=tuple(arguments.containing),
    )


def messages_of(library: Library, roots: list[int]) -> Iterator[Message]:
    """Yield the messages of these roots, a few in memory at a time."""
    source = iter(roots)
    while some := list(itertools.islice(source, _CHUNK)):
        yield from load(library, some)


async def _sync(arguments: argparse.Namespace) -> int:
    arguments.no_sync = False
    async with open_library(arguments) as opened:
        done = opened.synced
        if done is None:
            return 1
        sys.stdout.write(
            f"{counted(done.segments, 'segment')} with {counted(done.records, 'record')} "
            f"{'is' if done.segments == 1 else 'are'} new; the index reaches "
            f"{reach(opened.library)}.\n"
        )
        if done.removed:
            sys.stdout.write(
                f"{counted(done.removed, 'segment')} {'was' if done.removed == 1 else 'were'} "
                "deleted on purpose.\n"
            )
    return 1 if done.faults else 0


def _limit(text: str) -> int:
    number = quantity(text)
    if not number:
        message = "it must be 1 or more; leave the option out for all."
        raise argparse.ArgumentTypeError(message)
    return number


def _window(text: str) -> Window:
    return Window(span_ms(text))


async def _search(arguments: argparse.Namespace) -> int:
    query = query_of(arguments)
    window: Window | None = arguments.context
    if arguments.output is not None:
        refuse(arguments.format, arguments.output, arguments)
    elif arguments.format in _FILES:
        raise ConfigError(f"As {arguments.format} it needs a name: give it with --output.")
    async with open_library(arguments) as opened:
        # All of it: what is not shown is counted, and not marked as if it had not been found.
        found = search(opened.library, query, newest_first=arguments.newest)
        roots = found[: arguments.limit]
        shown = Surroundings(tuple(roots), frozenset(), is_cut=False)
        if window is not None:
            shown = around(
                opened.library, roots, window, found=found, newest_first=arguments.newest
            )
        opened.log.write(
            "search",
            archive=opened.archive.destination,
            query=query.as_words(),
            start_ms=query.period.start_ms,
            end_ms=query.period.end_ms,
            found=len(roots),
            format=arguments.format,
            **({} if len(roots) == len(found) else {"fit": len(found)}),
            **(
                {} if window is None else {"context": window.as_words(), "shown": len(shown.roots)}
            ),
        )
        remarks: tuple[str, ...] = ()
        if arguments.format in _DOCUMENTS:
            remarks = await _write_document(opened, shown, query, arguments)
        else:
            _write(opened, shown, arguments)
        sys.stderr.write(_summary(opened, shown, roots, found, str(arguments.zone)))
        if arguments.output is not None:
            sys.stderr.write(f"They are in “{one_line(arguments.output)}”.\n")
        sys.stderr.writelines(f"    to know: {one_line(sentence)}\n" for sentence in remarks)
        is_sealed = tell_unsearched(opened, query)
        gone = list(removed(opened.library, query.period, arguments.zone))
        for sentence in gone[:_MOST_GONE]:
            sys.stderr.write(f"To know: {sentence}\n")
        if len(gone) > _MOST_GONE:
            sys.stderr.write(f"… and {len(gone) - _MOST_GONE:,} more such times.\n")
    return 1 if opened.faults or is_sealed else 0


def tell_unsearched(opened: Open, *queries: Query) -> bool:
    """Say if words that were asked for were not looked for everywhere; return whether they might be.

    What nobody can read is told and no failure: no identity opens it.
    """
    count = max((unsearched(opened.library, query) for query in queries), default=0)
    if count:
        has_identity = bool(opened.archive.identities)
        sys.stderr.write(f"{not_searched(count, has_identity=has_identity)}\n")
    closed = max((unread(opened.library, query) for query in queries), default=0)
    if closed:
        sys.stderr.write(f"{never_read(closed)}\n")
    return count > 0


def _summary(
    opened: Open, shown: Surroundings, roots: list[int], found: list[int], zone: str
) -> str:
    count = counted(len(roots), "message")
    if len(roots) < len(found):
        fit = "message fits" if len(found) == 1 else "messages fit"
        count = f"{len(found):,} {fit}; {len(roots):,} shown"
    beside = len(shown.context)
    more = f", and {beside:,} around them" if beside else ""
    cut = (
        f"There is more around them than is shown: at most {MOST_BESIDE:,} messages before and "
        f"after each, {MOST_OF_THREAD:,} of a thread, {MOST_CONTEXT:,} in all. "
        if shown.is_cut
        else ""
    )
    times = "" if zone == "UTC" else f"Times are those of {zone}. "
    return f"{count}{more}. {cut}{times}The index reaches {reach(opened.library)}.\n"


def _write(opened: Open, shown: Surroundings, arguments: argparse.Namespace) -> None:
    messages = messages_of(opened.library, list(shown.roots))
    readers = Audiences(opened.library)
    output: Path | None = arguments.output
    if output is not None and arguments.format == "parquet":
        write_parquet(messages, output, arguments.zone, shown.context, readers=readers)
        return
    if output is None:
        _write_to(sys.stdout, messages, shown, arguments, readers)
        sys.stdout.flush()
        return
    write_private(output, b"")
    with output.open("w", encoding="utf-8", newline="", errors="replace") as file:
        _write_to(file, messages, shown, arguments, readers)


async def _write_document(
    opened: Open, shown: Surroundings, query: Query, arguments: argparse.Namespace
) -> tuple[str, ...]:
    """Write what was found in one of the formats that are read without Steward."""
    if len(shown.roots) > MOST_MESSAGES:
        raise UserError(
            f"{len(shown.roots):,} messages are too many for one document (at most "
            f"{MOST_MESSAGES:,}): choose a shorter time with --from and --to."
        )
    judged = summed(opened, None)
    request = requested(
        arguments, opened, judged, None, query.period, case=f"Search: {query.as_words()}"
    )
    place = None if arguments.no_sync else opened.archive.place
    messages = load(opened.library, list(shown.roots))
    transcript = await gather(opened.library, place, request, messages, set(shown.context))
    return write(transcript, arguments.format, arguments.output)


def _write_to(
    file: TextIO,
    messages: Iterator[Message],
    shown: Surroundings,
    arguments: argparse.Namespace,
    readers: Audiences,
) -> None:
    zone, context = arguments.zone, shown.context
    match arguments.format:
        case "csv":
            is_seen = file.isatty()
            write_csv(messages, file, zone, context, readers=readers, is_seen=is_seen)
        case "jsonl":
            write_jsonl(messages, file, zone, context, readers=readers)
        case _:
            marked = None if arguments.context is None else shown.context
            file.writelines(f"{line}\n" for line in table(messages, arguments.zone, marked))


def _log_list(opened: Open, what: str, part: str, found: int) -> None:
    opened.log.write(what, archive=opened.archive.destination, part=part, found=found)


def _none(what: str, part: str) -> str:
    if not part:
        return f"There is no {what} in the archive.\n"
    return f"No {what} of the archive fits “{one_line(part)}”.\n"


def _once(known: Known) -> str:
    """Return what else it was called, in brackets."""
    names = [f"“{one_line(name)}”" for name in known.others[:_MOST_NAMES]]
    if len(known.others) > _MOST_NAMES:
        names.append(f"{len(known.others) - _MOST_NAMES:,} more")
    return f" (also {', '.join(names)})" if names else ""


async def _rooms(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        found = rooms(opened.library, arguments.part)
        _log_list(opened, "rooms listed", arguments.part, len(found))
        if not found:
            sys.stderr.write(_none("room", arguments.part))
        for room in found:
            label = f" “{one_line(room.label)}”" if room.label else ""
            alias = f" {one_line(room.alias)}" if room.alias else ""
            sys.stdout.write(
                f"{one_line(room.name)}{alias}{label}{_once(room)}: {counted(room.events, 'event')}, "
                f"{moment(room.first_ms)} to {moment(room.last_ms)} UTC\n"
            )
    return 0


async def _people(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        found = people(opened.library, arguments.part)
        _log_list(opened, "people listed", arguments.part, len(found))
        if not found:
            sys.stderr.write(_none("person", arguments.part))
        for person in found:
            label = f" “{one_line(person.label)}”" if person.label else ""
            sys.stdout.write(
                f"{one_line(person.name)}{label}{_once(person)}: {counted(person.events, 'event')}, "
                f"{moment(person.first_ms)} to {moment(person.last_ms)} UTC\n"
            )
    return 0
