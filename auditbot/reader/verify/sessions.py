"""Room keys of an archive whose content is sealed: each line sealed to a key that is listed; pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pyrage

from auditbot.reader.layout import is_content_key
from auditbot.reader.open_sealed import UnfitIdentityError
from auditbot.reader.parse import parse
from auditbot.reader.sealed import opened_content, unwrapped
from auditbot.reader.unpack import DamagedArchiveError, lines
from auditbot.reader.verify.findings import Finding

_DIGEST = re.compile("[0-9a-f]{64}")
_MOST_FINDINGS = 20


class _Line(msgspec.Struct, frozen=True):
    stream: str
    seq: int
    sealed_to: str
    sealed_sha256: str
    sealed: str


@dataclass
class SessionsResult:
    """What was found in such an object; ``sealed_to`` are the keys that its lines name."""

    findings: list[Finding] = field(default_factory=list)
    sealed_to: set[str] = field(default_factory=set)
    lines: list[tuple[int, _Line]] = field(default_factory=list, repr=False)


def read_sessions(key: str, body: bytes) -> SessionsResult:
    """Return what the lines of an object say, and which of them are none."""
    result = SessionsResult()
    try:
        for number, line in enumerate(lines(key, body), 1):
            if len(result.findings) >= _MOST_FINDINGS:
                break
            try:
                found = parse(line, type=_Line)
            except ValueError:
                found = None
            if (
                found is None
                or not is_content_key(found.sealed_to)
                or not _DIGEST.fullmatch(found.sealed_sha256)
            ):
                sentence = "It does not say what is sealed for whom."
                result.findings.append(Finding("sessions", key, sentence, number))
            else:
                result.sealed_to.add(found.sealed_to)
                result.lines.append((number, found))
    except DamagedArchiveError as error:
        result.findings.append(Finding("sessions", key, f"It cannot be unpacked: {error}"))
    return result


def open_sessions(
    key: str, result: SessionsResult, identities: Sequence[str], wrapped: Mapping[str, bytes]
) -> list[Finding]:
    """Return which lines do not open to what they say.

    Args:
        key: which object it is
        result: what its lines say
        identities: the officers' secret keys
        wrapped: the wrapped keys by name; what is sealed to others is passed over
    """
    secrets: dict[str, pyrage.x25519.Identity] = {}
    for name, sealed in wrapped.items():
        try:
            secrets[name] = unwrapped(name, sealed, identities)
        except UnfitIdentityError:
            continue  # that the key is as signed is checked elsewhere
        except DamagedArchiveError as error:
            return [Finding("sealed_key", name, str(error))]
    found: list[Finding] = []
    for number, line in result.lines:
        if line.sealed_to in secrets and len(found) < _MOST_FINDINGS:
            try:
                opened_content(msgspec.structs.asdict(line), secrets[line.sealed_to])
            except DamagedArchiveError as error:
                found.append(Finding("sessions", key, str(error), number))
    return found
