"""Rooms this homeserver is in."""

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
from common.ids import EventId, RoomAlias, RoomId, UserId

RoomOrder = Literal[
    "name", "joined_members", "joined_local_members", "state_events", "version", "creator"
]
Direction = Literal["f", "b"]


class RoomSummary(msgspec.Struct, frozen=True):
    """One line of the list."""

    room_id: RoomId
    name: str | None = None
    canonical_alias: str | None = None
    joined_members: int = 0
    joined_local_members: int = 0
    version: str | None = None
    creator: str | None = None
    encryption: str | None = None
    federatable: bool = True
    public: bool = False
    join_rules: str | None = None
    guest_access: str | None = None
    history_visibility: str | None = None
    state_events: int = 0
    room_type: str | None = None


class RoomPage(msgspec.Struct, frozen=True):
    """A part of the list; ``next_batch`` is absent on the last."""

    rooms: tuple[RoomSummary, ...]
    total_rooms: int
    offset: int = 0
    next_batch: int | None = None


class RoomDetails(RoomSummary, frozen=True):
    """One room."""

    topic: str | None = None
    avatar: str | None = None
    joined_local_devices: int = 0
    forgotten: bool = False
    tombstoned: bool = False
    replacement_room: str | None = None


class StateEvent(msgspec.Struct, frozen=True):
    """A state event; ``content`` is as hostile as everything people send."""

    type: str
    sender: UserId
    event_id: EventId
    state_key: str = ""
    origin_server_ts: int = 0
    content: Mapping[str, Any] = {}
    unsigned: Mapping[str, Any] = {}


class Event(msgspec.Struct, frozen=True):
    """Any event, as the homeserver has it now."""

    type: str
    sender: UserId
    content: Mapping[str, Any] = {}
    unsigned: Mapping[str, Any] = {}


class _Members(msgspec.Struct, frozen=True):
    members: tuple[UserId, ...]


class _State(msgspec.Struct, frozen=True):
    state: tuple[StateEvent, ...]


class _Block(msgspec.Struct, frozen=True):
    block: bool


class _AliasTarget(msgspec.Struct, frozen=True):
    room_id: RoomId


@dataclass(frozen=True, kw_only=True)
class ListRooms:
    """``GET /_synapse/admin/v1/rooms``."""

    permission: ClassVar = Permission.VIEW

    search: str | None = None
    public: bool | None = None
    empty: bool | None = None
    order_by: RoomOrder = "name"
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
            query["search_term"] = self.search
        if self.public is not None:
            query["public_rooms"] = "true" if self.public else "false"
        if self.empty is not None:
            query["empty_rooms"] = "true" if self.empty else "false"
        return HttpGet(path="/_synapse/admin/v1/rooms", query=query)

    def read_response(self, body: Json) -> RoomPage:
        """Return the page."""
        return msgspec.convert(body, RoomPage, strict=False)


@dataclass(frozen=True)
class GetRoom:
    """``GET /_synapse/admin/v1/rooms/<room_id>``; ``NotFoundError`` if there is no such room."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}", self.room))

    def read_response(self, body: Json) -> RoomDetails:
        """Return the room."""
        return msgspec.convert(body, RoomDetails, strict=False)


@dataclass(frozen=True)
class ListRoomMembers:
    """``GET /_synapse/admin/v1/rooms/<room_id>/members``: who is joined."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}/members", self.room))

    def read_response(self, body: Json) -> tuple[UserId, ...]:
        """Return the members."""
        return msgspec.convert(body, _Members).members


@dataclass(frozen=True)
class GetRoomState:
    """``GET /_synapse/admin/v1/rooms/<room_id>/state``, of one event type or (large!) all."""

    permission: ClassVar = Permission.VIEW

    room: RoomId
    type: str | None = None

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {} if self.type is None else {"type": self.type}
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}/state", self.room), query=query)

    def read_response(self, body: Json) -> tuple[StateEvent, ...]:
        """Return the state events."""
        return msgspec.convert(body, _State).state


@dataclass(frozen=True)
class GetRoomBlock:
    """``GET /_synapse/admin/v1/rooms/<room_id>/block``: may local people join it?"""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}/block", self.room))

    def read_response(self, body: Json) -> bool:
        """Return whether it is blocked."""
        return msgspec.convert(body, _Block).block


@dataclass(frozen=True)
class ResolveAlias:
    """``GET /_matrix/client/v3/directory/room/<alias>``: which room an address names."""

    permission: ClassVar = Permission.PUBLIC

    alias: RoomAlias

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_matrix/client/v3/directory/room/{}", self.alias))

    def read_response(self, body: Json) -> RoomId:
        """Return the room."""
        return msgspec.convert(body, _AliasTarget).room_id


@dataclass(frozen=True)
class GetStateEvent:
    """``GET /_matrix/client/v3/rooms/<room>/state/<type>/<key>?format=event``, as a member."""

    permission: ClassVar = Permission.VIEW

    room: RoomId
    type: str
    state_key: str = ""

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path(
            "/_matrix/client/v3/rooms/{}/state/{}/{}", self.room, self.type, self.state_key
        )
        return HttpGet(path=where, query={"format": "event"})

    def read_response(self, body: Json) -> StateEvent:
        """Return the event."""
        return msgspec.convert(body, StateEvent)


@dataclass(frozen=True)
class GetEvent:
    """``GET /_matrix/client/v3/rooms/<room>/event/<event>``, as a member."""

    permission: ClassVar = Permission.READ_CONTENT

    room: RoomId
    event: EventId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_matrix/client/v3/rooms/{}/event/{}", self.room, self.event))

    def read_response(self, body: Json) -> Event:
        """Return the event as the homeserver has it now."""
        return msgspec.convert(body, Event)


@dataclass(frozen=True)
class MakeRoomAdmin:
    """``POST /_synapse/admin/v1/rooms/<room_id>/make_room_admin``.

    Gives a person the power of the most powerful joined local member (100 where that is a
    creator of a version 12 room) and invites them if the room is not public; refused with
    status 400 where no local member has power.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId
    user: UserId

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v1/rooms/{}/make_room_admin", self.room),
            body={"user_id": self.user},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Make {user} an admin of {room}", user=self.user, room=self.room)


async def all_rooms(
    admin: AdminReader, request: ListRooms | None = None
) -> AsyncIterator[RoomSummary]:
    """Go through the whole list, one page at a time; start again from ``request.start``."""
    request = request or ListRooms()
    while True:
        page = await admin.read(request)
        for room in page.rooms:
            yield room
        if page.next_batch is None or not page.rooms:
            return
        request = replace(request, start=page.next_batch)
