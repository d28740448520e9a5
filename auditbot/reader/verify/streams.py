"""The manifests of a stream: fetched ahead, judged in order, their objects handed on."""

import asyncio
import hashlib
from dataclasses import dataclass

from auditbot.reader.documents import Manifest, is_newer
from auditbot.reader.layout import NEWER, is_recipients, manifest_key, signature_key
from auditbot.reader.memory import Seen
from auditbot.reader.parse import parse
from auditbot.reader.signatures import Note, parse_note
from auditbot.reader.verify.chain import Chain
from auditbot.reader.verify.context import Context
from auditbot.reader.verify.fetching import ahead
from auditbot.reader.verify.keyring import read_signed
from auditbot.reader.verify.objects import Objects
from auditbot.storage.reading import MissingObjectError, TooLargeError
from common.errors import PermanentError

_NOTE_MOST = 2**16


@dataclass(frozen=True, slots=True)
class _Fetched:
    body: bytes
    signature: bytes
    manifest: Manifest | None
    note: bytes | None
    fault: str = ""


async def check_stream(
    context: Context, stream: str, objects: Objects, group: asyncio.TaskGroup
) -> None:
    """Check a stream's manifests, and have the contents of their objects checked."""
    chain = context.chains[stream] = Chain(stream)

    async def fetch(numbered: tuple[int, str]) -> _Fetched:
        return await _fetch(context, numbered[1])

    async for (_, key), got in ahead(group, context.inventory.manifests[stream], fetch):
        context.expected |= {key, signature_key(key)}
        if isinstance(got, PermanentError):
            context.findings.wrong("manifest", key, f"It cannot be read: {got}")
            continue
        if got.manifest is None:
            sentence = f"It is no manifest ({got.fault}): it was changed."
            if is_newer(got.body):
                sentence = NEWER.format(what="This manifest")
            context.findings.wrong("manifest", key, sentence)
            continue
        _take(context, chain, key, got, got.manifest)
        await _hand_on(key, got.manifest, objects, group)
    _remember(context, chain)


async def _fetch(context: Context, key: str) -> _Fetched:
    body, signature = await read_signed(context.place, key)
    try:
        manifest = parse(body, type=Manifest)
    except ValueError as error:
        return _Fetched(body, signature, None, None, str(error))
    prefix = f"v1/{context.inventory.server}/checkpoints/"
    note = None
    if manifest.checkpoint.key.startswith(prefix):
        try:
            note = await context.place.get(manifest.checkpoint.key, most_bytes=_NOTE_MOST)
        except (MissingObjectError, TooLargeError):
            note = None
    return _Fetched(body, signature, manifest, note)


async def _hand_on(
    key: str, manifest: Manifest, objects: Objects, group: asyncio.TaskGroup
) -> None:
    for file in manifest.day_keys:
        await objects.day_key(file, key, group)
    for file in manifest.content_keys:
        await objects.content_key(file, key, group)
    for file in manifest.stamps:
        await objects.stamp(file, key, group)
    for file in manifest.sessions:
        await objects.sessions(file, key, manifest, group)
    for file in manifest.media:
        await objects.media(file, key, manifest, group)
    for item in manifest.objects:
        await objects.segment(item, manifest, group)


def _take(context: Context, chain: Chain, key: str, got: _Fetched, manifest: Manifest) -> None:
    named = manifest_key(key)
    if named is None:
        return
    trust = context.keyring.trust
    fault = trust.judge(manifest.key_id, manifest.created_ms, got.body, got.signature)
    if not got.signature:
        fault = "its signature is missing"
    if fault is not None:
        context.findings.wrong("signature", key, f"This manifest proves nothing: {fault}.")
    else:
        context.options.observe(manifest)
    digest = hashlib.sha256(got.body).hexdigest()
    context.manifest_digests[key] = digest
    context.findings.add(*chain.follow(named, key, manifest, digest))
    if chain.range is not None:
        context.trees[(chain.stream, chain.range.end)] = chain.range.root()
    _check_note(context, chain, got.note, manifest)
    _count(context, manifest)
    context.listed_statements.update({item.key: item for item in manifest.statements})


def _check_note(context: Context, chain: Chain, body: bytes | None, manifest: Manifest) -> None:
    key = manifest.checkpoint.key
    context.expected.add(key)
    context.checkpoint_ms.setdefault(key, manifest.created_ms)
    if body is None:
        context.findings.wrong("checkpoint", key, "This checkpoint is missing.")
        return
    if hashlib.sha256(body).hexdigest() != manifest.checkpoint.sha256:
        context.findings.wrong(
            "checkpoint", key, "It is not the checkpoint that its manifest names: it was changed."
        )
    try:
        note = parse_note(body)
    except ValueError as error:
        context.findings.wrong("checkpoint", key, f"It is no checkpoint: {error}.")
        return
    context.findings.add(*chain.check_note(key, note, manifest))
    if not signed_by_trusted(context, note):
        context.findings.wrong("checkpoint", key, "No trusted key signed this checkpoint.")


def signed_by_trusted(context: Context, note: Note) -> bool:
    """Return whether a trusted key signed a checkpoint, a replaced one included."""
    return any(note.signed_by(known.key) for known in context.keyring.trust.keys.values())


def _count(context: Context, manifest: Manifest) -> None:
    result = context.result
    result.manifests += 1
    result.listed += len(manifest.objects)
    result.listed_records += sum(item.records for item in manifest.objects)
    result.server_name = manifest.server_name
    result.encrypted |= manifest.encryption is not None
    context.roots[(manifest.stream, manifest.tree.size)] = manifest.tree.root
    if result.from_ms is None:
        result.from_ms = manifest.from_ms
    if manifest.number == 0 and (context.first is None or _begins(manifest, context.first)):
        context.first = manifest
    recipients = (manifest.encryption or {}).get("recipients")
    if isinstance(recipients, str) and is_recipients(recipients):
        context.recipients.add(recipients)
        context.expected.add(recipients)
    if context.newest is None or manifest.created_ms >= context.newest.created_ms:
        context.newest = manifest
        result.until_ms = manifest.created_ms
        result.storage = manifest.storage
        result.not_covered = manifest.rooms.not_covered_count
        result.undecryptable_open = manifest.undecryptable_open
        result.gaps_open = manifest.gaps_open
        result.media_open = manifest.media_open


def _begins(one: Manifest, other: Manifest) -> bool:
    """Return whether a stream began before another one."""
    return (one.from_ms, one.stream) < (other.from_ms, other.stream)


def _remember(context: Context, chain: Chain) -> None:
    last = chain.last
    if last is not None:
        context.result.streams[chain.stream] = Seen(
            number=last.number,
            key=chain.last_key,
            sha256=chain.last_sha256,
            size=last.tree.size,
            root=last.tree.root,
            created_ms=last.created_ms,
            seen_ms=context.options.now_ms,
        )
