"""Reading one message as a member of its room, decrypted where we have its key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from adminbot.engine.supply import Quoted
from common.crypto.port import Decrypted, EncryptedEvent, Reading, Trust
from common.database.pool import Connection, Database
from common.homeserver.errors import NotAllowedError, NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import GetEvent
from common.ids import EventId, RoomId, UserId


class Crypto(Protocol):
    """What is needed of ``common.crypto.machine.CryptoMachine``."""

    async def decrypt(
        self, connection: Connection, events: Sequence[EncryptedEvent]
    ) -> Sequence[Reading]:
        """Read events, in order, inside a transaction."""
        ...


@dataclass(frozen=True)
class Messages:
    """Messages of rooms that adminbot is in, within what ``admin`` may read."""

    admin: AdminReader
    crypto: Crypto
    database: Database

    async def message(self, room: RoomId, event_id: EventId) -> Quoted | None:
        """Return a message; ``None`` if it is gone, or no one here can read it."""
        try:
            event = await self.admin.read(GetEvent(room, event_id))
        except (NotFoundError, NotAllowedError):
            return None
        content: Mapping[str, Any] | None = event.content
        if event.type == "m.room.encrypted":
            content = await self.opened(room, event_id, event.sender, event.content)
        return None if content is None else Quoted(event_id, room, event.sender, content)

    async def opened(
        self, room: RoomId, event_id: EventId, sender: UserId, content: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the content of an encrypted event, ``None`` if it cannot be read or trusted."""
        encrypted = EncryptedEvent(event_id, room, sender, dict(content))
        async with self.database.transaction() as connection:
            (reading,) = await self.crypto.decrypt(connection, [encrypted])
        if not isinstance(reading, Decrypted) or reading.trust is Trust.MISMATCH:
            return None
        try:
            inner = msgspec.json.decode(reading.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        found = inner.get("content") if isinstance(inner, dict) else None
        return found if isinstance(found, dict) else None
