"""Messages that the bot reads, sends and redacts as a member.

Source: Matrix specification v1.18, client-server API, "Sending events" and "Relationships".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from common.homeserver.client_server.settings import read_event_id
from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.homeserver.synapse.room_content import Context, Direction, Messages, TimelineEvent
from common.i18n import Msg, t
from common.ids import EventId, RoomId


class Relations(msgspec.Struct, frozen=True):
    """Events that relate to another; ``next_batch`` leads on, if anything follows."""

    chunk: tuple[TimelineEvent, ...]
    next_batch: str | None = None


@dataclass(frozen=True, kw_only=True)
class GetMessages:
    """``GET /_matrix/client/v3/rooms/<room>/messages``, newest first unless “f”."""

    permission: ClassVar = Permission.READ_CONTENT

    room: RoomId
    start: str | None = None
    direction: Direction = "b"
    limit: int = 50

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {"dir": self.direction, "limit": str(self.limit)}
        if self.start is not None:
            query["from"] = self.start
        return HttpGet(path=path("/_matrix/client/v3/rooms/{}/messages", self.room), query=query)

    def read_response(self, body: Json) -> Messages:
        """Return the events."""
        return msgspec.convert(body, Messages)


@dataclass(frozen=True, kw_only=True)
class GetContext:
    """``GET /_matrix/client/v3/rooms/<room>/context/<event>``, ``limit`` events in all."""

    permission: ClassVar = Permission.READ_CONTENT

    room: RoomId
    event: EventId
    limit: int = 10

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path("/_matrix/client/v3/rooms/{}/context/{}", self.room, self.event)
        return HttpGet(path=where, query={"limit": str(self.limit)})

    def read_response(self, body: Json) -> Context:
        """Return the event and its neighbours."""
        return msgspec.convert(body, Context)


@dataclass(frozen=True, kw_only=True)
class GetRelations:
    """``GET /_matrix/client/v1/rooms/<room>/relations/<event>[/<relation>]``: newest first."""

    permission: ClassVar = Permission.READ_CONTENT

    room: RoomId
    event: EventId
    relation: str | None = None
    start: str | None = None
    limit: int = 50

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path("/_matrix/client/v1/rooms/{}/relations/{}", self.room, self.event)
        if self.relation is not None:
            where += path("/{}", self.relation)
        query = {"limit": str(self.limit)}
        if self.start is not None:
            query["from"] = self.start
        return HttpGet(path=where, query=query)

    def read_response(self, body: Json) -> Relations:
        """Return the events."""
        return msgspec.convert(body, Relations)


@dataclass(frozen=True, kw_only=True)
class SendEvent:
    """``PUT /_matrix/client/v3/rooms/<room>/send/<type>/<txn>``, unencrypted.

    Under one transaction ID it is sent once; the homeserver remembers that for half an hour at
    least, or until it restarts. Encrypted rooms need the bot's own sender instead.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    room: RoomId
    content: Mapping[str, Any]
    txn_id: str
    type: str = "m.room.message"

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_matrix/client/v3/rooms/{}/send/{}/{}", self.room, self.type, self.txn_id)
        return HttpChange(method="PUT", path=where, body=dict(self.content))

    def read_response(self, body: Json) -> EventId:
        """Return the event."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Write to {room}", room=self.room)


@dataclass(frozen=True, kw_only=True)
class RedactEvent:
    """``PUT /_matrix/client/v3/rooms/<room>/redact/<event>/<txn>``."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    room: RoomId
    event: EventId
    txn_id: str
    reason: str | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path(
            "/_matrix/client/v3/rooms/{}/redact/{}/{}", self.room, self.event, self.txn_id
        )
        body = {} if self.reason is None else {"reason": self.reason}
        return HttpChange(method="PUT", path=where, body=body)

    def read_response(self, body: Json) -> EventId:
        """Return the event of the redaction."""
        return read_event_id(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Redact the message {event} in {room}", event=self.event, room=self.room)
