"""Somebody who gives adminbot commands and reads what it says, in clear."""

from typing import Any

from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId
from tests.support.again import unless_changed
from tests.support.clients import RawClient

YES = "✅"
_DEADLINE_SECONDS = 30.0


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
        return str((await self.hear(containing, after=asked))["content"]["body"])

    async def do(self, text: str, containing: str = "") -> str:
        """Give a command that is asked about first, say yes, and return what became of it."""

        async def once() -> str:
            return await self._do(text, containing)

        return await unless_changed(once, str)

    async def _do(self, text: str, containing: str) -> str:
        asked = await self.person.send_text(self.room, text)
        question = await self.hear("confirm", after=asked)
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
        return str((await self.hear(containing, after=after))["content"]["body"])

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
            last = [
                event["content"].get("body") for event in await self.person.messages(self.room)
            ]
            raise TimeoutError(f"{error}; the last things said: {last[-4:]}") from error

    async def until(self, text: str, containing: str) -> str:
        """Ask the same again and again until the answer holds these words."""

        async def found() -> str | None:
            said = await self.ask(text)
            return said if containing in said else None

        said = await wait_for(found, _DEADLINE_SECONDS, f"“{containing}” in “{text}”")
        assert said is not None
        return said
