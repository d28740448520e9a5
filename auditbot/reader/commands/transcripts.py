"""``steward audit transcript``: a conversation as a document that stands by itself."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from auditbot.reader.commands.library import Open, add_library_options, known_keys, open_library
from auditbot.reader.commands.options import (
    add_period_options,
    add_zone_option,
    hours,
    period_of,
)
from auditbot.reader.commands.outputs import add_force_option, refuse_taken
from auditbot.reader.read import Period
from auditbot.reader.render.words import one_line
from auditbot.reader.times import counted
from auditbot.reader.transcript.build import Request, build
from auditbot.reader.transcript.folder import refuse_used
from auditbot.reader.transcript.formats import FORMATS, write
from auditbot.reader.transcript.subject import Subject, find_subject
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import overall, verdicts
from auditbot.reader.verify.run import verify
from common.account import account_name
from common.clock import SystemClock

NOT_VERIFIED = "Not verified as a whole; the records shown were."


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "transcript",
        help="make a document of a conversation",
        description="Write all of a room, or all that a person wrote, as a document: originals, "
        "edits, deletions, reactions, attachments, who could read it, and where it comes from.",
    )
    command.set_defaults(act=_transcript)
    command.add_argument("subject", metavar="ROOM|PERSON", help="an ID, or a part of a name")
    add_period_options(command, "received or sent")
    add_zone_option(command)
    command.add_argument(
        "--format",
        choices=list(FORMATS),
        default="html",
        help="default html; eml and rsmf write a folder with a file for each room and day, dat one "
        "with a load file for review platforms",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="where to write it")
    add_force_option(command)
    command.add_argument("--case", default="", metavar="NAME", help="the case's name, to print")
    command.add_argument(
        "--context",
        type=hours,
        default=0,
        metavar="HOURS",
        help="of a person's rooms, show so much before and after each message",
    )
    command.add_argument(
        "--verify",
        choices=["all", "signatures", "no"],
        default="signatures",
        help="verify the archive first: everything, or all signatures (default)",
    )
    add_library_options(command)


async def _transcript(arguments: argparse.Namespace) -> int:
    output = arguments.output or Path(f"transcript.{arguments.format}")
    # Before all the work, not only after it.
    refuse(arguments.format, output, arguments)
    async with open_library(arguments) as opened:
        subject = find_subject(opened.library, arguments.subject)
        judged = await verified(opened, arguments.verify)
        request = requested(
            arguments,
            opened,
            judged,
            subject,
            period_of(arguments),
            context_hours=arguments.context,
            case=arguments.case,
        )
        place = None if arguments.no_sync else opened.archive.place
        transcript = await build(opened.library, place, request)
        opened.log.write(
            "transcript",
            archive=opened.archive.destination,
            subject=subject.name,
            start_ms=request.period.start_ms,
            end_ms=request.period.end_ms,
            found=len(transcript.messages),
            output=str(output),
        )
        remarks = write(transcript, arguments.format, output)
    facts, found = transcript.facts, transcript.request
    sys.stderr.write(
        f"{output}: {counted(facts['messages'], 'message')} of {facts['title']}. {one_line(found.verdict)}\n"
        + "".join(f"    missing: {one_line(sentence)}\n" for sentence in facts["missing"])
        + "".join(f"    to know: {one_line(sentence)}\n" for sentence in remarks)
    )
    return 1 if found.standing == "wrong" or opened.faults else 0


def refuse(form: str, output: Path, arguments: argparse.Namespace) -> None:
    """Make sure that a transcript can be written there.

    Raises:
        UserError: a folder with files is where one is to be made, or a file is there.
    """
    if form in FORMATS and FORMATS[form].is_folder:
        refuse_used(output)
    else:
        refuse_taken(output, arguments)


@dataclass(frozen=True, slots=True)
class Judged:
    """How the archive was found, of however many servers it is.

    Args:
        words: in a sentence
        standing: in a word: ``wrong``, ``partly``, ``right``, or ``unknown``
        fingerprints: the keys that are trusted
    """

    words: str
    standing: str
    fingerprints: tuple[str, ...]

    @property
    def is_wrong(self) -> bool:
        """Return whether anything is wrong."""
        return self.standing == "wrong"


async def verified(opened: Open, how: str) -> Judged:
    """Verify the archive as far as wanted; return how it was found."""
    return summed(opened, await results_of(opened, how))


def requested(
    arguments: argparse.Namespace,
    opened: Open,
    judged: Judged,
    subject: Subject | None,
    period: Period,
    *,
    context_hours: float = 0,
    case: str = "",
) -> Request:
    """Return what a document is asked for, with how the archive was found."""
    return Request(
        archive=opened.archive.destination,
        subject=subject,
        period=period,
        zone=arguments.zone,
        zone_name=str(arguments.zone),
        made_ms=SystemClock().now_ms(),
        made_by=account_name(),
        verdict=judged.words,
        standing=judged.standing,
        fingerprints=judged.fingerprints,
        faults=opened.faults,
        context_hours=context_hours,
        case=case,
    )


async def results_of(opened: Open, how: str) -> list[Verified] | None:
    """Verify the archive as far as wanted, ``None`` if not at all."""
    archive = opened.archive
    if how == "no" or opened.synced is None:
        return None
    options = Options(
        now_ms=SystemClock().now_ms(),
        destination=archive.destination,
        sample=None if how == "all" else 0,
        fingerprints=opened.fingerprints,
        identities=archive.identities,
    )
    results = await verify(archive.place, options, archive.memory)
    for result in results:
        result.indexed = not opened.faults
    return results


def summed(opened: Open, results: list[Verified] | None) -> Judged:
    """Return how the archive was found."""
    if results is None:
        keys = (
            tuple(key for keys in opened.synced.fingerprints.values() for key in keys)
            if opened.synced
            else known_keys(opened.archive, opened.fingerprints)
        )
        return Judged(NOT_VERIFIED, "unknown", keys)
    keys = tuple(key for result in results for key in result.fingerprints)
    return Judged(verdicts(results) or NOT_VERIFIED, overall(results), keys)
