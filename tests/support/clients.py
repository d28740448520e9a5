"""Clients of test people; ``RawClient`` for what needs no encryption."""

import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from common.demo.accounts import Account
from common.demo.clients import NioClient, Seen
from common.demo.servers import Synapse
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId

__all__ = ["NioClient", "RawClient", "RequestFailedError", "Seen", "wait_for"]

_DEADLINE_SECONDS = 60.0


class RequestFailedError(Exception):
    """The homeserver refused; ``errcode`` and ``status`` say how."""

    def __init__(self, status: int, answer: Any, what: str) -> None:
        super().__init__(f"{what} answered {status}: {answer!r}")
        self.status = status
        self.errcode = str(answer.get("errcode", "")) if isinstance(answer, dict) else ""


class RawClient:
    """A person who speaks plain HTTP; use it with ``async with``, or close it."""

    def __init__(self, url: str, account: Account) -> None:
        self.url = url
        self.account = account
        self.user_id = account.user_id
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {account.access_token}"},
            timeout=aiohttp.ClientTimeout(total=60),
        )

    @classmethod
    async def register(cls, synapse: Synapse, localpart: str = "", *, admin: bool = False) -> Self:
        """Make an account, with a name of its own if none is given."""
        name = localpart or f"user-{secrets.token_hex(4)}"
        return cls(synapse.url, await synapse.register(name, admin=admin))

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a call below the homeserver's address; the path must be quoted already."""
        async with self._session.request(
            method, f"{self.url}{path}", json=body, params=query
        ) as response:
            answer = await response.json(content_type=None)
            if not response.ok:
                raise RequestFailedError(response.status, answer, f"{method} {path}")
            return answer

    async def client(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Any:
        """Make a call below ``/_matrix/client/v3``."""
        return await self.request(method, f"/_matrix/client/v3{path}", body)

    async def create_room(
        self,
        *,
        name: str = "",
        invite: Sequence[UserId] = (),
        direct: bool = False,
        extra: Mapping[str, object] | None = None,
    ) -> RoomId:
        """Create a private room; ``extra`` is added to the body of createRoom."""
        body: dict[str, object] = {
            "preset": "trusted_private_chat" if direct else "private_chat",
            "invite": list(invite),
            "is_direct": direct,
            **({"name": name} if name else {}),
            **(extra or {}),
        }
        return RoomId(str((await self.client("POST", "/createRoom", body))["room_id"]))

    async def invite(self, room_id: RoomId, user_id: UserId) -> None:
        await self.client("POST", f"/rooms/{_quoted(room_id)}/invite", {"user_id": user_id})

    async def join(self, room_id: RoomId) -> None:
        await self.client("POST", f"/join/{_quoted(room_id)}", {})

    async def leave(self, room_id: RoomId) -> None:
        await self.client("POST", f"/rooms/{_quoted(room_id)}/leave", {})

    async def kick(self, room_id: RoomId, user_id: UserId) -> None:
        await self.client("POST", f"/rooms/{_quoted(room_id)}/kick", {"user_id": user_id})

    async def send(
        self,
        room_id: RoomId,
        event_type: str,
        content: Mapping[str, object],
        *,
        transaction_id: str = "",
    ) -> EventId:
        """Send a message event; returns when the homeserver has acknowledged it."""
        transaction = transaction_id or secrets.token_hex(8)
        path = f"/rooms/{_quoted(room_id)}/send/{_quoted(event_type)}/{transaction}"
        return EventId(str((await self.client("PUT", path, content))["event_id"]))

    async def send_text(self, room_id: RoomId, text: str) -> EventId:
        return await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": text})

    async def send_state(
        self,
        room_id: RoomId,
        event_type: str,
        content: Mapping[str, object],
        *,
        state_key: str = "",
    ) -> EventId:
        path = f"/rooms/{_quoted(room_id)}/state/{_quoted(event_type)}/{_quoted(state_key)}"
        return EventId(str((await self.client("PUT", path, content))["event_id"]))

    async def redact(self, room_id: RoomId, event_id: EventId, reason: str = "") -> EventId:
        path = f"/rooms/{_quoted(room_id)}/redact/{_quoted(event_id)}/{secrets.token_hex(8)}"
        return EventId(str((await self.client("PUT", path, {"reason": reason}))["event_id"]))

    async def upload(self, data: bytes, name: str) -> str:
        """Upload a file; return its address."""
        async with self._session.post(
            f"{self.url}/_matrix/media/v3/upload", data=data, params={"filename": name}
        ) as response:
            return str((await response.json())["content_uri"])

    async def download(self, uri: str) -> bytes:
        """Return the file at an ``mxc://`` address."""
        path = uri.removeprefix("mxc://")
        async with self._session.get(
            f"{self.url}/_matrix/client/v1/media/download/{path}"
        ) as response:
            response.raise_for_status()
            return await response.read()

    async def state(self, room_id: RoomId, event_type: str, *, state_key: str = "") -> Any:
        """Return the content of one piece of state."""
        path = f"/rooms/{_quoted(room_id)}/state/{_quoted(event_type)}/{_quoted(state_key)}"
        return await self.client("GET", path)

    async def joined_members(self, room_id: RoomId) -> frozenset[UserId]:
        answer = await self.client("GET", f"/rooms/{_quoted(room_id)}/joined_members")
        return frozenset(UserId(user) for user in answer["joined"])

    async def messages(self, room_id: RoomId, *, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest events of a room, oldest first."""
        path = f"/_matrix/client/v3/rooms/{_quoted(room_id)}/messages"
        answer = await self.request("GET", path, query={"dir": "b", "limit": str(limit)})
        return list(reversed(answer["chunk"]))

    async def sync(self, *, since: str = "", timeout_ms: int = 0) -> Any:
        query = {"timeout": str(timeout_ms), **({"since": since} if since else {})}
        return await self.request("GET", "/_matrix/client/v3/sync", query=query)

    async def wait_for_members(
        self,
        room_id: RoomId,
        *members: UserId,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> None:
        """Wait until these users have joined the room."""

        async def arrived() -> bool:
            return await self.joined_members(room_id) >= set(members)

        await wait_for(arrived, deadline_seconds, f"{', '.join(members)} in {room_id}")

    async def wait_until_listed(self, name: str, *rooms: RoomId, members: int = 0) -> None:
        """Wait, as a server admin, until the homeserver lists rooms under part of a name.

        It takes names and numbers of members into its list in the background.
        """

        async def listed() -> bool:
            query = {"search_term": name, "limit": "500"}
            found = await self.request("GET", "/_synapse/admin/v1/rooms", query=query)
            counts = {room["room_id"]: room["joined_members"] for room in found["rooms"]}
            return all(counts.get(room, -1) >= members for room in rooms)

        await wait_for(listed, _DEADLINE_SECONDS, f"{len(rooms)} rooms “{name}” in the list")

    async def wait_for_message(
        self,
        room_id: RoomId,
        containing: str = "",
        *,
        sender: UserId | None = None,
        after: EventId | None = None,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> dict[str, Any]:
        """Return the first plain message with this text by this sender after this event."""

        async def found() -> dict[str, Any] | None:
            passed = after is None
            for event in await self.messages(room_id, limit=1000):
                text = event.get("content", {}).get("body", "")
                wanted = sender in {None, event["sender"]} and event["type"] == "m.room.message"
                if passed and wanted and containing in text:
                    return event
                passed = passed or event["event_id"] == after
            return None

        what = f"a message with “{containing}” by {sender or 'anyone'}"
        event = await wait_for(found, deadline_seconds, what)
        assert event is not None
        return dict(event)


def _quoted(part: str) -> str:
    return quote(part, safe="")
