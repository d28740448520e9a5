"""Text that others wrote, made safe to look at, and words that were nearly right."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

from common.i18n import Msg, t

# Control, format (bidi overrides among them), surrogate, private use, line and paragraph
# separators: what can make a text look like another one, or break out of its line.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Joiners inside emoji sequences and scripts that need them: harmless and common in names.
_JOINERS = frozenset("\u200c\u200d")

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# PostgreSQL takes no NUL in a text; nothing that encodes as UTF-8 takes a lone surrogate.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text as every database takes it: each character it would refuse is replaced."""
    return _NOT_STORABLE.sub(REPLACEMENT, text)


def is_control(character: str) -> bool:
    """Say whether a character is invisible or changes how its neighbours are shown."""
    return unicodedata.category(character) in _INVISIBLE and character not in _JOINERS


def visible(text: str) -> str:
    """Return the text with control and bidi characters spelt out, e.g. ``{U+202E}``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"{{U+{ord(character):04X}}}" if is_control(character) else character for character in text
    )


def nearest(word: str, known: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """Return the known words that a mistyped one most likely meant, best first."""
    return tuple(difflib.get_close_matches(word[:60].lower(), list(known), limit, cutoff=0.6))


def cut(text: str, longest: int) -> str:
    """Return the text with at most ``longest`` characters, an ellipsis where it was cut."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def listed(items: Iterable[str]) -> str:
    """Return “a, b or c”."""
    words = list(items)
    if len(words) < 2:  # noqa: PLR2004  # one item needs no conjunction
        return "".join(words)
    return t("{most} or {last}", most=", ".join(words[:-1]), last=words[-1])


def joined(pieces: Iterable[str], between: str = ", ") -> Msg:
    """Return texts one after the other, each still to be translated."""
    named = {f"piece{number}": piece for number, piece in enumerate(pieces)}
    return Msg(between.join(f"{{{name}}}" for name in named), named)
