"""The reference pages of the commands, generated: ``python -m adminbot.reference PAGE``."""

import sys
from collections.abc import Iterator

from adminbot.commands import catalogue
from adminbot.engine.command import Command
from adminbot.engine.example import example
from adminbot.engine.uses import asks, changes_own_tables, endpoints


def render() -> str:
    """Return the command reference as Markdown."""
    return "\n".join(_page()) + "\n"


def render_permissions() -> str:
    """Return the table of who may do what as Markdown."""
    return "\n".join(_permissions()) + "\n"


def _permissions() -> Iterator[str]:
    yield "# Who may do what"
    yield ""
    yield "Generated from the commands themselves by `make generate`; do not edit."
    yield ""
    yield "What counts is what the homeserver says of somebody at that moment, asked anew when a"
    yield "question is answered. **anyone** is everybody with an open account on this server."
    yield "**room moderator** and **room admin** are so by their power in the room a command is"
    yield "about, creators of version 12 rooms included, and command in that room or by direct chat;"
    yield "what their own power in it does not allow is refused, whatever this table says."
    yield "**server admin** commands in a direct chat or an admin room. Accounts of other servers,"
    yield "of bridges, bots, guests, and those that are deactivated, locked or suspended may nothing."
    yield ""
    yield "Asks: “no” is done at once; “yes” is asked about first, if only where it matters to"
    yield "others; “for good”: what it does may not be undone; “typed” wants a word typed before the"
    yield "worst. Calls: what it may take, besides who somebody is and the answer itself. Own: it"
    yield "keeps something in Steward's own tables."
    yield ""
    yield "| Command | For | Asks | Calls |"
    yield "| --- | --- | --- | --- |"
    for command in sorted(catalogue(), key=lambda one: one.name):
        calls = [f"`{call}`" for call in endpoints(command)]
        calls += ["own"] if changes_own_tables(command) else []
        yield (
            f"| `{command.name}` | {command.who.value} | {', '.join(asks(command)) or 'no'} "
            f"| {'<br>'.join(calls) or '–'} |"
        )


def _page() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "Generated from the commands themselves by `make generate`; do not edit."
    yield ""
    yield "| Command | For | What |"
    yield "| --- | --- | --- |"
    for command in catalogue():
        yield f"| [`{command.name}`](#{command.name.replace(' ', '-')}) | {command.who.value} | {command.summary} |"
    for command in catalogue():
        yield ""
        yield from _section(command)


def _section(command: Command) -> Iterator[str]:
    yield f"## {command.name}"
    yield ""
    yield command.summary
    if command.description:
        yield ""
        yield command.description
    yield ""
    yield "```text"
    yield f"!{command.usage}"
    yield "```"
    yield ""
    yield f"For: {command.who.value}. For example: `{example(command)}`."
    if command.parameters:
        yield ""
    for parameter in command.parameters:
        yield f"- `{parameter.usage}`: {parameter.help}"


_PAGES = {"commands": render, "permissions": render_permissions}

if __name__ == "__main__":
    sys.stdout.write(_PAGES[sys.argv[1]]())
