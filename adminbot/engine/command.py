"""A function becomes a command: everything about it is read off its signature and docstring.

Leading parameters whose type is a supply (``AdminReader``, ``Caller``, …) are what the command
is handed; the others are its arguments. Positional parameters are words, keyword-only ones are
``--options``. An ``Answer`` return annotation means that it changes nothing; ``Plan`` means that
what it returns is asked about and then carried out by somebody else.
"""

import inspect
import re
import types
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer
from adminbot.engine.plan import Outcome, Plan
from adminbot.engine.values import FOR_PROGRAMS, Csv, Kind, kind_of
from common.homeserver.port import Permission
from common.ids import RoomId

Run = Callable[..., Coroutine[Any, Any, Answer] | Coroutine[Any, Any, Plan]]


class _Missing(Enum):
    MISSING = "missing"


MISSING = _Missing.MISSING
_JSON = "json"


@dataclass(frozen=True)
class Parameter:
    """One argument of a command."""

    name: str
    kind: Kind
    help: str
    option: bool = False
    many: bool = False
    room: bool = False
    default: object = MISSING
    given: bool = True
    """Whether its function is given it; ``--json`` is dealt with here."""

    @property
    def required(self) -> bool:
        """Whether it must be given (a room may still be the current one)."""
        return self.default is MISSING

    @property
    def flag(self) -> bool:
        """Whether its name alone is enough."""
        return self.option and self.kind.flag

    @property
    def spelling(self) -> str:
        """As it is typed: ``name``, ``--name`` or, where the default is yes, ``--no-name``."""
        # “for_” is typed as “for”, which Python keeps for itself.
        dashed = self.name.removesuffix("_").replace("_", "-")
        if not self.option:
            return dashed
        return f"--no-{dashed}" if self.flag and self.default is True else f"--{dashed}"

    @property
    def usage(self) -> str:
        """Its part of the usage line."""
        if self.option:
            text = self.spelling if self.flag else f"{self.spelling} <{self.kind.name}>"
            return text if self.required else f"[{text}]"
        text = f"{self.spelling}…" if self.many or self.kind.rest else self.spelling
        return f"<{text}>" if self.required and not self.room else f"[{text}]"


@dataclass(frozen=True)
class Command:
    """One thing that people can ask for."""

    name: str
    who: Role
    needs: Permission
    also: frozenset[Permission]
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    supplies: Mapping[str, type]
    changes_things: bool
    function: Run

    @property
    def usage(self) -> str:
        """The usage line, without any prefix."""
        return " ".join([self.name, *(parameter.usage for parameter in self.parameters)])

    @property
    def outline(self) -> str:
        """The usage line without options, for lists."""
        words = (parameter.usage for parameter in self.parameters if not parameter.option)
        return " ".join([self.name, *words])

    @property
    def words(self) -> tuple[str, ...]:
        """The words of its name."""
        return tuple(self.name.split())

    @property
    def about_a_room(self) -> Parameter | None:
        """The parameter that says which room it is about."""
        return next((parameter for parameter in self.parameters if parameter.room), None)

    def parameter(self, name: str) -> Parameter | None:
        """Return one parameter by its name."""
        return next((one for one in self.parameters if one.name == name), None)

    async def run(
        self, supplies: Mapping[type, object], arguments: Mapping[str, object]
    ) -> Outcome:
        """Run it; ``arguments`` are typed already."""
        given = {name: supplies[type_] for name, type_ in self.supplies.items()}
        positional = [
            value
            for one in self.parameters
            if not one.option
            for value in _spread(one, arguments[one.name])
        ]
        options = {
            one.name: arguments[one.name] for one in self.parameters if one.option and one.given
        }
        if not arguments.get(_JSON):
            return await self.function(*given.values(), *positional, **options)
        options |= {one.name: True for one in self.parameters if one.kind is kind_of(Csv)}
        outcome = await self.function(*given.values(), *positional, **options)
        return outcome.for_programs() if isinstance(outcome, Answer) else outcome


def command(
    name: str,
    *,
    who: Role,
    needs: Permission = Permission.PUBLIC,
    also: Iterable[Permission] = (),
) -> Callable[[Run], Command]:
    """Make a command of a function. It registers nothing: ``collect`` finds it.

    ``needs`` is the right for what it does, ``also`` are others that it takes.
    """

    def make(function: Run) -> Command:
        return _read_signature(name, who, needs, frozenset(also), function)

    return make


def _spread(parameter: Parameter, value: object) -> tuple[object, ...]:
    return tuple(value) if parameter.many and isinstance(value, tuple) else (value,)


def _read_signature(
    name: str, who: Role, needs: Permission, also: frozenset[Permission], function: Run
) -> Command:
    if not re.fullmatch(r"[a-z][a-z0-9-]*( [a-z][a-z0-9-]*)*", name):
        raise TypeError(f"“{name}” cannot be the name of a command")
    hints = get_type_hints(function)
    returned = hints.pop("return", None)
    if returned not in {Answer, Plan}:
        raise TypeError(f"{name} must return Answer or Plan, not {returned}")
    summary, description, helps = _read_docstring(name, function)
    supplies: dict[str, type] = {}
    parameters: list[Parameter] = []
    for one in inspect.signature(function).parameters.values():
        parameter = _parameter(one, hints[one.name], helps)
        if parameter is not None:
            parameters.append(parameter)
        elif parameters or one.kind is inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{name}: no argument can have the type of “{one.name}”")
        else:
            supplies[one.name] = hints[one.name]
    if returned is Answer and any(one.kind is kind_of(Csv) for one in parameters):
        parameters.append(
            Parameter(
                _JSON,
                FOR_PROGRAMS,
                FOR_PROGRAMS.implied_help,
                option=True,
                default=False,
                given=False,
            )
        )
    unknown = set(helps) - {parameter.name for parameter in parameters}
    if unknown:
        raise TypeError(f"{name}: help for {unknown}, which it does not have")
    return Command(
        name=name,
        who=who,
        needs=needs,
        also=also,
        summary=summary,
        description=description,
        parameters=tuple(parameters),
        supplies=supplies,
        changes_things=returned is Plan,
        function=function,
    )


def _parameter(
    one: inspect.Parameter, annotation: object, helps: Mapping[str, str]
) -> Parameter | None:
    default = MISSING if one.default is inspect.Parameter.empty else one.default
    many = one.kind is inspect.Parameter.VAR_POSITIONAL
    if get_origin(annotation) in {Union, types.UnionType}:
        inner = [each for each in get_args(annotation) if each is not types.NoneType]
        if many and types.NoneType in get_args(annotation):
            default = ()  # ``*users: UserId | None``: there may be none
        annotation = inner[0] if len(inner) == 1 else annotation
    kind = kind_of(annotation)
    if kind is None:
        return None
    return Parameter(
        name=one.name,
        kind=kind,
        help=helps.get(one.name, kind.implied_help),
        option=one.kind is inspect.Parameter.KEYWORD_ONLY,
        many=many,
        room=annotation is RoomId and not many,
        default=default,
    )


def _read_docstring(name: str, function: Run) -> tuple[str, str, dict[str, str]]:
    """Split a Google-style docstring into summary, description and the help of each argument."""
    text = inspect.getdoc(function)
    if not text:
        raise TypeError(f"{name} has no docstring; it is the help text")
    head, _, tail = text.partition("\nArgs:\n")
    summary, _, description = head.strip().partition("\n")
    helps: dict[str, str] = {}
    current = ""
    for line in tail.split("\n"):
        if match := re.fullmatch(r"    \*?([a-z_][a-z0-9_]*): (.+)", line):
            current = match[1]
            helps[current] = match[2].strip()
        elif current and line.strip():
            helps[current] += " " + line.strip()
    return summary.strip(), " ".join(description.split()), helps
