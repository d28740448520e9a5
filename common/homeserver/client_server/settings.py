"""Settings of a room that moderators change: names, pins, who may join and read.

Each is one state event, put as it is: the same twice is the same as once.

Source: Matrix specification v1.18, client-server API, "Room events" and "History visibility".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, Json, Permission, path
from common.i18n import Msg, n, t
from common.ids import EventId, RoomId

JoinRule = Literal["public", "invite", "knock", "restricted", "knock_restricted"]
HistoryVisibility = Literal["world_readable", "shared", "invited", "joined"]


class Sent(msgspec.Struct, frozen=True):
    """The event that was sent."""

    event_id: EventId


def put_state(
    room: RoomId, type_: str, content: Mapping[str, object], state_key: str = ""
) -> HttpChange:
    """Return ``PUT /_matrix/client/v3/rooms/<room>/state/<type>/<key>``."""
    where = path("/_matrix/client/v3/rooms/{}/state/{}/{}", room, type_, state_key)
    return HttpChange(method="PUT", path=where, body=content)


def read_event_id(body: Json) -> EventId:
    """Return the ID of the event that was sent."""
    return msgspec.convert(body, Sent).event_id


@dataclass(frozen=True)
class SetRoomName:
    """``m.room.name``; ``""`` for none."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    name: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, "m.room.name", {"name": self.name})

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.name:
            return t("Take the name of {room} away", room=self.room)
        return t("Name {room} “{name}”", room=self.room, name=self.name)


@dataclass(frozen=True)
class SetRoomTopic:
    """``m.room.topic``, as plain text in both of its forms (MSC3765); ``""`` for none."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    topic: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        content: dict[str, object] = {"topic": self.topic}
        if self.topic:
            content["m.topic"] = {"m.text": [{"body": self.topic}]}
        return put_state(self.room, "m.room.topic", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.topic:
            return t("Take the topic of {room} away", room=self.room)
        return t("Set the topic of {room} to “{topic}”", room=self.room, topic=self.topic)


@dataclass(frozen=True)
class SetRoomAvatar:
    """``m.room.avatar``: an ``mxc://`` address, or ``None`` for none."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    url: str | None

    def to_http(self) -> HttpChange:
        """Return the call."""
        content = {} if self.url is None else {"url": self.url}
        return put_state(self.room, "m.room.avatar", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.url is None:
            return t("Take the picture of {room} away", room=self.room)
        return t("Give {room} the picture {url}", room=self.room, url=self.url)


@dataclass(frozen=True)
class SetPinned:
    """``m.room.pinned_events``: **all** pinned messages, so read them just before."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    events: tuple[EventId, ...]

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, "m.room.pinned_events", {"pinned": list(self.events)})

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return n(
            "Have {count} message pinned in {room}",
            "Have {count} messages pinned in {room}",
            len(self.events),
            room=self.room,
        )


@dataclass(frozen=True)
class SetJoinRule:
    """``m.room.join_rules``; members of the ``allow`` rooms may join a restricted one.

    “restricted” needs room version 8, “knock_restricted” version 10.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    rule: JoinRule
    allow: tuple[RoomId, ...] = ()

    def to_http(self) -> HttpChange:
        """Return the call."""
        content: dict[str, object] = {"join_rule": self.rule}
        if self.rule in {"restricted", "knock_restricted"}:
            content["allow"] = [
                {"type": "m.room_membership", "room_id": room} for room in self.allow
            ]
        return put_state(self.room, "m.room.join_rules", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        match self.rule:
            case "public":
                return t("Let everybody join {room}", room=self.room)
            case "invite":
                return t("Let only invited people join {room}", room=self.room)
            case "knock":
                return t("Let people ask to join {room}", room=self.room)
            case "restricted":
                return t("Let members of other rooms join {room}: {rooms}", **self._named())
            case "knock_restricted":
                return t(
                    "Let members of other rooms join {room}, and others ask to: {rooms}",
                    **self._named(),
                )

    def _named(self) -> dict[str, object]:
        return {"room": self.room, "rooms": ", ".join(self.allow)}


@dataclass(frozen=True)
class SetHistoryVisibility:
    """``m.room.history_visibility``: who may read what was said before they came.

    What was said stays as visible as it was then.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    visibility: HistoryVisibility

    def to_http(self) -> HttpChange:
        """Return the call."""
        content = {"history_visibility": self.visibility}
        return put_state(self.room, "m.room.history_visibility", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        match self.visibility:
            case "world_readable":
                return t("Let anybody in the world read {room}", room=self.room)
            case "shared":
                return t("Let members of {room} read all of it", room=self.room)
            case "invited":
                return t("Let members of {room} read it since they were invited", room=self.room)
            case "joined":
                return t("Let members of {room} read it since they joined", room=self.room)


@dataclass(frozen=True)
class SetGuestAccess:
    """``m.room.guest_access``: whether people without an account may join."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    allowed: bool

    def to_http(self) -> HttpChange:
        """Return the call."""
        content = {"guest_access": "can_join" if self.allowed else "forbidden"}
        return put_state(self.room, "m.room.guest_access", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.allowed:
            return t("Let guests into {room}", room=self.room)
        return t("Keep guests out of {room}", room=self.room)
