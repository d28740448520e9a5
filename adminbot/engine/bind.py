"""The words after a command's name become its typed arguments, or a sentence what is wrong.

The promise: any words give arguments, the wish for help, or a ``UsageError``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType

from adminbot.engine.command import Command, Parameter
from adminbot.engine.line import Line, LineError, Word, quote
from adminbot.engine.text import nearest
from adminbot.engine.values import RoomAddress, Setting, looks_like_room, typed_span
from common.errors import UserError
from common.i18n import t
from common.ids import RoomId

FALSE = {"no", "false", "off"}
_ROOMS = {"room", "address"}


@dataclass(frozen=True)
class Bound:
    """A command with its arguments; rooms given by address are still to be looked up."""

    command: Command
    arguments: Mapping[str, object]
    dry_run: bool = False

    @property
    def addresses(self) -> dict[str, RoomAddress]:
        """Arguments that are rooms' addresses; those among several are named by the address."""
        found: dict[str, RoomAddress] = {}
        for name, value in self.arguments.items():
            if isinstance(value, RoomAddress):
                found[name] = value
            elif isinstance(value, tuple):
                found |= {each.alias: each for each in value if isinstance(each, RoomAddress)}
        return found

    @property
    def room(self) -> RoomId | None:
        """The room that the command is about."""
        parameter = self.command.about_a_room
        value = self.arguments.get(parameter.name) if parameter else None
        return RoomId(value) if isinstance(value, str) else None

    def with_rooms(self, found: Mapping[str, RoomId]) -> "Bound":
        """Return the same with addresses replaced by the rooms they name."""
        arguments: dict[str, object] = {}
        for name, value in self.arguments.items():
            if isinstance(value, tuple):
                arguments[name] = tuple(
                    found.get(each.alias, each) if isinstance(each, RoomAddress) else each
                    for each in value
                )
            else:
                arguments[name] = found.get(name, value)
        return replace(self, arguments=arguments)


@dataclass(frozen=True)
class HelpAsked:
    """``--help`` stood somewhere on the line."""

    command: Command


class UsageError(LineError):
    """The command is known, its words are not right.

    ``missing`` is the argument that is not there where that is all that is wrong, ``found``
    those that are.
    """

    missing: Parameter | None = None
    found: Mapping[str, object] = MappingProxyType({})

    def __init__(
        self, sentence: str, command: Command, text: str = "", start: int = 0, end: int = 0
    ) -> None:
        super().__init__(sentence, text, start, end)
        self.command = command


def bind(command: Command, line: Line, setting: Setting) -> Bound | HelpAsked:
    """Read the words after the command's name."""
    reading = _Reading(command, line, setting)
    if reading.help_asked():
        return HelpAsked(command)
    reading.read_words()
    return Bound(command, reading.complete(), dry_run=reading.dry_run)


def without_secrets(bound: Bound) -> str:
    """Return the command as it may be written down: resolved, secrets replaced."""
    parts = [bound.command.name]
    for parameter in bound.command.parameters:
        value = bound.arguments[parameter.name]
        if value == parameter.default or (value is None):
            continue
        parts.extend(_written(parameter, value))
    return " ".join(parts)


def _written(parameter: Parameter, value: object) -> list[str]:
    if parameter.kind.secret:
        shown = "(secret)"
    elif parameter.flag:
        return [parameter.spelling] if value != parameter.default else []
    else:
        values = value if isinstance(value, tuple) else (value,)
        shown = " ".join(quote(_text(one)) for one in values)
    return [parameter.spelling, shown] if parameter.option else [shown]


def _text(value: object) -> str:
    if isinstance(value, timedelta):
        return typed_span(value)
    return value.alias if isinstance(value, RoomAddress) else str(value)


@dataclass
class _Reading:
    """The state of reading one line from left to right."""

    command: Command
    line: Line
    setting: Setting
    found: dict[str, object] = field(default_factory=dict)
    at: int = 0
    options_ended: bool = False
    dry_run: bool = False

    def help_asked(self) -> bool:
        """Say whether ``--help`` stands anywhere; then nothing else on the line matters."""
        return any(word.text == "--help" and not word.quoted for word in self.line.words)

    def read_words(self) -> None:
        """Read every word from left to right."""
        while self.at < len(self.line.words):
            word = self.line.words[self.at]
            self.at += 1
            if self._is_option(word):
                if word.text == "--":
                    self.options_ended = True
                elif word.text == "--dry-run" and self.command.changes_things:
                    self.dry_run = True
                else:
                    self._option(word)
            else:
                self._positional(word)

    def complete(self) -> dict[str, object]:
        """Return all arguments, defaults included."""
        arguments: dict[str, object] = {}
        for parameter in self.command.parameters:
            if parameter.name in self.found:
                arguments[parameter.name] = self.found[parameter.name]
            elif parameter.room and not parameter.option and self.setting.room is not None:
                arguments[parameter.name] = self.setting.room
            elif parameter.required:
                raise self._missing(parameter)
            else:
                arguments[parameter.name] = parameter.default
        return arguments

    def _is_option(self, word: Word) -> bool:
        return not self.options_ended and not word.quoted and word.text.startswith("--")

    def _option(self, word: Word) -> None:
        name, equals, value = word.text[2:].partition("=")
        parameter, negated = self._named(name, word)
        if parameter.name in self.found:
            raise self._error(t("{option} is given twice.", option=parameter.spelling), word)
        if parameter.flag:
            wanted = not equals or value.lower() not in FALSE
            text = "yes" if wanted != negated else "no"
            if equals:
                self._read(parameter, value, word)
            self.found[parameter.name] = self._read(parameter, text, word)
            return
        if not equals:
            if self.at >= len(self.line.words):
                raise self._error(t("--{name} needs a value after it.", name=name), word)
            word = self.line.words[self.at]
            value = word.text
            self.at += 1
        if parameter.kind.rooms:
            value = " ".join((value, *self._rooms_that_follow()))
        self.found[parameter.name] = self._read(parameter, value, word)

    def _rooms_that_follow(self) -> Iterator[str]:
        while self.at < len(self.line.words) and looks_like_room(self.line.words[self.at].text):
            yield self.line.words[self.at].text
            self.at += 1

    def _named(self, name: str, word: Word) -> tuple[Parameter, bool]:
        options = {
            one.name.removesuffix("_").replace("_", "-"): one
            for one in self.command.parameters
            if one.option
        }
        typed = name.lower()
        if typed in options:
            return options[typed], False
        positive = options.get(typed.removeprefix("no-"))
        if typed.startswith("no-") and positive is not None and positive.flag:
            return positive, True
        likely = nearest(typed, [*options, "help"], limit=1)
        if likely:
            sentence = t(
                "There is no option --{name}. Did you mean --{likely}?",
                name=name,
                likely=likely[0],
            )
        else:
            sentence = t(
                "There is no option --{name}. A word that begins like one is put into quotes.",
                name=name,
            )
        raise self._error(sentence, word)

    def _positional(self, word: Word) -> None:
        waiting = [
            one
            for one in self.command.parameters
            if not one.option and (one.many or one.name not in self.found)
        ]
        if not waiting:
            raise self._error(t("“{word}” is one word too many.", word=word.text), word)
        parameter = waiting[0]
        if (
            parameter.room
            and self.setting.room is not None
            and len(waiting) > 1
            and (not looks_like_room(word.text) or self._is_for_the_next(waiting[1]))
        ):
            # The room is the current one; the word belongs to what comes next.
            self.found[parameter.name] = self.setting.room
            parameter = waiting[1]
        if parameter.kind.rest:
            first, self.at = self.at - 1, self._end_of_text()
            text = self.line.rest(first, self.at)
            self.found[parameter.name] = self._read(parameter, text, word)
            return
        value = self._read(parameter, word.text, word)
        if parameter.many:
            earlier = self.found.get(parameter.name, ())
            self.found[parameter.name] = (*earlier, value) if isinstance(earlier, tuple) else value
        else:
            self.found[parameter.name] = value

    def _end_of_text(self) -> int:
        """Return where the rest of the line ends: before the first option that there is.

        What looks like one and is none belongs to the text, and so does one in quotes.
        """
        options = {
            f"--{prefix}{one.name.removesuffix('_').replace('_', '-')}"
            for one in self.command.parameters
            if one.option
            for prefix in (("", "no-") if one.flag else ("",))
        }
        if self.command.changes_things:
            options.add("--dry-run")
        for index in range(self.at, len(self.line.words)):
            word = self.line.words[index]
            if self._is_option(word) and word.text.partition("=")[0] in options:
                return index
        return len(self.line.words)

    def _is_for_the_next(self, following: Parameter) -> bool:
        """Say whether a word that means a room or an address is not the room it is about.

        Where another one is needed and none follows, the one that is there is that.
        """
        if following.kind.name not in _ROOMS or not following.required:
            return False
        return not any(looks_like_room(word.text) for word in self.line.words[self.at :])

    def _read(self, parameter: Parameter, text: str, word: Word) -> object:
        try:
            return parameter.kind.read(text, self.setting)
        except UserError as error:
            raise self._error(str(error), word) from None

    def _missing(self, parameter: Parameter) -> UsageError:
        error = self._error(t("“{argument}” is missing.", argument=parameter.spelling), None)
        error.missing, error.found = parameter, MappingProxyType(dict(self.found))
        return error

    def _error(self, sentence: str, word: Word | None) -> UsageError:
        if word is None:
            end = len(self.line.text)
            return UsageError(sentence, self.command, self.line.text, end, end)
        return UsageError(sentence, self.command, self.line.text, word.start, word.end)
