"""Saying something back: a notice in the command's thread, once, however often it is tried."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from adminbot.engine.answer import Answer
from adminbot.engine.confirm import YES
from adminbot.engine.intake import Request
from adminbot.engine.render import notice
from common.errors import StartOverError, StewardError, TransientError
from common.ids import EventId, RoomId
from common.telemetry.log import Log

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)

log = Log("adminbot")


class Messenger(Protocol):
    """What is needed of ``common.matrix.messenger.Messenger``."""

    async def send(
        self,
        room_id: RoomId,
        content: dict[str, Any],
        *,
        txn_id: str,
        event_type: str = "m.room.message",
    ) -> EventId:
        """Send, encrypted where the room is; once for each ``txn_id``."""
        ...


class Sender(Protocol):
    """What is needed of ``common.matrix.client.MatrixClient``: sending in clear."""

    async def send(
        self, room_id: RoomId, event_type: str, content: dict[str, Any], txn_id: str
    ) -> EventId:
        """Send an event as it is; once for each ``txn_id``."""
        ...


@dataclass(frozen=True)
class Replies:
    """The way back."""

    messenger: Messenger
    client: Sender
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def send(
        self, request: Request, said: Answer, purpose: str, *, about: str = ""
    ) -> EventId:
        """Reply to a command, with some patience; the same purpose is sent once only.

        ``about`` is for what must not be taken for another of the same purpose: the homeserver
        would answer a repeat with the name of what it has, whatever is said in it.
        """
        content, name = notice(said, relation_to(request)), _name(request, purpose, about)
        for wait_seconds in WAITS_SECONDS:
            try:
                return await self.messenger.send(request.room, content, txn_id=name)
            except TransientError:
                await self.sleep(wait_seconds)
        return await self.messenger.send(request.room, content, txn_id=name)

    async def offer_yes(self, request: Request, question: EventId, *, about: str) -> None:
        """Put the sign for yes under a question, so that a click is enough.

        In clear even in encrypted rooms, as clients send reactions; losing it costs nothing.
        """
        relation = {"rel_type": "m.annotation", "event_id": question, "key": YES}
        try:
            await self.client.send(
                request.room,
                "m.reaction",
                {"m.relates_to": relation},
                _name(request, "yes", about),
            )
        except StartOverError:
            raise
        except StewardError as error:
            log.info("the reaction was not sent", room=request.room, reason=error)


def relation_to(request: Request) -> dict[str, Any]:
    """Return the relation of a reply: a thread rooted at the command, or the one it is in.

    Source: Matrix specification v1.18, "Threading". The fallback shows it as a reply in
    clients without threads.
    """
    return {
        "rel_type": "m.thread",
        "event_id": request.thread or request.event,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": request.event},
    }


def _name(request: Request, purpose: str, about: str = "") -> str:
    return "-".join(part for part in ("steward", purpose, about, request.event) if part)
