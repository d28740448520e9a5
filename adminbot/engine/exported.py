"""A room's events as lines of JSON, for who has to hand them on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.homeserver.synapse.room_content import TimelineEvent
from common.ids import RoomId, UserId

FORMAT = "steward-room-export/1"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of a room is exported, for whom and why; milliseconds, from and not until."""

    room: RoomId
    by: UserId
    reason: str
    from_ms: int | None = None
    until_ms: int | None = None

    def holds(self, event: TimelineEvent) -> bool:
        """Say whether an event is of the wanted time, by the clock of its sender's server."""
        at_ms = event.origin_server_ts
        return (self.from_ms is None or at_ms >= self.from_ms) and (
            self.until_ms is None or at_ms < self.until_ms
        )


def heading(wanted: Wanted, *, part: int) -> bytes:
    """Return the first line of a file: what it holds, and for whom it was made."""
    return _line(
        {
            "format": FORMAT,
            "room_id": wanted.room,
            "part": part,
            "for": wanted.by,
            "reason": wanted.reason,
            "from_ms": wanted.from_ms,
            "until_ms": wanted.until_ms,
        }
    )


def line_of(event: TimelineEvent) -> bytes:
    """Return one event as a line; what is encrypted or was redacted is marked as such."""
    line: dict[str, Any] = {
        "event_id": event.event_id,
        "type": event.type,
        "sender": event.sender,
        "origin_server_ts": event.origin_server_ts,
        "content": event.content,
    }
    if event.state_key is not None:
        line["state_key"] = event.state_key
    if event.type == "m.room.encrypted":
        line["encrypted"] = True
    if "redacted_because" in event.unsigned:
        line["redacted"] = True
    return _line(line)


def _line(held: Mapping[str, Any]) -> bytes:
    # ASCII: line separators and broken surrogates in what people wrote stay within their line.
    return json.dumps(held, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
