"""A person's end-to-end-encrypted client: matrix-nio with vodozemac, driven step by step."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from nio import AsyncClient, AsyncClientConfig, Event, MegolmEvent, Response
from nio.exceptions import EncryptionError
from nio.store import SqliteStore

from common.demo.accounts import Account, log_in
from common.demo.process import ServerError
from common.ids import EventId, RoomId, UserId

T = TypeVar("T")

_MEGOLM = "m.megolm.v1.aes-sha2"
_ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": _MEGOLM}}
_SYNC_FILTER = {"room": {"timeline": {"limit": 500}}}
_POLL_MS = 500
_PAUSE_SECONDS = 0.1
_DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Seen:
    """An event as the client shows it: decrypted where it could be."""

    room_id: RoomId
    event_id: EventId
    sender: UserId
    type: str
    content: Mapping[str, Any]
    encrypted: bool

    @property
    def body(self) -> str:
        """The text of a message; empty for everything else and for what cannot be read."""
        body = self.content.get("body", "")
        return body if isinstance(body, str) else ""


class _Store(SqliteStore):  # type: ignore[misc]  # it has no types
    """What a device keeps, without waiting for the disk: nobody needs it after a power cut."""

    def _create_database(self) -> Any:
        database = super()._create_database()
        database.init(self.database_path, pragmas={"foreign_keys": 1, "synchronous": 0})
        return database


class NioClient:
    """One device of one person.

    It syncs only when told to: by ``sync``, by what waits, or inside ``syncing()``; never by
    two of these at once.
    """

    def __init__(self, url: str, account: Account, directory: Path) -> None:
        self.account = account
        self.user_id = account.user_id
        self._timeline: dict[EventId, Seen] = {}
        self._unreadable: dict[EventId, MegolmEvent] = {}
        self._loop_runs = False
        self._key_work = asyncio.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        self.nio = AsyncClient(
            url,
            account.user_id,
            account.device_id,
            store_path=str(directory),
            config=AsyncClientConfig(
                store=_Store,
                encryption_enabled=True,
                store_sync_tokens=True,
                max_timeouts=0,  # raise when the server is away; its default is to wait for ever
                request_timeout=30,
            ),
        )

    @classmethod
    async def log_in(cls, url: str, localpart: str, password: str, directory: Path) -> Self:
        """Return an open client on a new device of this person."""
        client = cls(url, await log_in(url, localpart, password), directory)
        await client.open()
        return client

    async def open(self) -> None:
        """Load the store, publish the device's keys, and sync once."""
        account = self.account
        self.nio.restore_login(account.user_id, account.device_id, account.access_token)
        await self._receive(timeout_ms=0, full_state=True)
        await self._do_key_work()

    async def close(self) -> None:
        """Close connections; the device stays logged in."""
        await self.nio.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def sync(self, *, timeout_ms: int = 0) -> None:
        """Receive what is new and do the key work that it asks for."""
        await self._receive(timeout_ms=timeout_ms)
        await self._do_key_work()

    async def sync_until(
        self,
        condition: Callable[[], T],
        what: str,
        *,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> T:
        """Sync until the condition is true and return its value.

        A homeserver that is away for a while is waited for like everything else.

        Raises:
            TimeoutError: it did not become true in time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_seconds
        while not (value := condition()):
            left = end - loop.time()
            if left <= 0:
                raise TimeoutError(f"{self.user_id} did not see {what} in {deadline_seconds:g} s.")
            if self._loop_runs:
                await asyncio.sleep(min(_PAUSE_SECONDS, left))
                continue
            try:
                await self.sync(timeout_ms=int(min(_POLL_MS, left * 1000)))
            except (aiohttp.ClientError, TimeoutError, ServerError):
                await asyncio.sleep(min(_PAUSE_SECONDS, left))
        return value

    @asynccontextmanager
    async def syncing(self) -> AsyncIterator[None]:
        """Sync all the while inside ``async with``, as an open app does."""

        async def sync_for_ever() -> None:
            while True:
                try:
                    await self.sync(timeout_ms=_POLL_MS)
                except (aiohttp.ClientError, TimeoutError, ServerError):
                    await asyncio.sleep(_PAUSE_SECONDS)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(sync_for_ever())
            self._loop_runs = True
            try:
                yield
            finally:
                self._loop_runs = False
                task.cancel()

    def timeline(self, room_id: RoomId) -> list[Seen]:
        """Return the events seen in a room so far, in order."""
        return [seen for seen in self._timeline.values() if seen.room_id == room_id]

    def messages(self, room_id: RoomId, *, sender: UserId | None = None) -> list[Seen]:
        """Return the readable messages seen in a room so far, in order."""
        return [
            seen
            for seen in self.timeline(room_id)
            if seen.type == "m.room.message" and sender in {None, seen.sender}
        ]

    async def wait_for_message(
        self,
        room_id: RoomId,
        containing: str = "",
        *,
        sender: UserId | None = None,
        after: EventId | None = None,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> Seen:
        """Return the first readable message with this text by this sender after this event."""

        def found() -> Seen | None:
            known = [seen.event_id for seen in self.timeline(room_id)]
            later = set(known[known.index(after) + 1 :] if after in known else ())
            for seen in self.messages(room_id, sender=sender):
                if containing in seen.body and (after is None or seen.event_id in later):
                    return seen
            return None

        what = f"a message with “{containing}” by {sender or 'anyone'}"
        seen = await self.sync_until(found, what, deadline_seconds=deadline_seconds)
        if seen is None:  # cannot be: sync_until returns true values only
            raise TimeoutError(what)
        return seen

    async def create_room(
        self,
        name: str = "",
        *,
        encrypted: bool = False,
        invite: Sequence[UserId] = (),
        direct: bool = False,
        extra: Mapping[str, object] | None = None,
    ) -> RoomId:
        """Create a private room and wait until this client has it.

        ``extra`` is added to the body of createRoom.
        """
        body: dict[str, object] = {
            "preset": "trusted_private_chat" if direct else "private_chat",
            "invite": list(invite),
            "is_direct": direct,
            **({"name": name} if name else {}),
            **({"initial_state": [_ENCRYPTION]} if encrypted else {}),
            **(extra or {}),
        }
        answer = await self.request("POST", "/_matrix/client/v3/createRoom", body)
        room_id = RoomId(str(answer["room_id"]))
        await self.wait_until_joined(room_id, encrypted=encrypted)
        return room_id

    async def direct_chat(self, other: UserId, *, encrypted: bool = True) -> RoomId:
        """Start a direct chat as a client does: invite, and remember it in ``m.direct``."""
        room_id = await self.create_room(encrypted=encrypted, invite=[other], direct=True)
        path = f"/_matrix/client/v3/user/{self.user_id}/account_data/m.direct"
        await self.request("PUT", path, {other: [room_id]})
        return room_id

    async def join(self, room_id: RoomId, *, encrypted: bool = False) -> None:
        """Join, or accept an invitation to, a room and wait until this client has it."""
        await self.request("POST", f"/_matrix/client/v3/join/{room_id}", {})
        await self.wait_until_joined(room_id, encrypted=encrypted)

    async def wait_until_joined(self, room_id: RoomId, *, encrypted: bool = False) -> None:
        """Wait until the room's state has come, with its encryption if that is expected."""

        def arrived() -> bool:
            room = self.nio.rooms.get(room_id)
            return room is not None and (room.encrypted or not encrypted)

        await self.sync_until(arrived, f"the room {room_id}")

    async def wait_for_members(self, room_id: RoomId, *members: UserId) -> None:
        """Wait until these users have joined a room that this client has."""

        def arrived() -> bool:
            room = self.nio.rooms.get(room_id)
            invited = () if room is None else room.invited_users
            return room is not None and all(
                user in room.users and user not in invited for user in members
            )

        await self.sync_until(arrived, f"{', '.join(members)} in {room_id}")

    async def send_text(
        self, room_id: RoomId, text: str, *, extra: Mapping[str, object] | None = None
    ) -> EventId:
        """Send a message; encrypted for all members' devices if the room is.

        ``extra`` is added to the content. Returns when the homeserver has acknowledged it.
        """
        content = {"msgtype": "m.text", "body": text, **(extra or {})}
        return await self.send(room_id, "m.room.message", content)

    async def edit(self, room_id: RoomId, event_id: EventId, text: str) -> EventId:
        """Replace the text of a message (specification, "Event replacements")."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        content = {
            "msgtype": "m.text",
            "body": f"* {text}",
            "m.new_content": new,
            "m.relates_to": relation,
        }
        return await self.send(room_id, "m.room.message", content)

    async def react(self, room_id: RoomId, event_id: EventId, key: str) -> EventId:
        """Send a reaction; these are never encrypted."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.send(room_id, "m.reaction", {"m.relates_to": relation})

    async def send(
        self, room_id: RoomId, event_type: str, content: Mapping[str, object]
    ) -> EventId:
        """Send any message event, encrypted if the room is."""
        await self._do_key_work()  # nio does not ask for changed devices before it sends
        answer = await self.nio.room_send(
            room_id, event_type, dict(content), ignore_unverified_devices=True
        )
        return EventId(_checked(answer, f"send to {room_id}").event_id)

    async def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Make any other call as this person."""
        headers = {"Authorization": f"Bearer {self.account.access_token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self.nio.homeserver}{path}", json=body) as response,
        ):
            answer = await response.json(content_type=None)
            if not response.ok or not isinstance(answer, dict):
                raise ServerError(f"{method} {path} answered {response.status}: {answer!r}")
            return answer

    async def _receive(self, *, timeout_ms: int, full_state: bool = False) -> None:
        answer = _checked(
            await self.nio.sync(
                timeout=timeout_ms, sync_filter=_SYNC_FILTER, full_state=full_state
            ),
            "sync",
        )
        for room_id, room in answer.rooms.join.items():
            for event in room.timeline.events:
                self._see(RoomId(room_id), event)
        self._read_again()

    def _see(self, room_id: RoomId, event: Event) -> None:
        event_id = EventId(event.event_id)
        if isinstance(event, MegolmEvent):
            event.room_id = room_id  # /sync leaves it out, decrypting needs it
            self._unreadable[event_id] = event
        self._timeline[event_id] = Seen(
            room_id=room_id,
            event_id=event_id,
            sender=UserId(event.sender),
            type=str(event.source.get("type", "")),
            content=event.source.get("content") or {},
            encrypted=isinstance(event, MegolmEvent) or bool(event.decrypted),
        )

    def _read_again(self) -> None:
        """Try what could not be read: its key may have come by now."""
        for event_id, event in list(self._unreadable.items()):
            try:
                decrypted = self.nio.decrypt_event(event)
            except EncryptionError:
                continue
            del self._unreadable[event_id]
            self._see(RoomId(event.room_id), decrypted)

    async def _do_key_work(self) -> None:
        async with self._key_work:
            await self.nio.send_to_device_messages()
            if self.nio.should_upload_keys:
                _checked(await self.nio.keys_upload(), "upload of keys")
            if self.nio.should_query_keys:
                _checked(await self.nio.keys_query(), "query of keys")
            if self.nio.should_claim_keys:
                users = self.nio.get_users_for_key_claiming()
                _checked(await self.nio.keys_claim(users), "claim of keys")


def _checked(answer: Response, what: str) -> Any:
    """Return nio's answer, or raise the error that it returns instead."""
    status = getattr(answer, "status_code", None)  # only nio's error answers have one
    if status is not None:
        raise ServerError(f"The {what} failed: {status} {getattr(answer, 'message', '')}")
    return answer
