"""What the help and the tables say of a command, its calls and its questions, against what it does."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from synapse.api.room_versions import RoomVersions

import adminbot
from adminbot.commands import catalogue
from adminbot.commands.help import explain
from adminbot.engine.command import Command
from adminbot.engine.confirm import must_ask
from adminbot.engine.line import parse_line
from adminbot.engine.plan import Plan
from adminbot.engine.render import render
from adminbot.engine.uses import asks, calls_of, changes_own_tables, endpoints
from adminbot.known import known_types
from common.homeserver.port import Danger
from tests.unit.adminbot.situations import CREATOR, Situation
from tests.unit.adminbot.talk_through import a_day, day
from tests.unit.adminbot.test_lent_plans import LINES, run
from tests.unit.adminbot.world import BOB, ME
from tests.unit.homeserver.test_every_endpoint import CHANGES, READS

SOURCES = Path(adminbot.__file__).parent
ENDPOINTS = {one.__name__: one for one in [*CHANGES, *READS]}
PERFORMED = {
    one.__name__: one
    for one in known_types().values()
    if hasattr(one, "danger") and not hasattr(one, "to_http") and not hasattr(one, "to_sql")
}
HOLDS_OTHERS = {"DoLater"}
"""These steps say themselves what they take."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_what_changes_something_names_a_call_that_changes_something() -> None:
    for command in catalogue():
        changing = [one for one in endpoints(command) if not one.startswith("GET ")]
        if command.changes_things:
            assert changing or changes_own_tables(command), command.name
        else:
            # What it sends changes nothing: a ping, and a notice to nobody.
            assert changing == [] or command.name == "doctor", command.name


def test_a_command_by_another_name_takes_and_asks_the_same() -> None:
    commands = {one.name: one for one in catalogue()}
    for name, other in [
        ("quarantine room", "room media quarantine"),
        ("media room", "room media"),
    ]:
        assert set(endpoints(commands[name])) >= set(endpoints(commands[other])) != set()
        assert asks(commands[name]) == asks(commands[other])


async def test_asking_is_told_of_every_command_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[tuple[Command, Plan]] = []
    really = Command.run

    async def recorded(self: Command, *arguments: object) -> object:
        outcome = await really(self, *arguments)  # type: ignore[arg-type]  # as it was called
        if isinstance(outcome, Plan):
            plans.append((self, outcome))
        return outcome

    monkeypatch.setattr(Command, "run", recorded)
    async with a_day(tmp_path, "en") as world:
        for given in day():
            await world.give(given)

    for command, plan in plans:
        _must_agree(command, plan)
    assert len({command.name for command, _ in plans}) > 30


@pytest.mark.parametrize("line", LINES)
def test_asking_is_told_of_what_asks_in_a_room(line: str) -> None:
    levels = {"users": {BOB: 0, ME: 100}, "events": {}}
    plan, _ = run(line, Situation(RoomVersions.V12, levels), CREATOR)
    command, _ = catalogue().find(parse_line(line))

    if plan is not None:
        _must_agree(command, plan)


def _must_agree(command: Command, plan: Plan) -> None:
    told = asks(command)
    assert told or not must_ask(plan), command.name
    assert "typed" in told or plan.typed is None, command.name
    assert "for good" in told or plan.danger is not Danger.IRREVERSIBLE, command.name


def test_help_tells_that_it_asks() -> None:
    for command in catalogue():
        said = render(explain(command)).body

        assert ("It asks before" in said) == bool(asks(command)), command.name
        assert ("wants a word typed" in said) == ("typed" in asks(command)), command.name
        assert ("does cannot be undone" in said) == ("for good" in asks(command)), command.name


@pytest.mark.parametrize("name", sorted(PERFORMED.keys() - HOLDS_OTHERS))
def test_a_step_names_what_its_performer_calls(name: str) -> None:
    step = PERFORMED[name]
    performers = [*_performers_of(name)]
    assert performers, "nobody carries it out"

    named = {endpoint for path, node in performers for endpoint in _named(path, node)}

    assert calls_of(step), "it says nothing"
    for endpoint in named:
        assert calls_of(ENDPOINTS[endpoint]) <= calls_of(step), endpoint


def _performers_of(step: str) -> Iterator[tuple[Path, Function]]:
    """Yield the functions that take a step, and those of the server's acts of the same name."""
    for path, functions in _functions().items():
        for function in functions:
            if any(_is_called(one.annotation, step) for one in function.args.args):
                yield path, function
                if function.name.startswith("_"):
                    continue
                acts = SOURCES / "server_acts.py"
                yield from ((acts, one) for one in _functions()[acts] if one.name == function.name)


def _named(path: Path, node: Function, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the endpoints that a function names, and those of its module that it names."""
    for each in ast.walk(node):
        name = each.id if isinstance(each, ast.Name) else getattr(each, "attr", "")
        if name in ENDPOINTS:
            yield name
        for function in _functions()[path]:
            if function.name == name and name not in seen:
                yield from _named(path, function, seen | {node.name, name})


@cache
def _functions() -> Mapping[Path, Sequence[Function]]:
    found = {}
    for path in SOURCES.rglob("*.py"):
        if "commands" not in path.parts:
            tree = ast.parse(path.read_text())
            found[path] = [one for one in ast.walk(tree) if isinstance(one, Function)]
    return found


def _is_called(annotation: ast.expr | None, name: str) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == name
