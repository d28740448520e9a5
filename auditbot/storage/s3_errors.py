"""The S3 library's errors → ours, each a sentence that says what to mend; no credential in it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)

from common.errors import PermanentError, StewardError, TransientError

_SERVER_ERROR = 500

_EXISTS = frozenset({"PreconditionFailed", "412"})
_MISSING = frozenset(
    {
        "NoSuchKey",
        "NoSuchVersion",
        "NotFound",
        "404",
        "ObjectLockConfigurationNotFoundError",
        # Of an object without a legal hold: Amazon's word for it, then that of others.
        "NoSuchObjectLockConfiguration",
        "NoSuchObjectLegalHold",
    }
)
_UNKNOWN = frozenset({"NotImplemented", "MethodNotAllowed", "405", "501"})
_BUSY = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "TooManyRequests",
    }
)
# The body was damaged on its way: what was sealed is unchanged, so send it again.
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
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


class TakenError(PermanentError):
    """The key is taken; by what has still to be seen."""


class MissingError(PermanentError):
    """There is no such object."""


class DamagedError(TransientError):
    """What arrived is not what was sent."""


class UnknownRequestError(PermanentError):
    """The store does not know what was asked of it."""


@contextmanager
def sentences(
    bucket: str, endpoint_url: str | None, key: str, ca_file: str | None = None
) -> Iterator[None]:
    """Turn the library's errors into ours."""
    place = f"The bucket “{bucket}” at {endpoint_url or 'Amazon S3'}"
    try:
        yield
    except ClientError as error:
        raise _refusal(error, place, key) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise PermanentError(
            f"{place} needs credentials: set auditbot.s3.access_key_id and "
            "auditbot.s3.secret_access_key."
        ) from None
    except SSLError as error:
        raise PermanentError(f"{place} {_distrust(str(error), ca_file)}.") from None
    except (EndpointConnectionError, HTTPClientError, OSError) as error:
        raise TransientError(f"{place} cannot be reached ({type(error).__name__}).") from None
    except (BotoCoreError, ValueError) as error:
        raise PermanentError(
            f"{place} cannot be used as configured ({type(error).__name__}): correct "
            "auditbot.destination and auditbot.s3."
        ) from None


def check_authority(ca_file: str | None) -> None:
    """See that the file of an authority can be used; the library takes it for a store that is away.

    Raises:
        PermanentError: it cannot.
    """
    if ca_file is None:
        return
    named = f"The file “{ca_file}”, which auditbot.s3.ca_file names,"
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise PermanentError(
            f"{named} holds no certificate: put that of the authority there, in PEM form, which "
            "begins with -----BEGIN CERTIFICATE-----."
        ) from None
    except OSError as error:
        raise PermanentError(
            f"{named} cannot be read ({error.strerror}): correct auditbot.s3.ca_file, or give the "
            "file to the user that this runs as."
        ) from None


def _distrust(said: str, ca_file: str | None) -> str:
    """Return why a store's certificate is not trusted, and what to do."""
    if "mismatch" in said:
        return (
            "shows a certificate for another name: write the name that is in it in "
            "auditbot.s3.endpoint_url, or have it made for this one"
        )
    if "expired" in said:
        return "shows a certificate that has expired: have a new one made"
    if ca_file is not None:
        return (
            f"shows a certificate that the authority in “{ca_file}” did not sign: put the "
            "certificate of the authority that did into auditbot.s3.ca_file"
        )
    return (
        "shows a certificate that this machine does not trust: set auditbot.s3.ca_file to the "
        "certificate of the authority that signed it"
    )


def _refusal(error: ClientError, place: str, key: str) -> StewardError:
    said = cast(dict[str, Any], error.response)
    code = str(said.get("Error", {}).get("Code", ""))
    status = int(said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _EXISTS:
        return TakenError(f"“{key}” is there already.")
    if code in _UNKNOWN:
        return UnknownRequestError(f"{place} does not know this request ({code}).")
    if code in _DAMAGED:
        return DamagedError(f"{place} says that “{key}” was damaged on its way ({code}).")
    if code in _BUSY or status in {409, 429} or status >= _SERVER_ERROR:
        return TransientError(f"{place} cannot take or give “{key}” now ({code or status}).")
    if code in _MISSING:
        return MissingError(f"{place} has no “{key}”.")
    # An answer to HEAD has no body and thus no code, only the status.
    code = _BY_STATUS.get(code, code)
    return PermanentError(f"{place} {_WHAT_TO_DO.get(code, f'answered {code or status}')}.")
