"""What people can ask for: one function a command, grouped by subject.

A new subject is a new module in here and nothing else: every module is looked through. What
stands first is shown first.
"""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from adminbot.engine.catalogue import Catalogue, collect
from adminbot.engine.outcome import Tell
from adminbot.engine.outcome import reports as all_named  # “reports” is a module in here
from adminbot.engine.supply import check

_FIRST = ("help", "general", "jobs", "requests")


def _modules() -> tuple[ModuleType, ...]:
    names = sorted(found.name for found in pkgutil.iter_modules(__path__))
    ordered = [*_FIRST, *(name for name in names if name not in _FIRST)]
    return tuple(import_module(f"{__name__}.{name}") for name in ordered)


MODULES = _modules()


def catalogue() -> Catalogue:
    """Return every command there is."""
    found = collect(MODULES)
    check(found)
    return found


def all_reports() -> Mapping[str, Tell]:
    """Return how commands tell what became of their plans, by name."""
    return all_named(MODULES)
