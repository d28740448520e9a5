"""Recognising what a bridge's bot says, in time that grows with the text and nothing else.

Bots write for people, and they quote names that strangers chose; so what a kind expects is a
phrase, not a regular expression. ``…`` stands for any text, ``{name}`` for any text that is
remembered. Letters match in either case.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

LONGEST_TEXT = 4096
"""How much of a message is looked at; what bots answer is far shorter."""

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_GAP = re.compile(r"…|\{([a-z_]+)\}")


@dataclass(frozen=True)
class Phrase:
    """Pieces of text that stand in a message in this order.

    ``gaps[i]`` follows ``pieces[i]``; a gap with a name is remembered.
    """

    pieces: tuple[str, ...]
    gaps: tuple[str | None, ...]

    def found_in(self, text: str) -> Mapping[str, str] | None:
        """Return what stands in the named gaps, or ``None`` where the phrase does not occur."""
        text = text[:LONGEST_TEXT]
        lowered = text.translate(_LOWER)  # ASCII only, so that every index stays the same
        at = lowered.find(self.pieces[0])
        if at < 0:
            return None
        at += len(self.pieces[0])
        remembered: dict[str, str] = {}
        for name, piece in zip(self.gaps, self.pieces[1:], strict=True):
            end = lowered.find(piece, at) if piece else _end_of_line(text, at)
            if end < 0:
                return None
            if name is not None:
                remembered[name] = text[at:end].strip()
            at = end + len(piece)
        return remembered


@lru_cache(maxsize=4096)
def parse_phrase(text: str) -> Phrase:
    """Return a phrase; ``ValueError`` if it begins with a gap, where it would match anything."""
    pieces, gaps, at = [], [], 0
    for gap in _GAP.finditer(text):
        pieces.append(text[at : gap.start()].translate(_LOWER))
        gaps.append(gap[1])
        at = gap.end()
    pieces.append(text[at:].translate(_LOWER))
    if not pieces[0]:
        raise ValueError(f"the phrase “{text}” must begin with words")
    if any(not piece for piece in pieces[1:-1]):
        raise ValueError(f"two gaps of the phrase “{text}” have no words between them")
    return Phrase(tuple(pieces), tuple(gaps))


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
