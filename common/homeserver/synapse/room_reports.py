"""Reports about rooms, as Steward's Synapse module shows them (``common.synapse_room_reports``)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import ClassVar

import msgspec

from common.homeserver.port import AdminReader, HttpGet, Json, Permission
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

    The lowest first. ``since_ms``: only those received after it; a module of before takes no
    notice of that. ``UnsupportedError`` where the homeserver does not run the module.
    """

    permission: ClassVar = Permission.VIEW

    after: int = 0
    since_ms: int = 0

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = "/_synapse/client/steward/v1/room_reports"
        query = {"after": str(self.after)}
        if self.since_ms > 0:
            query["since"] = str(self.since_ms)
        return HttpGet(path=where, query=query)

    def read_response(self, body: Json) -> tuple[RoomReport, ...]:
        """Return the reports."""
        return msgspec.convert(body, _Reports).room_reports


async def all_room_reports(
    admin: AdminReader, request: ListRoomReports | None = None
) -> AsyncIterator[RoomReport]:
    """Go through the reports on rooms, one portion at a time."""
    request = request or ListRoomReports()
    while portion := await admin.read(request):
        for report in portion:
            yield report
        request = replace(request, after=portion[-1].id)
