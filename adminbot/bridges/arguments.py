"""Putting arguments into the words for a bridge's bot, so that they stay arguments.

What a person types for a channel or a contact is hostile: it must not end the line, begin
another command or be taken for an option.
"""

import re
from collections.abc import Mapping

from adminbot.bridges.kind import Command, Kind, Step
from common.errors import UserError
from common.i18n import t

LONGEST = 255
_HOLE = re.compile(r"\{([a-z_]+)(?:(\?)|=([a-z-]+))?\}")
_NUMBER = re.compile(r"-\d{1,20}", re.ASCII)


def holes(step: Step) -> dict[str, bool]:
    """Return the arguments of a step's words, and whether each must be given."""
    return {name: not (optional or instead) for name, optional, instead in _HOLE.findall(step.say)}


def needed(command: Command) -> dict[str, bool]:
    """Return the arguments of all of a command's steps, and whether each must be given."""
    found: dict[str, bool] = {}
    for step in command.steps:
        for name, required in holes(step).items():
            found[name] = required or found.get(name, False)
    return found


def says_which_room(command: Command) -> bool:
    """Say whether a bridge learns by the words, where or by whom they are typed which room is meant.

    Heisenbridge is told the channel alone, by adminbot, for whom all the channels are: whoever
    governs any room would end every other room's connection.
    """
    in_room = all(step.where == "room" for step in command.steps)
    return in_room or command.by == "person" or "room" in needed(command)


def spoken(kind: Kind, step: Step, arguments: Mapping[str, str]) -> str:
    """Return what is typed for a step, prefix included.

    Raises:
        UserError: an argument is missing, or could mean something else than an argument.
    """

    def filled(hole: "re.Match[str]") -> str:
        name, optional = hole[1], bool(hole[2])
        shown = name.replace("_", " ")
        value = arguments.get(name, "") or (hole[3] or "")
        if not value and not optional:
            raise UserError(t("{kind} needs to be told the {name}.", kind=kind.name, name=shown))
        return checked(kind, name, value) if value else ""

    words = " ".join(_HOLE.sub(filled, step.say).split())
    return words if kind.prefix is None else f"{kind.prefix} {words}"


def checked(kind: Kind, name: str, value: str) -> str:
    """Return an argument as it may be typed; ``UserError`` if it must not be."""
    shown = name.replace("_", " ")
    if len(value) > LONGEST:
        raise UserError(
            t("The {name} is longer than {most} characters.", name=shown, most=LONGEST)
        )
    if not value.isprintable() or any(sign.isspace() for sign in value):
        raise UserError(
            t("The {name} must be one word without spaces or line breaks.", name=shown)
        )
    if value.startswith("-") and not _NUMBER.fullmatch(value):
        raise UserError(
            t(
                "The {name} cannot begin with “-”: {kind} would take it for an option.",
                name=shown,
                kind=kind.name,
            )
        )
    if bad := next((sign for sign in value if sign in kind.forbidden), None):
        raise UserError(
            t(
                "The {name} cannot hold “{sign}”: {kind} would read another command.",
                name=shown,
                sign=bad,
                kind=kind.name,
            )
        )
    return value
