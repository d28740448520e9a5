"""``steward audit``: what compliance officers type."""

import argparse
import asyncio
from collections.abc import Sequence

from auditbot.reader.commands import (
    accessing,
    compacting,
    drilling,
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
from auditbot.reader.commands.options import Act

_SUBJECTS = (
    verifying,
    searching,
    transcripts,
    handing_over,
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

    Raises:
        ConfigError: it is not clear which archive is meant.
        StewardError: the archive cannot be read; ``steward`` itself says so.
    """
    arguments = _parser().parse_args(argv)
    act: Act = arguments.act
    return asyncio.run(act(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steward audit", description="Read the archive that auditbot keeps."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subject in _SUBJECTS:
        subject.add(commands)
    return parser
