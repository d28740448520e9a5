"""Objects that are encrypted to officers' age keys (age-encryption.org/v1)."""

from collections.abc import Sequence
from pathlib import Path

import pyrage

from auditbot.reader.layout import wrapped_key_of
from auditbot.reader.unpack import DamagedArchiveError
from common.errors import ConfigError

_SECRET = "AGE-SECRET-KEY-"  # noqa: S105  # how every such key begins
_LARGEST_FILE = 2**16
_NO_MATCH = "No matching keys found"
"""What the library says of a file that is sound, and encrypted to others."""


class UnfitIdentityError(DamagedArchiveError):
    """Something is encrypted to other people than those whose identities were named."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"None of the identities that you named opens “{key}”: is it the right file? Name that "
            "of somebody to whom the archive is encrypted with --identity."
        )
        self.key = key


def read_identities(path: Path) -> tuple[str, ...]:
    """Return the secret keys in an age identity file.

    Raises:
        ConfigError: it cannot be read or holds none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(
            f"The identity file “{path}” cannot be read: {error.strerror}."
        ) from None
    found = tuple(line.strip() for line in text.splitlines() if line.startswith(_SECRET))
    if not found:
        raise ConfigError(
            f"“{path}” holds no age identity: it must have a line that begins with {_SECRET}."
        )
    return found


def unseal(
    key: str, body: bytes, identities: Sequence[str], wrapped: bytes | None = None
) -> bytes:
    """Return what was encrypted.

    Args:
        key: which object it is
        body: its bytes
        identities: the officers' secret keys
        wrapped: the key of the day that it is encrypted to, itself encrypted to the officers

    Raises:
        UnfitIdentityError: it, or the key of its day, is encrypted to others.
        DamagedArchiveError: it was changed, or there are no identities.
    """
    if not identities:
        raise unidentified(key)
    if wrapped is not None:
        secret = unseal(wrapped_key_of(key) or key, wrapped, identities)
        try:
            return unseal(key, body, [secret.decode("ascii", "replace").strip()])
        except UnfitIdentityError:
            # The key was the archive's own: whoever named an identity named the right one.
            raise DamagedArchiveError(
                f"“{key}” cannot be decrypted with the key that belongs to it."
            ) from None
    try:
        known = [pyrage.x25519.Identity.from_str(text) for text in identities]
        return bytes(pyrage.decrypt(body, known))
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        if str(error).startswith(_NO_MATCH):
            raise UnfitIdentityError(key) from None
        raise DamagedArchiveError(f"“{key}” cannot be decrypted: {error}.") from None


def unidentified(key: str) -> DamagedArchiveError:
    """Return what is to be said where nobody named an identity."""
    return DamagedArchiveError(
        f"“{key}” is encrypted: name the file with your age identity with --identity."
    )


def opens(key: str, body: bytes, identities: Sequence[str]) -> bool:
    """Return whether the officers' keys open an object without the key of its day.

    Raises:
        DamagedArchiveError: there are no identities, so nobody can tell.
    """
    if not identities:
        raise unidentified(key)
    try:
        unseal(key, body, identities)
    except DamagedArchiveError:
        return False
    return True
