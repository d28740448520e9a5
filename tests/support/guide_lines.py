"""What people are told to type, read off the guides: dialogues, and commands in running text.

A dialogue is a fenced block whose lines to be typed begin with “> ”. In running text and tables a
command stands between backticks; capitals in it are a place for something (``USER``), brackets
hold what may be left out. One word alone is not looked at: it may be anything.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adminbot.engine.catalogue import Catalogue

DOCS = Path(__file__).parents[2] / "docs"
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_DIALOGUE = re.compile(r"^```text\n(> .*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_SAID_BY_OTHERS = re.compile(r"[a-z]+: ")
_NOTE = re.compile(r"\((?P<note>[^)]*)\) ")
_OPTIONAL = re.compile(r" \[([^\]]+)\]")
_PLACE = re.compile(r"[A-Z][A-Z_-]*[A-Z]…?")
_CHOICE = re.compile(r"\b([a-z]+)\|[a-z|]+")
_FILE = re.compile(r" \([a-z]+\.csv\)")
_OPTION = re.compile(r"--([a-z-]*[a-z])(?![a-z…-])")
_PLACES = {
    "CHAT": "42",
    "DATE": "2026-12-01",
    "NUMBER": "42",
    "ROOM": "#lobby:example.org",
    "SPACE": "#company:example.org",
    "USER": "alice",
    "USER…": "alice bob",
    "WHO": "alice",
}


@dataclass(frozen=True)
class Typed:
    """One line to be typed; ``private``: in a direct chat, though the guide is about a room."""

    text: str
    private: bool = False


@dataclass(frozen=True)
class Mentioned:
    """A command in running text: as it stands, and what of it can be typed."""

    text: str
    lines: tuple[str, ...]


def guide(name: str) -> str:
    """Return the text of a guide."""
    return (DOCS / name).read_text("utf-8")


def typed(text: str) -> Iterator[Typed]:
    """Yield the commands of the dialogues, without what others say and without a yes."""
    for block in _DIALOGUE.findall(text):
        for line in block.splitlines():
            said = line.removeprefix("> ")
            if said in {line, "✅"} or said.removeprefix("!").startswith("confirm "):
                continue
            if _SAID_BY_OTHERS.match(said):
                continue
            note = _NOTE.match(said)
            private = note is not None and note["note"] == "in private"
            said = said[note.end() :] if note else said
            yield Typed(_FILE.sub("", said).removeprefix("!"), private)


def mentioned(text: str, commands: Catalogue) -> Iterator[Mentioned]:
    """Yield what stands in running text and begins as a command of ours does."""
    for span in _CODE.findall(_FENCED.sub("", text)):
        said = " ".join(span.split()).removeprefix("!")
        words = said.split(" ")
        if len(words) > 1 and words[0] in commands.first_words:
            yield Mentioned(said, tuple(_variants(said)))


def options(text: str) -> frozenset[str]:
    """Return the options that running text names by themselves."""
    spans = (span for span in _CODE.findall(_FENCED.sub("", text)) if span.startswith("--"))
    return frozenset(option for span in spans for option in _OPTION.findall(span))


def single_words(text: str) -> frozenset[str]:
    """Return the words that stand alone between backticks, some of which are commands."""
    return frozenset(span.removeprefix("!") for span in _CODE.findall(_FENCED.sub("", text)))


def _variants(said: str) -> Iterator[str]:
    """Yield a command without and with everything that may be left out."""
    said = _CHOICE.sub(r"\1", said)
    for one in dict.fromkeys((_OPTIONAL.sub("", said), _OPTIONAL.sub(r" \1", said))):
        yield _PLACE.sub(lambda found: _PLACES.get(found[0], found[0].lower()), one)
