"""Files of an answer, as they are sent: clients want to know beforehand how large a picture is."""

import struct
from collections.abc import AsyncIterator

from adminbot.engine.answer import File
from common.matrix.messenger import OutgoingFile

_PNG = b"\x89PNG\r\n\x1a\n"


def outgoing(file: File) -> OutgoingFile:
    """Return a file as it is sent."""

    async def data() -> AsyncIterator[bytes]:
        yield file.data

    width, height = _picture_size(file)
    return OutgoingFile(
        file.name, data(), len(file.data), file.content_type, width=width, height=height
    )


def _picture_size(file: File) -> tuple[int | None, int | None]:
    """Return width and height of a PNG picture (PNG specification, "IHDR Image header")."""
    if not file.data.startswith(_PNG):
        return None, None
    width, height = struct.unpack(">II", file.data[16:24])
    return width, height
