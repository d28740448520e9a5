"""An archive in an S3 bucket, for reading only: list with versions, and get by version.

Apart from the writer's store, so that what reads an archive shares no code with what wrote it
but the library's errors.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, cast

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from auditbot.storage.addressing import CONFIGURATION, Origin, addressing_style
from auditbot.storage.reading import (
    MOST_BYTES,
    PIECE_BYTES,
    Item,
    MissingObjectError,
    TooLargeError,
)
from auditbot.storage.s3_errors import (
    MissingError,
    UnknownRequestError,
    check_authority,
    sentences,
)
from common.config.schema import S3
from common.errors import PermanentError

_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_ATTEMPTS = 4
_CONNECTIONS = 32


class _Client(Protocol):
    """The operations we use; the library itself has no types at run time."""

    async def get_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def list_objects_v2(self, **arguments: Any) -> dict[str, Any]: ...
    async def list_object_versions(self, **arguments: Any) -> dict[str, Any]: ...


@dataclass
class _Versions:
    """What a listing of versions says of one key, newest first."""

    key: str
    size: int = 0
    modified_ms: int = 0
    names: tuple[str, ...] = ()
    deleted: bool = False

    def item(self) -> Item:
        return Item(self.key, self.size, self.modified_ms, self.names, self.deleted)


class S3Place:
    """Objects of one bucket below ``prefix``."""

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
        self.remarks: tuple[str, ...] = ()

    async def list(self, prefix: str) -> AsyncIterator[Item]:
        """Yield what begins with ``prefix``; with versions where the store tells of them."""
        try:
            items = [item async for item in self._with_versions(prefix)]
            self.remarks = ()
        except UnknownRequestError:
            # The store knows no versions: then it has no delete markers either.
            items = [item async for item in self._newest(prefix)]
        except PermanentError as error:
            items = [item async for item in self._newest(prefix)]
            remark = (
                "The bucket does not let you list versions: what is hidden behind a delete "
                "marker, the end of the archive for example, cannot be seen. Have "
                f"s3:ListBucketVersions allowed. It said: {error}"
            )
            self.remarks = (remark,)
        for item in items:
            yield item

    async def get(
        self, key: str, version: str | None = None, *, most_bytes: int = MOST_BYTES
    ) -> bytes:
        """Return an object's bytes, of one version if that is named."""
        pieces = bytearray()
        async for piece in self.pieces(key, version):
            pieces += piece
            if len(pieces) > most_bytes:
                raise TooLargeError(f"“{key}” is larger than it may be ({most_bytes} bytes).")
        return bytes(pieces)

    async def pieces(self, key: str, version: str | None = None) -> AsyncIterator[bytes]:
        """Yield an object's bytes piece by piece."""
        name = {"Bucket": self._bucket, "Key": self._prefix + key}
        if version is not None:
            name["VersionId"] = version
        try:
            with self._sentences(key):
                client = await self._connected()
                answer = await client.get_object(**name)
                async with answer["Body"] as stream:
                    while piece := await stream.read(PIECE_BYTES):
                        yield piece
        except MissingError as error:
            raise MissingObjectError(str(error)) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._open.aclose()
        self._client = None

    async def _newest(self, prefix: str) -> AsyncIterator[Item]:
        after: dict[str, str] = {}
        while True:
            with self._sentences(prefix):
                client = await self._connected()
                page = await client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, **after
                )
            for found in page.get("Contents", []):
                key = str(found["Key"]).removeprefix(self._prefix)
                yield Item(key, int(found["Size"]), _ms(found["LastModified"]))
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": str(page["NextContinuationToken"])}

    async def _with_versions(self, prefix: str) -> AsyncIterator[Item]:
        current: _Versions | None = None
        async for found, is_marker in self._version_entries(prefix):
            key = str(found["Key"]).removeprefix(self._prefix)
            if current is None or current.key != key:
                if current is not None:
                    yield current.item()
                current = _Versions(key)
            if is_marker:
                current.deleted |= bool(found["IsLatest"])
                continue
            if not current.names:
                current.size = int(found["Size"])
                current.modified_ms = _ms(found["LastModified"])
            version = str(found.get("VersionId") or "null")
            current.names = (*current.names, version)
        if current is not None:
            yield current.item()

    async def _version_entries(self, prefix: str) -> AsyncIterator[tuple[dict[str, Any], bool]]:
        after: dict[str, str] = {}
        while True:
            with self._sentences(prefix):
                client = await self._connected()
                page = await client.list_object_versions(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, **after
                )
            entries = [
                *((entry, False) for entry in page.get("Versions", [])),
                *((entry, True) for entry in page.get("DeleteMarkers", [])),
            ]
            # By key, and of each the newest first: a page gives two lists.
            entries.sort(key=lambda pair: _ms(pair[0]["LastModified"]), reverse=True)
            entries.sort(key=lambda pair: bool(pair[0].get("IsLatest")), reverse=True)
            entries.sort(key=lambda pair: str(pair[0]["Key"]))
            for pair in entries:
                yield pair
            if not page.get("IsTruncated"):
                return
            after = {"KeyMarker": str(page["NextKeyMarker"])}
            if page.get("NextVersionIdMarker"):
                after["VersionIdMarker"] = str(page["NextVersionIdMarker"])

    def _sentences(self, key: str) -> AbstractContextManager[None]:
        return sentences(self._bucket, self._settings, key, self._origin)

    async def _connected(self) -> _Client:
        async with self._opening:
            if self._client is None:
                client = await self._open.enter_async_context(
                    connect(self._settings, self._origin)
                )
                self._client = cast(_Client, client)
            return self._client


@asynccontextmanager
async def connect(settings: S3, origin: Origin) -> AsyncIterator[Any]:
    """Open the library's client, once it is seen that its settings can be used.

    Raises:
        PermanentError: the file of the authority cannot be used.
    """
    await asyncio.to_thread(check_authority, settings.ca_file, origin)
    key, secret = settings.access_key_id, settings.secret_access_key
    client: AbstractAsyncContextManager[Any] = get_session().create_client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=key.reveal() if key else None,
        aws_secret_access_key=secret.reveal() if secret else None,
        verify=settings.ca_file,
        config=AioConfig(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            max_pool_connections=_CONNECTIONS,
            s3={"addressing_style": addressing_style(settings)},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="steward",
        ),
    )
    async with client as opened:
        yield opened


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
