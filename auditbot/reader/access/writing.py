"""Entries on their way into the access log: decided and written down here before they are sent.

The promise kept: when ``write`` returns, the place has said that an entry of this act is stored now,
where this machine cannot change it, and it follows the one before. Credentials that may only create
objects are enough, so whether an attempt had worked that was not answered, or not by a plain refusal,
cannot be asked. Nothing is shown then; the same bytes are sent to the same name again, before
anything else. If that name is taken it was by the first attempt, or by somebody else: the next entry
says so, and as it names the one before by its hash, the check of the chain tells which.
"""

import base64
import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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

from auditbot.reader.access.details import bounded
from auditbot.reader.access.entries import (
    FIRST,
    MADE,
    Entry,
    digest_of,
    object_key,
    public_object,
    sealed,
)
from auditbot.reader.memory import locked, write_private
from auditbot.reader.parse import parse
from auditbot.reader.signatures import PublicKey
from auditbot.storage.adding import Adding, RefusedError, TakenKeyError
from auditbot.storage.syncing import sync_folder
from common.clock import Clock
from common.errors import PermanentError, TransientError

_KEY = "key.pem"
_LONGEST_NAME = 255
_NEW_KEY = (
    "begin a new key with “steward audit access key --new”, and have its fingerprint written down"
)


class State(msgspec.Struct, frozen=True):
    """How far the entries of one key at one place go; ``body`` is one that may not be stored."""

    place: str
    number: int = 0
    previous: str = FIRST
    object_key: str = ""
    body: str = ""
    is_unconfirmed: bool = False
    """Whether the entry before only counts as stored, because its name was taken."""

    def after(self, body: bytes, *, is_unconfirmed: bool = False) -> "State":
        """Return this once an entry is stored."""
        return State(self.place, self.number + 1, digest_of(body), is_unconfirmed=is_unconfirmed)


@dataclass(frozen=True, slots=True)
class Written:
    """The key of an entry's object; ``earlier`` is that of one that had to be sent again first."""

    key: str
    earlier: str | None = None
    is_earlier_confirmed: bool = True
    """False if its name was taken: it had arrived, or somebody else stored something there."""


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

    def write(self, user: str, what: str, detail: dict[str, Any]) -> Written:
        """Add an entry.

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

    def key(self) -> PublicKey:
        """Return the public half of this machine's key, which is made if there is none.

        Raises:
            PermanentError: it cannot be read or made.
        """
        with self._alone():
            return public_of(self._private())

    def renew(self) -> PublicKey:
        """Set this machine's key aside and make another one, whose entries begin anew.

        Nothing is stored of it: the first act that is written does that.

        Raises:
            PermanentError: it cannot be made.
        """
        with self._alone():
            try:
                name = public_of(self._private()).key_id
            except PermanentError:
                name = "damaged"
            with suppress(FileNotFoundError):
                (self.folder / _KEY).replace(self.folder / f"key-{name}.pem")
            # Of older keys too: what is damaged of them would keep the new one from beginning.
            for path in self.folder.glob("*-*.json"):
                if _state_in(path) is None:
                    path.replace(path.with_suffix(".damaged"))
            sync_folder(self.folder)
            return public_of(self._private())

    def states(self) -> dict[str, State]:
        """Return how far the entries go of each key that this machine had here, by key id.

        Raises:
            PermanentError: what it remembers is damaged.
        """
        paths = self.folder.glob(f"{_place_id(self.place)}-*.json")
        return {path.stem.rpartition("-")[2]: self._state(path) for path in paths}

    def _state(self, path: Path) -> State:
        try:
            state = _state_in(path)
        except FileNotFoundError:
            return State(self.place)
        except OSError as error:
            raise PermanentError(
                f"“{path}” cannot be read ({error.strerror}), so it is not known which entry of the "
                "access log comes next, and nothing is shown: give it to this user."
            ) from None
        if state is None:
            raise PermanentError(
                f"“{path}” is damaged, so it is not known which entry of the access log comes next, "
                f"and nothing is shown: {_NEW_KEY}."
            )
        return state

    def _write(self, user: str, what: str, detail: dict[str, Any]) -> Written:
        private = self._private()
        path = self._state_path(private)
        before = self._state(path)
        state = self._settled(path, before)
        written = Written("", before.object_key or None, not state.is_unconfirmed)
        if state.number == 0:
            state = self._begin(private, path, state, user)
        entry = self._entry(private, state, user, what, detail)
        self._send(path, state, entry, sealed(entry, private))
        return replace(written, key=object_key(entry))

    def _settled(self, path: Path, state: State) -> State:
        """Send what an earlier act may have left unsent."""
        if not state.body:
            return state
        body = base64.b64decode(state.body)
        try:
            self._create(state.object_key, body)
        except TakenKeyError:
            return self._keep(path, state.after(body, is_unconfirmed=True))
        return self._keep(path, state.after(body))

    def _begin(self, private: Ed25519PrivateKey, path: Path, state: State, user: str) -> State:
        """Store the public key, beside the entries and in the first one."""
        public = private.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        # If it is there, this was begun before; another key does not fit the name.
        with suppress(TakenKeyError):
            self._create(public_object(public_of(private).key_id), pem)
        older = [id_ for id_, one in self.states().items() if one.number]
        detail = {"fingerprint": public_of(private).fingerprint, "older_keys": sorted(older)}
        entry = structs.replace(
            self._entry(private, state, user, MADE, detail),
            public_key=base64.b64encode(public.public_bytes_raw()).decode(),
        )
        return self._send(path, state, entry, sealed(entry, private))

    def _send(self, path: Path, state: State, entry: Entry, body: bytes) -> State:
        key = object_key(entry)
        sent = structs.replace(state, object_key=key, body=base64.b64encode(body).decode())
        self._keep(path, sent)
        try:
            self._create(key, body)
        except TakenKeyError:
            # Not by us: this is the first attempt. To count it as stored would show what no
            # entry says.
            self._keep(path, state)
            raise PermanentError(
                f"The access log has an entry “{key}” already, which this machine does not know of: "
                f"“{self.folder}” was brought back from a backup, the place has another address than "
                "before, or somebody else uses its key or stored something under this name. Nothing "
                f"is shown. Tell whoever checks the log, and {_NEW_KEY}."
            ) from None
        except RefusedError:
            self._keep(path, state)  # it was never stored; of all other failures nobody knows
            raise
        return self._keep(path, state.after(body))

    def _create(self, key: str, body: bytes) -> None:
        try:
            self.adding.create(key, body)
        except (TakenKeyError, RefusedError):
            raise
        except PermanentError as error:
            raise PermanentError(
                f"{error} Nothing is shown before the access log has it."
            ) from None

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
            user=user[:_LONGEST_NAME],
            machine=platform.node()[:_LONGEST_NAME],
            what=what,
            detail=bounded(detail),
            unconfirmed=state.is_unconfirmed,
        )

    def _state_path(self, private: Ed25519PrivateKey) -> Path:
        return self.folder / f"{_place_id(self.place)}-{public_of(private).key_id}.json"

    def _keep(self, path: Path, state: State) -> State:
        write_private(path, msgspec.json.encode(state))
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
                f"back, or {_NEW_KEY}."
            )
        return key

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other commands of this user waiting: two entries cannot have one number."""
        try:
            with locked(self.folder / "lock"):
                yield
        except OSError as error:
            raise PermanentError(
                f"“{self.folder}” cannot be used ({error.strerror}), so nothing is shown: make "
                "room, or give it to this user."
            ) from None


def _place_id(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _state_in(path: Path) -> State | None:
    """Return what a file says, ``None`` if it is damaged."""
    try:
        return parse(path.read_bytes(), type=State)
    except ValueError:
        return None


def public_of(private: Ed25519PrivateKey) -> PublicKey:
    """Return the public half of a key."""
    return PublicKey(private.public_key().public_bytes_raw())
