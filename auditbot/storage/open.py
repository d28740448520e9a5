"""A destination from the configuration → the store that keeps it, and a probe of it."""

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from auditbot.storage.directory import DirectoryStore
from auditbot.storage.port import ArchiveStore, ObjectStore
from common.config.schema import S3
from common.errors import ConfigError, PermanentError


@dataclass(frozen=True, slots=True)
class Probe:
    """What a store can do. Without ``create_only`` a second writer could replace objects."""

    create_only: bool


def open_store(destination: str, s3: S3) -> ArchiveStore:
    """Return the store of ``file:directory`` or ``s3://bucket/prefix``; nothing is reached yet.

    Raises:
        ConfigError: the destination is neither.
    """
    scheme, _, rest = destination.partition(":")
    if scheme == "file" and rest.strip("/"):
        # file:NAME is relative; file:///PATH and file:/PATH are absolute.
        return DirectoryStore(Path(rest.removeprefix("//")).absolute())
    if scheme == "s3" and rest.startswith("//"):
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        if bucket:
            # Here, because the library takes 15 MiB that a directory has no use for.
            from auditbot.storage.s3 import S3Store  # noqa: PLC0415  # only for a bucket

            return S3Store(bucket, prefix, s3)
    raise ConfigError(
        "auditbot.destination must be like file:archive, file:///absolute/directory or "
        "s3://bucket/prefix."
    )


async def probe(store: ObjectStore) -> Probe:
    """List, write, read and delete a tiny object.

    Raises:
        TransientError: the store is away.
        PermanentError: it is not usable; the sentence says what to mend.
    """
    key = f"v1/probe-{secrets.token_hex(8)}"
    body, other = b"Steward was here.\n", b"Steward was here again.\n"
    # First, because some stores make a missing bucket for whoever writes to it: a name that
    # was misspelt would go unnoticed.
    async for _ in store.list(key):
        break
    await store.put(key, body, hashlib.sha256(body).hexdigest())
    try:
        if await store.get(key) != body:
            raise PermanentError("The archive's storage returns other bytes than were written.")
        return Probe(create_only=await _refuses(store, key, other))
    finally:
        # Where nobody may delete, which is a good way to keep an archive, it stays.
        with suppress(PermanentError):
            await store.delete(key)


async def _refuses(store: ObjectStore, key: str, other: bytes) -> bool:
    try:
        await store.put(key, other, hashlib.sha256(other).hexdigest())
    except PermanentError:
        return True
    return False
