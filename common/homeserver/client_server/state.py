"""Settings of a room that its admins change: power, encryption, servers, widgets, spaces.

Each is one state event, put as it is: the same twice is the same as once.

Source: Matrix specification v1.18, client-server API, "Room events", "Spaces", "Server ACLs".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from common.homeserver.client_server.settings import put_state, read_event_id
from common.homeserver.port import Danger, HttpChange, Json, Permission
from common.i18n import Msg, t
from common.ids import EventId, RoomAlias, RoomId


@dataclass(frozen=True)
class SetPowerLevels:
    """``m.room.power_levels``: **the whole** content, so read it just before.

    Refused (403) where it takes or gives more power than the bot has; in room version 12 also
    (400 or 403) where it names a creator.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    content: Mapping[str, Any]

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, "m.room.power_levels", self.content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Change who may do what in {room}", room=self.room)


@dataclass(frozen=True)
class EnableEncryption:
    """``m.room.encryption``: from now on, for good."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    room: RoomId

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Switch encryption on in {room}", room=self.room)


@dataclass(frozen=True, kw_only=True)
class SetServerAcl:
    """``m.room.server_acl``: **all** of which servers may take part, with ``*`` and ``?``.

    An own server that is not allowed is locked out; Synapse refuses that (400).
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    allow_ip_literals: bool = False

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(
            self.room,
            "m.room.server_acl",
            {
                "allow": list(self.allow),
                "deny": list(self.deny),
                "allow_ip_literals": self.allow_ip_literals,
            },
        )

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.deny:
            return t("Let no server but {allowed} take part in {room}", **self._named())
        return t("Keep the servers {denied} out of {room}", **self._named())

    def _named(self) -> dict[str, object]:
        return {
            "room": self.room,
            "allowed": ", ".join(self.allow),
            "denied": ", ".join(self.deny),
        }


@dataclass(frozen=True)
class SetRetention:
    """``m.room.retention`` (MSC1763): how old messages may get; milliseconds.

    Where the homeserver enforces it, older ones are deleted for good.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    max_lifetime_ms: int
    min_lifetime_ms: int | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        options = {"max_lifetime": self.max_lifetime_ms, "min_lifetime": self.min_lifetime_ms}
        content = {name: value for name, value in options.items() if value is not None}
        return put_state(self.room, "m.room.retention", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        days = f"{self.max_lifetime_ms / 86_400_000:g}"
        return t("Delete messages in {room} after {days} days", room=self.room, days=days)


@dataclass(frozen=True)
class ClearRetention:
    """``m.room.retention`` (MSC1763) without a rule: the server's own one holds again."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, "m.room.retention", {})

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Keep messages in {room} as long as the server does", room=self.room)


@dataclass(frozen=True)
class TombstoneRoom:
    """``m.room.tombstone``: the room is over; ``replacement`` is where it goes on, if anywhere."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    text: str
    replacement: RoomId | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        content = {"body": self.text, "replacement_room": self.replacement or ""}
        return put_state(self.room, "m.room.tombstone", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.replacement is None:
            return t("Close {room}", room=self.room)
        return t("Close {room} and lead to {other}", room=self.room, other=self.replacement)


@dataclass(frozen=True)
class SetWidget:
    """``im.vector.modular.widgets``, which is what Element reads; ``None`` removes it."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    widget: str
    content: Mapping[str, Any] | None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, "im.vector.modular.widgets", self.content or {}, self.widget)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.content is None:
            return t("Remove the widget {widget} from {room}", widget=self.widget, room=self.room)
        return t("Add the widget {widget} to {room}", widget=self.widget, room=self.room)


@dataclass(frozen=True, kw_only=True)
class SetSpaceChild:
    """``m.space.child`` in the space ``room``; without ``via`` the child is taken out.

    ``order`` is at most 50 printable ASCII characters, sorted by code point. ``sentence`` says
    what it does where that is to change how a child stands there.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    child: RoomId
    via: tuple[str, ...]
    order: str | None = None
    suggested: bool = False
    sentence: Msg | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        content: dict[str, object] = {}
        if self.via:
            content = {"via": list(self.via), "suggested": self.suggested}
            if self.order is not None:
                content["order"] = self.order
        return put_state(self.room, "m.space.child", content, self.child)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.sentence is not None:
            return self.sentence
        if not self.via:
            return t("Take {child} out of the space {room}", child=self.child, room=self.room)
        return t("Put {child} into the space {room}", child=self.child, room=self.room)


@dataclass(frozen=True, kw_only=True)
class SetSpaceParent:
    """``m.space.parent`` in ``room``; without ``via`` it is removed."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    parent: RoomId
    via: tuple[str, ...]
    canonical: bool = False

    def to_http(self) -> HttpChange:
        """Return the call."""
        content = {"via": list(self.via), "canonical": self.canonical} if self.via else {}
        return put_state(self.room, "m.space.parent", content, self.parent)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.via:
            return t("Say in {room} that it is not in {space}", room=self.room, space=self.parent)
        return t("Say in {room} that it is in the space {space}", **self._named())

    def _named(self) -> dict[str, object]:
        return {"room": self.room, "space": self.parent}


@dataclass(frozen=True)
class SetCanonicalAlias:
    """``m.room.canonical_alias``: main and other addresses, **all** of them."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    alias: RoomAlias | None
    others: tuple[RoomAlias, ...] = ()

    def to_http(self) -> HttpChange:
        """Return the call; the homeserver checks that the addresses lead to this room."""
        content: dict[str, object] = {} if self.alias is None else {"alias": self.alias}
        if self.others:
            content["alt_aliases"] = list(self.others)
        return put_state(self.room, "m.room.canonical_alias", content)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.alias is None:
            return t("Leave {room} without a main address", room=self.room)
        return t("Make {alias} the main address of {room}", alias=self.alias, room=self.room)


@dataclass(frozen=True, kw_only=True)
class SetState:
    """Any other state event; whoever plans it says in a sentence what it does."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    type: str
    content: Mapping[str, Any]
    sentence: Msg
    state_key: str = ""

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_state(self.room, self.type, self.content, self.state_key)

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence
