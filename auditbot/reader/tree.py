"""The Merkle tree over a stream's lines (RFC 6962, section 2.1); pure, in constant memory.

A *range* holds what is needed of the leaves from one number to another: the roots of the perfect
subtrees that lie in it whole. Ranges that touch can be joined, so objects can be hashed in
parallel and in any order.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

SubtreeRoot = Callable[[int, int], bytes]
"""Returns the root over the leaves from one number up to, without, another."""


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of a line, given without its newline or with it as the format says."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Range:
    """Leaves from ``start`` up to ``end`` as the roots of perfect subtrees, left to right."""

    start: int
    end: int
    nodes: tuple[bytes, ...]

    def root(self) -> bytes:
        """Return the tree's root.

        Raises:
            ValueError: the range does not begin with the first leaf.
        """
        if self.start:
            raise ValueError("only a range from 0 on has a root")
        return root_of(self.nodes)

    def joined(self, other: "Range") -> "Range":
        """Return this range and the one that follows it as one.

        Raises:
            ValueError: the other one does not begin where this one ends.
        """
        if other.start != self.end:
            raise ValueError(f"a range that begins at {other.start} does not follow {self.end}")
        growing = GrowingRange(self.start, self.end, list(self.nodes))
        for height, node in zip(heights(other.start, other.end), other.nodes, strict=True):
            growing.add_subtree(node, height)
        return growing.fixed()


class GrowingRange:
    """A range to which leaves are added at the end."""

    def __init__(
        self, start: int, end: int | None = None, nodes: list[bytes] | None = None
    ) -> None:
        self._start = start
        self._end = start if end is None else end
        self._nodes = nodes if nodes is not None else []

    def add(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        self.add_subtree(leaf, 0)

    def add_subtree(self, node: bytes, height: int) -> None:
        """Add a perfect subtree of ``2**height`` leaves; the end must be a multiple of that."""
        begin = self._end
        self._end += 1 << height
        while begin >> height & 1 and begin - (1 << height) >= self._start:
            node = node_hash(self._nodes.pop(), node)
            begin -= 1 << height
            height += 1
        self._nodes.append(node)

    def fixed(self) -> Range:
        """Return the range as it is now."""
        return Range(self._start, self._end, tuple(self._nodes))


def heights(start: int, end: int) -> list[int]:
    """Return the heights of the perfect subtrees that make up a range, left to right."""
    found = []
    while start < end:
        fitting = (end - start).bit_length() - 1
        height = min(fitting, (start & -start).bit_length() - 1) if start else fitting
        found.append(height)
        start += 1 << height
    return found


def root_of(nodes: Sequence[bytes]) -> bytes:
    """Return the root of the perfect subtrees of a tree, left to right."""
    if not nodes:
        return EMPTY_ROOT
    *rest, node = nodes
    for left in reversed(rest):
        node = node_hash(left, node)
    return node


def range_of(start: int, leaves: Iterable[bytes]) -> Range:
    """Return the range of these leaf hashes, the first of which has the number ``start``."""
    growing = GrowingRange(start)
    for leaf in leaves:
        growing.add(leaf)
    return growing.fixed()


def inclusion_proof(index: int, size: int, subtree: SubtreeRoot) -> list[bytes]:
    """Return the audit path of a leaf in the tree of ``size`` leaves, leaf to root (2.1.1)."""
    return [subtree(start, end) for start, end in reversed(_path(index, 0, size))]


def inclusion_subtrees(index: int, size: int) -> list[tuple[int, int]]:
    """Return which subtrees' roots ``inclusion_proof`` asks for."""
    return _path(index, 0, size)


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root to which a leaf's audit path leads (RFC 9162, section 2.1.3.2).

    Raises:
        ValueError: no path of this length leads from this leaf to a root.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    number, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ValueError("the proof is too long")
        if number & 1 or number == last:
            node = node_hash(sibling, node)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        number >>= 1
        last >>= 1
    if last:
        raise ValueError("the proof is too short")
    return node


def consistency_proof(old: int, new: int, subtree: SubtreeRoot) -> list[bytes]:
    """Return the proof that the tree of ``new`` leaves begins with that of ``old`` (2.1.2)."""
    if not 0 < old < new:
        return []
    return _consistency(old, 0, new, whole=True, subtree=subtree)


def is_consistent(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether a proof shows that one tree begins with another (RFC 9162, 2.1.4.2)."""
    if old == new:
        return not proof and old_root == new_root
    if not 0 < old < new or not proof:
        return old == 0 and not proof and old_root == EMPTY_ROOT
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    number, last = old - 1, new - 1
    while number & 1:
        number >>= 1
        last >>= 1
    before = after = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            before, after = node_hash(node, before), node_hash(node, after)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            after = node_hash(after, node)
        number >>= 1
        last >>= 1
    return last == 0 and before == old_root and after == new_root


def _path(index: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the siblings on the way from the root of ``start``–``end`` down to a leaf."""
    if not start <= index < end:
        raise ValueError("no such leaf")
    siblings = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((start, middle))
            start = middle
    return siblings


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _consistency(
    old: int, start: int, size: int, *, whole: bool, subtree: SubtreeRoot
) -> list[bytes]:
    if old == size:
        return [] if whole else [subtree(start, start + size)]
    middle = _split(size)
    if old <= middle:
        left = _consistency(old, start, middle, whole=whole, subtree=subtree)
        return [*left, subtree(start + middle, start + size)]
    right = _consistency(old - middle, start + middle, size - middle, whole=False, subtree=subtree)
    return [*right, subtree(start, start + middle)]
