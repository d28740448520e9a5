"""Objects that only the officers can open: encrypted to their age keys.

The program holds public keys alone, so nobody who breaks into it reads the archive back.

Source: age-encryption.org/v1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyrage

from common.errors import ConfigError

SUFFIX = ".age"


def encrypt(body: bytes, recipients: Sequence[str]) -> bytes:
    """Return an age file; every call gives other bytes."""
    return bytes(pyrage.encrypt(body, _parsed(recipients)))


def encrypt_file(source: Path, target: Path, recipients: Sequence[str]) -> None:
    """Write an age file; memory does not grow with it."""
    pyrage.encrypt_file(str(source), str(target), _parsed(recipients))


def _parsed(recipients: Sequence[str]) -> list[Any]:
    try:
        return [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    except pyrage.RecipientError as error:
        raise ConfigError(
            "auditbot.age_recipients holds something that is no age public key; one begins with "
            "“age1” and is what age-keygen prints as “public key”."
        ) from error
