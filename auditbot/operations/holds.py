"""``steward audit hold``: what must not be deleted, whatever its age."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from auditbot.operations.desk import Desk, dumps, moment_text
from common.database.pool import Row
from common.errors import UserError

FOR_EVER = 2**62


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held: everything that all three of its sides name. Empty means all."""

    id: str
    reason: str
    rooms: frozenset[str]
    users: frozenset[str]
    from_ms: int | None
    to_ms: int | None

    def meets(self, first_ms: int, last_ms: int) -> bool:
        """Return whether anything received between two moments may be held."""
        return (self.from_ms or 0) <= last_ms and first_ms < (self.to_ms or FOR_EVER)

    @property
    def text(self) -> str:
        """Return it for people."""
        parts = [
            f"rooms {', '.join(sorted(self.rooms))}" if self.rooms else "all rooms",
            f"people {', '.join(sorted(self.users))}" if self.users else "all people",
            f"from {moment_text(self.from_ms, 'the beginning')}",
            f"to {moment_text(self.to_ms, 'whenever')}",
        ]
        return f"{self.id}: {'; '.join(parts)}. {self.reason}"


async def add(
    desk: Desk,
    *,
    reason: str,
    rooms: Sequence[str],
    users: Sequence[str],
    from_ms: int | None,
    to_ms: int | None,
) -> str:
    """Hold something; return what to tell."""
    hold = Hold(desk.new_id(), reason, frozenset(rooms), frozenset(users), from_ms, to_ms)
    place = await desk.newest_place()
    document = {
        "type": "steward.hold",
        "id": hold.id,
        "created_ms": desk.clock.now_ms(),
        "actor": desk.actor,
        "reason": reason,
        "rooms": sorted(hold.rooms),
        "users": sorted(hold.users),
        "from_ms": from_ms,
        "to_ms": to_ms,
    }
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        await connection.execute(
            "INSERT INTO audit_hold (id, reason, rooms, users, from_ms, to_ms, actor, created_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            hold.id,
            reason,
            dumps(sorted(hold.rooms)),
            dumps(sorted(hold.users)),
            from_ms,
            to_ms,
            desk.actor,
            document["created_ms"],
        )
        await desk.state(connection, place, f"holds/{hold.id}.json", document)
        if writing is not None:
            writing.control(actor=desk.actor, action="hold_added", detail=document)
            await writing.write(connection)
    await publish(desk)
    return f"Held: {hold.text}"


async def remove(desk: Desk, hold_id: str, *, reason: str) -> str:
    """Release a hold. That deletes nothing; only retention goes on as before."""
    hold = next((one for one in await active(desk) if one.id == hold_id), None)
    if hold is None:
        raise UserError(f"There is no hold “{hold_id}”; “steward audit hold list” shows them.")
    place = await desk.newest_place()
    document = {
        "type": "steward.hold_release",
        "id": hold.id,
        "created_ms": desk.clock.now_ms(),
        "actor": desk.actor,
        "reason": reason,
    }
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        await connection.execute(
            "UPDATE audit_hold SET released_ms = $2 WHERE id = $1", hold.id, desk.clock.now_ms()
        )
        await desk.state(connection, place, f"holds/{hold.id}-released.json", document)
        if writing is not None:
            writing.control(actor=desk.actor, action="hold_released", detail=document)
            await writing.write(connection)
    await publish(desk)
    return f"Released: {hold.text}"


async def active(desk: Desk) -> list[Hold]:
    """Return the holds that are in force, oldest first."""
    rows = await desk.database.fetch(
        "SELECT * FROM audit_hold WHERE released_ms IS NULL ORDER BY created_ms, id"
    )
    return [_hold(row) for row in rows]


async def show(desk: Desk) -> str:
    """Return the holds for people."""
    return "\n".join(hold.text for hold in await active(desk)) or "Nothing is held."


async def publish(desk: Desk) -> None:
    """Store the documents of holds, also of an act that was interrupted."""
    for place, statement in await desk.unpublished("holds/"):
        async with desk.store(place) as store:
            await desk.publish(store, statement)


def _hold(row: Row) -> Hold:
    return Hold(
        row["id"],
        row["reason"],
        frozenset(json.loads(row["rooms"])),
        frozenset(json.loads(row["users"])),
        row["from_ms"],
        row["to_ms"],
    )
