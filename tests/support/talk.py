"""A server admin who talks to adminbot in a plain direct chat, and says yes where asked."""

import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from common.demo.waiting import wait_for
from common.ids import EventId, RoomId
from tests.support.again import unless_changed
from tests.support.clients import RawClient
from tests.support.world import World

_DEADLINE_SECONDS = 60.0
_TYPED = re.compile(r"^confirm (.+)$", re.MULTILINE)
_NEXT_PAGE = re.compile(r"Go on with --page (\d+)")
_CODE = re.compile(r"“confirm ([A-Z2-7]{4})”")


@dataclass(frozen=True)
class Talk:
    """The admin and their chat."""

    world: World
    admin: RawClient
    chat: RoomId

    async def ask(self, text: str, *, extra: Mapping[str, object] | None = None) -> str:
        """Give a command; return the first answer's plain text."""
        return str((await self.answer(text, extra=extra))["content"]["body"])

    async def pages(self, text: str) -> str:
        """Ask for a list, and for each page that follows; return them all.

        Others of the same world fill lists too.
        """
        said = [await self.ask(text)]
        while found := _NEXT_PAGE.search(said[-1]):
            said.append(await self.ask(f"{text} --page {found[1]}"))
        return "\n".join(said)

    async def answer(
        self, text: str, *, extra: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Give a command; return the first answer."""
        return (await self._replies(await self._say(text, extra), 1))[0]

    async def do(
        self,
        text: str,
        *,
        extra: Mapping[str, object] | None = None,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> str:
        """Give a command, say yes if asked, and return what became of it."""
        return (await self.both(text, extra=extra, deadline_seconds=deadline_seconds))[1]

    async def both(
        self,
        text: str,
        *,
        extra: Mapping[str, object] | None = None,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> tuple[str, str]:
        """As ``do``, but return the question as well; twice the answer if nothing is asked."""

        async def once() -> tuple[str, str]:
            return await self._both(text, extra, deadline_seconds)

        return await unless_changed(once, lambda both: both[1])

    async def _both(
        self, text: str, extra: Mapping[str, object] | None, deadline_seconds: float
    ) -> tuple[str, str]:
        asked = await self._say(text, extra)
        first = str((await self._replies(asked, 1))[0]["content"]["body"])
        typed, code = _TYPED.search(first), _CODE.search(first)
        if typed is None and code is None:
            return first, first
        word = typed[1] if typed else code[1] if code else ""
        await self._say(f"confirm {word}")
        replies = await self._replies(asked, 2, deadline_seconds)
        return first, str(replies[1]["content"]["body"])

    async def files(self, asked_text: str, name: str) -> dict[str, Any]:
        """Give a command; return the content of the file of that name in its answers."""
        asked = await self._say(asked_text)

        async def found() -> dict[str, Any] | None:
            for event in await self.admin.messages(self.chat):
                content = event["content"]
                if (
                    _about(content) == asked
                    and content.get("filename", content.get("body")) == name
                ):
                    return dict(content)
            return None

        content = await wait_for(found, _DEADLINE_SECONDS, f"the file {name}")
        assert content is not None
        return dict(content)

    async def _say(self, text: str, extra: Mapping[str, object] | None = None) -> EventId:
        content = {"msgtype": "m.text", "body": text, **(extra or {})}
        return await self.admin.send(self.chat, "m.room.message", content)

    async def _replies(
        self, asked: EventId, number: int, deadline_seconds: float = _DEADLINE_SECONDS
    ) -> list[dict[str, Any]]:
        async def found() -> list[dict[str, Any]] | None:
            said = [
                event
                for event in await self.admin.messages(self.chat)
                if event["type"] == "m.room.message"
                and event["sender"] == self.world.steward.adminbot
                and _about(event["content"]) == asked
                and "To stop it:" not in event["content"]["body"]
            ]
            return said if len(said) >= number else None

        replies = await wait_for(found, deadline_seconds, f"{number} answers to {asked}")
        assert replies is not None
        return list(replies)


def _about(content: Mapping[str, Any]) -> str:
    relation = content.get("m.relates_to", {})
    return str(relation.get("m.in_reply_to", {}).get("event_id", ""))


@asynccontextmanager
async def talk_in(world: World) -> AsyncIterator[Talk]:
    """Make a new server admin with a direct chat."""
    async with await world.person(f"root-{secrets.token_hex(3)}", admin=True) as admin:
        bot = world.steward.adminbot
        chat = await admin.create_room(direct=True, invite=[bot])
        await admin.wait_for_members(chat, bot)
        yield Talk(world, admin, chat)
