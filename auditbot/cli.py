"""``steward audit``: reading, which needs no Steward, and what is done to the archive, which does."""

import sys
from collections.abc import Sequence

from auditbot.operations.cli import MEANINGS
from auditbot.operations.cli import main as operate
from auditbot.reader.cli import main as read

_HELP = {"-h", "--help"}


def main(argv: Sequence[str]) -> int:
    """Run ``steward audit`` with these arguments; return the exit status."""
    if argv and argv[0] in MEANINGS:
        return operate(argv)
    try:
        return read(argv)
    finally:
        if argv and argv[0] in _HELP:
            sys.stdout.write(_more())


def _more() -> str:
    lines = [f"    {name:<20}{meaning}" for name, meaning in MEANINGS.items()]
    return "\n".join(["\noperations, on the machine that Steward runs on:", *lines, ""])
