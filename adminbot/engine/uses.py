"""What a command calls and asks, read off its code: for its help, and the tables of the reference.

It looks for the endpoint and step classes that the function names, and those that functions of
ours name which it calls; nothing is run. What is no single call says itself what it takes, in
``calls``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import get_type_hints

from adminbot.engine.calls import OWN, STATE
from adminbot.engine.command import Command
from adminbot.engine.supply import CALLS
from common.homeserver.port import Danger

_OURS = ("adminbot.commands", "adminbot.engine", "common.homeserver")
_ENDPOINT = re.compile(r"``((?:GET|PUT|POST|DELETE) /[^`?]*)")


@dataclass
class _Read:
    """What was found in the code of a command so far."""

    types: dict[str, type] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    keywords: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)


def uses(command: Command) -> tuple[type, ...]:
    """Return the endpoints and steps a command's code names, sorted by name."""
    found = _read(command).types
    return tuple(found[name] for name in sorted(found))


def endpoints(command: Command) -> tuple[str, ...]:
    """Return the calls it may make, e.g. “PUT /_synapse/admin/v1/suspend/<user_id>”."""
    found = _read(command)
    supplied = (
        call
        for type_ in command.supplies.values()
        for method, calls in CALLS.get(type_, {}).items()
        if method in found.names
        for call in calls
    )
    named = (call for one in found.types.values() for call in calls_of(one))
    calls = {*named, *supplied} - {OWN}
    return tuple(sorted(calls, key=lambda call: (call.partition(" ")[2], call)))


def calls_of(used: type | str) -> frozenset[str]:
    """Return the calls that an endpoint or a step takes."""
    return frozenset(_calls(used))


def changes_own_tables(command: Command) -> bool:
    """Say whether it keeps something in Steward's own tables."""
    return any(
        (hasattr(used, "to_sql") and hasattr(used, "danger")) or OWN in calls_of(used)
        for used in uses(command)
    )


def danger(command: Command) -> Danger:
    """Return the worst that one of its steps can be; a step may be less than its kind's worst."""
    if not command.changes_things:
        return Danger.NONE
    found = (getattr(used, "danger", Danger.NONE) for used in uses(command))
    # A danger that depends on a step's values is a property of the class, not a value.
    return max(
        (one if isinstance(one, Danger) else Danger.REVERSIBLE for one in found),
        default=Danger.NONE,
    )


def guards(command: Command) -> frozenset[str]:
    """Return what its plans may be made with: ``ask``, ``typed``, ``bulk``."""
    return frozenset(_read(command).keywords & {"ask", "typed", "bulk"})


def asks(command: Command) -> tuple[str, ...]:
    """Return how it asks before it acts, or may: ``for good``, ``yes``, ``typed``; or nothing."""
    if not command.changes_things:
        return ()
    guard = guards(command)
    worst = danger(command)
    found = ["for good"] if worst is Danger.IRREVERSIBLE else []
    found += ["yes"] if worst is Danger.REVERSIBLE or "ask" in guard else []
    found += ["typed"] if "typed" in guard else []
    return tuple(found)


def _calls(used: type | str) -> Iterator[str]:
    if isinstance(used, str):
        yield used
        return
    for each in getattr(used, "calls", ()):
        yield from _calls(each)
    if not hasattr(used, "to_http"):
        return
    if hasattr(used, "follow"):  # it is begun only, and looked after until it is done
        yield from _calls(get_type_hints(used.follow)["return"])
    found = [" ".join(call.split()) for call in _ENDPOINT.findall(used.__doc__ or "")]
    if not found and hasattr(used, "danger"):
        # The endpoints of one kind of state event are named after it alone.
        found = [STATE]
    yield from found


def _read(command: Command) -> _Read:
    found = _Read()
    _walk(command.function, found)
    return found


def _walk(function: object, found: _Read) -> None:
    if not isinstance(function, FunctionType) or id(function) in found.seen:
        return
    found.seen.add(id(function))
    found.keywords.update(_plan_keywords(function.__code__))
    for name in _names(function.__code__):
        found.names.add(name)
        value = function.__globals__.get(name)
        for each in (value, *_members(value, function)):
            if isinstance(each, type) and _is_asked_or_done(each):
                found.types[f"{each.__module__}.{each.__qualname__}"] = each
            elif isinstance(each, Command):  # the same by another name
                _walk(each.function, found)
            elif isinstance(each, FunctionType) and each.__module__.startswith(_OURS):
                _walk(each, found)


def _members(value: object, function: FunctionType) -> Iterator[object]:
    """Yield what is named of a module of ours, as in ``protect.target``."""
    if isinstance(value, ModuleType) and value.__name__.startswith(_OURS):
        yield from (vars(value).get(name) for name in _names(function.__code__))


def _is_asked_or_done(type_: type) -> bool:
    return hasattr(type_, "to_http") or hasattr(type_, "to_sql") or hasattr(type_, "describe")


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _plan_keywords(code: CodeType) -> Iterator[str]:
    """Yield the names of keyword arguments of calls that make a plan: they name a summary."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _plan_keywords(constant)
        elif isinstance(constant, tuple) and "summary" in constant:
            yield from (name for name in constant if isinstance(name, str))
