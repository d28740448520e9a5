"""Whether a hold names a record, and the segments in which it may."""

from typing import Any

import msgspec

from auditbot.operations.desk import Desk
from auditbot.operations.holds import Hold
from auditbot.pipeline.hostile import key
from auditbot.pipeline.seal import lines_in
from auditbot.storage.port import ArchiveStore


async def rooms_of(desk: Desk, hold: Hold) -> frozenset[str]:
    """Return the rooms in which a held person is or ever was: what they could read is held too."""
    found: set[str] = set()
    for user in hold.users:
        found |= await rooms_of_person(desk, user)
    return frozenset(found)


async def rooms_of_person(desk: Desk, user: str) -> set[str]:
    """Return the rooms in which somebody is or ever was, in export periods that are over too."""
    rows = await desk.database.fetch(
        "SELECT room_id FROM audit_member WHERE user_id = $1"
        " UNION SELECT room_id FROM audit_member_before WHERE user_id = $1",
        key(user),
    )
    return {str(row["room_id"]) for row in rows}


async def is_named(
    store: ArchiveStore, name: str, version_id: str | None, hold: Hold, rooms: frozenset[str]
) -> bool:
    """Return whether a hold names any record of a segment."""
    if not hold.rooms and not hold.users:
        return True
    if name.endswith(".age"):
        return True  # we cannot read it, so it may be held
    body = await store.get(name, version_id)
    return any(names(hold, msgspec.json.decode(line), rooms) for line in lines_in(body))


def names(hold: Hold, record: dict[str, Any], rooms: frozenset[str]) -> bool:
    """Return whether a hold names a record; ``rooms`` are those of the people it names."""
    if not (hold.from_ms or 0) <= record["ts_received"] < (hold.to_ms or 2**62):
        return False
    if hold.rooms and record.get("room_id") not in hold.rooms:
        return False
    if not hold.users:
        return True
    people = {record.get("sender"), record.get("state_key"), record.get("actor")}
    return bool(hold.users & people) or record.get("room_id") in rooms
