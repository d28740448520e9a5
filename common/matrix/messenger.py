"""Send as one of the bots, encrypted wherever the room is."""

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from typing import Any

from common.crypto.attachments import encrypt_stream
from common.crypto.machine import CryptoMachine
from common.ids import EventId, RoomId, UserId
from common.matrix.client import Json, MatrixClient, MatrixError
from common.matrix.media import Media


@dataclass(frozen=True)
class OutgoingFile:
    """A file to send; ``data`` is read once and must have ``size`` bytes."""

    name: str
    data: AsyncIterable[bytes]
    size: int
    content_type: str = "application/octet-stream"
    width: int | None = None
    height: int | None = None

    @property
    def info(self) -> Json:
        """What clients want to know before they load it."""
        size = {"w": self.width, "h": self.height} if self.width and self.height else {}
        return {"mimetype": self.content_type, "size": self.size, **size}

    @property
    def msgtype(self) -> str:
        """How clients are to show it."""
        return "m.image" if self.content_type.startswith("image/") else "m.file"


class Messenger:
    """Sending for one account.

    The room is asked afresh each time: it may have been encrypted a moment ago, and nothing
    may ever go out in clear then.
    """

    def __init__(self, client: MatrixClient, crypto: CryptoMachine) -> None:
        self._client = client
        self._crypto = crypto
        self._media = Media(client)

    async def send(
        self,
        room_id: RoomId,
        content: Json,
        *,
        txn_id: str,
        event_type: str = "m.room.message",
        also: Sequence[UserId] = (),
    ) -> EventId:
        """Send a message event once, however often this is called with the same ``txn_id``.

        ``also`` may read it besides who has joined: people who are invited and will.
        """
        settings = await self._encryption(room_id)
        if settings is None:
            return await self._client.send(room_id, event_type, content, txn_id)
        members = await self._client.joined_members(room_id)
        encrypted = await self._crypto.encrypt(
            room_id,
            event_type,
            content,
            members=list(dict.fromkeys([*members, *also])),
            settings=settings,
        )
        relation = content.get("m.relates_to")
        if relation is not None:
            # Servers aggregate relations and have to see them (specification, "Event
            # relationships", "encrypted events").
            encrypted["m.relates_to"] = relation
        return await self._client.send(room_id, "m.room.encrypted", encrypted, txn_id)

    async def reply(self, room_id: RoomId, to: EventId, content: Json, *, txn_id: str) -> EventId:
        """Send a message in answer to another (specification, "Rich replies")."""
        relation = {"m.in_reply_to": {"event_id": to}}
        return await self.send(room_id, {**content, "m.relates_to": relation}, txn_id=txn_id)

    async def edit(
        self, room_id: RoomId, event_id: EventId, content: Json, *, txn_id: str
    ) -> EventId:
        """Replace the content of a message of ours (specification, "Event replacements")."""
        relation = {"rel_type": "m.replace", "event_id": event_id}
        body = f"* {content.get('body', '')}"  # for clients that know no edits
        replacement = {
            **content,
            "body": body,
            "m.new_content": content,
            "m.relates_to": relation,
        }
        return await self.send(room_id, replacement, txn_id=txn_id)

    async def react(self, room_id: RoomId, event_id: EventId, key: str, *, txn_id: str) -> EventId:
        """Send a reaction. It goes in clear text, as clients send them: it is all relation."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self._client.send(room_id, "m.reaction", {"m.relates_to": relation}, txn_id)

    async def upload_file(self, room_id: RoomId, file: OutgoingFile) -> Json:
        """Upload a file, encrypted if the room is; return the content of its message."""
        content: Json = {
            "msgtype": file.msgtype,
            "body": file.name,
            "filename": file.name,
            "info": file.info,
        }
        if await self._encryption(room_id) is None:
            content["url"] = await self._media.upload(
                file.data, size=file.size, content_type=file.content_type, filename=file.name
            )
        else:
            # Neither its name nor its type is the homeserver's business.
            stream = encrypt_stream(file.data)
            url = await self._media.upload(stream, size=file.size)
            content["file"] = stream.file(url).content()
        return content

    async def _encryption(self, room_id: RoomId) -> dict[str, Any] | None:
        try:
            return await self._client.state_event(room_id, "m.room.encryption")
        except MatrixError as error:
            if error.errcode == "M_NOT_FOUND":
                return None
            raise
