"""Objects that only the officers can open: encrypted to their age keys.

The program holds public keys alone, so nobody who breaks into it reads the archive back.

Source: age-encryption.org/v1.
"""

import hashlib
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
    """Write an age file; memory does not grow with it.

    Raises:
        OSError: a file cannot be read or written.
    """
    readers = _parsed(recipients)
    # Not pyrage.encrypt_file: on a full disk that loses the end of a file, and says nothing.
    with source.open("rb") as clear, target.open("wb") as sealed:
        try:
            pyrage.encrypt_io(clear, sealed, readers)
        except pyrage.EncryptError as error:
            # With sound recipients only the files are left.
            raise OSError(str(error)) from error


def digest_of(recipients: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that tell these recipients from others, in any order."""
    return hashlib.sha256(recipients_text(recipients)).hexdigest()[:16]


def recipients_text(recipients: Sequence[str]) -> bytes:
    """Return recipients as the archive lists them."""
    return "".join(f"{text}\n" for text in sorted(recipients)).encode()


def _parsed(recipients: Sequence[str]) -> list[Any]:
    try:
        return [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    except pyrage.RecipientError as error:
        raise ConfigError(
            "auditbot.age_recipients holds something that is no age public key; one begins with "
            "“age1” and is what age-keygen prints as “public key”."
        ) from error
