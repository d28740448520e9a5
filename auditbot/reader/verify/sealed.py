"""What is sealed of a segment's records: opened, and compared with what each line says; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyrage

from auditbot.reader.documents import ListedSegment
from auditbot.reader.open_sealed import UnfitIdentityError
from auditbot.reader.parse import parse
from auditbot.reader.sealed import key_name, opened_content, unwrapped, with_content
from auditbot.reader.unpack import DamagedArchiveError, lines
from auditbot.reader.verify.findings import Finding

_MOST_FINDINGS = 20


@dataclass
class SealedResult:
    """What was found in what is sealed of a segment's records."""

    findings: list[Finding] = field(default_factory=list)
    opened: int = 0
    unfit: list[str] = field(default_factory=list)
    """The keys that none of the identities opens; that they are as signed is checked elsewhere."""


def check_sealed(
    listed: ListedSegment,
    body: bytes,
    identities: Sequence[str],
    wrapped: Mapping[str, bytes],
) -> SealedResult:
    """Open what is sealed of a segment's records.

    Args:
        listed: what the manifest says of the segment, whose lines were checked before
        body: the stored bytes
        identities: the officers' secret keys
        wrapped: the wrapped keys by name; what is sealed to others is passed over
    """
    result = SealedResult()
    secrets: dict[str, pyrage.x25519.Identity] = {}
    for name, sealed in sorted(wrapped.items()):
        try:
            secrets[name] = unwrapped(name, sealed, identities)
        except UnfitIdentityError:
            result.unfit.append(name)
        except DamagedArchiveError as error:
            result.findings.append(Finding("sealed_key", name, str(error)))
    for number, line in enumerate(lines(listed.key, body), 1):
        if len(result.findings) >= _MOST_FINDINGS:
            break
        _check_line(result, listed.key, number, line, secrets)
    return result


def _check_line(
    result: SealedResult,
    key: str,
    number: int,
    line: bytes,
    secrets: Mapping[str, pyrage.x25519.Identity],
) -> None:
    if b'"sealed":"' not in line:
        return
    try:
        record: Any = parse(line)
        secret = secrets.get(key_name(record))
        if secret is None:
            return
        with_content(record, opened_content(record, secret))
    except DamagedArchiveError as error:
        result.findings.append(Finding("sealed", key, str(error), number))
    except (ValueError, AttributeError):
        return  # that it is no record was said
    else:
        result.opened += 1
