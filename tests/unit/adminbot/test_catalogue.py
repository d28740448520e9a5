"""The rules that every command keeps."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import adminbot.commands
from adminbot.commands import MODULES, catalogue
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, answer
from adminbot.engine.catalogue import collect
from adminbot.engine.command import Command, command
from adminbot.engine.supply import SUPPLIES, check
from adminbot.reference import render
from common.homeserver.client import AdminClient
from common.homeserver.port import EVERYTHING, AdminReader, AdminWriter
from tests.unit.adminbot.test_bind import everything, many
from tests.unit.adminbot.world import TEST_COMMANDS

ALL = tuple(catalogue())
named = pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])


def test_every_module_with_commands_is_collected() -> None:
    names = {
        module.name
        for module in pkgutil.iter_modules(adminbot.commands.__path__)
        if _own_commands(importlib.import_module(f"adminbot.commands.{module.name}"))
    }

    assert {module.__name__.rpartition(".")[2] for module in MODULES} >= names


def _own_commands(module: ModuleType) -> list[Command]:
    values = [value for value in vars(module).values() if isinstance(value, Command)]
    return [value for value in values if value.function.__module__ == module.__name__]


def test_every_command_of_every_module_is_in_the_catalogue() -> None:
    for module in pkgutil.iter_modules(adminbot.commands.__path__):
        found = importlib.import_module(f"adminbot.commands.{module.name}")
        for value in vars(found).values():
            if isinstance(value, Command):
                assert catalogue().named(value.name) is value


@named
def test_every_command_explains_itself_and_its_parameters(one: Command) -> None:
    assert one.summary.endswith(".")
    for parameter in one.parameters:
        assert parameter.help, f"{one.name}: {parameter.name} has no help"
        assert not parameter.help.endswith(".")


@named
def test_a_command_is_handed_nothing_that_changes_anything(one: Command) -> None:
    assert set(one.supplies.values()) <= SUPPLIES
    assert AdminWriter not in one.supplies.values()


def test_the_reader_that_commands_get_has_no_way_to_change_anything() -> None:
    client = AdminClient(FakeClient())

    reader = client.on_behalf_of(EVERYTHING)

    assert not hasattr(reader, "change")
    assert [name for name in dir(reader) if not name.startswith("_")] == ["read"]


class FakeClient:
    async def request(self, *arguments: object, **options: object) -> dict[str, object]:
        return {}


def test_an_answer_reads_and_a_plan_changes() -> None:
    assert not any(one.changes_things for one in ALL if one.name.endswith((" list", " show")))
    assert all(one.changes_things for one in TEST_COMMANDS)


def test_two_commands_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError):
        collect([_module_with(everything), _module_with(_renamed(many, everything.name))])


def _module_with(one: Command) -> ModuleType:
    module = ModuleType("module")
    vars(module)["one"] = one
    return module


def _renamed(one: Command, name: str) -> Command:
    @command(name, who=one.who)
    async def other() -> Answer:
        """Do something else."""
        return answer("")

    return other


def test_a_command_that_wants_the_writer_is_refused() -> None:
    @command("test evil", who=Role.ANYONE)
    async def evil(admin: AdminWriter) -> Answer:
        """Try it."""
        return answer("")

    with pytest.raises(TypeError):
        check(collect([_module_with(evil)]))


@pytest.mark.parametrize("name", ["", "Upper", "two  spaces", "a_b", "1st"])
def test_bad_names_are_refused(name: str) -> None:
    async def some() -> Answer:
        """Do."""
        return answer("")

    with pytest.raises(TypeError):
        command(name, who=Role.ANYONE)(some)


def test_a_command_without_docstring_or_with_stray_help_is_refused() -> None:
    async def bare() -> Answer:
        return answer("")

    async def stray() -> Answer:
        """Do.

        Args:
            gone: no such parameter
        """
        return answer("")

    for function in (bare, stray):
        with pytest.raises(TypeError):
            command("test", who=Role.ANYONE)(function)


def test_an_argument_of_no_known_type_is_refused() -> None:
    async def odd(caller: Caller, *, ratio: float) -> Answer:
        """Do.

        Args:
            ratio: none
        """
        return answer(str(ratio))

    with pytest.raises(TypeError):
        command("test", who=Role.ANYONE)(odd)


def test_a_command_must_say_what_it_returns() -> None:
    async def text(admin: AdminReader) -> str:
        """Do."""
        return ""

    with pytest.raises(TypeError):
        command("test", who=Role.ANYONE)(text)  # type: ignore[arg-type]  # a function of the wrong form


def test_the_reference_names_every_command() -> None:
    page = render()

    for one in ALL:
        assert f"## {one.name}\n" in page
        assert f"!{one.usage}" in page
