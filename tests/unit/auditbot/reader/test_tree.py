"""The tree is RFC 6962's: against its recursive definition, known roots, and every forgery."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.reader import tree

SIZES = st.integers(min_value=1, max_value=130)


def defined_root(leaves: list[bytes]) -> bytes:
    """Return MTH(D[n]) exactly as section 2.1 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(
        b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])
    ).digest()


def some_leaves(count: int) -> list[bytes]:
    return [tree.leaf_hash(b"line %d" % number) for number in range(count)]


def test_the_roots_are_those_of_certificate_transparency() -> None:
    # The inputs and roots that certificate-transparency implementations test with.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
              "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }

    leaves = [tree.leaf_hash(bytes.fromhex(data)) for data in inputs]

    for size, root in roots.items():
        assert tree.range_of(0, leaves[:size]).root().hex() == root
    assert tree.Range(0, 0, ()).root() == tree.EMPTY_ROOT


@given(size=SIZES, cuts=st.lists(st.integers(min_value=0, max_value=130)))
def test_ranges_join_to_the_root_of_the_definition(size: int, cuts: list[int]) -> None:
    leaves = some_leaves(size)
    places = sorted({0, size, *(cut for cut in cuts if cut <= size)})

    whole = tree.Range(0, 0, ())
    for start, end in pairwise(places):
        part = tree.range_of(start, leaves[start:end])
        assert len(part.nodes) == len(tree.heights(start, end))
        whole = whole.joined(part)

    assert whole.root() == defined_root(leaves)


@given(size=SIZES, data=st.data())
def test_a_leaf_is_proven_and_no_other(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    index = data.draw(st.integers(min_value=0, max_value=size - 1))

    proof = tree.inclusion_proof(index, size, lambda start, end: defined_root(leaves[start:end]))

    root = defined_root(leaves)
    assert tree.root_from_inclusion(leaves[index], index, size, proof) == root
    assert tree.root_from_inclusion(tree.leaf_hash(b"other"), index, size, proof) != root
    for wrong in range(size):
        if wrong != index:
            assert not leads_to(root, leaves[index], wrong, size, proof)
    assert not leads_to(root, leaves[index], index, size, [*proof, bytes(32)])
    assert not leads_to(root, leaves[index], index, size, proof[:-1]) or not proof


def leads_to(root: bytes, leaf: bytes, index: int, size: int, proof: list[bytes]) -> bool:
    try:
        return tree.root_from_inclusion(leaf, index, size, proof) == root
    except ValueError:
        return False


@given(old=SIZES, more=st.integers(min_value=0, max_value=60))
def test_a_grown_tree_is_proven_to_begin_with_the_old_one(old: int, more: int) -> None:
    leaves = some_leaves(old + more)
    before, after = defined_root(leaves[:old]), defined_root(leaves)

    proof = tree.consistency_proof(
        old, old + more, lambda start, end: defined_root(leaves[start:end])
    )

    assert tree.is_consistent(old, old + more, before, after, proof)
    assert not tree.is_consistent(old, old + more, bytes(32), after, proof)
    assert not tree.is_consistent(old, old + more, before, bytes(32), proof)
    for place in range(len(proof)):
        forged = [*proof[:place], bytes(32), *proof[place + 1 :]]
        assert not tree.is_consistent(old, old + more, before, after, forged)


def test_a_range_that_does_not_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        tree.range_of(0, some_leaves(2)).joined(tree.range_of(3, some_leaves(1)))
    with pytest.raises(ValueError, match="from 0"):
        tree.range_of(1, some_leaves(2)).root()
