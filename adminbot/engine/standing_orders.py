"""What a room's admins have adminbot do there by itself, and what follows from an event.

Pure: from the room's notes and an event to what is to be done. Events are hostile; what is said
is the admins' own text, never the event's.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.ids import EventId, RoomId, UserId

WELCOME = "welcome"
SLOW = "slow"
BARE = "ignore bare"
AUTOREPLY = "autoreply "
ONCE_IN_MS = 10_000
"""The same word is answered once in this time, however often it is said."""
LATE_MS = 600_000
"""What happened longer ago is nothing to react to any more."""
MOST_WRITERS = 10_000
SPEECH = ("m.room.message", "m.room.encrypted", "m.sticker")


@dataclass(frozen=True)
class Orders:
    """Those of one room. ``slow_ms``: how often one person may write; ``replies`` by word."""

    welcome: str | None = None
    whispered: bool = False
    slow_ms: int | None = None
    bare_ignored: bool = False
    replies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reaction:
    """Something to do, once for each ``key``. ``kind``: greet, whisper, reply or redact."""

    key: str
    kind: str
    room: RoomId
    user: UserId
    event: EventId
    text: str = ""


def read_orders(notes: Mapping[str, str]) -> Orders:
    """Return what a room's notes say."""
    welcome = json.loads(notes[WELCOME]) if WELCOME in notes else {}
    return Orders(
        welcome=welcome.get("text"),
        whispered=bool(welcome.get("whispered")),
        slow_ms=int(notes[SLOW]) if SLOW in notes else None,
        bare_ignored=BARE in notes,
        replies={
            name.removeprefix(AUTOREPLY): text
            for name, text in notes.items()
            if name.startswith(AUTOREPLY)
        },
    )


@dataclass
class Writers:
    """When somebody last wrote in a slow room; forgotten at a restart, which costs nothing."""

    last: dict[tuple[RoomId, UserId], int] = field(default_factory=dict)

    def too_soon(self, room: RoomId, user: UserId, at_ms: int, pause_ms: int) -> bool:
        """Say whether a message comes too soon after the one before, and remember it if not."""
        before = self.last.pop((room, user), None)
        if before is not None and 0 <= at_ms - before < pause_ms:
            self.last[room, user] = before
            return True
        self.last[room, user] = at_ms
        if len(self.last) > MOST_WRITERS:
            self.last.pop(next(iter(self.last)))
        return False


def on_event(
    event: Mapping[str, Any], room: RoomId, orders: Orders, writers: Writers
) -> Iterator[Reaction]:
    """Yield what follows from an event as it came, encrypted or not."""
    type_, sender, id_ = event.get("type"), event.get("sender"), event.get("event_id")
    at_ms = event.get("origin_server_ts")
    if not (isinstance(sender, str) and isinstance(id_, str) and isinstance(at_ms, int)):
        return
    who = event.get("state_key")
    if type_ == "m.room.member" and orders.welcome and isinstance(who, str) and _came(event):
        user = UserId(who)
        kind = "whisper" if orders.whispered else "greet"
        yield Reaction(f"steward-{kind}-{id_}", kind, room, user, EventId(id_), orders.welcome)
    if type_ in SPEECH and orders.slow_ms is not None and "state_key" not in event:
        user = UserId(sender)
        if writers.too_soon(room, user, at_ms, orders.slow_ms):
            yield Reaction(f"steward-slow-{id_}", "redact", room, user, EventId(id_))


def on_words(
    words: str, room: RoomId, orders: Orders, *, sender: UserId, event: EventId, at_ms: int
) -> Reaction | None:
    """Return the answer to what somebody said, if it holds one of the words."""
    said = words.lower()
    for word, text in orders.replies.items():
        if word in said:
            turn = at_ms // ONCE_IN_MS
            return Reaction(
                f"steward-reply-{turn}-{word}-{room}", "reply", room, sender, event, text
            )
    return None


def _came(event: Mapping[str, Any]) -> bool:
    content, unsigned = event.get("content"), event.get("unsigned")
    if not isinstance(content, Mapping) or content.get("membership") != "join":
        return False
    before = unsigned.get("prev_content") if isinstance(unsigned, Mapping) else None
    return not (isinstance(before, Mapping) and before.get("membership") == "join")
