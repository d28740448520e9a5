"""What a line turned out to be, before anything is run."""

from dataclasses import dataclass

from adminbot.engine.actor import Caller
from adminbot.engine.authorize import Refusal
from adminbot.engine.bind import Bound
from adminbot.engine.line import LineError
from adminbot.engine.supply import Available
from common.homeserver.port import Grant


@dataclass(frozen=True)
class Ready:
    """A command that may be run, by whom, and with what."""

    bound: Bound
    caller: Caller
    grant: Grant
    available: Available


@dataclass(frozen=True)
class Refused:
    """A command that may not be run; ``command`` is its name and arguments without secrets."""

    command: str
    refusal: Refusal


@dataclass(frozen=True)
class Mistyped:
    """A line that cannot be read as a command; ``private``: only who wrote it reads along."""

    error: LineError
    private: bool
