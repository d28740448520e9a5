"""Storing what nothing else may follow until it is known to be there."""

from auditbot.storage.port import ArchiveStore, Stored
from common.errors import PermanentError


async def put_and_read_back(
    store: ArchiveStore, key: str, body: bytes, sha256: str, *, locked: bool
) -> Stored | None:
    """Store an object, and see that the same bytes come back; as ``ArchiveStore.put`` otherwise.

    Raises:
        PermanentError: other bytes came back.
        TransientError: the storage is away.
    """
    stored = await store.put(key, body, sha256, locked=locked)
    if await store.get(key) != body:
        raise PermanentError(
            f"The archive's storage returns other bytes than were written to “{key}”."
        )
    return stored
