"""Rows of adminbot's tables as values."""

from typing import Any

from adminbot.engine.confirm import Pending
from adminbot.engine.intake import Request, Source
from adminbot.engine.kept import told
from adminbot.engine.waiting import Asked, Job, Unreadable
from common.crypto.port import SessionRef, Trust
from common.database.pool import Row
from common.ids import EventId, RoomId, UserId


def job(row: Row) -> Job:
    """Return a command."""
    return Job(
        request=Request(
            event=EventId(row["event_id"]),
            room=RoomId(row["room_id"]),
            sender=UserId(row["sender"]),
            origin_ms=int(row["origin_ms"]),
            text=row["text"],
            formatted=row["formatted"],
            thread=None if row["thread"] is None else EventId(row["thread"]),
            addressed=bool(row["addressed"]),
            replies_to=event_or_none(row["replies_to"]),
            captions=bool(row["captions"]),
            source=Source(row["source"]),
        ),
        trust=None if row["trust"] is None else Trust(row["trust"]),
        attempts=int(row["attempts"]),
    )


def asked(row: Row) -> Asked:
    """Return a plan."""
    return Asked(
        event=EventId(row["event_id"]),
        room=RoomId(row["room_id"]),
        requester=UserId(row["requester"]),
        summary=told(row["summary"]),
        fingerprint=row["fingerprint"],
        code=row["code"],
        question=event_or_none(row["question_id"]),
    )


def pending(row: Row) -> Pending:
    """Return a question that waits."""
    return Pending(
        requester=UserId(row["requester"]),
        question=event_or_none(row["question_id"]),
        code=row["code"],
        typed=bool(row["typed"]),
        expires_ms=int(row["expires_ms"]),
    )


def unreadable(row: Row) -> Unreadable:
    """Return an event that waits for its key."""
    return Unreadable(
        event=EventId(row["event_id"]),
        session=SessionRef(row["room_id"], row["session_id"]),
        body=bytes(row["body"]),
        direct=bool(row["direct"]),
    )


def event_or_none(value: Any) -> EventId | None:
    """Return the name of an event, ``None`` for SQL's NULL."""
    return None if value is None else EventId(value)
