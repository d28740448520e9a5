"""A person who types commands to adminbot in a plain direct chat and waits for what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from common.ids import EventId, RoomId, UserId
from tests.support.again import unless_changed
from tests.support.clients import RawClient, wait_for
from tests.support.world import World

_DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Commander:
    """One person's direct chat with adminbot."""

    client: RawClient
    room: RoomId
    adminbot: UserId

    @classmethod
    async def of(cls, client: RawClient, world: World) -> Self:
        """Open a direct chat and wait for adminbot."""
        adminbot = world.steward.adminbot
        room = await client.create_room(invite=[adminbot], direct=True)
        await client.wait_for_members(room, adminbot)
        return cls(client, room, adminbot)

    async def ask(self, text: str, **content: object) -> str:
        """Type a command and return the answer's text."""
        return str((await self.answer(await self.type(text, **content)))["body"])

    async def do(
        self, text: str, *, typed: str | None = None, deadline_seconds: float = _DEADLINE_SECONDS
    ) -> str:
        """Type a command that asks first, say yes, and return what became of it."""

        async def once() -> str:
            asked = await self.type(text)
            await self.confirm(asked, typed=typed)
            return str((await self.answer(asked, 1, deadline_seconds=deadline_seconds))["body"])

        return await unless_changed(once, str)

    async def type(self, text: str, **content: object) -> EventId:
        """Send a message."""
        return await self.client.send(
            self.room, "m.room.message", {"msgtype": "m.text", "body": text, **content}
        )

    async def send_file(self, name: str, data: bytes, *, caption: str | None = None) -> EventId:
        """Send a file, with a command as its caption if there is one."""
        uri = await self.client.upload(data, name)
        content = {
            "msgtype": "m.file",
            "body": caption or name,
            "filename": name,
            "url": uri,
            "info": {"size": len(data), "mimetype": "text/csv"},
        }
        return await self.client.send(self.room, "m.room.message", content)

    async def confirm(self, asked: EventId, *, typed: str | None = None) -> str:
        """Say yes to a question, by reaction or by the word; return the question."""
        question = await self.answer(asked)
        body = str(question["body"])
        if typed is not None:
            assert f"confirm {typed}" in body, body
            await self.type(f"confirm {typed}")
        else:
            relation = {
                "rel_type": "m.annotation",
                "event_id": question["m.event_id"],
                "key": "✅",
            }
            await self.client.send(self.room, "m.reaction", {"m.relates_to": relation})
        return body

    async def answer(
        self, asked: EventId, number: int = 0, *, deadline_seconds: float = _DEADLINE_SECONDS
    ) -> Mapping[str, Any]:
        """Wait for the answer to a message, the first or a later one; edits do not count."""

        async def found() -> Mapping[str, Any] | None:
            replies = [each for each in await self.said() if _replies_to(each) == asked]
            words = [each for each in replies if each.get("msgtype") == "m.notice"]
            # How far something is is shown in one message of its own.
            words = [each for each in words if "To stop it: cancel" not in each["body"]]
            return words[number] if len(words) > number else None

        what = f"answer {number} to {asked}"
        try:
            answer: Mapping[str, Any] | None = await wait_for(found, deadline_seconds, what)
        except TimeoutError as error:
            last = [str(each.get("body")) for each in (await self.said())[-3:]]
            raise TimeoutError(f"{error}; the last things said: {last}") from error
        assert answer is not None
        return answer

    async def said(self) -> Sequence[Mapping[str, Any]]:
        """Return the contents of adminbot's messages that are no edits, oldest first."""
        return [
            {**event["content"], "m.event_id": event["event_id"]}
            for event in await self.client.messages(self.room, limit=200)
            if event["sender"] == self.adminbot
            and event["type"] == "m.room.message"
            and "m.new_content" not in event["content"]
        ]

    async def files(self, *names: str, count: int = 1) -> list[bytes]:
        """Wait for so many files with one of these names; return all there are, oldest first.

        Some come after the words that they go with.
        """

        async def found() -> list[str] | None:
            uris = [
                str(each["url"]) for each in await self.said() if each.get("filename") in names
            ]
            return uris if len(uris) >= count else None

        uris = await wait_for(found, _DEADLINE_SECONDS, f"{count} files {' or '.join(names)}")
        return [await self.client.download(uri) for uri in uris or ()]


def _replies_to(content: Mapping[str, Any]) -> str | None:
    relation = content.get("m.relates_to", {})
    event: str | None = relation.get("m.in_reply_to", {}).get("event_id")
    return event
