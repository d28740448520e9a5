"""Trees of spaces: the clients' order, loops, rooms unknown here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.space_tree import MOST_ROOMS, rooms_below, walk
from common.errors import UserError
from common.homeserver.synapse.room_content import SpaceChild, SpacePage, SpaceRoom
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


@dataclass
class Reader:
    """A homeserver that shows a tree of one space with so many rooms."""

    rooms: int

    async def read(self, request: object) -> SpacePage:
        del request
        names = [RoomId(f"!{number}") for number in range(self.rooms)]
        children = tuple(SpaceChild(name, VIA) for name in names)
        top = SpaceRoom(RoomId("!top"), children_state=children)
        return SpacePage((top, *(SpaceRoom(name) for name in names)))


async def test_a_part_of_a_space_is_never_taken_for_the_whole() -> None:
    all_of_it = await rooms_below(cast(Any, Reader(MOST_ROOMS - 1)), RoomId("!top"))

    assert len(all_of_it) == MOST_ROOMS
    with pytest.raises(UserError, match="more than 1000"):
        await rooms_below(cast(Any, Reader(MOST_ROOMS)), RoomId("!top"))


names = st.sampled_from(["!top", "!a", "!b", "!c", "!d"])


@given(st.dictionaries(names, st.lists(names, max_size=5)))
def test_every_tangle_comes_to_an_end_and_shows_each_room(tangle: dict[str, list[str]]) -> None:
    children: Tangle = {room: [(child, VIA) for child in below] for room, below in tangle.items()}

    leaves = list(walk(tree({"!top": [], **children}), RoomId("!top")))

    opened = [leaf.room for leaf in leaves if leaf.known is not None and not leaf.seen]
    assert len(opened) == len(set(opened))
    assert len(leaves) <= 1 + sum(map(len, tangle.values()))
