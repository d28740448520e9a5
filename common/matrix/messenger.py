"""Send as one of the bots, encrypted wherever the room is."""

from typing import Any

from common.crypto.machine import CryptoMachine
from common.ids import EventId, RoomId
from common.matrix.client import Json, MatrixClient, MatrixError


class Messenger:
    """Sending for one account.

    The room is asked afresh each time: it may have been encrypted a moment ago, and nothing
    may ever go out in clear then.
    """

    def __init__(self, client: MatrixClient, crypto: CryptoMachine) -> None:
        self._client = client
        self._crypto = crypto

    async def send(
        self,
        room_id: RoomId,
        content: Json,
        *,
        txn_id: str,
        event_type: str = "m.room.message",
    ) -> EventId:
        """Send a message event once, however often this is called with the same ``txn_id``."""
        settings = await self._encryption(room_id)
        if settings is None:
            return await self._client.send(room_id, event_type, content, txn_id)
        members = await self._client.joined_members(room_id)
        encrypted = await self._crypto.encrypt(
            room_id, event_type, content, members=list(members), settings=settings
        )
        relation = content.get("m.relates_to")
        if relation is not None:
            # Servers aggregate relations and have to see them (specification, "Event
            # relationships", "encrypted events").
            encrypted["m.relates_to"] = relation
        return await self._client.send(room_id, "m.room.encrypted", encrypted, txn_id)

    async def _encryption(self, room_id: RoomId) -> dict[str, Any] | None:
        try:
            return await self._client.state_event(room_id, "m.room.encryption")
        except MatrixError as error:
            if error.errcode == "M_NOT_FOUND":
                return None
            raise
