"""The archive in an S3 bucket; the only module that knows the S3 library.

The promise kept: an object is created once, whole, with the checksum that was sealed, and never
replaced (``If-None-Match: *``); a repeat after a lost answer is recognised by the checksum.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from auditbot.storage.addressing import addressing_style
from auditbot.storage.errors import ObjectExistsError
from auditbot.storage.port import Abilities, Found, Stored
from auditbot.storage.s3_errors import (
    DamagedError,
    MissingError,
    TakenError,
    UnknownRequestError,
    check_authority,
    sentences,
)
from auditbot.storage.s3_versions import BEFORE_VERSIONS, versions_of
from common.clock import Clock, SystemClock
from common.config.schema import S3
from common.errors import PermanentError, StewardError, TransientError

PART_BYTES = 8 * 2**20
"""Files above this size are uploaded in parts of it."""
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_STALE = timedelta(days=1)
"""How old an unfinished upload is when it is nobody's any more."""


class _Client(Protocol):
    """The operations we use; the library itself has no types at run time."""

    async def put_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def head_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def get_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def delete_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def list_objects_v2(self, **arguments: Any) -> dict[str, Any]: ...
    async def list_object_versions(self, **arguments: Any) -> dict[str, Any]: ...
    async def get_bucket_versioning(self, **arguments: Any) -> dict[str, Any]: ...
    async def get_object_lock_configuration(self, **arguments: Any) -> dict[str, Any]: ...
    async def get_object_legal_hold(self, **arguments: Any) -> dict[str, Any]: ...
    async def put_object_legal_hold(self, **arguments: Any) -> dict[str, Any]: ...
    async def create_multipart_upload(self, **arguments: Any) -> dict[str, Any]: ...
    async def upload_part(self, **arguments: Any) -> dict[str, Any]: ...
    async def complete_multipart_upload(self, **arguments: Any) -> dict[str, Any]: ...
    async def abort_multipart_upload(self, **arguments: Any) -> dict[str, Any]: ...
    async def list_multipart_uploads(self, **arguments: Any) -> dict[str, Any]: ...


class S3Store:
    """Objects of one bucket below ``prefix``."""

    def __init__(self, bucket: str, prefix: str, settings: S3, clock: Clock | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._settings = settings
        self._clock = clock or SystemClock()
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: _Client | None = None
        self._clock_offset_ms: int | None = None
        self._has_versions: bool | None = None
        self._looks_first = False

    @property
    def clock_offset_ms(self) -> int | None:
        """How far this machine's clock is ahead of the store's; to a second or so."""
        return self._clock_offset_ms

    async def put(
        self,
        key: str,
        body: bytes,
        sha256: str,
        *,
        locked: bool = True,
        lock_days: int | None = None,
    ) -> Stored:
        """Create an object; the same bytes again are success."""
        if hashlib.sha256(body).hexdigest() != sha256:
            raise PermanentError(f"The object “{key}” was to be written with a wrong checksum.")
        if await self._is_taken(key):
            return await self._compare(key, sha256)
        try:
            with self._sentences(key):
                client = await self._connected()
                answer = await client.put_object(
                    **self._name(key),
                    **self._attributes(sha256, locked=locked, lock_days=lock_days),
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumSHA256=_base64(sha256),
                )
                self._look_at_clock(answer)
                stored = _stored(answer)
        except TakenError:
            return await self._compare(key, sha256)
        return await self._compare(key, sha256) if self._looks_first else stored

    def look_first(self, *, on: bool) -> None:
        """Look before each object and read it back, or leave both to the store."""
        self._looks_first = on

    async def put_file(
        self, key: str, file: Path, sha256: str, *, lock_days: int | None = None
    ) -> Stored:
        """Create an object from a file, in parts if it is large."""
        size = (await asyncio.to_thread(file.stat)).st_size
        if size <= PART_BYTES:
            body = await asyncio.to_thread(file.read_bytes)
            return await self.put(key, body, sha256, lock_days=lock_days)
        if await self._is_taken(key):
            return await self._compare(key, sha256)
        try:
            stored = await self._put_parts(key, file, sha256, lock_days)
        except TakenError:
            return await self._compare(key, sha256)
        return await self._compare(key, sha256) if self._looks_first else stored

    async def replace(self, key: str, body: bytes) -> None:
        """Write an object over what is there."""
        digest = hashlib.sha256(body).hexdigest()
        attributes = self._attributes(digest, locked=False)
        with self._sentences(key):
            client = await self._connected()
            await client.put_object(
                **self._name(key), **attributes, Body=body, ChecksumSHA256=_base64(digest)
            )

    async def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object's bytes, of one version if that is named."""
        with self._sentences(key):
            client = await self._connected()
            answer = await client.get_object(**self._name(key, version_id))
            async with answer["Body"] as stream:
                return cast(bytes, await stream.read())
        raise AssertionError  # the block above returns or raises

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with ``prefix``, in ascending order."""
        after: dict[str, str] = {}
        while True:
            with self._sentences(prefix):
                client = await self._connected()
                page = await client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, **after
                )
            for item in page.get("Contents", []):
                yield str(item["Key"]).removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": str(page["NextContinuationToken"])}

    async def delete(self, key: str, version_id: str | None = None) -> None:
        """Remove an object, for good if its version is named."""
        await self._delete(key, version_id)

    async def delete_stored(self, key: str, version_id: str | None) -> None:
        """Remove for good what was stored under a key; see the port."""
        if version_id is None and await self._keeps_versions():
            await self._delete(key, BEFORE_VERSIONS)
            # A store that keeps versions and told us none when it was stored.
            if key in [found async for found in self.list(key)]:
                await self.destroy(key, BEFORE_VERSIONS)
            return
        answer = await self._delete(key, version_id)
        if version_id is None and answer.get("DeleteMarker"):
            # It keeps versions by now, did not say so, and has only hidden the object.
            await self._delete(key, BEFORE_VERSIONS)
            if answer.get("VersionId"):
                await self._delete(key, str(answer["VersionId"]))

    async def destroy(self, key: str, version_id: str | None) -> None:
        """Remove every version of an object for good, and see that none is left."""
        if version_id == BEFORE_VERSIONS:
            await self._delete(key, version_id)
        else:
            await self.delete_stored(key, version_id)
        left = await self._versions(key)
        for version in left:
            await self._delete(key, version)
        if left and await self._versions(key):
            raise TransientError(
                f"The bucket “{self._bucket}” still lists versions of “{key}” that it was told to "
                "delete: see what keeps them there if it stays so."
            )

    async def look(self, key: str) -> Found:
        """Return what an object is; its bytes are read to know."""
        with self._sentences(key):
            client = await self._connected()
            answer = await client.head_object(**self._name(key))
            digest = await self._digest(key)
        return Found(digest, int(answer["ContentLength"]), _stored(answer).version_id)

    async def abilities(self) -> Abilities:
        """Ask the bucket what it is set up to do; what it does not answer is not known.

        Raises:
            PermanentError: a lock is configured that the bucket cannot keep.
        """
        settings = self._settings
        client = await self._connected()
        answer = await self._ask(client.get_bucket_versioning)
        versioning = None if answer is None else answer.get("Status") == "Enabled"
        locked = settings.object_lock is not None
        lock_seen = None
        if locked:
            answer = await self._ask(client.get_object_lock_configuration)
            if answer is not None and "ObjectLockConfiguration" not in answer:
                raise PermanentError(
                    f"The bucket “{self._bucket}” was made without Object Lock: make one with it, "
                    "or unset auditbot.s3.object_lock."
                )
            lock_seen = None if answer is None else True
        return Abilities(
            "s3",
            lock_seen=lock_seen,
            object_lock=settings.object_lock.upper() if settings.object_lock else None,
            retention_days=settings.retention_days if locked else None,
            versioning=versioning,
            sse=settings.sse,
        )

    async def refuses_damage(self, key: str) -> bool | None:
        """Send an object with the checksum of another one: a store that looks refuses it."""
        body, other = b"Damaged on its way.\n", hashlib.sha256(b"").hexdigest()
        try:
            with self._sentences(key):
                client = await self._connected()
                await client.put_object(
                    **self._name(key),
                    **self._attributes(other, locked=False),
                    Body=body,
                    ChecksumSHA256=_base64(other),
                )
        except DamagedError:
            return True
        except PermanentError:
            return None
        return False

    async def keeps_legal_holds(self) -> bool:
        """Return whether the bucket was made with Object Lock; if it does not say, it may be."""
        client = await self._connected()
        answer = await self._ask(client.get_object_lock_configuration)
        return answer is None or "ObjectLockConfiguration" in answer

    async def has_legal_hold(self, key: str, version_id: str) -> bool:
        """Return whether a version is under legal hold; one that has none is told as missing."""
        try:
            with self._sentences(key):
                client = await self._connected()
                answer = await client.get_object_legal_hold(**self._name(key, version_id))
        except MissingError:
            return False
        return bool(answer.get("LegalHold", {}).get("Status") == "ON")

    async def set_legal_hold(self, key: str, version_id: str, *, on: bool) -> None:
        """Put a version under legal hold, or lift that; what is missing needs no lifting."""
        status = {"Status": "ON" if on else "OFF"}
        try:
            with self._sentences(key):
                client = await self._connected()
                name = self._name(key, version_id)
                await client.put_object_legal_hold(**name, LegalHold=status)
        except MissingError:
            if on:
                raise

    async def abort_stale(self, prefix: str) -> int:
        """Give up uploads in parts that were begun a day ago or earlier and never finished."""
        before = self._clock.now() - _STALE
        with self._sentences(prefix):
            client = await self._connected()
            answer = await client.list_multipart_uploads(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            stale = [
                upload for upload in answer.get("Uploads", []) if upload["Initiated"] < before
            ]
            for upload in stale:
                await client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        return len(stale)

    async def close(self) -> None:
        """Close the connections."""
        await self._open.aclose()
        self._client = None

    async def _ask(
        self, question: Callable[..., Awaitable[dict[str, Any]]]
    ) -> dict[str, Any] | None:
        """Return what the bucket says of itself, ``None`` if it does not say."""
        try:
            with self._sentences(""):
                return await question(Bucket=self._bucket)
        except (MissingError, UnknownRequestError):
            return {}
        except PermanentError:
            return None
        raise AssertionError  # the block above returns or raises

    async def _delete(self, key: str, version_id: str | None) -> dict[str, Any]:
        """Delete; return what the store says of it, nothing if there was nothing to delete."""
        try:
            with self._sentences(key):
                client = await self._connected()
                return await client.delete_object(**self._name(key, version_id))
        except MissingError:
            return {}
        raise AssertionError  # the block above returns or raises

    async def _keeps_versions(self) -> bool | None:
        """Return whether the bucket keeps versions or ever did, ``None`` if it does not say."""
        if self._has_versions is None:
            client = await self._connected()
            answer = await self._ask(client.get_bucket_versioning)
            if answer is not None:
                self._has_versions = answer.get("Status") in {"Enabled", "Suspended"}
        return self._has_versions

    async def _versions(self, key: str) -> Sequence[str]:
        """Return the names of all versions of an object; none where there are no versions."""
        try:
            with self._sentences(key):
                client = await self._connected()
                return await versions_of(client, self._bucket, self._prefix + key)
        except (MissingError, UnknownRequestError):
            return []
        except PermanentError as error:
            if await self._keeps_versions() is False:
                return []
            raise PermanentError(
                f"The version of “{key}” that is known was deleted, but whether others are left "
                "cannot be seen: allow Steward's key s3:ListBucketVersions, or see yourself that "
                f"there is none. It said: {error}"
            ) from None
        raise AssertionError  # the block above returns or raises

    async def _put_parts(self, key: str, file: Path, sha256: str, lock_days: int | None) -> Stored:
        name = self._name(key)
        with self._sentences(key):
            client = await self._connected()
            begun = await client.create_multipart_upload(
                **name, **self._attributes(sha256, lock_days=lock_days)
            )
            upload = {**name, "UploadId": begun["UploadId"]}
            try:
                parts = []
                with file.open("rb") as source:
                    async for number, part in _parts(source):
                        answer = await client.upload_part(
                            **upload,
                            PartNumber=number,
                            Body=part,
                            ContentMD5=_md5(part),
                        )
                        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
                answer = await client.complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                )
                return _stored(answer)
            except BaseException:
                # What is left behind costs money and is seen by nobody.
                await asyncio.shield(self._abort(upload))
                raise
        raise AssertionError  # the block above returns or raises

    async def _abort(self, upload: dict[str, Any]) -> None:
        try:
            with self._sentences(str(upload["Key"])):
                await (await self._connected()).abort_multipart_upload(**upload)
        except StewardError:
            return  # the next start's sweep finds it

    async def _connected(self) -> _Client:
        async with self._opening:
            if self._client is None:
                settings = self._settings
                await asyncio.to_thread(check_authority, settings.ca_file)
                key, secret = settings.access_key_id, settings.secret_access_key
                client = await self._open.enter_async_context(
                    get_session().create_client(
                        "s3",
                        endpoint_url=settings.endpoint_url,
                        region_name=settings.region,
                        aws_access_key_id=key.reveal() if key else None,
                        aws_secret_access_key=secret.reveal() if secret else None,
                        verify=settings.ca_file,
                        config=_library_settings(settings),
                    )
                )
                self._client = cast(_Client, client)
            return self._client

    async def _is_taken(self, key: str) -> bool:
        """Return whether there is an object already, where the store itself does not look."""
        if not self._looks_first:
            return False
        try:
            with self._sentences(key):
                client = await self._connected()
                await client.head_object(**self._name(key))
        except MissingError:
            return False
        return True

    async def _compare(self, key: str, sha256: str) -> Stored:
        """Tell our own earlier attempt, whose answer was lost, from somebody else's object."""
        with self._sentences(key):
            client = await self._connected()
            answer = await client.head_object(**self._name(key), ChecksumMode="ENABLED")
            stored = answer.get("ChecksumSHA256")
            if stored is None or "-" in stored:
                # Some S3-like stores keep no checksum, and that of parts is another one; the
                # bytes themselves cannot lie.
                found = await self._digest(key)
            else:
                found = base64.b64decode(stored).hex()
        if found != sha256:
            raise ObjectExistsError(
                f"“{key}” in the bucket “{self._bucket}” holds other bytes than were to be "
                "written there: another Steward writes to this archive. Stop one of them."
            )
        return _stored(answer)

    async def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        answer = await (await self._connected()).get_object(**self._name(key))
        async with answer["Body"] as stream:
            while portion := await stream.read(2**20):
                digest.update(portion)
        return digest.hexdigest()

    def _name(self, key: str, version_id: str | None = None) -> dict[str, Any]:
        name = {"Bucket": self._bucket, "Key": self._prefix + key}
        return {**name, "VersionId": version_id} if version_id is not None else name

    def _attributes(
        self, sha256: str, *, locked: bool = True, lock_days: int | None = None
    ) -> dict[str, Any]:
        """Return what is said of every object: its digest, encryption and lock."""
        settings = self._settings
        # Once more where every S3-like store keeps it.
        attributes: dict[str, Any] = {"Metadata": {"sha256": sha256}}
        if settings.sse is not None:
            attributes["ServerSideEncryption"] = settings.sse
        if settings.sse_kms_key_id is not None:
            attributes["SSEKMSKeyId"] = settings.sse_kms_key_id
        if locked and settings.object_lock is not None:
            days = settings.retention_days if lock_days is None else lock_days
            until = self._clock.now() + timedelta(days=days)
            attributes["ObjectLockMode"] = settings.object_lock.upper()
            attributes["ObjectLockRetainUntilDate"] = until
        return attributes

    def _look_at_clock(self, answer: dict[str, Any]) -> None:
        said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            theirs = parsedate_to_datetime(str(said))
        except ValueError:
            return
        offset = self._clock.now() - theirs.astimezone(UTC)
        self._clock_offset_ms = int(offset / timedelta(milliseconds=1))

    def _sentences(self, key: str) -> AbstractContextManager[None]:
        return sentences(self._bucket, self._settings, key)


async def _parts(source: BinaryIO) -> AsyncIterator[tuple[int, bytes]]:
    number = 1
    while part := await asyncio.to_thread(source.read, PART_BYTES):
        yield number, part
        number += 1


def _stored(answer: dict[str, Any]) -> Stored:
    version = answer.get("VersionId")
    # A bucket without versions says nothing, or this of its only one.
    return Stored(str(version) if version not in {None, "", BEFORE_VERSIONS} else None)


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _md5(part: bytes) -> str:
    # Not for security: it is the check on the way that every S3-like store knows for parts.
    return base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()


def _library_settings(settings: S3) -> AioConfig:
    return AioConfig(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        # The uploader repeats, with growing waits and one line in the log.
        retries={"total_max_attempts": 1},
        s3={"addressing_style": addressing_style(settings)},
        # Other checksums than the one we give are unknown to many S3-like stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="steward",
    )
