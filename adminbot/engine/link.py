"""Links that name a person, a room or an event.

Source: Matrix specification v1.18, appendices, "matrix: URI scheme" and "matrix.to navigation".
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_MATRIX_TO = re.compile(r"https?://matrix\.to/#/(?P<rest>.+)", re.IGNORECASE | re.DOTALL)
_MATRIX_URI = re.compile(r"matrix:(?P<rest>[^/].*)", re.IGNORECASE | re.DOTALL)
_SIGILS = {"u": "@", "user": "@", "r": "#", "room": "#", "roomid": "!", "e": "$", "event": "$"}


@dataclass(frozen=True)
class Link:
    """What a link points at; still text, to be parsed as an identifier by who needs one."""

    target: str
    """A user ID, room ID or room alias, by its first character."""
    event: str | None = None


def parse_link(text: str) -> Link | None:
    """Return what a ``matrix.to`` or ``matrix:`` link points at, ``None`` for anything else."""
    if match := _MATRIX_TO.fullmatch(text):
        identifiers = [unquote(part) for part in _parts(match["rest"]) if part]
    elif match := _MATRIX_URI.fullmatch(text):
        parts = _parts(match["rest"])
        kinds = [_SIGILS.get(kind.lower(), "") for kind in parts[0::2]]
        if "" in kinds or len(parts) % 2:
            return None
        names = [unquote(name) for name in parts[1::2]]
        identifiers = [kind + name for kind, name in zip(kinds, names, strict=True)]
    else:
        return None
    return _link(identifiers)


def _parts(rest: str) -> list[str]:
    return rest.partition("?")[0].split("/")


def _link(identifiers: list[str]) -> Link | None:
    match identifiers:
        case [target] if target[:1] in {"@", "!", "#"}:
            return Link(target)
        case [target, event] if target[:1] in {"!", "#"} and event[:1] == "$":
            return Link(target, event)
        case _:
            return None
