"""Proofs of single records, from the index.

What the manifests gave for whole segments is enough: only the record's own is hashed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from auditbot.reader.index.library import IndexedManifest, Library, Stored
from auditbot.reader.tree import (
    HASH_BYTES,
    GrowingRange,
    heights,
    inclusion_proof,
    leaf_hash,
    root_from_inclusion,
    root_of,
)
from auditbot.reader.unpack import DamagedArchiveError, lines
from common.errors import UserError


@dataclass(frozen=True, slots=True)
class Proof:
    """That a record is in a signed tree."""

    stored: Stored
    head: IndexedManifest
    path: tuple[bytes, ...]


@dataclass
class Prover:
    """Proves records; keeps what it had to hash."""

    library: Library
    _leaves: dict[str, Sequence[bytes]] = field(default_factory=dict)
    _roots: dict[tuple[str, int, int], bytes] = field(default_factory=dict)

    def prove(self, stored: Stored) -> Proof:
        """Return the proof of a record in its stream's newest signed tree.

        Raises:
            UserError: no manifest covers it yet.
            DamagedArchiveError: the proof does not lead to the signed root.
        """
        manifests = self.library.manifests(stored.stream)
        if not manifests or manifests[-1].size <= stored.seq:
            raise UserError("No signed manifest covers this record yet: wait some minutes.")
        head = manifests[-1]
        path = inclusion_proof(
            stored.seq, head.size, lambda start, end: self._root(stored, start, end)
        )
        found = root_from_inclusion(leaf_hash(stored.line), stored.seq, head.size, path)
        if found.hex() != head.root:
            raise DamagedArchiveError(
                f"Record {stored.seq} of stream {stored.stream} cannot be proven: run verify."
            )
        return Proof(stored, head, tuple(path))

    def _root(self, stored: Stored, start: int, end: int) -> bytes:
        name = (stored.stream, start, end)
        if name not in self._roots:
            self._roots[name] = self._hashed(stored, start, end)
        return self._roots[name]

    def _hashed(self, stored: Stored, start: int, end: int) -> bytes:
        growing = GrowingRange(start)
        rows = self.library.connection.execute(
            "SELECT key, first_seq, last_seq, hashes FROM object WHERE stream = ?"
            " AND first_seq < ? AND last_seq >= ? ORDER BY first_seq",
            (stored.stream, end, start),
        )
        for key, first_seq, last_seq, hashes in rows:
            if key == stored.key:
                leaves = self._own(key)[max(start - first_seq, 0) : end - first_seq]
                for leaf in leaves:
                    growing.add(leaf)
                continue
            place = first_seq
            for number, height in enumerate(heights(first_seq, last_seq + 1)):
                # A sibling never begins inside a subtree of a segment that is not the record's.
                if start <= place < end:
                    node = hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]
                    growing.add_subtree(node, height)
                place += 1 << height
        return root_of(growing.fixed().nodes)

    def _own(self, key: str) -> Sequence[bytes]:
        if key not in self._leaves:
            # One segment's hashes at a time: records of a case mostly lie together.
            self._leaves = {
                key: [leaf_hash(line) for line in lines(key, self.library.object_body(key))]
            }
        return self._leaves[key]
