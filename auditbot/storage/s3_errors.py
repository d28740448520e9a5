"""The S3 library's errors → ours, each a sentence that says what to mend; no credential in it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from aiohttp import ClientError as BodyError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
)

from auditbot.storage.addressing import CONFIGURATION, Origin
from common.config.schema import S3
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
    "NoSuchBucket": "does not exist: create it, or correct {place}",
    "InvalidBucketName": "cannot exist under this name: correct {place}",
    "InvalidAccessKeyId": "does not know {access_key_id}: correct it",
    "SignatureDoesNotMatch": "refuses the signature: correct {secret_access_key}",
    "AccessDenied": (
        "refuses access: see that it exists and that this key may get, put and list its objects"
    ),
    "RequestTimeTooSkewed": "refuses the time of this machine: set its clock",
    "AuthorizationHeaderMalformed": "is in another region: correct {region}",
    "PermanentRedirect": "is elsewhere: correct {region} or {endpoint_url}",
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
    bucket: str, settings: S3, key: str, origin: Origin = CONFIGURATION
) -> Iterator[None]:
    """Turn the library's errors into ours."""
    place = f"The bucket “{bucket}” at {settings.endpoint_url or 'Amazon S3'}"
    try:
        yield
    except ClientError as error:
        raise _refusal(error, place, key, origin) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise PermanentError(
            f"{place} needs credentials: set {origin.named('access_key_id')} and "
            f"{origin.named('secret_access_key')}."
        ) from None
    except SSLError as error:
        raise PermanentError(
            f"{place} {_distrust(str(error), settings.ca_file, origin)}."
        ) from None
    except (BodyError, IncompleteReadError, ResponseStreamingError) as error:
        # The library reads a body with aiohttp and passes on what that says of one that ends early.
        raise TransientError(
            f"{place} broke off in the middle of “{key}” ({type(error).__name__}): try again, and "
            "if it breaks off each time, look at the store's log and at what is between it and here."
        ) from None
    except (EndpointConnectionError, HTTPClientError, OSError) as error:
        raise TransientError(f"{place} cannot be reached ({type(error).__name__}).") from None
    except (BotoCoreError, ValueError) as error:
        raise PermanentError(
            f"{place} cannot be used as configured ({type(error).__name__}): correct "
            f"{origin.place} and {origin.named('endpoint_url')}, "
            f"{origin.named('region')} or {origin.credential('access_key_id')}."
        ) from None


def check_authority(ca_file: str | None, origin: Origin = CONFIGURATION) -> None:
    """See that the file of an authority can be used; the library takes it for a store that is away.

    Raises:
        PermanentError: it cannot.
    """
    if ca_file is None:
        return
    setting = origin.named("ca_file")
    named = f"The file “{ca_file}”, which {setting} names,"
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise PermanentError(
            f"{named} holds no certificate: put that of the authority there, in PEM form, which "
            "begins with -----BEGIN CERTIFICATE-----."
        ) from None
    except OSError as error:
        raise PermanentError(
            f"{named} cannot be read ({error.strerror}): correct {setting}, or give the file to "
            "the user that this runs as."
        ) from None


def _distrust(said: str, ca_file: str | None, origin: Origin) -> str:
    """Return why a store's certificate is not trusted, and what to do."""
    # What OpenSSL says of it, and what urllib3 does.
    if "mismatch" in said or "doesn't match" in said:
        return (
            "shows a certificate for another name: write the name that is in it in "
            f"{origin.named('endpoint_url')}, or have it made for this one"
        )
    if "expired" in said:
        return "shows a certificate that has expired: have a new one made"
    if ca_file is not None:
        return (
            f"shows a certificate that the authority in “{ca_file}” did not sign: put the "
            f"certificate of the authority that did into {origin.named('ca_file')}"
        )
    return (
        f"shows a certificate that this machine does not trust: set {origin.named('ca_file')} to "
        "the certificate of the authority that signed it"
    )


def _refusal(error: ClientError, place: str, key: str, origin: Origin) -> StewardError:
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
    what = _WHAT_TO_DO.get(code, "answered {answer}").format(
        answer=code or status,
        place=origin.place,
        access_key_id=origin.credential("access_key_id"),
        secret_access_key=origin.credential("secret_access_key"),
        region=origin.named("region"),
        endpoint_url=origin.named("endpoint_url"),
    )
    return PermanentError(f"{place} {what}.")
