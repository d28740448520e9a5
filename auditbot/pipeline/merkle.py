"""The Merkle tree over a stream's records, without ever looking at a leaf twice; pure.

A compact range is the shortest list of perfect aligned subtrees that cover a run of leaves; two
runs that touch are joined without the leaves. docs/archive-format.md has test vectors.

Source: RFC 6962, section 2.1.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The leaves from ``begin`` to before ``end``; ``hashes`` from left to right."""

    begin: int
    end: int
    hashes: tuple[bytes, ...]

    @property
    def root(self) -> bytes:
        """Return the root of the tree; for a range that begins with the first leaf."""
        if self.begin:
            raise ValueError("only a range from the first leaf on has a root")
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for left in reversed(rest):
            root = node(left, root)
        return root


EMPTY = CompactRange(0, 0, ())


def leaf(line: bytes) -> bytes:
    """Return the hash of a record's line, which is given without its newline."""
    return hashlib.sha256(b"\x00" + line).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees side by side."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def cover(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield first leaf and level of each subtree of the range's cover, from left to right."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        yield begin, level
        begin += 1 << level


def range_of(begin: int, leaves: Iterable[bytes]) -> CompactRange:
    """Return the range of leaves, the first of which has the index ``begin``."""
    stack: list[tuple[int, int, bytes]] = []
    end = begin
    for digest in leaves:
        _push(stack, (end, 0, digest))
        end += 1
    return CompactRange(begin, end, tuple(digest for _, _, digest in stack))


def join(left: CompactRange, right: CompactRange) -> CompactRange:
    """Return the range of both; the right one begins where the left one ends."""
    if left.end != right.begin:
        raise ValueError("the ranges do not touch")
    stack = list(_placed(left))
    for subtree in _placed(right):
        _push(stack, subtree)
    return CompactRange(left.begin, right.end, tuple(digest for _, _, digest in stack))


def pack(hashes: Sequence[bytes]) -> bytes:
    """Return hashes as one value of the database."""
    return b"".join(hashes)


def unpack(data: bytes) -> tuple[bytes, ...]:
    """Return the hashes that ``pack`` put together."""
    return tuple(data[start : start + 32] for start in range(0, len(data), 32))


def _placed(part: CompactRange) -> Iterator[tuple[int, int, bytes]]:
    for (begin, level), digest in zip(cover(part.begin, part.end), part.hashes, strict=True):
        yield begin, level, digest


def _push(stack: list[tuple[int, int, bytes]], subtree: tuple[int, int, bytes]) -> None:
    """Add a subtree at the right, and join what became two halves of one."""
    begin, level, digest = subtree
    while stack and stack[-1][1] == level and stack[-1][0] % (2 << level) == 0:
        begin, _, left = stack.pop()
        digest = node(left, digest)
        level += 1
    stack.append((begin, level, digest))
