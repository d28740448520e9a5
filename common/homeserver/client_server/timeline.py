"""What happened in a room without what was said: who sent an event of which kind, when.

Source: Matrix specification v1.18, client-server API, "Getting events for a room".
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec

from common.homeserver.port import AdminReader, HttpGet, Json, Permission, path
from common.homeserver.synapse.room_content import TimelineEvent
from common.ids import EventId, RoomId, UserId

_MEDIA = ("m.image", "m.video", "m.audio", "m.file")


@dataclass(frozen=True)
class EventHead:
    """An event without its content; milliseconds.

    Of a membership, ``member`` is whose it is, ``membership`` what it became and ``before`` what
    it was. ``empty``: nothing is left to redact. ``media``: a picture or another file, as far as
    that can be seen: not of what is encrypted.
    """

    event: EventId
    sender: UserId
    type: str
    at_ms: int
    member: UserId | None = None
    membership: str | None = None
    before: str | None = None
    state: bool = False
    empty: bool = False
    media: bool = False


@dataclass(frozen=True)
class EventHeads:
    """A part of a timeline, newest first; ``end`` leads on to what is older."""

    heads: tuple[EventHead, ...]
    end: str | None = None


class _Page(msgspec.Struct, frozen=True):
    chunk: tuple[TimelineEvent, ...]
    end: str | None = None


@dataclass(frozen=True, kw_only=True)
class ListEventHeads:
    """``GET /_matrix/client/v3/rooms/<room>/messages``, newest first, of it only the heads.

    ``senders`` and ``types`` narrow it; an empty tuple narrows nothing.
    """

    permission: ClassVar = Permission.VIEW

    room: RoomId
    senders: tuple[UserId, ...] = ()
    types: tuple[str, ...] = ()
    start: str | None = None
    limit: int = 100

    def to_http(self) -> HttpGet:
        """Return the call."""
        narrowed = {"senders": list(self.senders), "types": list(self.types)}
        wanted = {name: values for name, values in narrowed.items() if values}
        query = {"dir": "b", "limit": str(self.limit), "filter": json.dumps(wanted)}
        if self.start is not None:
            query["from"] = self.start
        return HttpGet(path=path("/_matrix/client/v3/rooms/{}/messages", self.room), query=query)

    def read_response(self, body: Json) -> EventHeads:
        """Return the heads."""
        page = msgspec.convert(body, _Page)
        return EventHeads(tuple(_head(event) for event in page.chunk), page.end)


@dataclass(frozen=True)
class GetEventHead:
    """``GET /_matrix/client/v3/rooms/<room>/event/<event>``, of it only the head."""

    permission: ClassVar = Permission.VIEW

    room: RoomId
    event: EventId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_matrix/client/v3/rooms/{}/event/{}", self.room, self.event))

    def read_response(self, body: Json) -> EventHead:
        """Return the head; ``NotFoundError`` if the bot sees no such event there."""
        return _head(msgspec.convert(body, TimelineEvent))


async def heads_back_to(
    admin: AdminReader, request: ListEventHeads, *, since_ms: int, most: int
) -> AsyncIterator[EventHead]:
    """Go back through a room's events, newest first, to a moment; looks at ``most`` events."""
    seen = 0
    while seen < most:
        page = await admin.read(request)
        for head in page.heads:
            if head.at_ms < since_ms or seen >= most:
                return
            seen += 1
            yield head
        if page.end is None:
            return
        request = replace(request, start=page.end)


def _head(event: TimelineEvent) -> EventHead:
    before = event.unsigned.get("prev_content")
    is_member = event.type == "m.room.member" and event.state_key is not None
    return EventHead(
        event=event.event_id,
        sender=event.sender,
        type=event.type,
        at_ms=event.origin_server_ts,
        member=UserId(event.state_key) if is_member and event.state_key is not None else None,
        membership=_membership(event.content) if is_member else None,
        before=_membership(before) if is_member else None,
        state=event.state_key is not None,
        empty=not event.content or "redacted_because" in event.unsigned,
        media=event.type == "m.sticker" or event.content.get("msgtype") in _MEDIA,
    )


def _membership(content: object) -> str | None:
    found: Any = content.get("membership") if isinstance(content, Mapping) else None
    return found if isinstance(found, str) else None
