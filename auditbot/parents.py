"""Parents of events that are not recorded: what the room graph says is missing.

What is told of parents comes after the events themselves, so a parent that is not recorded then
is late, or lost, or was never given to us. ``auditbot.completing`` finds out which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from auditbot.pipeline.hostile import INT64, key
from auditbot.writing import seen
from common.database.pool import Connection
from common.inbox.port import Entry, EntryKind

_AT_A_TIME = 500


class _Told(msgspec.Struct, frozen=True):
    room_id: str
    events: list[tuple[str, int, list[str]]]


@dataclass(frozen=True, slots=True)
class _Edge:
    parent: str
    room: str
    child: str


_told = msgspec.json.Decoder(_Told)


async def note_parents(connection: Connection, entries: Sequence[Entry], *, now_ms: int) -> None:
    """Remember which parents the inbox tells of that are not recorded, in the batch's transaction.

    The first event of a room whose parents are told is where the room's record begins: what is no
    deeper in the graph follows what was there before.
    """
    told = [_told.decode(entry.body) for entry in entries if entry.kind is EntryKind.GRAPH]
    if not told:
        return
    floors = await _floors(connection, told)
    edges = {edge.parent: edge for one in told for edge in _edges(one, floors)}
    names = list(edges)
    for start in range(0, len(names), _AT_A_TIME):
        some = names[start : start + _AT_A_TIME]
        known = await seen(connection, "event", some)
        unknown = [edges[name] for name in some if name not in known]
        await note_missing(
            connection,
            [(edge.parent, edge.room, edge.child) for edge in unknown],
            found_by="graph",
            now_ms=now_ms,
        )


async def note_missing(
    connection: Connection,
    events: Sequence[tuple[str, str, str | None]],
    *,
    found_by: str,
    now_ms: int,
) -> None:
    """Remember events that are not recorded, each with its room and what leads back to it."""
    if events:
        await connection.executemany(
            "INSERT INTO audit_missing (event_id, room_id, child, found_by, noticed_ms)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING",
            [(event, room, child, found_by, now_ms) for event, room, child in events],
        )


async def _floors(connection: Connection, told: Sequence[_Told]) -> dict[str, int]:
    """Return where the record of each of these rooms begins; it is decided here if it was not."""
    floors: dict[str, int] = {}
    for one in told:
        room = key(one.room_id)
        if room in floors or not one.events:
            continue
        floors[room] = int(
            await connection.fetchval(
                "INSERT INTO audit_floor (room_id, depth) VALUES ($1, $2)"
                " ON CONFLICT (room_id) DO UPDATE SET depth = audit_floor.depth RETURNING depth",
                room,
                _depth(one.events[0][1]),
            )
        )
    return floors


def _edges(told: _Told, floors: dict[str, int]) -> Iterator[_Edge]:
    room = key(told.room_id)
    for child, depth, parents in told.events:
        if _depth(depth) > floors[room]:
            for parent in parents:
                yield _Edge(key(parent), room, key(child))


def _depth(told: int) -> int:
    return max(-INT64, min(told, INT64 - 1))
