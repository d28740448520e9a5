"""The guides name commands that there are, spelt as they are read, for who is told to type them."""

import re
from collections.abc import Iterator

import pytest

from adminbot.commands import catalogue
from adminbot.engine.actor import Actor, Place, PlaceKind, Target
from adminbot.engine.authorize import authorize
from adminbot.engine.bind import HelpAsked, bind
from adminbot.engine.command import Command
from adminbot.engine.example import example
from adminbot.engine.line import parse_line
from adminbot.engine.values import Setting
from common.homeserver.port import Grant
from common.ids import RoomId
from common.matrix.power import Power
from tests.support.guide_lines import Typed, guide, mentioned, options, single_words, typed
from tests.unit.adminbot.world import ADMIN, ALICE, DIRECT, NOW, SERVER, SHARED

COMMANDS = catalogue()
ROOM_GUIDE = "room-admin-guide.md"
GUIDES = (
    "accounts.md",
    "admin-guide.md",
    "bridges.md",
    ROOM_GUIDE,
    "server-check.md",
    "server-guide.md",
    "synapse-module.md",
)
MISTAKEN = Typed("kick nobody", private=True)
"""Shown for what is answered to it."""
DIALOGUES = {
    (name, one): None
    for name in ("accounts.md", "admin-guide.md", ROOM_GUIDE, "server-guide.md")
    for one in typed(guide(name))
    if one != MISTAKEN
}
MENTIONED = {
    (name, one.text): one.lines for name in GUIDES for one in mentioned(guide(name), COMMANDS)
}
OF_OTHERS = frozenset({"bridge CHAT", "room ROOM", "space SPACE"})
"""Words to a bridge's bot, and the second half of commands."""
ROWS = re.compile(
    r"^\| (anyone|room admin|server admin)\b[^|]*\|([^|]*(?:\\\|[^|]*)*)\|", re.MULTILINE
)


def understood(line: str, room: RoomId | None) -> Command:
    """Return the command that a line gives; its name alone is enough to speak of it."""
    words = line.split()
    named = [one for one in COMMANDS if one.words[: len(words)] == tuple(words)]
    if named:
        return COMMANDS.named(line) or named[0]
    command, rest = COMMANDS.find(parse_line(line))
    assert not isinstance(bind(command, rest, Setting(SERVER, NOW, room)), HelpAsked)
    return command


def may(command: Command, *, by_admin: bool, in_room: bool) -> bool:
    """Say whether who reads a guide may give the command where it says."""
    target = Target(SHARED, Power(0 if by_admin else 100, creator=False, levels={}))
    actor = Actor(ADMIN, server_admin=True) if by_admin else Actor(ALICE)
    place = Place(SHARED, PlaceKind.SHARED) if in_room else Place(DIRECT, PlaceKind.DIRECT)
    return isinstance(authorize(command, actor, place, target, None), Grant)


def test_the_guides_show_something() -> None:
    assert len(DIALOGUES) > 150
    assert len(MENTIONED) > 200


@pytest.mark.parametrize(("name", "line"), DIALOGUES, ids=lambda one: getattr(one, "text", one))
def test_what_is_typed_in_a_dialogue_is_understood_and_allowed(name: str, line: Typed) -> None:
    in_room = name == ROOM_GUIDE and not line.private
    words = line.text.replace("!room", SHARED)
    command, rest = COMMANDS.find(parse_line(words))
    setting = Setting(SERVER, NOW, SHARED if in_room else None)

    assert not isinstance(bind(command, rest, setting), HelpAsked)
    assert may(command, by_admin=name != ROOM_GUIDE, in_room=in_room)


@pytest.mark.parametrize(("name", "said"), MENTIONED)
def test_what_is_mentioned_can_be_typed(name: str, said: str) -> None:
    if said in OF_OTHERS:
        return
    about_rooms = name in {ROOM_GUIDE, "bridges.md"}

    for line in MENTIONED[name, said]:
        understood(line, SHARED if about_rooms else None)


def rows() -> Iterator[tuple[str, str]]:
    for role, commands in ROWS.findall(guide("bridges.md")):
        for one in mentioned(commands, COMMANDS):
            yield from ((role, line) for line in one.lines)


@pytest.mark.parametrize(("role", "line"), tuple(rows()))
def test_the_table_of_bridges_says_who_may(role: str, line: str) -> None:
    assert understood(line, SHARED).who == role


@pytest.mark.parametrize("name", GUIDES)
def test_each_option_that_is_mentioned_belongs_to_a_command_that_is_spoken_of(name: str) -> None:
    text = guide(name)
    spoken_of = {one.name: one for line in lines_of(name) for one in [understood(line, SHARED)]}
    spoken_of |= {one.name: one for one in COMMANDS if one.name in single_words(text)}

    assert options(text) <= {word for one in spoken_of.values() for word in spellings(one)}


def lines_of(name: str) -> Iterator[str]:
    yield from (line.text.replace("!room", SHARED) for where, line in DIALOGUES if where == name)
    for (where, said), lines in MENTIONED.items():
        yield from lines if where == name and said not in OF_OTHERS else ()


def spellings(command: Command) -> Iterator[str]:
    yield from ("help", "dry-run")
    for one in command.parameters:
        if one.option:
            word = one.name.removesuffix("_").replace("_", "-")
            yield from (word, f"no-{word}") if one.flag else (word,)


@pytest.mark.parametrize("command", tuple(COMMANDS), ids=lambda one: one.name)
def test_the_example_in_a_commands_help_can_be_typed(command: Command) -> None:
    line = example(command)

    assert understood(line, SHARED) is command
    assert not re.search(r"\bword\b", line)
