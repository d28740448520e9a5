"""What a check says: findings, each with what to mend."""

from dataclasses import dataclass
from enum import IntEnum

from common.i18n import Msg


class Level(IntEnum):
    """How bad it is."""

    GOOD = 0
    NOTE = 1
    """Something is missing that some would like."""
    WARNING = 2
    """It works, but not for everybody or not for long."""
    PROBLEM = 3
    """It does not work."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``mend`` is what to do, if anything is to be done."""

    level: Level
    about: Msg
    said: Msg
    mend: Msg | None = None


@dataclass(frozen=True)
class Report:
    """All findings about a server, in the order in which they were looked at."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Level:
        """The worst of them."""
        return max((one.level for one in self.findings), default=Level.GOOD)


@dataclass(frozen=True)
class Contact:
    """Whom to write to; hostile. ``role`` is e.g. “m.role.admin” or “m.role.security”."""

    role: str
    matrix_id: str | None = None
    email: str | None = None


@dataclass(frozen=True)
class Support:
    """The support file of a server (specification: "Well-known URIs", MSC1929); hostile."""

    contacts: tuple[Contact, ...] = ()
    page: str | None = None
