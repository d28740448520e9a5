"""Making rooms, and going on in a new version of one.

Source: Matrix specification v1.18, client-server API, "Creation" and "Room upgrades".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, Json, Permission, path
from common.i18n import Msg, t
from common.ids import RoomId, UserId


class _Made(msgspec.Struct, frozen=True):
    room_id: RoomId


class _Upgraded(msgspec.Struct, frozen=True):
    replacement_room: RoomId


@dataclass(frozen=True, kw_only=True)
class CreateRoom:
    """``POST /_matrix/client/v3/createRoom`` with the bot as creator.

    ``alias_localpart`` is the address without ``#`` and server; see ``directory`` for what
    addresses are allowed. ``options`` are further members of the call's body.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False

    name: str | None = None
    topic: str | None = None
    preset: Literal["private_chat", "public_chat", "trusted_private_chat"] = "private_chat"
    invite: tuple[UserId, ...] = ()
    alias_localpart: str | None = None
    room_version: str | None = None
    space: bool = False
    initial_state: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_http(self) -> HttpChange:
        """Return the call."""
        named = {
            "name": self.name,
            "topic": self.topic,
            "room_alias_name": self.alias_localpart,
            "room_version": self.room_version,
        }
        body: dict[str, object] = {"preset": self.preset, "invite": list(self.invite)}
        body |= {name: value for name, value in named.items() if value is not None}
        if self.space:
            body["creation_content"] = {"type": "m.space"}
        if self.initial_state:
            body["initial_state"] = [dict(event) for event in self.initial_state]
        return HttpChange(
            method="POST", path="/_matrix/client/v3/createRoom", body={**body, **self.options}
        )

    def read_response(self, body: Json) -> RoomId:
        """Return the room."""
        return msgspec.convert(body, _Made).room_id

    def describe(self) -> Msg:
        """Return what it does."""
        if self.space:
            return t("Make a space named “{name}”", name=self.name or "")
        return t("Make a room named “{name}”", name=self.name or "")


@dataclass(frozen=True)
class UpgradeRoom:
    """``POST /_matrix/client/v3/rooms/<room>/upgrade``: a new room takes the old one's place.

    ``creators`` are further creators of a room of version 12 or later, whom nobody can demote.
    Settings, power and addresses are taken over, as far as the bot may; people are not: who was in
    the old room finds the new one by its tombstone and must be invited, unless it lets them join.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False

    room: RoomId
    version: str
    creators: tuple[UserId, ...] = ()

    def to_http(self) -> HttpChange:
        """Return the call."""
        body: dict[str, object] = {"new_version": self.version}
        if self.creators:
            body["additional_creators"] = list(self.creators)
        return HttpChange(
            method="POST", path=path("/_matrix/client/v3/rooms/{}/upgrade", self.room), body=body
        )

    def read_response(self, body: Json) -> RoomId:
        """Return the new room."""
        return msgspec.convert(body, _Upgraded).replacement_room

    def describe(self) -> Msg:
        """Return what it does."""
        return t(
            "Replace {room} by a room of version {version}", room=self.room, version=self.version
        )
