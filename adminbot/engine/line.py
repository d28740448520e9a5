"""A message becomes words: quotes, code spans, links and mention pills.

The promise: any text gives words or a ``UserError``. The plain body alone decides what was
written; the formatted body only says whom a mention in it means.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import islice

from adminbot.engine.link import parse_link
from adminbot.engine.text import REPLACEMENT, is_control
from common.errors import UserError
from common.i18n import t

LONGEST = 4000
MOST_PILLS = 50

_QUOTES = {"'": "'", '"': '"', "“": "”", "„": "”", "«": "»", "`": "`"}
# Phones turn two hyphens into a dash.
_DASHES = ("—", "–")
_MARKDOWN_LINK = re.compile(
    r"\[[^\[\]\n]{1,255}\]\((?P<url>(?:https?://matrix\.to/#/|matrix:)[^\s()]+)\)"
)
# Not the standard library's parser: its time grows with the square of broken markup.
_ANCHOR = re.compile(
    r"""<a\s[^<>]{0,200}?href\s?=\s?["'](?P<url>[^"'<>\s]{1,800})["'][^<>]{0,200}>"""
    r"""(?P<label>[^<>]{1,300})</a>""",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Za-z0-9@#!$%&+,./:;=?^_~*{}|<>()\[\]-]+")


@dataclass(frozen=True)
class Word:
    """One word, and where in the line it stands; a quoted word is never an option."""

    text: str
    start: int
    end: int
    quoted: bool = False


@dataclass(frozen=True)
class Line:
    """A command line. ``text`` is what was typed, for pointing at the wrong word."""

    text: str
    words: tuple[Word, ...]

    def after(self, count: int) -> "Line":
        """Return the line without its first words."""
        return Line(self.text, self.words[count:])

    def rest(self, first: int, end: int | None = None) -> str:
        """Return what was typed from one word up to another, or a single word without quotes."""
        words = self.words[first:end]
        return words[0].text if len(words) == 1 else self.text[words[0].start : words[-1].end]


class LineError(UserError):
    """A line that cannot be read, and the place where."""

    def __init__(self, sentence: str, text: str = "", start: int = 0, end: int = 0) -> None:
        super().__init__(sentence)
        self.text = text
        self.start = start
        self.end = end

    @property
    def word(self) -> str:
        """The wrong word alone, empty where no place is known or something is missing there."""
        return self.text[self.start : self.end]

    @property
    def caret(self) -> str | None:
        """The line with a caret under the wrong word, ``None`` where no place is known."""
        if not self.text:
            return None
        return f"{self.text}\n{' ' * self.start}{'^' * max(1, self.end - self.start)}"


def parse_line(body: str, formatted_body: str | None = None) -> Line:
    """Split a message into words, or raise ``LineError``."""
    text = body.strip()
    if len(text) > LONGEST:
        raise LineError(t("A command may have at most {most} characters.", most=LONGEST))
    if "\n" in text or "\r" in text:
        raise LineError(t("One message is one command: write it on one line."))
    if any(is_control(character) and character != "\t" for character in text):
        raise LineError(t("The command holds invisible control characters; type it anew."))
    if REPLACEMENT in text:
        raise LineError(t("The command holds a character that cannot be read; type it anew."))
    text = text.replace("\t", " ")
    spans = _mentions(text, formatted_body)
    return Line(text, tuple(_words(text, spans)))


def quote(word: str) -> str:
    """Return a word so that ``parse_line`` reads it back as the same single word."""
    if _PLAIN.fullmatch(word) and not word.startswith("--") and not _MARKDOWN_LINK.search(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def without_reply_fallback(body: str) -> str:
    """Return a reply's own text: older clients put what it answers before it, quoted.

    Source: Matrix specification v1.12, "Fallbacks for rich replies". Never a source of commands.
    """
    lines = body.split("\n")
    quoted = 0
    while quoted < len(lines) and lines[quoted].startswith("> "):
        quoted += 1
    if quoted and quoted < len(lines) and not lines[quoted].strip():
        return "\n".join(lines[quoted + 1 :])
    return body


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    url: str


def _mentions(text: str, formatted_body: str | None) -> dict[int, _Span]:
    """Find where the body holds the text of a link to a person or room."""
    spans = {
        match.start(): _Span(match.start(), match.end(), match["url"])
        for match in _MARKDOWN_LINK.finditer(text)
    }
    position = 0
    for url, label in _pills(formatted_body or ""):
        # A label inside a longer word is not that mention.
        pattern = re.compile(rf"(?<![^\s=]){re.escape(label)}(?![^\s,:;])")
        match = pattern.search(text, position)
        if match is None or any(span.start <= match.start() < span.end for span in spans.values()):
            continue
        position = match.end()
        spans[match.start()] = _Span(match.start(), match.end(), url)
    return spans


def _pills(html: str) -> Iterator[tuple[str, str]]:
    """Return the links to people and rooms in a formatted body, with their labels, in order."""
    own = html[: 16 * LONGEST].rpartition("</mx-reply>")[2]
    for match in islice(_ANCHOR.finditer(own), MOST_PILLS):
        url, label = unescape(match["url"]), unescape(match["label"]).strip()
        if label and parse_link(url):
            yield url, label


def _words(text: str, mentions: dict[int, _Span]) -> Iterator[Word]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        word = _word(text, position, mentions)
        yield word
        position = word.end
        # “@Alice: ban” – clients put a colon or comma after a mention.
        if word.start in mentions and text[position : position + 1] in {":", ",", ";"}:
            position += 1


def _word(text: str, start: int, mentions: dict[int, _Span]) -> Word:
    parts: list[str] = []
    quoted = False
    position = start
    while position < len(text) and not text[position].isspace():
        character = text[position]
        if mention := mentions.get(position):
            parts.append(mention.url)
            position = mention.end
            break
        if character in _QUOTES and _opens(parts):
            inside, position = _quoted(text, position)
            parts.append(inside)
            quoted = quoted or not "".join(parts[:-1])
        elif character == "\\" and position + 1 < len(text):
            parts.append(text[position + 1])
            position += 2
        else:
            parts.append(character)
            position += 1
    return Word(_dashed("".join(parts), quoted=quoted), start, position, quoted)


def _opens(parts: list[str]) -> bool:
    """Say whether a quotation mark opens a quotation: at a word's start or after ``=``.

    An apostrophe inside a word (``don't``) is an apostrophe.
    """
    return not parts or parts[-1] == "="


def _quoted(text: str, start: int) -> tuple[str, int]:
    opening = text[start]
    closing = _QUOTES[opening]
    inside: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character == closing or (opening == "„" and character == "“"):
            return "".join(inside), position + 1
        if character == "\\" and opening in {'"', "“"} and position + 1 < len(text):
            position += 1
            character = text[position]
        inside.append(character)
        position += 1
    raise LineError(t("A quotation is opened here and never closed."), text, start, start + 1)


def _dashed(word: str, *, quoted: bool) -> str:
    if not quoted and word.startswith(_DASHES) and len(word) > 1:
        return "--" + word[1:]
    return word
