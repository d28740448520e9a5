"""A bucket to which objects can be added, with credentials that may do nothing else.

Nothing is tried twice here: whether an object was created by an attempt whose answer was lost cannot
be asked with such credentials, so the caller has to know of each attempt.
"""

import base64
import hashlib
import threading
from typing import Any, Protocol, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from auditbot.storage.adding import RefusedError, TakenKeyError
from auditbot.storage.addressing import CONFIGURATION, Origin, addressing_style
from auditbot.storage.s3_errors import TakenError, check_authority, sentences
from common.config.schema import S3

_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_REFUSED = frozenset({"AccessDenied", "403", "401", "AllAccessDisabled"})


class _Client(Protocol):
    """The operation we use; the library itself has no types at run time."""

    def put_object(self, **arguments: Any) -> dict[str, Any]: ...


class S3Adding:
    """Objects of one bucket below ``prefix``."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        settings: S3,
        profile: str | None = None,
        origin: Origin = CONFIGURATION,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._settings = settings
        self._profile = profile
        self._origin = origin
        self._opening = threading.Lock()
        self._client: _Client | None = None

    def create(self, key: str, body: bytes) -> None:
        """Create an object, unless there is one (``If-None-Match: *``)."""
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        try:
            self._put(key, body, digest)
        except TakenError as error:
            raise TakenKeyError(str(error)) from None

    def _put(self, key: str, body: bytes, digest: str) -> None:
        settings = self._settings
        with sentences(self._bucket, settings, key, self._origin):
            try:
                self._connected().put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumSHA256=digest,
                )
            except ClientError as error:
                said = cast(dict[str, Any], error.response).get("Error", {})
                if str(said.get("Code")) in _REFUSED:
                    raise RefusedError(
                        f"The bucket “{self._bucket}” at {settings.endpoint_url or 'Amazon S3'} "
                        "does not let these credentials create objects."
                    ) from None
                raise

    def _connected(self) -> _Client:
        with self._opening:
            if self._client is None:
                settings = self._settings
                check_authority(settings.ca_file, self._origin)
                key, secret = settings.access_key_id, settings.secret_access_key
                session = botocore.session.Session(profile=self._profile)
                client = session.create_client(
                    "s3",
                    endpoint_url=settings.endpoint_url,
                    region_name=settings.region,
                    aws_access_key_id=key.reveal() if key else None,
                    aws_secret_access_key=secret.reveal() if secret else None,
                    verify=settings.ca_file,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries={"total_max_attempts": 1, "mode": "standard"},
                        s3={"addressing_style": addressing_style(settings)},
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                        user_agent_extra="steward",
                    ),
                )
                self._client = cast(_Client, client)
            return self._client
