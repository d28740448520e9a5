"""Addresses of rooms and the room directory.

Synapse lets an application service make and remove only addresses within its own namespace of
aliases, which Steward's registration has for the own server; with an older registration these are
refused with ``M_EXCLUSIVE``.

Source: Matrix specification v1.18, client-server API, "Room aliases" and "Listing rooms".
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.i18n import Msg, t
from common.ids import RoomAlias, RoomId


class _Aliases(msgspec.Struct, frozen=True):
    aliases: tuple[RoomAlias, ...]


class _Visibility(msgspec.Struct, frozen=True):
    visibility: Literal["public", "private"]


@dataclass(frozen=True)
class ListAliases:
    """``GET /_matrix/client/v3/rooms/<room>/aliases``: its addresses at this server."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_matrix/client/v3/rooms/{}/aliases", self.room))

    def read_response(self, body: Json) -> tuple[RoomAlias, ...]:
        """Return the addresses."""
        return msgspec.convert(body, _Aliases).aliases


@dataclass(frozen=True)
class AddAlias:
    """``PUT /_matrix/client/v3/directory/room/<alias>``; 409 if it leads somewhere already."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False

    room: RoomId
    alias: RoomAlias

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_matrix/client/v3/directory/room/{}", self.alias)
        return HttpChange(method="PUT", path=where, body={"room_id": self.room})

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Let {alias} lead to {room}", alias=self.alias, room=self.room)


@dataclass(frozen=True)
class RemoveAlias:
    """``DELETE /_matrix/client/v3/directory/room/<alias>``.

    The homeserver is not told ``room``: whoever plans this must have asked that the address leads
    there. Its canonical alias keeps naming it.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    alias: RoomAlias

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_matrix/client/v3/directory/room/{}", self.alias)
        return HttpChange(method="DELETE", path=where)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Take the address {alias} from {room}", alias=self.alias, room=self.room)


@dataclass(frozen=True)
class IsPublished:
    """``GET /_matrix/client/v3/directory/list/room/<room>``."""

    permission: ClassVar = Permission.VIEW

    room: RoomId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_LISTED, self.room))

    def read_response(self, body: Json) -> bool:
        """Return whether the room is in the directory."""
        return msgspec.convert(body, _Visibility).visibility == "public"


@dataclass(frozen=True)
class PublishRoom:
    """``PUT /_matrix/client/v3/directory/list/room/<room>``; a server admin need not be in it.

    Synapse lets nobody publish (403) unless ``room_list_publication_rules`` are configured.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    published: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path(_LISTED, self.room),
            body={"visibility": "public" if self.published else "private"},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.published:
            return t("List {room} in the room directory", room=self.room)
        return t("Take {room} out of the room directory", room=self.room)


_LISTED = "/_matrix/client/v3/directory/list/room/{}"
