"""``steward audit case`` and ``prove``: hand records over so that they prove themselves."""

import argparse
import sys
from pathlib import Path

from auditbot.reader.commands.library import (
    Open,
    access_log,
    add_library_options,
    asked,
    open_library,
)
from auditbot.reader.commands.options import Archive, add_zone_option, open_archive
from auditbot.reader.commands.outputs import add_force_option, refuse_taken
from auditbot.reader.commands.searching import add_query_options, query_of, tell_unsearched
from auditbot.reader.commands.transcripts import refuse, requested, verified
from auditbot.reader.conversation import load
from auditbot.reader.handover.cases import Case, Cases, Item, roots_of, with_items
from auditbot.reader.handover.package import HandedOver, hand_over
from auditbot.reader.index.library import Library, Stored
from auditbot.reader.index.query import Query, search
from auditbot.reader.read import ALWAYS
from auditbot.reader.render.rows import table
from auditbot.reader.render.words import one_line
from auditbot.reader.times import counted
from auditbot.reader.transcript.build import Request, gather
from auditbot.reader.transcript.formats import FORMATS, write
from auditbot.reader.verify.report import grouped
from common.account import account_name
from common.clock import SystemClock
from common.errors import UserError


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser."""
    command = commands.add_parser(
        "prove",
        help="prove one message",
        description="Write a zip file with one message, its edits and deletion, and the proof "
        "that it was archived; whoever gets it needs nothing but Python to check it.",
    )
    command.set_defaults(act=_prove)
    command.add_argument("event_id", metavar="EVENT_ID")
    _add_export_options(command)
    case = commands.add_parser("case", help="put messages together and hand them over")
    acts = case.add_subparsers(required=True, metavar="ACTION")
    command = acts.add_parser("create", help="begin a case")
    command.set_defaults(act=_create)
    command.add_argument("name")
    command.add_argument("--description", default="", help="what it is about")
    add_library_options(command)
    command = acts.add_parser("add", help="add messages by event ID, or all that a search finds")
    command.set_defaults(act=_add)
    command.add_argument("name")
    command.add_argument("event_ids", nargs="*", metavar="EVENT_ID")
    command.add_argument("--text", nargs="+", default=[], metavar="WORD", help="words to find")
    command.add_argument("--why", default="", help="why they belong to it")
    add_query_options(command)
    add_library_options(command)
    for name, act, what in (("list", _list, "list the cases"), ("show", _show, "show a case")):
        command = acts.add_parser(name, help=what)
        command.set_defaults(act=act)
        if name == "show":
            command.add_argument("name")
            add_zone_option(command)
        add_library_options(command)
    command = acts.add_parser("export", help="write the case as a zip file that proves itself")
    command.set_defaults(act=_export)
    command.add_argument("name")
    command.add_argument(
        "--format",
        action="append",
        choices=list(FORMATS),
        default=[],
        help="write the messages in this format too, beside the zip file; may be given again",
    )
    _add_export_options(command)


def _add_export_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, metavar="FILE", help="the zip file")
    add_force_option(command)
    command.add_argument(
        "--verify",
        choices=["all", "signatures", "no"],
        default="signatures",
        help="verify the archive first: everything, or all signatures (default)",
    )
    add_zone_option(command)
    add_library_options(command)


def cases_of(archive: Archive) -> Cases:
    """Return the cases of an archive."""
    return Cases(archive.cache / "cases")


def item_of(stored: Stored, now_ms: int, why: str) -> Item:
    """Return a record as an item of a case."""
    event_id = stored.record.get("event_id")
    return Item(
        stream=stored.stream,
        seq=stored.seq,
        event_id=str(event_id) if event_id else None,
        added_ms=now_ms,
        added_by=account_name(),
        why=why,
    )


async def _create(arguments: argparse.Namespace) -> int:
    # Without the index: a case is begun whoever is at work with that.
    async with open_archive(arguments) as archive:
        case = Case(
            name=arguments.name,
            archive=archive.destination,
            created_ms=SystemClock().now_ms(),
            created_by=account_name(),
            description=arguments.description,
        )
        log, cases = access_log(archive), cases_of(archive)
        try:
            cases.check_new(case.name)
        except UserError:
            log.refused(*asked(arguments), archive=archive.destination)
            raise
        log.write("case created", case=case.name)
        cases.create(case)
    sys.stdout.write(f"The case “{one_line(arguments.name)}” is open.\n")
    return 0


async def _add(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        cases = cases_of(opened.archive)
        case = cases.load(arguments.name)
        query = query_of(arguments)
        found = [_event(opened.library, event_id) for event_id in arguments.event_ids]
        if query != Query():
            for message in load(opened.library, search(opened.library, query)):
                found.extend(message.records[:1])
        elif not found:
            raise UserError("Name event IDs, or say what to search for.")
        now_ms = SystemClock().now_ms()
        grown = with_items(case, [item_of(stored, now_ms, arguments.why) for stored in found])
        opened.log.write(
            "case added",
            case=case.name,
            query=query.as_words(),
            events=len(arguments.event_ids),
            found=len(found),
        )
        cases.save(grown)
        is_sealed = tell_unsearched(opened, query)
    more = len(grown.items) - len(case.items)
    sys.stdout.write(
        f"{counted(more, 'message')} {'was' if more == 1 else 'were'} added; the case has {len(grown.items):,}.\n"
    )
    return 1 if is_sealed else 0


async def _list(arguments: argparse.Namespace) -> int:
    # Without the index, as above: how many messages a case has stands in its own file.
    async with open_archive(arguments) as archive:
        cases = cases_of(archive)
        access_log(archive).write("cases listed", archive=archive.destination)
        for name in cases.names():
            case = cases.load(name)
            sys.stdout.write(f"{one_line(name)}: {counted(len(case.items), 'message')}\n")
    return 0


async def _show(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        case = cases_of(opened.archive).load(arguments.name)
        opened.log.write("case shown", case=case.name)
        stored = [opened.library.at(item.stream, item.seq) for item in case.items]
        roots = roots_there(opened.library, [item for item in stored if item is not None])
        for line in table(load(opened.library, roots), arguments.zone):
            sys.stdout.write(f"{line}\n")
    return 0


def roots_there(library: Library, stored: list[Stored]) -> list[int]:
    """Return the messages that records belong to, each once."""
    rows = [
        library.connection.execute(
            "SELECT coalesce(root, -id) FROM record WHERE id = ?", (item.id,)
        ).fetchone()
        for item in stored
    ]
    return list(dict.fromkeys(int(row[0]) for row in rows if row))


async def _export(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        case = cases_of(opened.archive).load(arguments.name)
        output = arguments.output or Path(f"case-{safe(case.name)}.zip")
        return await _hand_over(opened, case, arguments, output, tuple(arguments.format))


async def _prove(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        opened.log.write("proof asked for", event_id=arguments.event_id)
        stored = _event(opened.library, arguments.event_id)
        now_ms = SystemClock().now_ms()
        case = Case(
            name=f"One message: {arguments.event_id}",
            archive=opened.archive.destination,
            created_ms=now_ms,
            created_by=account_name(),
            items=(item_of(stored, now_ms, ""),),
        )
        output = arguments.output or Path(f"proof-{safe(arguments.event_id)}.zip")
        return await _hand_over(opened, case, arguments, output)


async def _hand_over(
    opened: Open,
    case: Case,
    arguments: argparse.Namespace,
    output: Path,
    formats: tuple[str, ...] = (),
) -> int:
    # All of them before the work, so that there is no new half beside an old one.
    refuse_taken(output, arguments)
    for form in formats:
        refuse(form, _beside(output, form), arguments)
    judged = await verified(opened, arguments.verify)
    request = requested(arguments, opened, judged, None, ALWAYS, case=case.name)
    # Before it is there, and again when it is known what it holds.
    opened.log.write("handing over", case=case.name, output=str(output))
    done = await hand_over(opened.library, opened.archive.place, case, request, output)
    opened.log.write(
        "handed over", case=case.name, records=done.records, sha256=done.sha256, output=str(output)
    )
    sys.stdout.write(told(done))
    if formats:
        await _write_too(opened, case, request, output, formats)
    return 1 if done.standing == "wrong" or opened.faults else 0


async def _write_too(
    opened: Open, case: Case, request: Request, output: Path, formats: tuple[str, ...]
) -> None:
    """Write a case's messages in further formats, beside the zip file."""
    messages = load(opened.library, roots_of(opened.library, case))
    transcript = await gather(opened.library, opened.archive.place, request, messages, set())
    for form in dict.fromkeys(formats):
        beside = _beside(output, form)
        opened.log.write("case exported", case=case.name, format=form, output=str(beside))
        remarks = write(transcript, form, beside)
        sys.stdout.write(f"{beside}: the same messages, as {form}.\n")
        sys.stdout.writelines(f"    to know: {one_line(sentence)}\n" for sentence in remarks)


def _beside(output: Path, form: str) -> Path:
    return output.with_name(f"{output.stem}.{form}")


def told(done: HandedOver) -> str:
    """Return what is said of a hand-over that was written."""
    missing = "".join(f"    missing: {one_line(sentence)}\n" for sentence in done.missing)
    return (
        f"{done.path}: {counted(done.messages, 'message')}, {counted(done.records, 'record')} with "
        f"{'its proof' if done.records == 1 else 'their proofs'}, "
        f"{counted(done.attachments, 'attachment')}. {one_line(done.verdict)}\n{missing}"
        f"    SHA-256 {done.sha256}\n"
        f"    signing key {grouped(done.fingerprint)}\n"
        f"    files.json  {done.files_sha256}\n"
        "Tell the receiver these by another way than you send the file. They check it with:\n"
        f'    python3 -I verify.py --key "{grouped(done.fingerprint)}" --files {done.files_sha256}\n'
    )


def _event(library: Library, event_id: str) -> Stored:
    found = library.event(event_id)
    if found is None:
        raise UserError(f"The event “{event_id}” is not in the archive.")
    return found


def safe(name: str) -> str:
    """Return a part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-")[:60] or "x"
