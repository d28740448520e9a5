"""A client of the kind most people use: matrix-js-sdk with Rust cryptography, in node.

It keeps room keys from devices that their owner has not cross-signed (MSC4153), as Element does.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from common.demo.process import Program, ServerError
from common.demo.servers import Synapse
from common.ids import EventId, RoomId, UserId
from tests.support.npm import SOURCES, install_packages, node

# Longer than everything that client.mjs waits for.
_ANSWER_SECONDS = 100

Isolation = Literal["only-signed", "all"]


class JsClient:
    """One device of one person; use it with ``async with``, then ``log_in``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.user_id = UserId("")
        self._numbers = itertools.count()
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def register(
        cls,
        synapse: Synapse,
        directory: Path,
        localpart: str = "",
        *,
        isolation: Isolation = "only-signed",
    ) -> Self:
        """Return a running client of a new person with a cross-signing identity of their own."""
        name = localpart or f"js-{secrets.token_hex(4)}"
        account = await synapse.register(name)
        client = cls(directory / name)
        await client.start()
        try:
            await client.log_in(synapse.url, name, account.password, isolation=isolation)
            await client.call("bootstrapCrossSigning")
        except BaseException:
            await client.stop()
            raise
        return client

    async def start(self) -> None:
        """Start node; npm's packages are installed if they are not."""
        await asyncio.to_thread(install_packages)
        self.directory.mkdir(parents=True, exist_ok=True)
        program = Program(
            name="matrix-js-sdk",
            command=[node(), "client.mjs"],
            log=self.directory / "client.log",
            directory=SOURCES,
        )
        with program.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *program.launch_command(),
                cwd=program.directory,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=2**24,  # a whole timeline comes as one line
            )

    async def stop(self) -> None:
        """End node."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def __aenter__(self) -> Self:
        if self._process is None:
            await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def call(self, command: str, **arguments: object) -> Any:
        """Have one command of ``client.mjs`` carried out; one at a time."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ServerError("The client was not started.")
        number = next(self._numbers)
        line = json.dumps({"id": number, "command": command, **arguments})
        process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = json.loads(await process.stdout.readline() or b"{}")
        if answer.get("id") != number or "error" in answer:
            log = (self.directory / "client.log").read_text(errors="replace")[-2000:]
            why = answer.get("error", "it ended")
            raise ServerError(f"matrix-js-sdk: {command}: {why}\n{log}")
        return answer["result"]

    async def log_in(
        self, url: str, user: str, password: str, *, isolation: Isolation = "only-signed"
    ) -> None:
        """Log in on a new device and start to sync."""
        answer = await self.call(
            "login", url=url, user=user, password=password, isolation=isolation
        )
        self.user_id = UserId(answer["user_id"])

    async def log_in_with_token(self, url: str, token: str) -> None:
        """Log in with a one-use token and start to sync."""
        answer = await self.call("login", url=url, token=token)
        self.user_id = UserId(answer["user_id"])

    async def unlock(self, secret: str) -> dict[str, Any]:
        """Enter a passphrase or recovery key, as Element asks for after a login."""
        return dict(await self.call("unlock", secret=secret))

    async def restore_key_backup(self) -> dict[str, Any]:
        """Take in every room key of the backup; return how many there were and came."""
        return dict(await self.call("restoreKeyBackup"))

    async def history(self, room_id: RoomId) -> list[dict[str, Any]]:
        """Return a room's events from its beginning on, as this client can read them."""
        return list(await self.call("history", roomId=room_id))

    async def create_room(
        self,
        *,
        encrypted: bool = True,
        invite: Sequence[UserId] = (),
        name: str = "",
        direct: bool = False,
        settings: Mapping[str, object] | None = None,
    ) -> RoomId:
        """Create a private room; ``settings`` join the content of ``m.room.encryption``."""
        answer = await self.call(
            "createRoom",
            encrypted=encrypted,
            invite=list(invite),
            name=name,
            direct=direct,
            settings=dict(settings or {}),
        )
        return RoomId(answer["room_id"])

    async def invite(self, room_id: RoomId, user_id: UserId) -> None:
        """Invite somebody, with the keys of what was said before."""
        await self.call("invite", roomId=room_id, user=user_id)

    async def join(self, room_id: RoomId, *, encrypted: bool = True) -> None:
        await self.call("join", roomId=room_id, encrypted=encrypted)

    async def wait_for_members(self, room_id: RoomId, *members: UserId) -> None:
        """Wait until these users have joined a room that this client has."""
        await self.call("waitJoined", roomId=room_id, users=list(members))

    async def send_text(self, room_id: RoomId, text: str) -> EventId:
        """Send a message; returns when the homeserver has acknowledged it."""
        answer = await self.call("send", roomId=room_id, text=text)
        return EventId(answer["event_id"])

    async def wait_for_message(
        self, room_id: RoomId, containing: str = "", *, sender: UserId | None = None
    ) -> dict[str, Any]:
        """Return the first readable message with this text (by this sender)."""
        answer = await self.call(
            "waitForMessage", roomId=room_id, containing=containing, sender=sender
        )
        return dict(answer)

    async def timeline(self, room_id: RoomId) -> list[dict[str, Any]]:
        """Return the events of a room as this client shows them."""
        return list(await self.call("timeline", roomId=room_id))
