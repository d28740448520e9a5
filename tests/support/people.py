"""People who type commands, and read the answers, in one room after another."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from common.demo.clients import NioClient, Seen
from common.ids import EventId, RoomId, UserId
from tests.support.again import unless_changed
from tests.support.clients import RawClient, wait_for
from tests.support.world import World


@dataclass
class Commander:
    """Somebody with an encrypted client who gives commands."""

    client: NioClient
    adminbot: UserId

    @property
    def user_id(self) -> UserId:
        return self.client.user_id

    async def ask(
        self, room: RoomId, text: str, *, extra: Mapping[str, object] | None = None
    ) -> Seen:
        """Type a command; return the first answer to it."""
        asked = await self.client.send_text(room, text, extra=extra)
        return await self._answer(room, asked, after=asked)

    async def do(
        self, room: RoomId, text: str, *, extra: Mapping[str, object] | None = None
    ) -> Seen:
        """Type a command, confirm it if that is asked, and return what became of it."""

        async def once() -> Seen:
            asked = await self.client.send_text(room, text, extra=extra)
            said = await self._answer(room, asked, after=asked)
            if "to go on" in said.body or "To go on" in said.body:
                return await self.confirm(said)
            return said

        return await unless_changed(once, lambda seen: seen.body)

    async def send_file(
        self, room: RoomId, name: str, data: bytes, *, caption: str, kind: str = "m.file"
    ) -> Seen:
        """Send a file with a command as its caption; return the answer."""
        headers = {"Authorization": f"Bearer {self.client.account.access_token}"}
        url = f"{self.client.nio.homeserver}/_matrix/media/v3/upload"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(url, data=data, params={"filename": name}) as response,
        ):
            uri = (await response.json())["content_uri"]
        content = {"msgtype": kind, "body": caption, "filename": name, "url": uri}
        asked = await self.client.send(room, "m.room.message", content)
        return await self._answer(room, asked, after=asked)

    async def confirm(self, question: Seen, words: str = "") -> Seen:
        """Answer a question with yes, or with the words that it wants; return the outcome."""
        room, body = question.room_id, question.body
        asked = EventId(question.content["m.relates_to"]["m.in_reply_to"]["event_id"])
        if "To go on, write within" in body:
            word = body.rpartition("confirm ")[2].strip().splitlines()[0]
            confirmed = await self.client.send_text(room, words or f"!confirm {word}")
        else:
            confirmed = await self.client.react(room, question.event_id, "✅")
        return await self._answer(room, asked, after=confirmed)

    async def _answer(self, room: RoomId, asked: EventId, *, after: EventId) -> Seen:
        def found() -> Seen | None:
            seen = self.client.timeline(room)
            known = [one.event_id for one in seen]
            if after not in known:
                return None
            later = seen[known.index(after) + 1 :]
            answers = [one for one in later if _answers(one, asked, self.adminbot)]
            return answers[0] if answers else None

        said = await self.client.sync_until(found, f"an answer to {asked}")
        assert said is not None
        return said

    async def state(self, room: RoomId, type_: str, key: str = "") -> dict[str, Any]:
        """Read a piece of state by oneself, not through Steward."""
        path = f"/_matrix/client/v3/rooms/{quote(room)}/state/{type_}/{quote(key, safe='')}"
        return await self.client.request("GET", path)


def _answers(seen: Seen, asked: EventId, adminbot: UserId) -> bool:
    relation = seen.content.get("m.relates_to") or {}
    answered = (relation.get("m.in_reply_to") or {}).get("event_id")
    is_edit = relation.get("rel_type") == "m.replace"
    is_progress = "To stop it: cancel" in seen.body
    return (
        seen.sender == adminbot
        and seen.type == "m.room.message"
        and answered == asked
        and not is_edit
        and not is_progress
    )


@dataclass
class Hall:
    """A room: its maker, who commands; a moderator's worth of others; and a server admin."""

    world: World
    room: RoomId
    alice: Commander
    others: list[RawClient] = field(default_factory=list)

    @property
    def bob(self) -> RawClient:
        return self.others[0]

    @property
    def carol(self) -> RawClient:
        return self.others[1]

    async def membership(self, user: UserId) -> str:
        """Return somebody's membership, read by the maker's own client."""
        content = await self.alice.state(self.room, "m.room.member", user)
        return str(content["membership"])

    async def level(self, user: UserId) -> int | None:
        """Return somebody's level of their own."""
        levels = await self.alice.state(self.room, "m.room.power_levels")
        found = levels.get("users", {}).get(user)
        return None if found is None else int(found)

    async def until_membership(self, user: UserId, wanted: str) -> None:
        """Wait until somebody has a membership."""

        async def reached() -> bool:
            return await self.membership(user) == wanted

        await wait_for(reached, 60, f"{user} to be {wanted}")


@asynccontextmanager
async def hall(
    world: World,
    *,
    encrypted: bool = False,
    people: int = 2,
    extra: Mapping[str, object] | None = None,
) -> AsyncIterator[Hall]:
    """Make a room with its maker, some people and both bots in it."""
    async with AsyncExitStack() as stack:
        name = f"alice-{secrets.token_hex(3)}"
        account = await world.synapse.register(name)
        client = await stack.enter_async_context(
            NioClient(world.synapse.url, account, world.directory / name)
        )
        room = await client.create_room("Café <b>", encrypted=encrypted, extra=extra)
        others = [await stack.enter_async_context(await world.person()) for _ in range(people)]
        for one in others:
            await client.request(
                "POST", f"/_matrix/client/v3/rooms/{room}/invite", {"user_id": one.user_id}
            )
            await one.join(room)
        bots = (world.steward.adminbot, world.steward.auditbot)
        await client.wait_for_members(room, *bots, *(one.user_id for one in others))
        yield Hall(world, room, Commander(client, world.steward.adminbot), others)


@asynccontextmanager
async def server_admin(world: World) -> AsyncIterator[tuple[Commander, RoomId]]:
    """Make a server admin with a direct chat with adminbot."""
    name = f"root-{secrets.token_hex(3)}"
    account = await world.synapse.register(name, admin=True)
    async with NioClient(world.synapse.url, account, world.directory / name) as client:
        chat = await client.direct_chat(world.steward.adminbot)
        await client.wait_for_members(chat, world.steward.adminbot)
        yield Commander(client, world.steward.adminbot), chat
