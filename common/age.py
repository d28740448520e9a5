"""Bytes that only who has the passphrase, or the key, can open; ``age --decrypt`` opens them.

Source: age-encryption.org/v1.
"""

import pyrage

from common.config.secret import Secret
from common.errors import UserError
from common.i18n import t

SUFFIX = ".age"


def lock_with_passphrase(body: bytes, passphrase: Secret) -> bytes:
    """Return an age file; it takes about a second and 256 MiB (scrypt)."""
    return bytes(pyrage.passphrase.encrypt(body, passphrase.reveal()))


def lock_for(body: bytes, recipient: str) -> bytes:
    """Return an age file for who has the key to a public one (“age1…”)."""
    return bytes(pyrage.encrypt(body, [pyrage.x25519.Recipient.from_str(recipient)]))


def check_recipient(recipient: str) -> None:
    """Raise a ``UserError`` if this is no age public key."""
    try:
        pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise UserError(
            t(
                "“{key}” is no age public key; one begins with “age1” and is what age-keygen "
                "prints as “public key”.",
                key=recipient,
            )
        ) from error
