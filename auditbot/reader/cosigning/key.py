"""The officer's own key: made once, kept by this user alone, never written over."""

import base64
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditbot.reader.memory import private_directory
from auditbot.reader.parse import parse
from auditbot.storage.syncing import sync_folder
from common.approvals import Signed
from common.errors import PermanentError, UserError
from common.officers import (
    OfficerKey,
    approved_message,
    cosigned_message,
    name_fault,
    unbase64,
)

FILE = "officer-key.json"
_SEED_BYTES = 32
_LARGEST = 2**14


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``officer-key.json``."""

    v: int
    name: str
    private_key: str


@dataclass(frozen=True, slots=True)
class Signer:
    """An officer's key, both halves of it."""

    public: OfficerKey
    private: Ed25519PrivateKey

    def cosign(self, checkpoint: bytes, time_s: int) -> str:
        """Return the line of a signed note that cosigns its text; without a line break.

        Source: c2sp.org/tlog-cosignature, “Format”.
        """
        signature = self.private.sign(cosigned_message(checkpoint, time_s))
        signed = self.public.hint + time_s.to_bytes(8, "big") + signature
        return f"— {self.public.name} {base64.b64encode(signed).decode()}"

    def approve(self, plan: bytes, time_s: int) -> Signed:
        """Return this officer's signature of a plan."""
        signature = self.private.sign(approved_message(plan, time_s))
        return Signed(self.public.text, time_s, base64.b64encode(signature).decode())


def make_key(folder: Path, name: str) -> Signer:
    """Make an officer's key.

    Raises:
        UserError: it cannot have this name, or there is one already.
        PermanentError: it cannot be written.
    """
    if (fault := name_fault(name)) is not None:
        raise UserError(
            f"A key cannot have this name: it {fault}. Take one such as auditor.example.com."
        )
    private = Ed25519PrivateKey.generate()
    seed = base64.b64encode(private.private_bytes_raw()).decode()
    body = msgspec.json.encode(_File(1, name, seed)) + b"\n"
    path = folder / FILE
    private_directory(folder)
    temporary = path.with_name(f".{FILE}-{secrets.token_hex(6)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never takes the place of a file.
        os.link(temporary, path)
        sync_folder(folder)
    except FileExistsError:
        raise UserError(
            f"There is a key in “{path}” already; “steward audit cosign --show” prints the public "
            "half of it. Whoever needs another one takes another --home."
        ) from None
    except OSError as error:
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return _signer(name, private)


def read_key(folder: Path) -> Signer:
    """Return this user's key.

    Raises:
        UserError: there is none.
        PermanentError: it is damaged, or others may read it.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            body = file.read(_LARGEST)
    except FileNotFoundError:
        raise UserError(
            "There is no officer's key on this machine: make one with “steward audit cosign --new "
            "NAME”, and have what it prints written down."
        ) from None
    except OSError as error:
        raise PermanentError(f"“{path}” cannot be read: {error.strerror}.") from None
    if mode & 0o077:
        raise PermanentError(f"“{path}” holds a private key and others may read it: chmod 600 it.")
    try:
        known = parse(body, type=_File)
    except ValueError:
        known = None
    seed = unbase64(known.private_key) if known is not None else None
    if known is None or known.v != 1 or name_fault(known.name) or len(seed or b"") != _SEED_BYTES:
        raise PermanentError(f"“{path}”, which holds the key, is damaged: bring it back.")
    return _signer(known.name, Ed25519PrivateKey.from_private_bytes(seed or b""))


def _signer(name: str, private: Ed25519PrivateKey) -> Signer:
    return Signer(OfficerKey(name, private.public_key().public_bytes_raw()), private)
