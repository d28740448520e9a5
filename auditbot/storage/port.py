"""What the archive asks of a place that keeps objects."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store said of an object that it keeps now; ``None`` where it does not say."""

    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there already."""

    sha256: str
    size: int
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a store is set up to do; ``None`` where it could not be found out.

    Args:
        kind: ``directory`` or ``s3``
        object_lock: the mode that is asked for with every object, ``None`` if none is
        lock_seen: whether the store was seen to keep such locks
        retention_days: for how long it is asked for
        versioning: whether the store keeps the older versions of an object
        sse: how the store was asked to encrypt, ``None`` if it was not
    """

    kind: str
    object_lock: str | None = None
    lock_seen: bool | None = None
    retention_days: int | None = None
    versioning: bool | None = None
    sse: str | None = None


class ObjectStore(Protocol):
    """Objects by key, each written once and never changed.

    Every method raises ``TransientError`` where trying again later can help and
    ``PermanentError`` where somebody has to mend something first; both say what in a sentence
    and never hold a credential. Keys are relative to the destination's own prefix.
    """

    async def put(
        self, key: str, body: bytes, sha256: str, *, lock_days: int | None = None
    ) -> Stored | None:
        """Create an object, durably; ``sha256`` is the body's digest in lower-case hex.

        ``lock_days`` is for how long it is locked where locks are configured, ``None`` for as long
        as configured.

        Writing the same bytes again is success. If the key holds other bytes, they stay.

        Raises:
            ObjectExistsError: the key holds other bytes: a second writer is at work.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Return an object's bytes; a missing one is a ``PermanentError``."""
        ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with ``prefix``, in ascending order."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object."""
        ...

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...


class ArchiveStore(ObjectStore, Protocol):
    """All that the writer needs of a destination."""

    @property
    def clock_offset_ms(self) -> int | None:
        """How far this machine's clock is ahead of the store's, as last seen."""
        ...

    async def put(
        self,
        key: str,
        body: bytes,
        sha256: str,
        *,
        locked: bool = True,
        lock_days: int | None = None,
    ) -> Stored | None:
        """Create an object, locked against deletion where that is configured.

        ``lock_days`` is for how long, where it is not as long as configured.
        """
        ...

    def look_first(self, *, on: bool) -> None:
        """Look whether a key is taken before it is written, and read back what was written, or not.

        For a store that was seen to write over what is there: what its own refusal would do is then
        done from here, as well as that can be.
        """
        ...

    async def put_file(
        self, key: str, file: Path, sha256: str, *, lock_days: int | None = None
    ) -> Stored | None:
        """Like ``put``, for a file of any size; memory does not grow with it."""
        ...

    async def replace(self, key: str, body: bytes) -> None:
        """Write an object over what is there; for hints that nobody trusts."""
        ...

    async def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object's bytes, of one version if that is named."""
        ...

    async def delete(self, key: str, version_id: str | None = None) -> None:
        """Remove an object, for good if its version is named; a missing one is success."""
        ...

    async def delete_stored(self, key: str, version_id: str | None) -> None:
        """Remove for good what was stored under a key; a missing one is success.

        Without a version what is meant is that which was stored while the store kept none: it goes
        for good too where versions are kept by now.
        """
        ...

    async def destroy(self, key: str, version_id: str | None) -> None:
        """Remove every version of an object for good, and see that none is left.

        A lost answer, where a store replaces what is there, leaves one that we do not know of.

        Raises:
            TransientError: the store is away, or still shows a version.
            PermanentError: a version cannot be deleted, or it cannot be seen whether there is one.
        """
        ...

    async def look(self, key: str) -> Found:
        """Return what an object is; memory does not grow with it."""
        ...

    async def abilities(self) -> Abilities:
        """Ask the store what it is set up to do."""
        ...

    async def refuses_damage(self, key: str) -> bool | None:
        """Try whether bytes that arrive other than they were sent are refused.

        ``None`` where that cannot be tried; the object may stay and is to be deleted.
        """
        ...

    async def keeps_legal_holds(self) -> bool:
        """Return whether objects can be put under the store's own legal hold (S3 Object Lock).

        True too where the store does not say: trying tells.
        """
        ...

    async def has_legal_hold(self, key: str, version_id: str) -> bool:
        """Return whether a version of an object is under the store's own legal hold."""
        ...

    async def set_legal_hold(self, key: str, version_id: str, *, on: bool) -> None:
        """Put a version of an object under the store's own legal hold, or lift that; repeatable."""
        ...

    async def abort_stale(self, prefix: str) -> int:
        """Give up unfinished uploads below ``prefix``; return how many there were."""
        ...
