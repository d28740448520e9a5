"""Verification messages on their way from decryption to whoever answers them.

Source: Matrix specification v1.18, client-server API, "Key verification framework". They come as
to-device messages (in clear text or inside Olm) and as events of a room. Every value is hostile.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.crypto.canonical import Json, is_storable, object_of, parse_object, text_of
from common.crypto.port import Decrypted, EncryptedEvent, Reading, Trust
from common.errors import UserError
from common.ids import RoomId, UserId, parse_room_id, parse_user_id
from common.inbox.signal import Signal

PREFIX = "m.key.verification."
REQUEST = f"{PREFIX}request"

_MOST_WAITING = 500
MARK = PREFIX.encode()
"""What is in every payload that ``put_reading`` cares for."""


@dataclass(frozen=True, slots=True)
class VerificationMessage:
    """One step of somebody's; ``kind`` is the event type behind ``m.key.verification.``.

    ``flow`` is the transaction ID, in a room the request's event ID. ``content`` is untrusted.
    ``event_id`` is empty for a to-device message, ``room_id`` too.
    """

    kind: str
    sender: UserId
    flow: str
    content: Json
    room_id: RoomId | None = None
    event_id: str = ""


class VerificationMail:
    """The messages that wait. Bounded: whoever sends too much loses the oldest.

    They are put here inside transactions. A message that a rolled-back transaction left here
    was received nevertheless; the state machine ignores repeats.
    """

    def __init__(self) -> None:
        self._waiting: deque[VerificationMessage] = deque(maxlen=_MOST_WAITING)
        self.arrived = Signal()

    def put(self, message: VerificationMessage | None) -> None:
        """Keep a message until it is taken; ``None`` is none."""
        if message is not None:
            self._waiting.append(message)
            self.arrived.notify()

    def put_all(self, messages: Iterable[VerificationMessage | None]) -> None:
        """Keep several messages."""
        for message in messages:
            self.put(message)

    def put_reading(self, event: EncryptedEvent, reading: Reading) -> None:
        """Keep what a decrypted room event says, if it is about verification."""
        if not isinstance(reading, Decrypted) or MARK not in reading.payload:
            return
        inner = parse_object(reading.payload)
        if inner is None or reading.trust is Trust.MISMATCH:
            return
        content = object_of(inner, "content")
        if "m.relates_to" in event.content:
            # Relations stand outside the encryption.
            content = {**content, "m.relates_to": event.content["m.relates_to"]}
        self.put(
            in_room(
                {
                    "type": inner.get("type"),
                    "content": content,
                    "sender": event.sender,
                    "room_id": event.room_id,
                    "event_id": event.event_id,
                }
            )
        )

    def put_event(self, body: bytes) -> None:
        """Keep a room event that was sent in clear text, if it is about verification."""
        if MARK in body and (event := parse_object(body)) is not None:
            self.put(in_room(event))

    def take(self) -> VerificationMessage | None:
        """Return the oldest message that waits."""
        return self._waiting.popleft() if self._waiting else None


def to_device(event_type: object, sender: UserId, content: Json) -> VerificationMessage | None:
    """Return the message of an untrusted to-device event, or ``None`` if it is none."""
    flow = text_of(content, "transaction_id")
    if not isinstance(event_type, str) or not event_type.startswith(PREFIX) or flow is None:
        return None
    return VerificationMessage(event_type.removeprefix(PREFIX), sender, flow, content)


def in_room(event: Mapping[str, object]) -> VerificationMessage | None:
    """Return the message of an untrusted room event, or ``None`` if it is none."""
    kind, content = event.get("type"), event.get("content")
    event_id, room = event.get("event_id"), event.get("room_id")
    if not isinstance(kind, str) or not isinstance(content, dict) or "state_key" in event:
        return None
    if not isinstance(event_id, str) or not is_storable(event_id):
        return None
    try:
        sender = parse_user_id(str(event.get("sender")))
        room_id = parse_room_id(str(room))
    except UserError:
        return None
    if kind == "m.room.message" and content.get("msgtype") == REQUEST:
        return VerificationMessage("request", sender, event_id, content, room_id, event_id)
    relation = object_of(content, "m.relates_to")
    flow = text_of(relation, "event_id")
    if not kind.startswith(PREFIX) or relation.get("rel_type") != "m.reference" or flow is None:
        return None
    return VerificationMessage(kind.removeprefix(PREFIX), sender, flow, content, room_id, event_id)
