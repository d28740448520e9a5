"""Time stamps of checkpoints (RFC 3161): what was stamped, when, and whether by a known authority.

Only what a trusted manifest lists, unchanged, is looked into.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rfc3161_client import PKIStatus, VerificationError, VerifierBuilder, decode_timestamp_response

from common.errors import ConfigError

_LARGEST_ROOTS = 2**20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a time stamp says; ``fault`` says why it proves nothing."""

    fault: str | None
    stamped_ms: int = 0


def read_roots(path: Path) -> tuple[bytes, ...]:
    """Return the certificates of authorities in a PEM file, as DER.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        with path.open("rb") as file:
            body = file.read(_LARGEST_ROOTS)
        found = x509.load_pem_x509_certificates(body)
    except OSError as error:
        raise ConfigError(f"“{path}” cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"“{path}” holds no certificates in PEM.") from error
    return tuple(one.public_bytes(Encoding.DER) for one in found)


def check_stamp(body: bytes, note: bytes, roots: Sequence[bytes]) -> Stamp:
    """Return what a time stamp says of a checkpoint.

    Args:
        body: the authority's answer
        note: the checkpoint
        roots: the certificates of trusted authorities; without any it is not checked who stamped
    """
    try:
        response = decode_timestamp_response(body)
        if PKIStatus(response.status) != PKIStatus.GRANTED:
            return Stamp("it is a refusal")
        info = response.tst_info
        if info.message_imprint.message != hashlib.sha256(note).digest():
            return Stamp("it stamps something else than this checkpoint")
        stamped_ms = int(info.gen_time.timestamp() * 1000)
        if roots:
            verifier = VerifierBuilder(
                roots=[x509.load_der_x509_certificate(der) for der in roots]
            )
            verifier.build().verify_message(response, note)
    except VerificationError as error:
        return Stamp(f"no trusted authority made it ({error})")
    except ValueError:
        return Stamp("it is no time stamp")
    return Stamp(None, stamped_ms)
