"""Trees of spaces: the clients' order, loops, rooms unknown here."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.space_tree import walk
from common.homeserver.synapse.room_content import SpaceChild, SpaceRoom
from common.ids import RoomId

Tangle = Mapping[str, Sequence[tuple[str, Mapping[str, object]]]]

VIA: Mapping[str, object] = {"via": ["example.org"]}


def tree(children: Tangle) -> dict[RoomId, SpaceRoom]:
    return {
        RoomId(room): SpaceRoom(
            room_id=RoomId(room),
            children_state=tuple(SpaceChild(RoomId(child), content) for child, content in below),
        )
        for room, below in children.items()
    }


def shown(children: Tangle) -> list[str]:
    return [
        f"{'-' * leaf.depth}{leaf.room}{'*' if leaf.seen else ''}{'?' if leaf.known is None else ''}"
        for leaf in walk(tree(children), RoomId("!top"))
    ]


def test_children_come_in_their_order_then_by_name() -> None:
    below = [
        ("!c", VIA),
        ("!b", {**VIA, "order": "2"}),
        ("!a", VIA),
        ("!d", {**VIA, "order": "1"}),
    ]

    assert shown({"!top": below, "!a": []}) == ["!top", "-!d?", "-!b?", "-!a", "-!c?"]


def test_a_child_that_was_taken_out_is_not_shown() -> None:
    assert shown({"!top": [("!a", {}), ("!b", {"via": []})]}) == ["!top"]


def test_a_loop_is_met_once() -> None:
    found = shown({"!top": [("!in", VIA)], "!in": [("!top", VIA), ("!leaf", VIA)], "!leaf": []})

    assert found == ["!top", "-!in", "--!leaf", "--!top*"]


names = st.sampled_from(["!top", "!a", "!b", "!c", "!d"])


@given(st.dictionaries(names, st.lists(names, max_size=5)))
def test_every_tangle_comes_to_an_end_and_shows_each_room(tangle: dict[str, list[str]]) -> None:
    children: Tangle = {room: [(child, VIA) for child in below] for room, below in tangle.items()}

    leaves = list(walk(tree({"!top": [], **children}), RoomId("!top")))

    opened = [leaf.room for leaf in leaves if leaf.known is not None and not leaf.seen]
    assert len(opened) == len(set(opened))
    assert len(leaves) <= 1 + sum(map(len, tangle.values()))
