"""Files of the homeserver's media repository, streamed in both directions.

Source: Matrix specification v1.18, client-server API, "Content repository" (authenticated media).
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from common.crypto.attachments import AttachmentError, EncryptedFile, decrypt_stream
from common.matrix.client import MatrixClient, segment

_PORTION_BYTES = 2**16
_CONTENT_URI = re.compile(r"mxc://([^/?#\s]{1,255})/([A-Za-z0-9_.~-]{1,255})")


class Media:
    """Uploading and downloading in the name of one account."""

    def __init__(self, client: MatrixClient) -> None:
        self._client = client

    async def upload(
        self,
        data: AsyncIterable[bytes],
        *,
        size: int,
        content_type: str = "application/octet-stream",
        filename: str = "",
    ) -> str:
        """``POST /media/v3/upload``; return the content URI. ``size`` must be exact."""
        query = {"filename": filename} if filename else {}
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        async with self._client.open(
            "POST", "/_matrix/media/v3/upload", data=data, headers=headers, query=query
        ) as response:
            answer = await response.json(content_type=None)
        return str(answer["content_uri"])

    async def download(self, content_uri: object) -> AsyncIterator[bytes]:
        """Yield a file's bytes as they are stored (``GET /client/v1/media/download``)."""
        found = _CONTENT_URI.fullmatch(content_uri) if isinstance(content_uri, str) else None
        if found is None:
            raise AttachmentError("The address of a file is malformed.")
        server, media_id = found.groups()
        path = f"/_matrix/client/v1/media/download/{segment(server)}/{segment(media_id)}"
        async with self._client.open("GET", path) as response:
            async for portion in response.content.iter_chunked(_PORTION_BYTES):
                yield portion

    async def read_file(self, content: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Yield the file of an untrusted message's content, decrypted where it is encrypted.

        Raises:
            AttachmentError: the message describes no file, or (at the end) another one; then
                nothing that was yielded may be used.
        """
        if "file" not in content:
            async for portion in self.download(content.get("url")):
                yield portion
            return
        file = EncryptedFile.parse(content["file"])
        async for portion in decrypt_stream(self.download(file.url), file):
            yield portion
