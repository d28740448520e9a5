"""What waits in the database, as values."""

from dataclasses import dataclass

from adminbot.engine.intake import Request
from common.crypto.port import SessionRef, Trust
from common.ids import EventId, RoomId, UserId


@dataclass(frozen=True)
class Job:
    """A command that waits to be carried out; ``trust`` is ``None`` for a plain message."""

    request: Request
    trust: Trust | None
    attempts: int


@dataclass(frozen=True)
class Asked:
    """A plan as it was written down."""

    event: EventId
    room: RoomId
    requester: UserId
    summary: str
    fingerprint: str
    code: str
    question: EventId | None


@dataclass(frozen=True)
class Unreadable:
    """An encrypted event whose room key has not come."""

    event: EventId
    session: SessionRef
    body: bytes
    direct: bool
