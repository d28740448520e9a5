"""A bridge's bot that answers by script, as an account on a real homeserver.

For kinds whose program cannot run in the tests: what it answers is what the kind's own sources
say (``adminbot/bridges/kinds/*.yaml`` names them).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from common.ids import EventId, RoomId, UserId
from tests.support.clients import RawClient, RequestFailedError

Answer = Callable[["Talk"], Awaitable[None]]

# The homeserver's own limit is ten events of a room at once; others would never be heard.
_FILTER = json.dumps({"room": {"timeline": {"limit": 50}}})


@dataclass(frozen=True)
class Talk:
    """Words that somebody typed to the bot, and what it can do about them."""

    bot: "ScriptedBot"
    room: RoomId
    sender: UserId
    event: EventId
    words: str

    async def say(self, text: str) -> EventId:
        return await self.bot.me.send(
            self.room, "m.room.message", {"msgtype": "m.notice", "body": text}
        )

    async def picture(self, payload: str) -> EventId:
        """Send a code as mautrix does: its payload is the caption."""
        return await self.bot.me.send(
            self.room,
            "m.room.message",
            {"msgtype": "m.image", "body": payload, "url": "mxc://steward.localhost/qr"},
        )

    async def replace(self, event: EventId, payload: str) -> EventId:
        content = {"msgtype": "m.image", "body": payload, "url": "mxc://steward.localhost/qr2"}
        return await self.bot.me.send(
            self.room,
            "m.room.message",
            {
                **content,
                "m.new_content": content,
                "m.relates_to": {"rel_type": "m.replace", "event_id": event},
            },
        )

    async def react(self, key: str) -> None:
        relation = {"rel_type": "m.annotation", "event_id": self.event, "key": key}
        await self.bot.me.send(self.room, "m.reaction", {"m.relates_to": relation})

    async def leave(self) -> None:
        await self.bot.me.leave(self.room)


@dataclass
class ScriptedBot:
    """Accepts every invitation and answers words; use it with ``async with``.

    ``script`` is looked through in order for the first entry that the words begin with.
    """

    me: RawClient
    script: Mapping[str, Answer]
    on_state: Callable[["ScriptedBot", RoomId, Mapping[str, Any]], Awaitable[None]] | None = None
    heard: list[tuple[RoomId, UserId, str]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _running: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> Self:
        first = await self._sync({})
        self._running = asyncio.create_task(self._run(first["next_batch"]))  # noqa: TID251  # ends with the block
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)  # noqa: TID251  # it is over
        await self.me.close()

    def words_of(self, sender: UserId) -> list[str]:
        return [words for _, who, words in self.heard if who == sender]

    async def _sync(self, query: Mapping[str, str]) -> Any:
        path = "/_matrix/client/v3/sync"
        return await self.me.request("GET", path, query={"filter": _FILTER, **query})

    async def _run(self, since: str) -> None:
        async with asyncio.TaskGroup() as group:
            await self._follow(since, group)

    async def _follow(self, since: str, group: asyncio.TaskGroup) -> None:
        while True:
            answer = await self._sync({"since": since, "timeout": "2000"})
            since = answer["next_batch"]
            rooms = answer.get("rooms", {})
            for room in rooms.get("invite", {}):
                try:
                    await self.me.join(RoomId(room))
                except RequestFailedError:
                    continue
            for room, changes in rooms.get("join", {}).items():
                for event in changes["timeline"]["events"]:
                    await self._see(RoomId(room), event, group)

    async def _see(self, room: RoomId, event: Mapping[str, Any], group: asyncio.TaskGroup) -> None:
        if event["sender"] == self.me.user_id:
            return
        if "state_key" in event and self.on_state is not None:
            await self.on_state(self, room, event)
        content = event.get("content", {})
        if event["type"] != "m.room.message" or content.get("msgtype") != "m.text":
            return
        if event["event_id"] in self._seen:
            return  # from before it left a room into which it has come back
        self._seen.add(event["event_id"])
        words = str(content.get("body", ""))
        self.heard.append((room, UserId(event["sender"]), words))
        for begins, answer in self.script.items():
            if words.startswith(begins):
                talk = Talk(self, room, UserId(event["sender"]), EventId(event["event_id"]), words)
                # Beside the next words: a bot can be told to cancel what it is at.
                group.create_task(_in_turn(answer, talk))
                return


async def _in_turn(answer: Answer, talk: Talk) -> None:
    await answer(talk)


def saying(*texts: str) -> Answer:
    """Return an answer of a few notices."""

    async def answer(talk: Talk) -> None:
        for text in texts:
            await talk.say(text)

    return answer


async def silence(talk: Talk) -> None:
    """Answer nothing."""
