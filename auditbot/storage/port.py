"""What the archive asks of a place that keeps objects."""

from collections.abc import AsyncIterator
from typing import Protocol


class ObjectStore(Protocol):
    """Objects by key, each written once and never changed.

    Every method raises ``TransientError`` where trying again later can help and
    ``PermanentError`` where somebody has to mend something first; both say what in a sentence
    and never hold a credential. Keys are relative to the destination's own prefix.
    """

    async def put(self, key: str, body: bytes, sha256: str) -> None:
        """Create an object, durably; ``sha256`` is the body's digest in lower-case hex.

        Writing the same bytes again is success. If the key holds other bytes, they stay.

        Raises:
            PermanentError: the key holds other bytes: a second writer is at work.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Return an object's bytes; a missing one is a ``PermanentError``."""
        ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with ``prefix``, in ascending order."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; for the probe of ``steward doctor`` only."""
        ...

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...
