"""Listening to bridges' bots: who asked something hears what the bot does next.

Every event of the homeserver comes by here. An event that nobody waits for is forgotten at once;
what a bot says is kept in memory for the one conversation only and never logged: it may be the
payload of a log-in code.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from adminbot.bridges.hearing import Said, SaidKind
from common.clock import Clock
from common.ids import EventId, RoomId, UserId
from common.inbox.signal import Signal

MOST_SAID = 200
"""What a bot can make us remember of one conversation."""


@dataclass
class Listener:
    """One conversation: what ``bot`` did in ``rooms`` since it was opened.

    ``person`` and ``expected``: words that this person is going to type, wherever; the room
    where they do joins ``rooms``. ``invited_to`` are rooms into which the bot invited ``account``.
    """

    bot: UserId
    account: UserId
    rooms: set[RoomId]
    expected: frozenset[str] = frozenset()
    said: list[Said] = field(default_factory=list)
    invited_to: list[RoomId] = field(default_factory=list)
    typed_in: RoomId | None = None
    heard: Signal = field(default_factory=Signal)
    _seen: set[str] = field(default_factory=set)

    def hear(self, event: Mapping[str, Any], at: float) -> None:
        """Take one event in; each counts once, whichever feed brings it."""
        room, sender, name = event.get("room_id"), event.get("sender"), event.get("event_id")
        if not isinstance(room, str) or not isinstance(name, str) or name in self._seen:
            return
        if sender == self.account and self._is_expected(event):
            self._remember(name)
            self.typed_in = RoomId(room)
            self.rooms.add(self.typed_in)
            self.heard.notify()
        elif sender == self.bot:
            self._hear_bot(event, RoomId(room), EventId(name), at)

    def begin_anew(self) -> None:
        """Forget what was said so far; the next words are about to be typed."""
        self.said.clear()
        self.invited_to.clear()

    def _hear_bot(self, event: Mapping[str, Any], room: RoomId, name: EventId, at: float) -> None:
        if _invites(event, self.account) and len(self.said) < MOST_SAID:
            self._remember(name)
            self.invited_to.append(room)
            self.said.append(Said(SaidKind.INVITED, "", name, at))
            self.heard.notify()
        elif room in self.rooms and len(self.said) < MOST_SAID:
            one = _said(event, self.bot, name, at)
            if one is not None:
                self._remember(name)
                self.said.append(one)
                self.heard.notify()

    def _is_expected(self, event: Mapping[str, Any]) -> bool:
        content = event.get("content")
        body = content.get("body") if isinstance(content, dict) else None
        return isinstance(body, str) and " ".join(body.split()).lower() in self.expected

    def _remember(self, name: str) -> None:
        self._seen.add(name)


@dataclass
class Ears:
    """Everybody who listens at the moment."""

    clock: Clock
    listeners: list[Listener] = field(default_factory=list)

    @contextmanager
    def listening(
        self, bot: UserId, account: UserId, *rooms: RoomId, expected: frozenset[str] = frozenset()
    ) -> Iterator[Listener]:
        """Listen to a bot until the block ends."""
        listener = Listener(bot, account, set(rooms), expected)
        self.listeners.append(listener)
        try:
            yield listener
        finally:
            self.listeners.remove(listener)

    def hear(self, event: Mapping[str, Any]) -> None:
        """Hand one event on to whom it may concern."""
        at = self.clock.monotonic()
        for listener in self.listeners:
            listener.hear(event, at)


def _said(event: Mapping[str, Any], bot: UserId, name: EventId, at: float) -> Said | None:
    content = event.get("content")
    if not isinstance(content, dict):
        return None
    match event.get("type"):
        case "m.room.message" | "m.room.encrypted" as type_:
            hidden = Said(SaidKind.UNREADABLE, "", name, at)
            return _message(content, name, at) if type_ == "m.room.message" else hidden
        case "m.reaction":
            relation = content.get("m.relates_to")
            key = relation.get("key") if isinstance(relation, dict) else None
            return Said(SaidKind.REACTION, key, name, at) if isinstance(key, str) else None
        case "m.room.redaction":
            # Room version 11 moved it into the content.
            about = content.get("redacts") or event.get("redacts")
            gone = EventId(about) if isinstance(about, str) else None
            return Said(SaidKind.REDACTION, "", name, at, gone)
        case "m.room.member" if event.get("state_key") == bot:
            left = content.get("membership") in {"leave", "ban"}
            return Said(SaidKind.LEFT, "", name, at) if left else None
        case _:
            return None


def _message(content: Mapping[str, Any], name: EventId, at: float) -> Said | None:
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        inner, about = content.get("m.new_content"), relation.get("event_id")
        text = inner.get("body") if isinstance(inner, dict) else None
        if isinstance(text, str) and isinstance(about, str):
            return Said(SaidKind.EDIT, text, name, at, EventId(about))
        return None
    text = content.get("body")
    if not isinstance(text, str):
        return None
    kind = SaidKind.IMAGE if content.get("msgtype") == "m.image" else SaidKind.TEXT
    return Said(kind, text, name, at)


def _invites(event: Mapping[str, Any], account: UserId) -> bool:
    content = event.get("content")
    return (
        event.get("type") == "m.room.member"
        and event.get("state_key") == account
        and isinstance(content, dict)
        and content.get("membership") == "invite"
    )
