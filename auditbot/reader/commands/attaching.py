"""``steward audit attachment``: save one attachment; the only way to one in which a scanner found something."""

import argparse
import hashlib
import sys
from pathlib import Path

from auditbot.reader.commands.handing_over import roots_there
from auditbot.reader.commands.library import add_library_options, open_library
from auditbot.reader.commands.options import add_zone_option
from auditbot.reader.commands.outputs import add_force_option, refuse_taken
from auditbot.reader.conversation import load
from auditbot.reader.media import fetch_file
from auditbot.reader.memory import write_private
from auditbot.reader.render.words import media_state
from common.errors import UserError


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "attachment",
        help="save the attachment of one message",
        description="Write the attachment of a message to a file that only you may read.",
    )
    command.set_defaults(act=_save)
    command.add_argument("event_id", metavar="EVENT_ID")
    command.add_argument(
        "--output", type=Path, metavar="FILE", required=True, help="the file to write"
    )
    command.add_argument(
        "--infected",
        action="store_true",
        help="also if a malware scanner found something in it: handle the file with care",
    )
    add_force_option(command)
    add_zone_option(command)
    add_library_options(command)


async def _save(arguments: argparse.Namespace) -> int:
    refuse_taken(arguments.output, arguments)
    async with open_library(arguments) as opened:
        stored = opened.library.event(arguments.event_id)
        messages = load(opened.library, roots_there(opened.library, [stored] if stored else []))
        media = media_state(messages[0]) if messages else None
        opened.log.write(
            "attachment saved",
            event_id=arguments.event_id,
            infected=arguments.infected,
            output=str(arguments.output),
        )
        if media is None:
            raise UserError(f"No message “{arguments.event_id}” with an attachment is archived.")
        if media["kept_key"] is None:
            raise UserError(f"The attachment “{media['name']}” is not here: {media['words']}.")
        path = await fetch_file(
            opened.archive.place,
            opened.library,
            media["kept_key"],
            with_infected=arguments.infected,
        )
        body = path.read_bytes()
        write_private(arguments.output, body)
    sys.stdout.write(
        f"{arguments.output}: {len(body):,} bytes, {media['words']}.\n"
        f"    SHA-256 {hashlib.sha256(body).hexdigest()}\n"
    )
    return 0
