"""Whether a hold names a record, and the segments in which it may."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from auditbot.operations.desk import Desk
from auditbot.operations.holds import Hold
from auditbot.pipeline.hostile import key
from auditbot.pipeline.seal import lines_in
from auditbot.storage.port import ArchiveStore
from common.errors import PermanentError
from common.telemetry.log import Log

log = Log("audit.holds")


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


class ChangedObjectError(PermanentError):
    """What lies in the storage is not what was stored there."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored segment; ``sha256`` is of what was stored."""

    key: str
    version_id: str | None
    sha256: str

    async def lines(self, store: ArchiveStore) -> Sequence[bytes]:
        """Return its lines.

        Raises:
            ChangedObjectError: whoever may write there changed it; what it says counts for nothing.
            TransientError: the store is away.
            PermanentError: it is missing, or cannot be read.
        """
        body = await store.get(self.key, self.version_id)
        if hashlib.sha256(body).hexdigest() != self.sha256:
            raise ChangedObjectError(
                f"“{self.key}” is not what was stored there: somebody changed it. Run “steward audit "
                "verify”."
            )
        return list(lines_in(body))


async def is_named(
    store: ArchiveStore, segment: Segment, hold: Hold, rooms: frozenset[str]
) -> bool:
    """Return whether a hold names any record of a segment, or may."""
    if not hold.rooms and not hold.users:
        return True
    if segment.key.endswith(".age"):
        return True  # we cannot read it, so it may be held
    try:
        lines = await segment.lines(store)
    except ChangedObjectError as error:
        # A hold must not end because somebody took its records out of a segment.
        log.error("a segment counts as held", reason=error)
        return True
    return any(names(hold, msgspec.json.decode(line), rooms) for line in lines)


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
