"""Deleting rooms and their history, which Synapse does in the background."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, Progress, path
from common.i18n import Msg, n, t
from common.ids import EventId, RoomAlias, RoomId, UserId


class ShutDown(msgspec.Struct, frozen=True):
    """Who was taken out of a room that is deleted, and what became of its addresses."""

    kicked_users: tuple[UserId, ...] = ()
    failed_to_kick_users: tuple[UserId, ...] = ()
    local_aliases: tuple[RoomAlias, ...] = ()
    new_room_id: RoomId | None = None


class RoomDeletion(msgspec.Struct, frozen=True):
    """How far it is. Why it failed is in the homeserver's log only, and in its scheduled tasks."""

    status: Literal["scheduled", "active", "complete", "failed", "cancelled"]
    delete_id: str
    room_id: RoomId
    shutdown_room: ShutDown | None = None

    def progress(self, *, forced: bool = False) -> Progress:
        """Return the same as progress: how many people have been taken out.

        ``forced``: whether it was to be deleted even with people in it.
        """
        shut_down = self.shutdown_room or ShutDown()
        finished = self.status not in _GOES_ON
        left = shut_down.failed_to_kick_users
        return Progress(
            finished=finished,
            failed=_why_not(self.status, () if forced else left),
            done=len(shut_down.kicked_users),
            said=_outcome(left, shut_down.new_room_id if finished else None),
        )


class _Deletions(msgspec.Struct, frozen=True):
    results: tuple[RoomDeletion, ...]


class _DeleteId(msgspec.Struct, frozen=True):
    delete_id: str


class _PurgeId(msgspec.Struct, frozen=True):
    purge_id: str


class HistoryPurge(msgspec.Struct, frozen=True):
    """How far it is; it is not counted."""

    status: Literal["active", "complete", "failed"]
    error: str | None = None

    @property
    def progress(self) -> Progress:
        """The same as progress."""
        failed = self.error or t("It does not say why.") if self.status == "failed" else None
        return Progress(finished=self.status != "active", failed=failed)


@dataclass(frozen=True, kw_only=True)
class DeleteRoom:
    """``DELETE /_synapse/admin/v2/rooms/<room_id>``: everybody local out, then gone.

    ``new_room_owner`` (a local account) makes a room that they are moved to, with ``new_room_name``
    and ``message`` in it; it must not be set where that is not wanted. ``block`` keeps local
    people from joining again, ``force_purge`` removes it even where somebody could not be taken
    out. One deletion of a room at a time (400).
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False
    server_admins_only: ClassVar = True

    room: RoomId
    block: bool = False
    purge: bool = True
    force_purge: bool = False
    new_room_owner: UserId | None = None
    new_room_name: str | None = None
    message: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        options = {
            "new_room_user_id": self.new_room_owner,
            "room_name": self.new_room_name,
            "message": self.message,
        }
        given = {name: value for name, value in options.items() if value is not None}
        flags = {"block": self.block, "purge": self.purge, "force_purge": self.force_purge}
        return HttpChange(
            method="DELETE",
            path=path("/_synapse/admin/v2/rooms/{}", self.room),
            body={**flags, **given},
        )

    def read_response(self, body: Json) -> str:
        """Return the name of the task."""
        return msgspec.convert(body, _DeleteId).delete_id

    def follow(self, task: str) -> "FollowRoomDeletion":
        """Return the request that tells how far it is."""
        return FollowRoomDeletion(task, self.force_purge)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.purge:
            said = t("Take everybody of this server out of {room}", room=self.room)
        else:
            said = t("Delete {room} and everything in it", room=self.room)
        if self.block:
            return t("{what}, and block it", what=said)
        return said


@dataclass(frozen=True)
class GetRoomDeletion:
    """``GET /_synapse/admin/v2/rooms/delete_status/<delete_id>``; forgotten after some days."""

    permission: ClassVar = Permission.VIEW

    task: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v2/rooms/delete_status/{}", self.task))

    def read_response(self, body: Json) -> RoomDeletion:
        """Return how far it is; ``NotFoundError`` if it is not known."""
        return msgspec.convert(body, RoomDeletion)


@dataclass(frozen=True)
class ListRoomDeletions:
    """``GET /_synapse/admin/v2/rooms/<room_id>/delete_status``."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v2/rooms/{}/delete_status", self.room))

    def read_response(self, body: Json) -> tuple[RoomDeletion, ...]:
        """Return every known deletion of this room; ``NotFoundError`` if there was none."""
        return msgspec.convert(body, _Deletions).results


@dataclass(frozen=True)
class FollowRoomDeletion:
    """``GET /_synapse/admin/v2/rooms/delete_status/<delete_id>`` as progress."""

    permission: ClassVar = Permission.VIEW

    task: str
    forced: bool = False

    def to_http(self) -> HttpGet:
        """Return the call."""
        return GetRoomDeletion(self.task).to_http()

    def read_response(self, body: Json) -> Progress:
        """Return how far it is."""
        return GetRoomDeletion(self.task).read_response(body).progress(forced=self.forced)


@dataclass(frozen=True, kw_only=True)
class PurgeHistory:
    """``POST /_synapse/admin/v1/purge_history/<room_id>``: messages before a moment or an event.

    ``before_ms`` in milliseconds. Messages of local people, of which there may be no other copy,
    are only removed with ``local_too``. The newest message of a room always stays.
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False
    server_admins_only: ClassVar = True

    room: RoomId
    before_ms: int | None = None
    before_event: EventId | None = None
    local_too: bool = False

    def to_http(self) -> HttpChange:
        """Return the call."""
        body: dict[str, object] = {"delete_local_events": self.local_too}
        if self.before_event is not None:
            body["purge_up_to_event_id"] = self.before_event
        elif self.before_ms is not None:
            body["purge_up_to_ts"] = self.before_ms
        return HttpChange(
            method="POST", path=path("/_synapse/admin/v1/purge_history/{}", self.room), body=body
        )

    def read_response(self, body: Json) -> str:
        """Return the name of the task."""
        return msgspec.convert(body, _PurgeId).purge_id

    def follow(self, task: str) -> "FollowHistoryPurge":
        """Return the request that tells how far it is."""
        return FollowHistoryPurge(task)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.local_too:
            return t("Remove the older messages of {room}, whoever wrote them", room=self.room)
        return t("Remove the older messages of other servers' people in {room}", room=self.room)


@dataclass(frozen=True)
class GetHistoryPurge:
    """``GET /_synapse/admin/v1/purge_history_status/<purge_id>``."""

    permission: ClassVar = Permission.VIEW

    task: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/purge_history_status/{}", self.task))

    def read_response(self, body: Json) -> HistoryPurge:
        """Return how far it is; ``NotFoundError`` if it is not known."""
        return msgspec.convert(body, HistoryPurge)


@dataclass(frozen=True)
class FollowHistoryPurge:
    """``GET /_synapse/admin/v1/purge_history_status/<purge_id>`` as progress."""

    permission: ClassVar = Permission.VIEW

    task: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return GetHistoryPurge(self.task).to_http()

    def read_response(self, body: Json) -> Progress:
        """Return how far it is."""
        return GetHistoryPurge(self.task).read_response(body).progress


_GOES_ON = frozenset({"scheduled", "active"})


def _why_not(status: str, left: Sequence[UserId]) -> Msg | None:
    if status == "cancelled":
        return t("It was cancelled.")
    if status != "failed":
        return None
    if not left:
        return t("The homeserver gave up; its log says why.")
    # Synapse deletes nothing as long as one of its own is inside, a suspended account say.
    return n(
        "{count} person could not be taken out: {people}. “room delete” with --force deletes the "
        "room all the same.",
        "{count} people could not be taken out: {people}. “room delete” with --force deletes the "
        "room all the same.",
        len(left),
        people=", ".join(left[:5]),
    )


def _outcome(left: Sequence[UserId], new_room: RoomId | None) -> Msg | None:
    if new_room is None:
        return _left_inside(left)
    if not left:
        return t("The new room is {room}.", room=new_room)
    return n(
        "{count} person could not be moved: {people}. The new room is {room}.",
        "{count} people could not be moved: {people}. The new room is {room}.",
        len(left),
        people=", ".join(left[:5]),
        room=new_room,
    )


def _left_inside(people: Sequence[UserId]) -> Msg | None:
    if not people:
        return None
    return n(
        "{count} person could not be taken out: {people}.",
        "{count} people could not be taken out: {people}.",
        len(people),
        people=", ".join(people[:5]),
    )
