"""The archive in an S3 bucket; the only module that knows the S3 library.

The promise kept: an object is created once, whole, with the checksum that was sealed, and never
replaced (``If-None-Match: *``); a repeat after a lost answer is recognised by the checksum.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Protocol, cast

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)

from common.config.schema import S3
from common.errors import PermanentError, StewardError, TransientError

_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_SERVER_ERROR = 500

_EXISTS = frozenset({"PreconditionFailed", "412"})
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})
_BUSY = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "TooManyRequests",
        # The body was damaged on its way: what was sealed is unchanged, so send it again.
        "BadDigest",
        "XAmzContentSHA256Mismatch",
    }
)
_WHAT_TO_DO = {
    "NoSuchBucket": "does not exist: create it, or correct auditbot.destination",
    "InvalidBucketName": "cannot exist under this name: correct auditbot.destination",
    "InvalidAccessKeyId": "does not know auditbot.s3.access_key_id: correct it",
    "SignatureDoesNotMatch": "refuses the signature: correct auditbot.s3.secret_access_key",
    "AccessDenied": (
        "refuses access: see that it exists and that this key may get, put and list its objects"
    ),
    "RequestTimeTooSkewed": "refuses the time of this machine: set its clock",
    "AuthorizationHeaderMalformed": "is in another region: correct auditbot.s3.region",
    "PermanentRedirect": "is elsewhere: correct auditbot.s3.region or endpoint_url",
    "ExpiredToken": "refuses the credentials because they expired: renew them",
}
_BY_STATUS = {"301": "PermanentRedirect", "401": "AccessDenied", "403": "AccessDenied"}


class _Client(Protocol):
    """The operations we use; the library itself has no types at run time."""

    async def put_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def head_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def get_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def delete_object(self, **arguments: Any) -> dict[str, Any]: ...
    async def list_objects_v2(self, **arguments: Any) -> dict[str, Any]: ...


class S3Store:
    """Objects of one bucket below ``prefix``."""

    def __init__(self, bucket: str, prefix: str, settings: S3) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._settings = settings
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: _Client | None = None

    async def put(self, key: str, body: bytes, sha256: str) -> None:
        """Create an object; the same bytes again are success."""
        if hashlib.sha256(body).hexdigest() != sha256:
            raise PermanentError(f"The object “{key}” was to be written with a wrong checksum.")
        try:
            with self._sentences(key):
                client = await self._connected()
                await client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                    # Once more where every S3-like store keeps it, for the comparison below.
                    Metadata={"sha256": sha256},
                )
        except _ExistsError:
            await self._compare(key, sha256)

    async def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        with self._sentences(key):
            client = await self._connected()
            answer = await client.get_object(Bucket=self._bucket, Key=self._prefix + key)
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

    async def delete(self, key: str) -> None:
        """Remove an object."""
        with self._sentences(key):
            client = await self._connected()
            await client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    async def close(self) -> None:
        """Close the connections."""
        await self._open.aclose()
        self._client = None

    async def _connected(self) -> _Client:
        async with self._opening:
            if self._client is None:
                settings = self._settings
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

    async def _compare(self, key: str, sha256: str) -> None:
        """Tell our own earlier attempt, whose answer was lost, from somebody else's object."""
        with self._sentences(key):
            client = await self._connected()
            answer = await client.head_object(
                Bucket=self._bucket, Key=self._prefix + key, ChecksumMode="ENABLED"
            )
            stored = answer.get("ChecksumSHA256")
            if stored is None:
                # Some S3-like stores keep no checksum; the bytes themselves cannot lie.
                found = hashlib.sha256(await self.get(key)).hexdigest()
            else:
                found = base64.b64decode(stored).hex()
        if found != sha256:
            raise PermanentError(
                f"“{key}” in the bucket “{self._bucket}” holds other bytes than were to be "
                "written there: another Steward writes to this archive. Stop one of them."
            )

    @contextmanager
    def _sentences(self, key: str) -> Iterator[None]:
        """Turn the library's errors into ours; none of them may carry a credential."""
        bucket = f"The bucket “{self._bucket}” at {self._settings.endpoint_url or 'Amazon S3'}"
        try:
            yield
        except ClientError as error:
            raise self._refusal(error, bucket, key) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise PermanentError(
                f"{bucket} needs credentials: set auditbot.s3.access_key_id and "
                "auditbot.s3.secret_access_key."
            ) from None
        except SSLError:
            raise PermanentError(
                f"{bucket} shows a certificate that this machine does not trust: set "
                "auditbot.s3.ca_file."
            ) from None
        except (EndpointConnectionError, HTTPClientError, OSError) as error:
            raise TransientError(f"{bucket} cannot be reached ({type(error).__name__}).") from None
        except (BotoCoreError, ValueError) as error:
            raise PermanentError(
                f"{bucket} cannot be used as configured ({type(error).__name__}): correct "
                "auditbot.destination and auditbot.s3."
            ) from None

    def _refusal(self, error: ClientError, bucket: str, key: str) -> StewardError:
        said = cast(dict[str, Any], error.response)
        code = str(said.get("Error", {}).get("Code", ""))
        status = int(said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _EXISTS:
            return _ExistsError(key)
        if code in _BUSY or status in {409, 429} or status >= _SERVER_ERROR:
            return TransientError(f"{bucket} cannot take or give “{key}” now ({code or status}).")
        if code in _MISSING:
            return PermanentError(f"There is no “{key}” in the bucket “{self._bucket}”.")
        # An answer to HEAD has no body and thus no code, only the status.
        code = _BY_STATUS.get(code, code)
        return PermanentError(f"{bucket} {_WHAT_TO_DO.get(code, f'answered {code or status}')}.")


class _ExistsError(PermanentError):
    """The key is taken."""


def _library_settings(settings: S3) -> AioConfig:
    return AioConfig(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        # The uploader repeats, with growing waits and one line in the log.
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path" if settings.path_style else "auto"},
        # Other checksums than the one we give are unknown to many S3-like stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="steward",
    )
