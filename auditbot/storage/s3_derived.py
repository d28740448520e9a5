"""Copies in a bucket: written over and deleted below ``derived/``, nowhere else."""

import asyncio
import base64
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, cast

from auditbot.storage.addressing import CONFIGURATION, Origin
from auditbot.storage.derived import derived_key
from auditbot.storage.s3_errors import MissingError, sentences
from auditbot.storage.s3_place import connect
from common.config.schema import S3


class _Client(Protocol):
    async def put_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def delete_object(self, **arguments: Any) -> dict[str, Any]: ...


class S3Derived:
    """Copies of one bucket below ``prefix``. They are never locked: they are to be replaced."""

    def __init__(
        self, bucket: str, prefix: str, settings: S3, origin: Origin = CONFIGURATION
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._settings = settings
        self._origin = origin
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: _Client | None = None

    async def put(self, key: str, file: Path) -> None:
        """Write a file under a key, encrypted by the store as all else is."""
        name = self._name(key)
        settings = self._settings
        if settings.sse is not None:
            name["ServerSideEncryption"] = settings.sse
        if settings.sse_kms_key_id is not None:
            name["SSEKMSKeyId"] = settings.sse_kms_key_id
        # A bucket that locks what is put into it refuses what has no checksum.
        digest = await asyncio.to_thread(_digest, file)
        with sentences(self._bucket, settings, key, self._origin):
            client = await self._connected()
            with file.open("rb") as body:
                await client.put_object(**name, Body=body, ChecksumSHA256=digest)

    async def delete(self, key: str) -> None:
        """Delete an object; where the bucket keeps versions, the older ones stay."""
        name = self._name(key)
        try:
            with sentences(self._bucket, self._settings, key, self._origin):
                await (await self._connected()).delete_object(**name)
        except MissingError:
            return

    async def close(self) -> None:
        """Close the connections."""
        await self._open.aclose()
        self._client = None

    def _name(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + derived_key(key)}

    async def _connected(self) -> _Client:
        async with self._opening:
            if self._client is None:
                opened = await self._open.enter_async_context(
                    connect(self._settings, self._origin)
                )
                self._client = cast(_Client, opened)
            return self._client


def _digest(file: Path) -> str:
    with file.open("rb") as body:
        return base64.b64encode(hashlib.file_digest(body, "sha256").digest()).decode()
