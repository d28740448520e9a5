"""Saying something back, once, however often it is tried.

Among others an answer goes into the command's thread, so that it does not push their talk away. In a
direct chat it is an ordinary reply: clients fold threads, and every answer would want a click.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from adminbot.engine.answer import Answer, File, say
from adminbot.engine.confirm import YES
from adminbot.engine.intake import Request, Source
from adminbot.engine.render import notice
from adminbot.own.people import Style
from adminbot.telling import Telling
from common.errors import StartOverError, StewardError
from common.i18n import t
from common.ids import EventId, RoomId
from common.matrix.client import CLIENT, segment

TYPING_MS = 30_000


@dataclass(frozen=True)
class Replies:
    """The way back to who gave a command."""

    telling: Telling

    async def send(
        self, request: Request, said: Answer, purpose: str, *, about: str = ""
    ) -> EventId:
        """Reply to a command, with some patience; the same purpose is sent once only.

        ``about`` is for what must not be taken for another of the same purpose: the homeserver
        would answer a repeat with the name of what it has, whatever is said in it.
        """
        key = name(request, purpose, about)
        if said.private is not None:
            said = await self._whispered(request, said, key)
        language = await self.telling.language_of(request.sender)
        style = await self.telling.style_of(request.sender)
        return await self.telling.to_room(
            request.room,
            said,
            key=key,
            language=language,
            relation=await self._relation_to(request, style),
            plain=style.plain,
        )

    async def _whispered(self, request: Request, said: Answer, key: str) -> Answer:
        """Say the private part where only one person reads it; return what others may read."""
        if said.private is None:
            return said
        alone = await self.telling.facts.alone_with(request.room, request.sender)
        room = await self.telling.in_private(
            request.room if alone else None, request.sender, said.private, key=f"{key}-private"
        )
        minutes = max(1, self.telling.secrets_kept_ms // 60_000)
        note = (
            t(
                "What is secret stands in a message of its own, which is taken back in {minutes} "
                "minutes.",
                minutes=minutes,
            )
            if room == request.room
            else t("What is secret is in our direct chat, for {minutes} minutes.", minutes=minutes)
        )
        return replace(said, private=None).followed_by(say(note))

    async def send_files(
        self, request: Request, files: Sequence[File], purpose: str, *, about: str = ""
    ) -> None:
        """Send files that go with a reply; only a thread has to hold them together."""
        style = await self.telling.style_of(request.sender)
        relation = await self._relation_to(request, style)
        in_thread = relation if relation is not None and "rel_type" in relation else None
        await self.telling.files_to_room(
            request.room, files, key=name(request, purpose, about), relation=in_thread
        )

    async def offer_yes(self, request: Request, question: EventId, *, about: str) -> None:
        """Put the sign for yes under a question, so that a click is enough."""
        await self.telling.react(request.room, question, YES, key=name(request, "yes", about))

    async def edit(self, request: Request, message: EventId, said: Answer, purpose: str) -> None:
        """Replace what a message of ours says; losing it costs nothing."""
        language = await self.telling.language_of(request.sender)
        plain = (await self.telling.style_of(request.sender)).plain
        content = notice(said, language=language, plain=plain)
        try:
            await self.telling.messenger.edit(
                request.room, message, content, txn_id=name(request, purpose)
            )
        except StartOverError:
            raise
        except StewardError:
            return

    async def _relation_to(self, request: Request, style: Style) -> dict[str, Any] | None:
        """Return how a reply hangs together with its command; this decides looks only."""
        if request.source is Source.SCHEDULE:
            return None
        if _began_a_thread(request):
            return relation_to(request)
        if style.threads is not None:
            return relation_to(request, chat=not style.threads)
        try:
            chat = await self.telling.facts.direct_with(request.room) == request.sender
        except StartOverError:
            raise
        except StewardError:
            chat = False
        return relation_to(request, chat=chat)

    @asynccontextmanager
    async def typing(self, room: RoomId) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Show that we are at it until the block ends; what is yielded shows it again.

        Clients stop showing it after a while.
        """

        async def still() -> None:
            await self._typing(room, typing=True)

        await still()
        try:
            yield still
        finally:
            await self._typing(room, typing=False)

    async def _typing(self, room: RoomId, *, typing: bool) -> None:
        user = self.telling.facts.me
        path = f"{CLIENT}/v3/rooms/{segment(room)}/typing/{segment(user)}"
        body = {"typing": True, "timeout": TYPING_MS} if typing else {"typing": False}
        try:
            await self.telling.client.request("PUT", path, body)
        except StartOverError:
            raise
        except StewardError:
            return


def relation_to(request: Request, *, chat: bool = False) -> dict[str, Any]:
    """Return the relation of a reply: a thread rooted at the command, or the one it is in.

    In a direct chat it is a rich reply, without a thread. Source: Matrix specification v1.18,
    "Rich replies" and "Threading". The fallback shows a thread as replies in clients without them.
    """
    pressed = request.source is Source.BUTTON
    answered = request.replies_to if pressed and request.replies_to else request.event
    reply = {"m.in_reply_to": {"event_id": answered}}
    if chat:
        return reply
    root = request.thread or request.event
    return {"rel_type": "m.thread", "event_id": root, "is_falling_back": True, **reply}


def _began_a_thread(request: Request) -> bool:
    """Say whether a person chose to talk in a thread; a card with buttons is named as one, too."""
    card = request.replies_to if request.source is Source.BUTTON else None
    return request.thread is not None and request.thread != card


def name(request: Request, purpose: str, about: str = "") -> str:
    """Return the transaction ID of a reply: the same one for the same purpose."""
    return "-".join(part for part in ("steward", purpose, about, request.event) if part)
