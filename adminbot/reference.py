"""The command reference, generated: ``python -m adminbot.reference > docs/reference/commands.md``."""

import sys
from collections.abc import Iterator

from adminbot.commands import catalogue
from adminbot.engine.command import Command


def render() -> str:
    """Return the reference page as Markdown."""
    return "\n".join(_page()) + "\n"


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
    confirmed = " It asks before it changes anything." if command.changes_things else ""
    yield f"For: {command.who.value}.{confirmed}"
    if command.parameters:
        yield ""
    for parameter in command.parameters:
        yield f"- `{parameter.usage}`: {parameter.help}"


if __name__ == "__main__":
    sys.stdout.write(render())
