"""A manifest on its way into the store: what it needs first, itself, then the hint to it."""

import hashlib

import msgspec

from auditbot.description import description
from auditbot.manifests import MadeManifest, recipients_object
from auditbot.pipeline.manifest import LATEST, head, signature_key
from auditbot.pipeline.seal import root_of
from auditbot.storage.errors import ObjectExistsError
from auditbot.storage.port import ArchiveStore
from common.errors import PermanentError
from common.telemetry.log import Log

log = Log("audit.publish")


async def publish(
    store: ArchiveStore, manifest: MadeManifest, server_name: str, *, now_ms: int
) -> None:
    """Store a manifest; safe to repeat after a crash at any line.

    What a reader needs to check it is there before it is; ``state/head.json`` comes last.
    """
    root = root_of(server_name)
    if manifest.number == 0:
        await _describe(store, manifest, server_name)
        if manifest.recipients:
            key, body = recipients_object(server_name, manifest.recipients)
            await _put(store, key, body)
    key_id, pem = manifest.signing_pem
    await _put(store, f"{root}keys/signing-{key_id}.pem", pem)
    await _put(store, manifest.note_key, manifest.note)
    await _put(store, signature_key(manifest.key), manifest.signature)
    await _put(store, manifest.key, manifest.body)
    if await store.get(manifest.key) != manifest.body:
        raise PermanentError(
            f"The archive's storage returns other bytes than were written to “{manifest.key}”."
        )
    content = msgspec.json.decode(manifest.body)
    hint = head(content, manifest.key, manifest.sha256, written_ms=now_ms)
    await store.replace(f"{root}{LATEST}", hint)


async def _describe(store: ArchiveStore, manifest: MadeManifest, server_name: str) -> None:
    """Put beside the records what explains them; what is there already stays as it is."""
    listed = manifest.content.get("description")
    digests = None if listed is None else {item["sha256"] for item in listed}
    for key, body in description(server_name):
        if digests is not None and hashlib.sha256(body).hexdigest() not in digests:
            # Signed by a version of before an upgrade: what is not there cannot mislead.
            log.warning("the archive is not described: an upgrade came in between", object=key)
            continue
        try:
            await _put(store, key, body)
        except ObjectExistsError:
            log.debug("the archive was described by another version", object=key)


async def _put(store: ArchiveStore, key: str, body: bytes) -> None:
    await store.put(key, body, hashlib.sha256(body).hexdigest())
