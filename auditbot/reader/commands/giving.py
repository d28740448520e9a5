"""``steward audit subject``: all that is archived of a person, for that person."""

import argparse
import sys
from pathlib import Path

from auditbot.reader.commands.handing_over import safe, told
from auditbot.reader.commands.library import add_library_options, open_library
from auditbot.reader.commands.options import add_period_options, add_zone_option, period_of
from auditbot.reader.commands.outputs import add_force_option, refuse_taken
from auditbot.reader.commands.transcripts import requested, verified
from auditbot.reader.handover.person import find_person, give
from auditbot.reader.times import counted


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "subject",
        help="give a person all that is archived of them",
        description="Write a zip file with all that a person wrote and did, the attachments they "
        "sent, the rooms they were in and when, and what is missing; readable without Steward, "
        "with the proofs of every record.",
    )
    command.set_defaults(act=_subject)
    command.add_argument("person", metavar="PERSON", help="an ID, or a part of a name")
    add_period_options(command, "received or sent")
    add_zone_option(command)
    command.add_argument(
        "--with-conversations",
        action="store_true",
        help="also what others said that the person could read",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="the zip file")
    add_force_option(command)
    command.add_argument(
        "--verify",
        choices=["all", "signatures", "no"],
        default="signatures",
        help="verify the archive first: everything, or all signatures (default)",
    )
    add_library_options(command)


async def _subject(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        subject = find_person(opened.library, arguments.person)
        output = arguments.output or Path(f"subject-{safe(subject.known.name)}.zip")
        refuse_taken(output, arguments)
        judged = await verified(opened, arguments.verify)
        request = requested(arguments, opened, judged, subject, period_of(arguments))
        # Before it is there, and again when it is known what it holds.
        opened.log.write(
            "subject access",
            archive=opened.archive.destination,
            subject=subject.name,
            start_ms=request.period.start_ms,
            end_ms=request.period.end_ms,
            conversations=arguments.with_conversations,
            output=str(output),
        )
        given = await give(
            opened.library,
            opened.archive.place,
            request,
            output,
            with_conversations=arguments.with_conversations,
        )
        done = given.package
        opened.log.write(
            "subject given",
            subject=subject.name,
            records=done.records,
            sha256=done.sha256,
            output=str(output),
        )
    others = f", {counted(given.others, 'message')} of others" if given.others else ""
    sys.stdout.write(
        f"{subject.name}: {counted(given.rooms, 'room')}{others}. Begin with index.html.\n"
    )
    sys.stdout.write(told(done))
    return 1 if done.standing == "wrong" or opened.faults else 0
