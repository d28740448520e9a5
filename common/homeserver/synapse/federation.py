"""Other servers, as far as this one has had to do with them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

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
from common.ids import RoomId

DestinationOrder = Literal[
    "destination",
    "retry_last_ts",
    "retry_interval",
    "failure_ts",
    "last_successful_stream_ordering",
]
Direction = Literal["f", "b"]


class Destination(msgspec.Struct, frozen=True):
    """A server. Times and spans are milliseconds; ``failure_ts`` is since when it fails, if so."""

    destination: str
    retry_last_ts: int = 0
    retry_interval: int = 0
    failure_ts: int | None = None
    last_successful_stream_ordering: int | None = None

    @property
    def failing(self) -> bool:
        """Whether the last try to reach it failed."""
        return self.failure_ts is not None


class Destinations(msgspec.Struct, frozen=True):
    """A part of the list."""

    destinations: tuple[Destination, ...]
    total: int
    next_token: str | None = None


class DestinationRoom(msgspec.Struct, frozen=True):
    """A room shared with a server."""

    room_id: RoomId
    stream_ordering: int


class DestinationRooms(msgspec.Struct, frozen=True):
    """A part of the rooms."""

    rooms: tuple[DestinationRoom, ...]
    total: int
    next_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class ListDestinations:
    """``GET /_synapse/admin/v1/federation/destinations``; ``search`` is a part of the name."""

    permission: ClassVar = Permission.VIEW

    search: str | None = None
    order_by: DestinationOrder = "destination"
    direction: Direction = "f"
    start: int = 0
    limit: int = 100

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {
            "from": str(self.start),
            "limit": str(self.limit),
            "order_by": self.order_by,
            "dir": self.direction,
        }
        if self.search:
            query["destination"] = self.search
        return HttpGet(path="/_synapse/admin/v1/federation/destinations", query=query)

    def read_response(self, body: Json) -> Destinations:
        """Return the page."""
        return msgspec.convert(body, Destinations)


@dataclass(frozen=True)
class GetDestination:
    """``GET /_synapse/admin/v1/federation/destinations/<destination>``."""

    permission: ClassVar = Permission.VIEW

    destination: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_ONE, self.destination))

    def read_response(self, body: Json) -> Destination:
        """Return the server; ``NotFoundError`` if this one never had to do with it."""
        return msgspec.convert(body, Destination)


@dataclass(frozen=True, kw_only=True)
class ListDestinationRooms:
    """``GET /_synapse/admin/v1/federation/destinations/<destination>/rooms``."""

    permission: ClassVar = Permission.VIEW

    destination: str
    start: int = 0
    limit: int = 100

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {"from": str(self.start), "limit": str(self.limit)}
        return HttpGet(path=path(_ONE + "/rooms", self.destination), query=query)

    def read_response(self, body: Json) -> DestinationRooms:
        """Return the page; ``NotFoundError`` if this server never had to do with it."""
        return msgspec.convert(body, DestinationRooms)


@dataclass(frozen=True)
class ResetConnection:
    """``POST /_synapse/admin/v1/federation/destinations/<destination>/reset_connection``.

    Tries it at once instead of waiting out the back-off; refused (400) if there is none.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False  # the second time there is no back-off: 400

    destination: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path(_ONE + "/reset_connection", self.destination)
        return HttpChange(method="POST", path=where)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Try to reach {server} again now", server=self.destination)


async def all_destinations(
    admin: AdminReader, request: ListDestinations | None = None
) -> AsyncIterator[Destination]:
    """Go through all servers, one page at a time."""
    request = request or ListDestinations()
    while True:
        page = await admin.read(request)
        for destination in page.destinations:
            yield destination
        if page.next_token is None or not page.destinations:
            return
        request = replace(request, start=request.start + len(page.destinations))


async def all_destination_rooms(
    admin: AdminReader, request: ListDestinationRooms
) -> AsyncIterator[DestinationRoom]:
    """Go through all rooms shared with a server, one page at a time."""
    while True:
        page = await admin.read(request)
        for room in page.rooms:
            yield room
        if page.next_token is None or not page.rooms:
            return
        request = replace(request, start=request.start + len(page.rooms))


_ONE = "/_synapse/admin/v1/federation/destinations/{}"
