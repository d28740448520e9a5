"""Is this event a command, a confirmation, or nothing of ours? Decided from the event alone.

Source of the list of what is never obeyed: edits, notices, quoted text, other servers' people,
our own accounts, old and redacted events. Everything in an event is hostile: types are checked
before use, and the display name is never read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from adminbot.engine.answer import moment_of
from adminbot.engine.choice import number_in
from adminbot.engine.confirm import YES, Reaction, Reply, is_yes, spoken
from adminbot.engine.line import without_reply_fallback
from adminbot.engine.text import storable
from common.errors import UserError
from common.ids import (
    EventId,
    RoomId,
    UserId,
    parse_event_id,
    parse_room_id,
    parse_user_id,
    server_of,
)

LONGEST_KEY = 64
LATEST_MS = 2**53 - 1
"""The largest integer of canonical JSON; the databases hold no much larger ones."""


class Ignored(StrEnum):
    """Why an event is nothing of ours."""

    MALFORMED = "malformed"
    NOT_A_MESSAGE = "not a message"
    REMOTE = "sent from another server"
    OWN = "sent by one of our own accounts"
    REDACTED = "redacted"
    OLD = "too old"
    NOT_TEXT = "not plain text"
    EDIT = "an edit"
    FORWARDED = "forwarded"
    NOT_FOR_US = "not for us"


@dataclass(frozen=True)
class Surroundings:
    """What is to be known to tell our events from others."""

    server_name: str
    own: frozenset[UserId]
    prefixes: Sequence[str]
    first_words: frozenset[str]
    now_ms: int
    max_age_ms: int


@dataclass(frozen=True)
class Envelope:
    """An event by a local person, recent, and not taken back."""

    event: EventId
    room: RoomId
    sender: UserId
    type: str
    origin_ms: int
    content: Mapping[str, Any]


class Source(StrEnum):
    """How a command came to be."""

    MESSAGE = "message"
    BUTTON = "button"
    """Somebody reacted to a message of ours that offers it."""
    SCHEDULE = "schedule"
    """It was confirmed when it was scheduled; its event is no event of the room."""


@dataclass(frozen=True)
class Request:
    """A message that is a command. ``text`` has no prefix; ``addressed``: surely meant for us.

    ``replies_to`` is the message it answers, ``captions`` whether it is a file's caption.
    """

    event: EventId
    room: RoomId
    sender: UserId
    origin_ms: int
    text: str
    formatted: str | None
    thread: EventId | None
    addressed: bool
    replies_to: EventId | None = None
    captions: bool = False
    source: Source = Source.MESSAGE

    @property
    def asked_at(self) -> datetime:
        """The moment that “in 2h” counts from: the same when a plan is made once more."""
        return moment_of(self.origin_ms) or datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Confirmation:
    """An event that may answer one of our questions."""

    event: EventId
    room: RoomId
    sender: UserId
    reply: Reply
    origin_ms: int = 0

    @property
    def press(self) -> "Press | None":
        """What it is if it answers no question: “yes” may be a button, too."""
        if not isinstance(self.reply, Reaction):
            return None
        return Press(self.event, self.room, self.sender, self.origin_ms, self.reply.event, YES)


@dataclass(frozen=True)
class Press:
    """A reaction that may be one of the buttons under a message of ours."""

    event: EventId
    room: RoomId
    sender: UserId
    origin_ms: int
    card: EventId
    key: str


@dataclass(frozen=True)
class Pick:
    """A message that is a bare number: a choice, where a question of ours waits for one.

    ``request`` is the message as a command, which it is where it is surely meant for us.
    """

    number: int
    request: Request
    envelope: Envelope


Meaning = Request | Confirmation | Press | Pick


def open_envelope(event: object, around: Surroundings) -> Envelope | Ignored:
    """Check everything that can be checked before decryption."""
    if not isinstance(event, Mapping):
        return Ignored.MALFORMED
    content, moment, kind = event.get("content"), event.get("origin_server_ts"), event.get("type")
    if not isinstance(content, Mapping) or not isinstance(kind, str):
        return Ignored.MALFORMED
    if not isinstance(moment, int) or isinstance(moment, bool) or moment > LATEST_MS:
        return Ignored.MALFORMED
    if "state_key" in event:
        return Ignored.NOT_A_MESSAGE
    try:
        sender = parse_user_id(_text(event.get("sender")))
        envelope = Envelope(
            event=parse_event_id(_text(event.get("event_id"))),
            room=parse_room_id(_text(event.get("room_id"))),
            sender=sender,
            type=kind,
            origin_ms=moment,
            content=content,
        )
    except UserError:
        return Ignored.MALFORMED
    return _unwanted(event, envelope, around) or envelope


def recognise(envelope: Envelope, around: Surroundings, *, direct: bool) -> Meaning | Ignored:
    """Say what a readable event is; ``direct``: in a direct chat with its sender."""
    if envelope.type == "m.reaction":
        return _reaction(envelope)
    if envelope.type != "m.room.message":
        return Ignored.NOT_A_MESSAGE
    content = envelope.content
    body, relation = content.get("body"), _relation(content)
    if not isinstance(body, str) or not _says_something(content, body):
        return Ignored.NOT_TEXT
    if relation.get("rel_type") == "m.replace" or "m.new_content" in content:
        return Ignored.EDIT
    if "m.forwarded" in content:
        return Ignored.FORWARDED
    if isinstance(relation.get("m.in_reply_to"), Mapping):
        body = without_reply_fallback(body)
    # What it holds that cannot be stored stays visible in it, so that nothing is obeyed that
    # was not written: the line is refused with a sentence.
    return _command(envelope, storable(body).strip(), around, direct=direct)


def needs_direct(envelope: Envelope, around: Surroundings) -> bool:
    """Say whether it matters for an event if its room is a direct chat."""
    if envelope.type == "m.room.encrypted":
        return True
    if envelope.type != "m.room.message":
        return False
    meaning = recognise(envelope, around, direct=False)
    return meaning is Ignored.NOT_FOR_US or isinstance(meaning, Pick)


def _unwanted(
    event: Mapping[Any, Any], envelope: Envelope, around: Surroundings
) -> Ignored | None:
    if server_of(envelope.sender) != around.server_name:
        return Ignored.REMOTE
    if envelope.sender in around.own:
        return Ignored.OWN
    unsigned = event.get("unsigned")
    if isinstance(unsigned, Mapping) and "redacted_because" in unsigned:
        return Ignored.REDACTED
    if around.now_ms - envelope.origin_ms > around.max_age_ms:
        return Ignored.OLD
    return None


def _says_something(content: Mapping[str, Any], body: str) -> bool:
    """Say whether a message's body is words: a text, or a file's caption (MSC2530)."""
    if content.get("msgtype") == "m.text":
        return True
    return _is_file(content) and content.get("filename") not in {None, body}


def _is_file(content: Mapping[str, Any]) -> bool:
    return content.get("msgtype") in ("m.file", "m.image")


def _reaction(envelope: Envelope) -> Confirmation | Press | Ignored:
    relation = _relation(envelope.content)
    key = relation.get("key")
    if relation.get("rel_type") != "m.annotation" or not isinstance(key, str):
        return Ignored.NOT_FOR_US
    try:
        about = parse_event_id(_text(relation.get("event_id")))
    except UserError:
        return Ignored.MALFORMED
    if is_yes(key):
        return Confirmation(
            envelope.event, envelope.room, envelope.sender, Reaction(about), envelope.origin_ms
        )
    if len(key) > LONGEST_KEY or key != storable(key):
        return Ignored.NOT_FOR_US
    return Press(envelope.event, envelope.room, envelope.sender, envelope.origin_ms, about, key)


def _command(
    envelope: Envelope, body: str, around: Surroundings, *, direct: bool
) -> Request | Confirmation | Pick | Ignored:
    prefix = _prefix(body, around.prefixes)
    text = body[len(prefix or "") :].strip()
    if answer := spoken(text):
        return Confirmation(envelope.event, envelope.room, envelope.sender, answer)
    number = None if _is_file(envelope.content) else number_in(text)
    if number is not None:
        request = _request(envelope, text, addressed=direct or _named(prefix or ""))
        return Pick(number, request, envelope)
    if prefix is None and not direct:
        return Ignored.NOT_FOR_US
    if not direct and not _named(prefix or "") and _first(text) not in around.first_words:
        return Ignored.NOT_FOR_US
    if not text and not _named(prefix or ""):
        return Ignored.NOT_FOR_US
    return _request(envelope, text or "help", addressed=direct or _named(prefix or ""))


def _request(envelope: Envelope, text: str, *, addressed: bool) -> Request:
    formatted = envelope.content.get("formatted_body")
    return Request(
        event=envelope.event,
        room=envelope.room,
        sender=envelope.sender,
        origin_ms=envelope.origin_ms,
        text=text,
        formatted=storable(formatted) if isinstance(formatted, str) else None,
        thread=_thread(envelope.content),
        addressed=addressed,
        replies_to=_replied(envelope.content),
        captions=_is_file(envelope.content),
    )


def _prefix(body: str, prefixes: Sequence[str]) -> str | None:
    """Return the longest prefix that the text begins with; one that is a word ends at a space."""
    lowered = body.lower()
    for prefix in sorted(prefixes, key=len, reverse=True):
        after = body[len(prefix) : len(prefix) + 1]
        ended = not after or after.isspace() or not prefix[-1:].isalnum()
        if prefix and lowered.startswith(prefix.lower()) and ended:
            return prefix
    return None


def _named(prefix: str) -> bool:
    """Say whether a prefix names us, unlike a bare “!” that every bot may use."""
    return any(character.isalnum() for character in prefix)


def _first(text: str) -> str:
    return text.split(maxsplit=1)[0].lower() if text else ""


def _relation(content: Mapping[str, Any]) -> Mapping[str, Any]:
    relation = content.get("m.relates_to")
    return relation if isinstance(relation, Mapping) else {}


def _thread(content: Mapping[str, Any]) -> EventId | None:
    relation = _relation(content)
    if relation.get("rel_type") != "m.thread":
        return None
    try:
        return parse_event_id(_text(relation.get("event_id")))
    except UserError:
        return None


def _replied(content: Mapping[str, Any]) -> EventId | None:
    """Return what a message answers; in a thread that may be there for old clients only."""
    relation = _relation(content)
    answered = relation.get("m.in_reply_to")
    if not isinstance(answered, Mapping) or relation.get("is_falling_back") is True:
        return None
    try:
        return parse_event_id(_text(answered.get("event_id")))
    except UserError:
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
