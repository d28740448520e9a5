"""What was said in rooms, and the tree of spaces, read as a server admin without being in them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import msgspec

from common.homeserver.port import AdminReader, HttpGet, Json, Permission, path
from common.ids import EventId, RoomId, UserId


class TimelineEvent(msgspec.Struct, frozen=True):
    """An event as clients see it; ``content`` is as hostile as everything people send."""

    type: str
    sender: UserId
    event_id: EventId
    origin_server_ts: int = 0
    state_key: str | None = None
    content: Mapping[str, Any] = {}
    unsigned: Mapping[str, Any] = {}
    room_id: RoomId | None = None


class Messages(msgspec.Struct, frozen=True):
    """A part of a timeline; ``end`` leads on, and is absent where nothing follows."""

    chunk: tuple[TimelineEvent, ...]
    start: str
    end: str | None = None


class Context(msgspec.Struct, frozen=True):
    """An event with its neighbours; the nearest one before is first in ``events_before``."""

    event: TimelineEvent
    events_before: tuple[TimelineEvent, ...] = ()
    events_after: tuple[TimelineEvent, ...] = ()
    start: str | None = None
    end: str | None = None


class Moment(msgspec.Struct, frozen=True):
    """The event nearest to a moment; milliseconds."""

    event_id: EventId
    origin_server_ts: int


class SpaceChild(msgspec.Struct, frozen=True):
    """An ``m.space.child`` event of a space: which room or space is in it."""

    state_key: RoomId
    content: Mapping[str, Any] = {}


class SpaceRoom(msgspec.Struct, frozen=True):
    """A room of a tree, with the rooms right below it."""

    room_id: RoomId
    name: str | None = None
    canonical_alias: str | None = None
    topic: str | None = None
    num_joined_members: int = 0
    room_type: str | None = None
    join_rule: str | None = None
    children_state: tuple[SpaceChild, ...] = ()


class SpacePage(msgspec.Struct, frozen=True):
    """A part of a tree, parents before children."""

    rooms: tuple[SpaceRoom, ...]
    next_batch: str | None = None


class _Fetched(msgspec.Struct, frozen=True):
    event: Mapping[str, Any]


Direction = Literal["f", "b"]


@dataclass(frozen=True, kw_only=True)
class ReadMessages:
    """``GET /_synapse/admin/v1/rooms/<room_id>/messages``; newest first unless ``direction`` “f”.

    ``start`` is the ``end`` of the part before, or the ``start`` or ``end`` of a ``Context``.
    """

    permission: ClassVar = Permission.READ_CONTENT

    room: RoomId
    start: str | None = None
    direction: Direction = "b"
    limit: int = 50

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {"dir": self.direction, "limit": str(self.limit)}
        if self.start is not None:
            query["from"] = self.start
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}/messages", self.room), query=query)

    def read_response(self, body: Json) -> Messages:
        """Return the events."""
        return msgspec.convert(body, Messages)


@dataclass(frozen=True, kw_only=True)
class ReadContext:
    """``GET /_synapse/admin/v1/rooms/<room_id>/context/<event_id>``, ``limit`` events in all."""

    permission: ClassVar = Permission.READ_CONTENT

    room: RoomId
    event: EventId
    limit: int = 10

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path("/_synapse/admin/v1/rooms/{}/context/{}", self.room, self.event)
        return HttpGet(path=where, query={"limit": str(self.limit)})

    def read_response(self, body: Json) -> Context:
        """Return the event and its neighbours."""
        return msgspec.convert(body, Context)


@dataclass(frozen=True, kw_only=True)
class FindMoment:
    """``GET /_synapse/admin/v1/rooms/<room_id>/timestamp_to_event``; ``moment_ms`` milliseconds.

    The first event at or after the moment, or with “b” the last before it.
    """

    permission: ClassVar = Permission.VIEW

    room: RoomId
    moment_ms: int
    direction: Direction = "f"

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path("/_synapse/admin/v1/rooms/{}/timestamp_to_event", self.room)
        return HttpGet(path=where, query={"ts": str(self.moment_ms), "dir": self.direction})

    def read_response(self, body: Json) -> Moment:
        """Return the event; ``NotFoundError`` if there is none on that side."""
        return msgspec.convert(body, Moment)


@dataclass(frozen=True)
class FetchEvent:
    """``GET /_synapse/admin/v1/fetch_event/<event_id>``: any event the homeserver has, raw.

    In the form servers exchange, redacted or not as it is now.
    """

    permission: ClassVar = Permission.READ_CONTENT

    event: EventId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/fetch_event/{}", self.event))

    def read_response(self, body: Json) -> Mapping[str, Any]:
        """Return the event; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, _Fetched).event


@dataclass(frozen=True, kw_only=True)
class ReadSpace:
    """``GET /_synapse/admin/v1/rooms/<room_id>/hierarchy``; rooms this server is not in lack."""

    permission: ClassVar = Permission.VIEW

    room: RoomId
    max_depth: int | None = None
    limit: int = 50
    start: str | None = None

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {"limit": str(self.limit)}
        if self.max_depth is not None:
            query["max_depth"] = str(self.max_depth)
        if self.start is not None:
            query["from"] = self.start
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}/hierarchy", self.room), query=query)

    def read_response(self, body: Json) -> SpacePage:
        """Return a part of the tree."""
        return msgspec.convert(body, SpacePage)


async def all_messages(admin: AdminReader, request: ReadMessages) -> AsyncIterator[TimelineEvent]:
    """Go through a timeline from ``request.start`` on, one page at a time."""
    while True:
        page = await admin.read(request)
        for event in page.chunk:
            yield event
        if page.end is None or page.end == request.start:
            return
        request = replace(request, start=page.end)


async def whole_space(admin: AdminReader, request: ReadSpace) -> AsyncIterator[SpaceRoom]:
    """Go through a tree of rooms, the space itself first."""
    while True:
        page = await admin.read(request)
        for room in page.rooms:
            yield room
        if page.next_batch is None:
            return
        request = replace(request, start=page.next_batch)
