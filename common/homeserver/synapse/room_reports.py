"""Reports about rooms, as Steward's Synapse module shows them (``common.synapse_room_reports``)."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.homeserver.port import HttpGet, Json, Permission
from common.ids import RoomId, UserId


class RoomReport(msgspec.Struct, frozen=True):
    """A report on a room by ``user_id``; milliseconds."""

    id: int
    received_ts: int
    room_id: RoomId
    user_id: UserId
    reason: str | None = None


class _Reports(msgspec.Struct, frozen=True):
    room_reports: tuple[RoomReport, ...]


@dataclass(frozen=True)
class ListRoomReports:
    """``GET /_synapse/client/steward/v1/room_reports``: numbers above ``after``, at most 100.

    The oldest first; ``UnsupportedError`` where the homeserver does not run the module.
    """

    permission: ClassVar = Permission.VIEW

    after: int = 0

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = "/_synapse/client/steward/v1/room_reports"
        return HttpGet(path=where, query={"after": str(self.after)})

    def read_response(self, body: Json) -> tuple[RoomReport, ...]:
        """Return the reports."""
        return msgspec.convert(body, _Reports).room_reports
