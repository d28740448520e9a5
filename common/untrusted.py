"""JSON that anybody may have written, however deep.

A parser gives up at some depth, each at another: what ours cannot read a client may show, so
nobody must be able to hide something by nesting something else beside it.
"""

import json
import re
from collections.abc import Iterator

_MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
_SPACE = b" \t\n\r"
_MEMBER = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:', re.DOTALL)


def members_of(data: bytes) -> list[tuple[str, bytes]] | None:
    """Return the members of an object unread, however deep they are; ``None`` if it is none.

    JSON parsers give up at some depth, each at another: what this one cannot read a client may.
    """
    pieces = _pieces(data, b"{")
    return None if pieces is None else list(_named(pieces))


def items_of(data: bytes) -> list[bytes] | None:
    """Return the items of a list unread, however deep they are; ``None`` if it is none."""
    pieces = _pieces(data, b"[")
    if pieces is None:
        return None
    # Only what is empty has an item of nothing.
    return [item for piece in pieces if (item := piece.strip(_SPACE))]


def _pieces(data: bytes, opening: bytes) -> list[bytes] | None:
    """Return what stands between the outermost commas, ``None`` without the outermost brackets."""
    if not data.lstrip(_SPACE).startswith(opening):
        return None
    pieces: list[bytes] = []
    depth = start = 0
    for mark in _MARK.finditer(data):
        sign = data[mark.start() : mark.start() + 1]
        if sign in b"{[":
            depth += 1
            start = mark.end() if depth == 1 else start
        elif sign == b"," and depth == 1:
            pieces.append(data[start : mark.start()])
            start = mark.end()
        elif sign in b"}]":
            depth -= 1
            if depth <= 0:
                pieces.append(data[start : mark.start()])
                return pieces
    return None


def _named(pieces: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for piece in pieces:
        member = _MEMBER.match(piece)
        if member is not None:
            try:
                name = json.loads(member[1].decode("utf-8", "replace"))
            except ValueError:
                continue
            yield name, piece[member.end() :]
