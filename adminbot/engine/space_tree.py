"""Spaces as trees, and the rooms in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.errors import UserError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.room_content import ReadSpace, SpaceRoom, whole_space
from common.i18n import t
from common.ids import RoomId

MOST_ROOMS = 1_000
DEEPEST = 20


@dataclass(frozen=True)
class Leaf:
    """A place in the tree; ``seen``: it stands further up already, so it is not opened again."""

    room: RoomId
    depth: int
    known: SpaceRoom | None
    seen: bool = False


async def tree_of(admin: AdminReader, space: RoomId) -> tuple[Mapping[RoomId, SpaceRoom], bool]:
    """Return the rooms of a tree by ID, the space itself first, and whether that is all.

    Of a room this server is not in there is nothing but its name in its parent.
    """
    found: dict[RoomId, SpaceRoom] = {}
    async for room in whole_space(admin, ReadSpace(room=space, limit=100)):
        if len(found) >= MOST_ROOMS:
            return found, False
        found.setdefault(room.room_id, room)
    return found, True


def walk(rooms: Mapping[RoomId, SpaceRoom], top: RoomId) -> Iterator[Leaf]:
    """Go through a tree in the order that clients show; a loop is met once and not followed."""
    seen: set[RoomId] = set()
    waiting = [(top, 0)]
    while waiting:
        room, depth = waiting.pop()
        known = rooms.get(room)
        yield Leaf(room, depth, known, room in seen)
        if known is None or room in seen or depth >= DEEPEST:
            continue
        seen.add(room)
        children = [child for child in known.children_state if child.content.get("via")]
        # Specification, "Ordering of children within a space": by order, then the room's ID.
        children.sort(key=lambda one: (_order(one.content), one.state_key), reverse=True)
        waiting.extend((child.state_key, depth + 1) for child in children)


def _order(content: Mapping[str, object]) -> tuple[bool, str]:
    order = content.get("order")
    return (False, order) if isinstance(order, str) else (True, "")


async def rooms_below(admin: AdminReader, space: RoomId) -> list[RoomId]:
    """Return every room and space of a tree once, the space itself first.

    Raises:
        UserError: there are more than can be looked at; a part is never taken for the whole.
    """
    rooms, whole = await tree_of(admin, space)
    if not whole:
        raise UserError(
            t(
                "There are more than {most} rooms and spaces in {space}, and I take no part of "
                "it for the whole. Name the spaces in it one by one.",
                most=MOST_ROOMS,
                space=space,
            )
        )
    return list(dict.fromkeys([*(leaf.room for leaf in walk(rooms, space)), *rooms]))
