"""Accounts of this homeserver."""

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
from common.ids import RoomId, UserId

UserOrder = Literal[
    "name",
    "displayname",
    "creation_ts",
    "last_seen_ts",
    "admin",
    "deactivated",
    "locked",
    "user_type",
]
Direction = Literal["f", "b"]


class UserSummary(msgspec.Struct, frozen=True):
    """One line of the list; times are milliseconds."""

    name: UserId
    is_guest: bool = False
    admin: bool = False
    user_type: str | None = None
    deactivated: bool = False
    locked: bool = False
    erased: bool = False
    shadow_banned: bool = False
    displayname: str | None = None
    avatar_url: str | None = None
    creation_ts: int | None = None
    last_seen_ts: int | None = None
    approved: bool | None = None
    """Whether a server admin has; ``None`` unless MSC3866 is switched on."""


class UserPage(msgspec.Struct, frozen=True):
    """A part of the list."""

    users: tuple[UserSummary, ...]
    total: int
    next_token: str | None = None


@dataclass(frozen=True)
class ThirdPartyId:
    """An e-mail address (medium “email”) or telephone number (“msisdn”)."""

    medium: str
    address: str


@dataclass(frozen=True)
class ExternalId:
    """An identity at a single sign-on provider."""

    auth_provider: str
    external_id: str


class UserDetails(msgspec.Struct, frozen=True):
    """One account. ``creation_ts`` is in seconds here, unlike in the list; see ``created_ms``."""

    name: UserId
    admin: bool = False
    deactivated: bool = False
    locked: bool = False
    suspended: bool = False
    shadow_banned: bool = False
    erased: bool = False
    is_guest: bool = False
    creation_ts: int | None = None
    last_seen_ts: int | None = None
    appservice_id: str | None = None
    user_type: str | None = None
    displayname: str | None = None
    avatar_url: str | None = None
    threepids: tuple[ThirdPartyId, ...] = ()
    external_ids: tuple[ExternalId, ...] = ()
    approved: bool | None = None

    @property
    def created_ms(self) -> int | None:
        """When the account was made, in milliseconds."""
        return None if self.creation_ts is None else self.creation_ts * 1000


class Device(msgspec.Struct, frozen=True):
    """One session of an account."""

    device_id: str
    display_name: str | None = None
    last_seen_ip: str | None = None
    last_seen_ts: int | None = None


class _Devices(msgspec.Struct, frozen=True):
    devices: tuple[Device, ...]


class _JoinedRooms(msgspec.Struct, frozen=True):
    joined_rooms: tuple[RoomId, ...]


class _AdminFlag(msgspec.Struct, frozen=True):
    admin: bool


class _Joined(msgspec.Struct, frozen=True):
    room_id: RoomId


@dataclass(frozen=True, kw_only=True)
class ListUsers:
    """``GET /_synapse/admin/v3/users``.

    ``guests`` and ``locked`` say whether such accounts are included; ``deactivated`` and
    ``admins`` are three-way: only, none, or ``None`` for both. Under MAS ``guests`` must be off.
    ``unapproved``: only those who wait for approval; everybody unless MSC3866 is switched on.
    """

    permission: ClassVar = Permission.VIEW

    name: str | None = None
    guests: bool = False
    admins: bool | None = None
    deactivated: bool | None = None
    locked: bool = True
    not_user_type: str | None = None
    unapproved: bool = False
    order_by: UserOrder = "name"
    direction: Direction = "f"
    start: int = 0
    limit: int = 100

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {
            "from": str(self.start),
            "limit": str(self.limit),
            "guests": _flag(on=self.guests),
            "locked": _flag(on=self.locked),
            "order_by": self.order_by,
            "dir": self.direction,
        }
        if self.name is not None:
            query["name"] = self.name
        if self.admins is not None:
            query["admins"] = _flag(on=self.admins)
        if self.deactivated is not None:
            query["deactivated"] = _flag(on=self.deactivated)
        if self.unapproved:
            query["approved"] = _flag(on=False)
        if self.not_user_type is not None:
            query["not_user_type"] = self.not_user_type
        return HttpGet(path="/_synapse/admin/v3/users", query=query, by_sender=True)

    def read_response(self, body: Json) -> UserPage:
        """Return the page."""
        return msgspec.convert(body, UserPage, strict=False)


@dataclass(frozen=True)
class GetUser:
    """``GET /_synapse/admin/v2/users/<user_id>``; ``NotFoundError`` if there is no such account."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v2/users/{}", self.user))

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return msgspec.convert(body, UserDetails, strict=False)


@dataclass(frozen=True)
class GetUserAdmin:
    """``GET /_synapse/admin/v1/users/<user_id>/admin``; not there under MAS."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/users/{}/admin", self.user))

    def read_response(self, body: Json) -> bool:
        """Return whether the account is a server admin."""
        return msgspec.convert(body, _AdminFlag, strict=False).admin


@dataclass(frozen=True)
class ListUserRooms:
    """``GET /_synapse/admin/v1/users/<user_id>/joined_rooms``."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/users/{}/joined_rooms", self.user))

    def read_response(self, body: Json) -> tuple[RoomId, ...]:
        """Return the rooms."""
        return msgspec.convert(body, _JoinedRooms).joined_rooms


@dataclass(frozen=True)
class ListUserDevices:
    """``GET /_synapse/admin/v2/users/<user_id>/devices``."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v2/users/{}/devices", self.user))

    def read_response(self, body: Json) -> tuple[Device, ...]:
        """Return the devices."""
        return msgspec.convert(body, _Devices).devices


@dataclass(frozen=True)
class SetUserAdmin:
    """``PUT /_synapse/admin/v1/users/<user_id>/admin``; not there under MAS."""

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    admin: bool

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path("/_synapse/admin/v1/users/{}/admin", self.user),
            body={"admin": self.admin},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.admin:
            return t("Make {user} a server admin", user=self.user)
        return t("Take the server admin right away from {user}", user=self.user)


@dataclass(frozen=True)
class JoinUser:
    """``POST /_synapse/admin/v1/join/<room>``: make a local account join a room.

    The asking account must be in the room with the power to invite, unless it is public.
    Somebody who is in such a room already cannot be joined again (403).
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False
    server_admins_only: ClassVar = True

    user: UserId
    room: RoomId

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v1/join/{}", self.room),
            body={"user_id": self.user},
        )

    def read_response(self, body: Json) -> RoomId:
        """Return the room that was joined."""
        return msgspec.convert(body, _Joined).room_id

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Make {user} join {room}", user=self.user, room=self.room)


async def all_users(
    admin: AdminReader, request: ListUsers | None = None
) -> AsyncIterator[UserSummary]:
    """Go through the whole list, one page at a time."""
    request = request or ListUsers()
    while True:
        page = await admin.read(request)
        for user in page.users:
            yield user
        if page.next_token is None or not page.users:
            return
        request = replace(request, start=request.start + len(page.users))


def _flag(*, on: bool) -> str:
    return "true" if on else "false"
