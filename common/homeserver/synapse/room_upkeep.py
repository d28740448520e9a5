"""What server admins do to a room as a whole: block it, mend its graph."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.i18n import Msg, t
from common.ids import EventId, RoomId, UserId


class ForwardExtremity(msgspec.Struct, frozen=True):
    """An event that no other follows yet; many of them make a room slow. Milliseconds."""

    event_id: EventId
    depth: int
    received_ts: int
    state_group: int | None = None


class RoomBlock(msgspec.Struct, frozen=True):
    """Whether local people may not join, and who decided that."""

    block: bool
    user_id: UserId | None = None


class _Extremities(msgspec.Struct, frozen=True):
    results: tuple[ForwardExtremity, ...]


class _Deleted(msgspec.Struct, frozen=True):
    deleted: int


@dataclass(frozen=True)
class GetRoomBlocker:
    """``GET /_synapse/admin/v1/rooms/<room_id>/block``, of rooms this server never saw too."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/rooms/{}/block", self.room))

    def read_response(self, body: Json) -> RoomBlock:
        """Return whether it is blocked and by whom."""
        return msgspec.convert(body, RoomBlock)


@dataclass(frozen=True)
class BlockRoom:
    """``PUT /_synapse/admin/v1/rooms/<room_id>/block``: local people may no longer join.

    Those inside stay. There is no list of blocked rooms.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId
    block: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path("/_synapse/admin/v1/rooms/{}/block", self.room),
            body={"block": self.block},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.block:
            return t("Block {room}: nobody of this server can join it", room=self.room)
        return t("Unblock {room}", room=self.room)


@dataclass(frozen=True)
class ListForwardExtremities:
    """``GET /_synapse/admin/v1/rooms/<room_id>/forward_extremities``."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_EXTREMITIES, self.room))

    def read_response(self, body: Json) -> tuple[ForwardExtremity, ...]:
        """Return the events."""
        return msgspec.convert(body, _Extremities, strict=False).results


@dataclass(frozen=True)
class DeleteForwardExtremities:
    """``DELETE /_synapse/admin/v1/rooms/<room_id>/forward_extremities``: all but one.

    Synapse's documentation warns against doing this on a schedule: state may get lost.
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(method="DELETE", path=path(_EXTREMITIES, self.room))

    def read_response(self, body: Json) -> int:
        """Return how many were removed."""
        return msgspec.convert(body, _Deleted).deleted

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Collapse the forward extremities of {room} to one", room=self.room)


_EXTREMITIES = "/_synapse/admin/v1/rooms/{}/forward_extremities"
