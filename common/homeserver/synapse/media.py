"""Files: what there is, by whom, in which room."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import msgspec

from common.homeserver.port import AdminReader, HttpGet, Json, Permission, path
from common.ids import RoomId, UserId

MediaOrder = Literal[
    "media_id",
    "upload_name",
    "created_ts",
    "last_access_ts",
    "media_length",
    "media_type",
    "quarantined_by",
    "safe_from_quarantine",
]
Direction = Literal["f", "b"]


class Media(msgspec.Struct, frozen=True):
    """One file; sizes are bytes, times milliseconds, and the name is what somebody chose."""

    media_id: str
    media_type: str | None = None
    media_length: int | None = None
    upload_name: str | None = None
    created_ts: int | None = None
    last_access_ts: int | None = None
    quarantined_by: UserId | None = None
    safe_from_quarantine: bool | None = None
    user_id: UserId | None = None
    media_origin: str | None = None
    authenticated: bool | None = None
    sha256: str | None = None


class MediaPage(msgspec.Struct, frozen=True):
    """A part of somebody's files."""

    media: tuple[Media, ...]
    total: int
    next_token: int | None = None


class RoomMedia(msgspec.Struct, frozen=True):
    """Addresses (``mxc://``) of the files named in a room's unencrypted messages."""

    local: tuple[str, ...]
    remote: tuple[str, ...]


class QuarantineChange(msgspec.Struct, frozen=True):
    """A file that was quarantined or set free."""

    origin: str
    media_id: str
    quarantined: bool


class QuarantineChanges(msgspec.Struct, frozen=True):
    """A part of the changes; the next begins at ``next_batch``."""

    changes: tuple[QuarantineChange, ...]
    next_batch: int


class UserMedia(msgspec.Struct, frozen=True):
    """How much somebody uploaded; bytes. ``user_id`` is missing for files made by the server."""

    media_count: int
    media_length: int | None
    user_id: UserId | None = None
    displayname: str | None = None


class UserMediaPage(msgspec.Struct, frozen=True):
    """A part of the list of people."""

    users: tuple[UserMedia, ...]
    total: int
    next_token: int | None = None


class RoomSize(msgspec.Struct, frozen=True):
    """A rough estimate of a room's bytes in the database."""

    room_id: RoomId
    estimated_size: int


class _Info(msgspec.Struct, frozen=True):
    media_info: Media


class _Rooms(msgspec.Struct, frozen=True):
    rooms: tuple[RoomSize, ...]


@dataclass(frozen=True)
class GetMedia:
    """``GET /_synapse/admin/v1/media/<server>/<media_id>``: of this server, or a cached copy."""

    permission: ClassVar = Permission.VIEW

    server: str
    media_id: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/media/{}/{}", self.server, self.media_id))

    def read_response(self, body: Json) -> Media:
        """Return the file; ``NotFoundError`` if it is not here."""
        return msgspec.convert(body, _Info, strict=False).media_info


@dataclass(frozen=True, kw_only=True)
class ListUserMedia:
    """``GET /_synapse/admin/v1/users/<user_id>/media``, newest first."""

    permission: ClassVar = Permission.VIEW

    user: UserId
    order_by: MediaOrder = "created_ts"
    direction: Direction = "b"
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
        return HttpGet(path=path("/_synapse/admin/v1/users/{}/media", self.user), query=query)

    def read_response(self, body: Json) -> MediaPage:
        """Return the page."""
        return msgspec.convert(body, MediaPage, strict=False)


@dataclass(frozen=True)
class ListRoomMedia:
    """``GET /_synapse/admin/v1/room/<room_id>/media``; encrypted messages show nothing."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/room/{}/media", self.room))

    def read_response(self, body: Json) -> RoomMedia:
        """Return the addresses."""
        return msgspec.convert(body, RoomMedia)


@dataclass(frozen=True)
class ListQuarantineChanges:
    """``GET /_synapse/admin/v1/media/quarantine_changes``: since ``start``, at most 100."""

    permission: ClassVar = Permission.VIEW

    start: int = 0

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(
            path="/_synapse/admin/v1/media/quarantine_changes", query={"from": str(self.start)}
        )

    def read_response(self, body: Json) -> QuarantineChanges:
        """Return the changes, oldest first."""
        return msgspec.convert(body, QuarantineChanges, strict=False)


@dataclass(frozen=True, kw_only=True)
class ListMediaByUser:
    """``GET /_synapse/admin/v1/statistics/users/media``; since and until in milliseconds."""

    permission: ClassVar = Permission.VIEW

    search: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    order_by: Literal["user_id", "displayname", "media_length", "media_count"] = "media_length"
    direction: Direction = "b"
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
        if self.since_ms is not None:
            query["from_ts"] = str(self.since_ms)
        if self.until_ms is not None:
            query["until_ts"] = str(self.until_ms)
        return HttpGet(path="/_synapse/admin/v1/statistics/users/media", query=query)

    def read_response(self, body: Json) -> UserMediaPage:
        """Return the page."""
        return msgspec.convert(body, UserMediaPage, strict=False)


@dataclass(frozen=True)
class ListLargestRooms:
    """``GET /_synapse/admin/v1/statistics/database/rooms``: ten; 400 unless on PostgreSQL.

    Synapse 1.163 answers 500 (``TransientError``) unless PostgreSQL's statistics name rooms for
    every table it looks at; a database made by a recent version fills ``event_edges.room_id`` no
    more, so that there it never works.
    """

    permission: ClassVar = Permission.VIEW

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_synapse/admin/v1/statistics/database/rooms")

    def read_response(self, body: Json) -> tuple[RoomSize, ...]:
        """Return the rooms, largest first."""
        return msgspec.convert(body, _Rooms, strict=False).rooms


async def all_user_media(admin: AdminReader, request: ListUserMedia) -> AsyncIterator[Media]:
    """Go through all files of somebody, one page at a time."""
    while True:
        page = await admin.read(request)
        for media in page.media:
            yield media
        if page.next_token is None or not page.media:
            return
        request = replace(request, start=request.start + len(page.media))


async def all_media_by_user(
    admin: AdminReader, request: ListMediaByUser | None = None
) -> AsyncIterator[UserMedia]:
    """Go through everybody who uploaded something, one page at a time."""
    request = request or ListMediaByUser()
    while True:
        page = await admin.read(request)
        for user in page.users:
            yield user
        if page.next_token is None or not page.users:
            return
        request = replace(request, start=request.start + len(page.users))


async def all_quarantine_changes(
    admin: AdminReader, start: int = 0
) -> AsyncIterator[QuarantineChange]:
    """Go through all changes since ``start``, oldest first."""
    while True:
        page = await admin.read(ListQuarantineChanges(start))
        for change in page.changes:
            yield change
        if not page.changes or page.next_batch == start:
            return
        start = page.next_batch
