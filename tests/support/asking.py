"""Somebody who gives adminbot commands and reads what it says, in clear."""

from collections.abc import Mapping
from typing import Any

from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId
from tests.support.again import unless_changed
from tests.support.clients import RawClient

YES = "✅"
_DEADLINE_SECONDS = 60.0


class Asking:
    """One person in one room with adminbot."""

    def __init__(self, person: RawClient, room: RoomId, adminbot: UserId) -> None:
        self.person, self.room, self.adminbot = person, room, adminbot

    @classmethod
    async def in_direct_chat(cls, person: RawClient, adminbot: UserId) -> "Asking":
        """Open a direct chat with adminbot."""
        chat = await person.create_room(invite=[adminbot], direct=True)
        await person.wait_for_members(chat, adminbot)
        return cls(person, chat, adminbot)

    async def ask(self, text: str, containing: str = "") -> str:
        """Give a command; return what adminbot says (with these words in it)."""
        asked = await self.person.send_text(self.room, text)
        return str((await self._replied(asked, containing))["content"]["body"])

    async def do(self, text: str, containing: str = "") -> str:
        """Give a command that is asked about first, say yes, and return what became of it."""

        async def once() -> str:
            return await self._do(text, containing)

        return await unless_changed(once, str)

    async def _do(self, text: str, containing: str) -> str:
        asked = await self.person.send_text(self.room, text)
        question = await self._replied(asked, "confirm")
        await self.person.send(
            self.room,
            "m.reaction",
            {
                "m.relates_to": {
                    "rel_type": "m.annotation",
                    "event_id": question["event_id"],
                    "key": YES,
                }
            },
        )
        after = EventId(question["event_id"])
        return str((await self._replied(asked, containing, after=after))["content"]["body"])

    async def _replied(
        self, asked: EventId, containing: str, *, after: EventId | None = None
    ) -> dict[str, Any]:
        """Return the first reply to a command with these words, not how far it is meanwhile.

        What adminbot says unasked, such as that somebody was reported, may come at any moment.
        """

        async def found() -> dict[str, Any] | None:
            events = await self.person.messages(self.room, limit=1000)
            known = [event["event_id"] for event in events]
            if after in known:
                events = events[known.index(after) + 1 :]
            for event in events:
                content = event["content"]
                body = str(content.get("body", ""))
                is_progress = not containing and "To stop it:" in body
                if (
                    event["sender"] == self.adminbot
                    and event["type"] == "m.room.message"
                    and _about(content) == asked
                    and containing in body
                    and not is_progress
                ):
                    return dict(event)
            return None

        try:
            reply = await wait_for(found, _DEADLINE_SECONDS, f"a reply with “{containing}”")
        except TimeoutError as error:
            raise await self._with_the_last_words(error) from error
        assert reply is not None
        return dict(reply)

    async def hear(
        self, containing: str, *, after: EventId, deadline_seconds: float = _DEADLINE_SECONDS
    ) -> dict[str, Any]:
        """Return adminbot's first message with these words after an event."""
        try:
            return await self.person.wait_for_message(
                self.room,
                containing,
                sender=self.adminbot,
                after=after,
                deadline_seconds=deadline_seconds,
            )
        except TimeoutError as error:
            raise await self._with_the_last_words(error) from error

    async def _with_the_last_words(self, error: TimeoutError) -> TimeoutError:
        events = await self.person.messages(self.room)
        last = [event["content"].get("body") for event in events]
        return TimeoutError(f"{error}; the last things said: {last[-4:]}")

    async def until(self, text: str, containing: str) -> str:
        """Ask the same again and again until the answer holds these words."""

        async def found() -> str | None:
            said = await self.ask(text)
            return said if containing in said else None

        said = await wait_for(found, _DEADLINE_SECONDS, f"“{containing}” in “{text}”")
        assert said is not None
        return said


def _about(content: Mapping[str, Any]) -> str:
    relation = content.get("m.relates_to", {})
    return str(relation.get("m.in_reply_to", {}).get("event_id", ""))
