"""Who is in a room, as far as the bot's own power there goes.

Source: Matrix specification v1.18, client-server API, "Room membership".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.i18n import Msg, t
from common.ids import RoomAlias, RoomId, UserId

Membership = Literal["join", "invite", "knock", "leave", "ban"]


class Member(msgspec.Struct, frozen=True):
    """A membership: whose (``state_key``), set by whom; ``content`` is hostile."""

    state_key: UserId
    sender: UserId
    content: Mapping[str, Any] = {}
    origin_server_ts: int = 0


class _Members(msgspec.Struct, frozen=True):
    chunk: tuple[Member, ...]


class _Joined(msgspec.Struct, frozen=True):
    room_id: RoomId


@dataclass(frozen=True)
class ListMembers:
    """``GET /_matrix/client/v3/rooms/<room>/members`` of one kind, or all there ever were."""

    permission: ClassVar = Permission.VIEW

    room: RoomId
    membership: Membership | None = None

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {} if self.membership is None else {"membership": self.membership}
        return HttpGet(path=path("/_matrix/client/v3/rooms/{}/members", self.room), query=query)

    def read_response(self, body: Json) -> tuple[Member, ...]:
        """Return the memberships."""
        return msgspec.convert(body, _Members).chunk


@dataclass(frozen=True)
class InviteUser:
    """``POST /_matrix/client/v3/rooms/<room>/invite``; 403 if they are inside or banned."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    user: UserId
    reason: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return _membership("invite", self.room, self.user, self.reason)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Invite {user} to {room}", user=self.user, room=self.room)


@dataclass(frozen=True)
class KickUser:
    """``POST /_matrix/client/v3/rooms/<room>/kick``; refuses a knock and takes invitations back.

    Refused (403) if they are not there, or as powerful as the bot.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False  # the second time they are not there: 403

    room: RoomId
    user: UserId
    reason: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return _membership("kick", self.room, self.user, self.reason)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Remove {user} from {room}", user=self.user, room=self.room)


@dataclass(frozen=True)
class BanUser:
    """``POST /_matrix/client/v3/rooms/<room>/ban``, also of who was never there."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    user: UserId
    reason: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return _membership("ban", self.room, self.user, self.reason)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Ban {user} from {room}", user=self.user, room=self.room)


@dataclass(frozen=True)
class UnbanUser:
    """``POST /_matrix/client/v3/rooms/<room>/unban``; 403 if they are not banned."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False

    room: RoomId
    user: UserId
    reason: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return _membership("unban", self.room, self.user, self.reason)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Lift the ban of {user} from {room}", user=self.user, room=self.room)


@dataclass(frozen=True)
class JoinRoom:
    """``POST /_matrix/client/v3/join/<room>``: the bot itself."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId | RoomAlias

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(method="POST", path=path("/_matrix/client/v3/join/{}", self.room))

    def read_response(self, body: Json) -> RoomId:
        """Return the room."""
        return msgspec.convert(body, _Joined).room_id

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Join {room}", room=self.room)


@dataclass(frozen=True)
class LeaveRoom:
    """``POST /_matrix/client/v3/rooms/<room>/leave``: the bot itself; 403 if it is not inside."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False

    room: RoomId
    reason: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        body = {} if self.reason is None else {"reason": self.reason}
        return HttpChange(
            method="POST", path=path("/_matrix/client/v3/rooms/{}/leave", self.room), body=body
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Leave {room}", room=self.room)


def _membership(act: str, room: RoomId, user: UserId, reason: str | None) -> HttpChange:
    body = {"user_id": user} if reason is None else {"user_id": user, "reason": reason}
    return HttpChange(
        method="POST", path=path("/_matrix/client/v3/rooms/{}/{}", room, act), body=body
    )
