"""What people reported to the server's admins: messages and people.

Synapse keeps reports about rooms too (``POST /rooms/<room>/report``), but has no endpoint that
shows them; a module's or the server's own notification is the only way to them.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import msgspec

from common.homeserver.port import (
    AdminReader,
    Danger,
    HttpChange,
    HttpGet,
    Json,
    Permission,
    path,
)
from common.i18n import Msg, t
from common.ids import EventId, RoomId, UserId

Direction = Literal["f", "b"]


class EventReport(msgspec.Struct, frozen=True):
    """A report on a message. ``user_id`` reports; ``sender`` wrote it, if that is known still.

    ``reason`` is what the reporter wrote, ``score`` from -100 (worst) to 0; milliseconds.
    """

    id: int
    received_ts: int
    room_id: RoomId
    event_id: EventId
    user_id: UserId
    reason: str | None = None
    score: int | None = None
    sender: UserId | None = None
    canonical_alias: str | None = None
    name: str | None = None


class EventReportDetails(EventReport, frozen=True):
    """A report with the message itself."""

    event_json: Mapping[str, Any] = {}


class EventReports(msgspec.Struct, frozen=True):
    """A part of the reports on messages."""

    event_reports: tuple[EventReport, ...]
    total: int
    next_token: int | None = None


class UserReport(msgspec.Struct, frozen=True):
    """A report on ``target_user_id`` by ``user_id``; milliseconds."""

    id: int
    received_ts: int
    target_user_id: UserId
    user_id: UserId
    reason: str | None = None


class UserReports(msgspec.Struct, frozen=True):
    """A part of the reports on people."""

    user_reports: tuple[UserReport, ...]
    total: int
    next_token: int | None = None


@dataclass(frozen=True, kw_only=True)
class ListEventReports:
    """``GET /_synapse/admin/v1/event_reports``, newest first.

    Reports in rooms that were deleted since are left out. It can not be asked for what somebody
    reported: that filter is called ``user_id``, as the account that the call is made for.
    """

    permission: ClassVar = Permission.VIEW

    room: RoomId | None = None
    sender: UserId | None = None
    direction: Direction = "b"
    start: int = 0
    limit: int = 100

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = _paged(self.start, self.limit, self.direction)
        if self.room is not None:
            query["room_id"] = self.room
        if self.sender is not None:
            query["event_sender_user_id"] = self.sender
        return HttpGet(path="/_synapse/admin/v1/event_reports", query=query, by_sender=True)

    def read_response(self, body: Json) -> EventReports:
        """Return the page."""
        return msgspec.convert(body, EventReports)


@dataclass(frozen=True)
class GetEventReport:
    """``GET /_synapse/admin/v1/event_reports/<report_id>``."""

    permission: ClassVar = Permission.READ_CONTENT

    report: int

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/event_reports/{}", str(self.report)))

    def read_response(self, body: Json) -> EventReportDetails:
        """Return the report; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, EventReportDetails)


@dataclass(frozen=True)
class DeleteEventReport:
    """``DELETE /_synapse/admin/v1/event_reports/<report_id>``."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False  # the second time it is NotFoundError

    report: int

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_synapse/admin/v1/event_reports/{}", str(self.report))
        return HttpChange(method="DELETE", path=where)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Delete report {number} on a message", number=self.report)


@dataclass(frozen=True, kw_only=True)
class ListUserReports:
    """``GET /_synapse/admin/v1/user_reports``, newest first."""

    permission: ClassVar = Permission.VIEW

    user: UserId | None = None
    direction: Direction = "b"
    start: int = 0
    limit: int = 100

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = _paged(self.start, self.limit, self.direction)
        if self.user is not None:
            query["target_user_id"] = self.user
        return HttpGet(path="/_synapse/admin/v1/user_reports", query=query, by_sender=True)

    def read_response(self, body: Json) -> UserReports:
        """Return the page."""
        return msgspec.convert(body, UserReports)


@dataclass(frozen=True)
class GetUserReport:
    """``GET /_synapse/admin/v1/user_reports/<report_id>``."""

    permission: ClassVar = Permission.VIEW

    report: int

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/user_reports/{}", str(self.report)))

    def read_response(self, body: Json) -> UserReport:
        """Return the report; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, UserReport)


@dataclass(frozen=True)
class DeleteUserReport:
    """``DELETE /_synapse/admin/v1/user_reports/<report_id>``."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False  # the second time it is NotFoundError

    report: int

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_synapse/admin/v1/user_reports/{}", str(self.report))
        return HttpChange(method="DELETE", path=where)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Delete report {number} on a person", number=self.report)


async def all_event_reports(
    admin: AdminReader, request: ListEventReports | None = None
) -> AsyncIterator[EventReport]:
    """Go through the reports on messages, one page at a time."""
    request = request or ListEventReports()
    while True:
        page = await admin.read(request)
        for report in page.event_reports:
            yield report
        if page.next_token is None or not page.event_reports:
            return
        request = replace(request, start=request.start + len(page.event_reports))


async def all_user_reports(
    admin: AdminReader, request: ListUserReports | None = None
) -> AsyncIterator[UserReport]:
    """Go through the reports on people, one page at a time."""
    request = request or ListUserReports()
    while True:
        page = await admin.read(request)
        for report in page.user_reports:
            yield report
        if page.next_token is None or not page.user_reports:
            return
        request = replace(request, start=request.start + len(page.user_reports))


def _paged(start: int, limit: int, direction: Direction) -> dict[str, str]:
    return {"from": str(start), "limit": str(limit), "dir": direction}
