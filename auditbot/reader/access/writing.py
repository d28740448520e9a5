"""Entries on their way into the access log: decided and written down here before they are sent.

The promise kept: when ``write`` returns, an entry of the act is stored where this machine cannot
change it, and it follows the one before. Credentials that may only create objects are enough, so
whether an attempt whose answer was lost had worked cannot be asked: the entry is sent again with the
same bytes, and where it is there already it was ours, or the check of the chain tells.
"""

import base64
import fcntl
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from msgspec import structs

from auditbot.reader.access.entries import (
    FIRST,
    MADE,
    Entry,
    digest_of,
    object_key,
    public_object,
    sealed,
)
from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.signatures import PublicKey
from auditbot.storage.adding import Adding, RefusedError, TakenKeyError
from common.clock import Clock
from common.errors import PermanentError, TransientError

_KEY = "key.pem"


class State(msgspec.Struct, frozen=True):
    """How far this machine's entries at one place go; ``body`` is one that may not be stored."""

    place: str
    number: int = 0
    previous: str = FIRST
    object_key: str = ""
    body: str = ""

    def after(self, body: bytes) -> "State":
        """Return this once an entry is stored."""
        return State(self.place, self.number + 1, digest_of(body))


@dataclass(frozen=True, slots=True)
class RemoteLog:
    """The access log at one place, as this machine adds to it.

    ``advice`` is the sentence that says what the place needs.
    """

    folder: Path
    place: str
    adding: Adding
    clock: Clock
    advice: str

    def write(self, user: str, what: str, detail: dict[str, Any]) -> str:
        """Add an entry; return the key of its object.

        Raises:
            PermanentError: it may not be added, so what was asked for must not be shown.
            TransientError: the same, because the place is away.
        """
        try:
            with self._alone():
                return self._write(user, what, detail)
        except RefusedError as error:
            raise PermanentError(
                f"{error} Nothing is shown before the access log has it. {self.advice}"
            ) from None
        except TransientError as error:
            raise TransientError(
                f"The access log {self.place} cannot be reached, and nothing is shown before it "
                f"has what you do: try again when it can be. ({error})"
            ) from None
        except OSError as error:
            raise PermanentError(
                f"“{self.folder}” cannot be used ({error.strerror}), so nothing is shown: make "
                "room, or give it to this user."
            ) from None

    def key(self) -> PublicKey:
        """Return the public half of this machine's key, which is made if there is none.

        Raises:
            PermanentError: it cannot be read or made.
        """
        with self._alone():
            return public_of(self._private())

    def state(self) -> State:
        """Return how far this machine's entries go.

        Raises:
            PermanentError: what it remembers is damaged.
        """
        path = self._state_path
        try:
            return msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            return State(self.place)
        except ValueError:
            raise PermanentError(
                f"“{path}” is damaged, so it is not known which entry of the access log comes next, "
                f"and nothing is shown. Bring it back, or move “{self.folder}” away: then a new "
                "key begins, whose fingerprint has to be told."
            ) from None

    @property
    def _state_path(self) -> Path:
        return self.folder / f"{hashlib.sha256(self.place.encode()).hexdigest()[:16]}.json"

    def _write(self, user: str, what: str, detail: dict[str, Any]) -> str:
        private = self._private()
        state = self._settled(self.state())
        if state.number == 0:
            state = self._begin(private, state, user)
        entry = self._entry(private, state, user, what, detail)
        self._send(state, entry, sealed(entry, private))
        return object_key(entry)

    def _settled(self, state: State) -> State:
        """Send what an earlier act may have left unsent."""
        if not state.body:
            return state
        body = base64.b64decode(state.body)
        with suppress(TakenKeyError):  # then it had arrived
            self.adding.create(state.object_key, body)
        return self._keep(state.after(body))

    def _begin(self, private: Ed25519PrivateKey, state: State, user: str) -> State:
        """Store the public key, beside the entries and in the first one."""
        public = private.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        # If it is there, this was begun before; another key does not fit the name.
        with suppress(TakenKeyError):
            self.adding.create(public_object(public_of(private).key_id), pem)
        entry = structs.replace(
            self._entry(
                private, state, user, MADE, {"fingerprint": public_of(private).fingerprint}
            ),
            public_key=base64.b64encode(public.public_bytes_raw()).decode(),
        )
        return self._send(state, entry, sealed(entry, private))

    def _send(self, state: State, entry: Entry, body: bytes) -> State:
        key = object_key(entry)
        sent = structs.replace(state, object_key=key, body=base64.b64encode(body).decode())
        self._keep(sent)
        try:
            self.adding.create(key, body)
        except TakenKeyError:
            # Nobody else has this key's numbers: this machine's memory was set back.
            self._keep(state)
            raise PermanentError(
                f"The access log has an entry “{key}” already, which this machine does not know of: "
                f"“{self.folder}” was brought back from a backup, or somebody else uses its key. "
                "Nothing is shown. Move it away: then a new key begins, whose fingerprint has to "
                "be told."
            ) from None
        except (RefusedError, PermanentError):
            self._keep(state)  # it was never stored
            raise
        return self._keep(state.after(body))

    def _entry(
        self,
        private: Ed25519PrivateKey,
        state: State,
        user: str,
        what: str,
        detail: dict[str, Any],
    ) -> Entry:
        return Entry(
            key_id=public_of(private).key_id,
            number=state.number,
            previous=state.previous,
            time_ms=self.clock.now_ms(),
            user=user,
            machine=platform.node()[:255],
            what=what,
            detail=detail,
        )

    def _keep(self, state: State) -> State:
        write_private(self._state_path, msgspec.json.encode(state))
        return state

    def _private(self) -> Ed25519PrivateKey:
        path = self.folder / _KEY
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError:
            made = Ed25519PrivateKey.generate()
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_private(path, pem)
            return made
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise PermanentError(
                f"“{path}”, which signs the access log, is damaged, so nothing is shown: bring it "
                f"back, or move “{self.folder}” away; then a new key begins."
            )
        return key

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other commands of this user waiting: two entries cannot have one number."""
        private_directory(self.folder)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def public_of(private: Ed25519PrivateKey) -> PublicKey:
    """Return the public half of a key."""
    return PublicKey(private.public_key().public_bytes_raw())
