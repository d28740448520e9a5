"""Files that commands write: none takes the place of another without being told to."""

import argparse
import os
from pathlib import Path

from common.errors import UserError


def add_force_option(command: argparse.ArgumentParser) -> None:
    """Add that a file which is there may be written over."""
    command.add_argument(
        "--force", action="store_true", help="write over a file that is there already"
    )


def refuse_taken(path: Path, arguments: argparse.Namespace) -> None:
    """Make sure that nothing is written over a file, which may be evidence.

    Raises:
        UserError: there is one, and nobody said that it may go.
    """
    # A broken link is there, too.
    if not arguments.force and os.path.lexists(path):
        raise UserError(
            f"“{path}” is there already, and nothing was written over it: take another name with "
            "--output, or add --force if it may go."
        )
