"""What a command calls, read off its code: for its help, the reference and the permission table.

It looks for the endpoint and step classes that the function names, and those that functions of
ours name which it calls; nothing is run.
"""

import re
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

from adminbot.engine.command import Command
from common.homeserver.port import Danger

_OURS = ("adminbot.commands", "adminbot.engine", "common.homeserver")
_STATE = "PUT /_matrix/client/v3/rooms/<room>/state/<type>/<key>"
_ENDPOINT = re.compile(r"``((?:GET|PUT|POST|DELETE) /[^`?]*)")


def uses(command: Command) -> tuple[type, ...]:
    """Return the endpoints and steps a command's code names, sorted by name."""
    found: dict[str, type] = {}
    _walk(command.function, found, set())
    return tuple(found[name] for name in sorted(found))


def endpoints(command: Command) -> tuple[str, ...]:
    """Return the calls it may make, e.g. “PUT /_synapse/admin/v1/suspend/<user_id>”."""
    calls = {call for used in uses(command) for call in _calls(used)}
    return tuple(sorted(calls, key=lambda call: (call.partition(" ")[2], call)))


def changes_own_tables(command: Command) -> bool:
    """Say whether it keeps something in Steward's own tables."""
    return any(hasattr(used, "to_sql") and hasattr(used, "danger") for used in uses(command))


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
    keywords: set[str] = set()
    _walk(command.function, {}, set(), keywords)
    return frozenset(keywords & {"ask", "typed", "bulk"})


def _calls(used: type) -> Iterator[str]:
    if not hasattr(used, "to_http"):
        return
    found = [" ".join(call.split()) for call in _ENDPOINT.findall(used.__doc__ or "")]
    if not found and ".client_server." in used.__module__:
        # The endpoints of one kind of state event are named after it alone.
        found = [_STATE]
    yield from found


def _walk(
    function: object,
    found: dict[str, type],
    seen: set[int],
    keywords: set[str] | None = None,
) -> None:
    if not isinstance(function, FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    if keywords is not None:
        keywords.update(_plan_keywords(function.__code__))
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        for each in (value, *_members(value, function)):
            if isinstance(each, type) and _is_asked_or_done(each):
                found[f"{each.__module__}.{each.__qualname__}"] = each
            elif isinstance(each, FunctionType) and each.__module__.startswith(_OURS):
                _walk(each, found, seen, keywords)


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
