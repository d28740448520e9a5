"""All commands there are, and which one a line means."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

from adminbot.engine.command import Command
from adminbot.engine.line import Line, LineError
from adminbot.engine.text import listed, nearest
from common.i18n import t

HELP = "help"


@dataclass(frozen=True)
class Catalogue:
    """Commands by name, in the order they are shown."""

    commands: tuple[Command, ...]

    def __iter__(self) -> Iterator[Command]:
        return iter(self.commands)

    @property
    def first_words(self) -> frozenset[str]:
        """What a line of ours begins with."""
        return frozenset(command.words[0] for command in self.commands)

    def named(self, name: str) -> Command | None:
        """Return a command by its whole name."""
        return next((one for one in self.commands if one.name == name), None)

    def group(self, first: str) -> tuple[Command, ...]:
        """Return the commands whose name begins with a word."""
        return tuple(one for one in self.commands if one.words[0] == first)

    def only(self, keep: Callable[[Command], bool]) -> "Catalogue":
        """Return the part that somebody may use."""
        return Catalogue(tuple(command for command in self.commands if keep(command)))

    def find(self, line: Line) -> tuple[Command, Line]:
        """Return the command that a line begins with, and the words after its name."""
        typed = [word.text.lower() for word in line.words]
        best = max(
            (one for one in self.commands if tuple(typed[: len(one.words)]) == one.words),
            key=lambda one: len(one.words),
            default=None,
        )
        if best is not None:
            return best, line.after(len(best.words))
        raise self._unknown(line, typed)

    def nearest(self, text: str) -> tuple[Command, ...]:
        """Return the commands that a mistyped text most likely means."""
        by_name = {command.name: command for command in self.commands}
        return tuple(by_name[name] for name in nearest(text, by_name))

    def _unknown(self, line: Line, typed: list[str]) -> "UnknownCommandError":
        word = line.words[0]
        group = self.group(typed[0])
        if group:
            seconds = listed(sorted({one.words[1] for one in group if len(one.words) > 1}))
            if len(typed) == 1:
                sentence = t(
                    "“{word}” needs a second word: {seconds}.", word=typed[0], seconds=seconds
                )
                return UnknownCommandError(sentence, line.text, word.end, word.end, group)
            second = line.words[1]
            likely = self.nearest(" ".join(typed[:2])) or group
            sentence = t(
                "“{word}” goes on with {seconds}, not with “{other}”.",
                word=typed[0],
                seconds=seconds,
                other=second.text,
            )
            return UnknownCommandError(sentence, line.text, second.start, second.end, likely)
        likely = self.nearest(" ".join(typed[:2])) or self.nearest(typed[0])
        if not likely:
            firsts = nearest(typed[0], self.first_words, limit=1)
            likely = self.group(firsts[0]) if firsts else ()
        sentence = t("There is no command “{word}”.", word=word.text)
        return UnknownCommandError(sentence, line.text, word.start, word.end, likely)


class UnknownCommandError(LineError):
    """No command begins like this; ``likely`` are those that may have been meant."""

    def __init__(
        self, sentence: str, text: str, start: int, end: int, likely: tuple[Command, ...]
    ) -> None:
        super().__init__(sentence, text, start, end)
        self.likely = likely


def collect(modules: Iterable[ModuleType]) -> Catalogue:
    """Return every command of some modules; refuse two of the same name."""
    commands: dict[str, Command] = {}
    for module in modules:
        for value in vars(module).values():
            if not isinstance(value, Command):
                continue
            if value.name in commands and commands[value.name] is not value:
                raise TypeError(f"There are two commands called “{value.name}”")
            commands[value.name] = value
    return Catalogue(tuple(commands.values()))
