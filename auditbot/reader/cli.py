"""``steward audit``: what compliance officers type."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from auditbot.reader.commands import (
    accessing,
    approving,
    attaching,
    compacting,
    cosigning,
    drilling,
    giving,
    handing_over,
    reading,
    rechecking,
    reporting,
    sampling,
    searching,
    serving,
    transcripts,
    verifying,
)
from auditbot.reader.commands.options import Act, period_of
from auditbot.reader.index.database import UnusableIndexError
from auditbot.reader.render.words import shown_line
from common.errors import UserError

_UNUSABLE = 2
_SUBJECTS = (
    verifying,
    cosigning,
    approving,
    searching,
    transcripts,
    handing_over,
    attaching,
    giving,
    serving,
    reporting,
    sampling,
    drilling,
    compacting,
    rechecking,
    accessing,
    reading,
)


def main(argv: Sequence[str]) -> int:
    """Run ``steward audit`` with these arguments; return the exit status.

    It is 2 if the index on this machine could not be used, of which a sentence says why.

    Raises:
        ConfigError: it is not clear which archive is meant.
        StewardError: the archive cannot be read; ``steward`` itself says so.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if hasattr(arguments, "start"):
        try:
            period_of(arguments)
        except UserError as error:
            parser.error(str(error))
    arguments.typed = tuple(argv)
    act: Act = arguments.act
    try:
        return asyncio.run(act(arguments))
    except UnusableIndexError as error:
        sys.stderr.write(f"steward: {shown_line(error)}\n")
    return _UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steward audit", description="Read the archive that auditbot keeps."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subject in _SUBJECTS:
        subject.add(commands)
    return parser
