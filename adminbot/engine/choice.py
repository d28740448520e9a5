"""What is missing in a command, asked for by numbers: the number that is typed, the line it makes.

The promise: a line that is completed holds the words that were typed and the chosen one, and
nothing else; where that cannot be, nothing is offered.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adminbot.engine.answer import Answer, Block, Mono, Span, facts, say
from adminbot.engine.bind import UsageError
from adminbot.engine.command import Parameter
from adminbot.engine.line import LineError, parse_line, quote
from common.config.secret import Secret
from common.i18n import n, t

MOST_CHOICES = 20
"""More than that is no choice but a list to search."""
LIFETIME_MS = 60_000
REMEMBERED_MS = 600_000
"""How long it is known that there was a question, so that who is late is told."""

_NUMBER = re.compile(r"\s*([0-9]{1,3})\s*[.)]?\s*")


@dataclass(frozen=True)
class Choice:
    """One of some values: the word that stands for it on a line, and how it is shown."""

    word: str
    shown: Span
    more: Span = ""


@dataclass(frozen=True)
class Open:
    """A question that waits for a number; ``lines`` are the commands it may become."""

    lines: tuple[str, ...]
    over: bool = False

    def chosen(self, number: int) -> str | None:
        """Return the command that a number makes, ``None`` if there is no such choice."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else None


def number_in(text: str) -> int | None:
    """Return the number that a message is, and nothing else, as “2” or “2.”."""
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match else None


def completed(text: str, formatted: str | None, parameter: Parameter, word: str) -> str | None:
    """Return a line with a missing argument added, ``None`` where it would say something else."""
    added = [parameter.spelling, word] if parameter.option else [word]
    whole = " ".join([text, *([parameter.spelling] if parameter.option else []), quote(word)])
    try:
        before = [one.text for one in parse_line(text, formatted).words]
        after = [one.text for one in parse_line(whole, formatted).words]
    except LineError:
        return None
    return whole if after == [*before, *added] else None


def implied(parameter: Parameter) -> tuple[Choice, ...]:
    """Return what an argument may be, where its kind says so."""
    return tuple(Choice(word, Mono(word)) for word in parameter.kind.choices)


def holds_a_secret(error: UsageError) -> bool:
    """Say whether what was given already must not be kept."""
    return any(isinstance(value, Secret) for value in error.found.values())


def asking(error: UsageError, choices: Sequence[Choice], *, prefix: str = "") -> Answer:
    """Return the question for a missing argument."""
    blocks: list[Block] = [
        say(str(error)),
        facts((str(number), _row(one)) for number, one in enumerate(choices, 1)),
        say(
            n(
                "Write {number} within a minute to take it.",
                "Write a number from 1 to {count} within a minute.",
                len(choices),
                number=Mono(f"{prefix}1"),
            )
        ),
        say(t("It goes: {usage}", usage=Mono(error.command.usage))),
    ]
    return Answer(tuple(blocks))


def unknown_number(number: int, waiting: Open) -> str:
    """Return what is said of a number that is no choice, or that comes too late."""
    if waiting.over:
        return t("That question is over; give the command again.")
    return n(
        "There is no choice {number}; there is only 1.",
        "There is no choice {number}; write a number from 1 to {count}.",
        len(waiting.lines),
        number=number,
    )


def _row(one: Choice) -> tuple[Span, ...]:
    return (one.shown, " – ", one.more) if one.more else (one.shown,)
