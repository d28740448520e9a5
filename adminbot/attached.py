"""What a command was sent with: the message it replies to, and the file it captions."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adminbot.engine.intake import Request
from adminbot.engine.supply import Quoted
from adminbot.messages import Messages
from common.crypto.attachments import AttachmentError
from common.errors import UserError
from common.i18n import t
from common.ids import EventId


class Files(Protocol):
    """What is needed of ``common.matrix.media.Media``."""

    def read_file(self, content: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Yield the file of a message's content, decrypted where it is encrypted."""
        ...


@dataclass(frozen=True)
class AttachedTo:
    """What one command was sent with; asked of the homeserver when it is wanted."""

    request: Request
    messages: Messages
    files: Files

    async def quoted(self) -> Quoted | None:
        """Return the message that is replied to."""
        if self.request.replies_to is None:
            return None
        return await self.messages.message(self.request.room, self.request.replies_to)

    def replied_to(self) -> EventId | None:
        """Return which message is replied to."""
        return self.request.replies_to

    def of_file(self) -> EventId | None:
        """Return the message with the file."""
        return self.request.event if self.request.captions else self.request.replies_to

    async def file(self, *, most_bytes: int, of: EventId | None = None) -> bytes | None:
        """Return the file that the command captions or replies to."""
        event = of or self.of_file()
        if event is None:
            return None
        message = await self.messages.message(self.request.room, event)
        if message is None or not ({"url", "file"} & message.content.keys()):
            return None
        held = bytearray()
        try:
            async for portion in self.files.read_file(message.content):
                held += portion
                if len(held) > most_bytes:
                    raise UserError(
                        t("The file is too large: at most {size} bytes.", size=most_bytes)
                    )
        except AttachmentError as error:
            raise UserError(t("The file cannot be read: {why}", why=str(error))) from error
        return bytes(held)
