"""What a command may be handed, besides the reading half of the administration API."""

from dataclasses import dataclass
from typing import Protocol

from adminbot.engine.actor import Caller
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command
from common.homeserver.port import AdminReader


@dataclass(frozen=True)
class HealthReport:
    """How Steward is doing; counts of this moment."""

    version: str
    up_seconds: float
    commands_waiting: int
    commands_unreadable: int
    entries_set_aside: int
    database: str


class Health(Protocol):
    """Where ``status`` looks."""

    async def report(self) -> HealthReport:
        """Return the figures of this moment."""
        ...


@dataclass(frozen=True)
class Available:
    """The commands that the caller may run here, and all there are."""

    here: Catalogue
    all: Catalogue


SUPPLIES: frozenset[type] = frozenset({AdminReader, Caller, Available, Health})
"""Every type of supply there is. Nothing here can change anything."""


def check(catalogue: Catalogue) -> None:
    """Refuse a catalogue in which a command wants to be handed anything else."""
    for command in catalogue:
        _check(command)


def _check(command: Command) -> None:
    for name, type_ in command.supplies.items():
        if type_ not in SUPPLIES:
            raise TypeError(f"{command.name}: “{name}” can be neither argument nor supply")
