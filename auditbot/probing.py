"""What a destination is seen to do, for the manifests to say."""

import hashlib
import secrets
from contextlib import suppress

from auditbot.manifests import Probed
from auditbot.storage.errors import ObjectExistsError
from auditbot.storage.port import ArchiveStore
from common.errors import PermanentError


async def probe_stream(store: ArchiveStore, *, now_ms: int) -> Probed:
    """Try out what the archive stands on, with tiny objects of its own.

    Raises:
        TransientError: the store is away.
        PermanentError: it is not usable; the sentence says what to mend.
    """
    abilities = await store.abilities()
    store.look_first(on=False)
    key = f"v1/probe-{secrets.token_hex(8)}"
    body, other = b"Steward was here.\n", b"Steward was here again.\n"
    await store.put(key, body, hashlib.sha256(body).hexdigest(), locked=False)
    damaged = f"v1/probe-{secrets.token_hex(8)}"
    try:
        intact = await store.get(key) == body
        create_only = await _refuses(store, key, other)
        refuses_damage = await store.refuses_damage(damaged)
    finally:
        # Where nobody may delete, which is a good way to keep an archive, they stay.
        for name in (key, damaged):
            with suppress(PermanentError):
                await store.delete(name)
    store.look_first(on=not create_only)
    return Probed(
        abilities,
        conditional_create=create_only,
        checksum=intact and refuses_damage is not False,
        probed_ms=now_ms,
        clock_offset_ms=store.clock_offset_ms,
    )


async def _refuses(store: ArchiveStore, key: str, other: bytes) -> bool:
    try:
        await store.put(key, other, hashlib.sha256(other).hexdigest(), locked=False)
    except ObjectExistsError:
        return True
    except PermanentError:
        return False
    return False
