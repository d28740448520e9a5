"""What people can ask for: one function a command, grouped by subject.

A new subject is a new module here and one more name in ``MODULES``; a test proves that none is
forgotten.
"""

from adminbot.commands import help as help_commands
from adminbot.commands import rooms, users
from adminbot.engine.catalogue import Catalogue, collect
from adminbot.engine.supply import check

MODULES = (help_commands, users, rooms)


def catalogue() -> Catalogue:
    """Return every command there is."""
    found = collect(MODULES)
    check(found)
    return found
