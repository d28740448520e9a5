"""What ``steward doctor`` finds out, and how a package adds checks of its own.

A package names an async function under the entry point group ``steward.checks``; it is called
when the bot of the same name is enabled.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import cast

from common.config.schema import Config

GROUP = "steward.checks"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    ``ok`` is None where nothing is broken but something should be known; ``mend`` says what to
    do, without a full stop where it ends in something to copy.
    """

    ok: bool | None
    what: str
    mend: str = ""


Check = Callable[[Config], Awaitable[list[Finding]]]


def installed_checks() -> dict[str, Check]:
    """Return the checks that packaging entry points name, by the bot they belong to."""
    return {point.name: cast(Check, point.load()) for point in entry_points(group=GROUP)}


def fine(what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(ok=True, what=what)


def noted(what: str, mend: str = "") -> Finding:
    """Return something that should be known."""
    return Finding(ok=None, what=what, mend=mend)


def broken(what: str, mend: str = "") -> Finding:
    """Return something that must be mended."""
    return Finding(ok=False, what=what, mend=mend)
