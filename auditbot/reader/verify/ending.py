"""What is checked last: statements, attachments, what was seen before, the hint to the end."""

from msgspec import structs

from auditbot.reader.documents import Head, Manifest
from auditbot.reader.layout import is_media, manifest_key, signature_key
from auditbot.reader.memory import Seen
from auditbot.reader.parse import parse
from auditbot.reader.read import ALWAYS
from auditbot.reader.times import moment, span
from auditbot.reader.verify.context import Context
from auditbot.reader.verify.keyring import read_signed
from auditbot.reader.verify.streams import signed_by_trusted
from auditbot.storage.reading import MissingObjectError, TooLargeError

_HEAD_MOST = 2**16
_LATE_MS = 60_000


def check_age(context: Context) -> None:
    """Tell if the newest manifest is older than it may be."""
    newest = context.newest
    if newest is None or newest.closed is not None:
        return
    age = context.options.now_ms - newest.created_ms
    if age > 2 * newest.interval_ms + _LATE_MS:
        context.findings.notice(
            "old",
            f"stream {newest.stream}",
            f"The newest manifest is {span(age)} old, though one is due every "
            f"{span(newest.interval_ms)}: Steward is not running, or the end was cut away.",
        )
    if age < -_LATE_MS:
        context.findings.notice(
            "future",
            f"stream {newest.stream}",
            f"The newest manifest was made {span(-age)} from now: one of the clocks is wrong.",
        )


def check_statements(context: Context) -> None:
    """Check that removals, holds and rotations are those that the manifests list."""
    statements = context.statements
    context.expected |= statements.pages
    for key, listed in context.listed_statements.items():
        context.expected |= {key, signature_key(key)}
        digest = statements.digests.get(key)
        if digest is None:
            context.findings.wrong("statement", key, "A manifest lists it, but it is missing.")
        elif digest != listed.sha256:
            context.findings.wrong(
                "statement", key, "It is not what its manifest lists: it was changed."
            )
    newest_ms = context.newest.created_ms if context.newest else 0
    for key, created_ms in statements.created.items():
        if key in context.listed_statements:
            continue
        context.expected |= {key, signature_key(key)}
        if _is_back_dated(context, key):
            context.findings.wrong(
                "back_dated",
                key,
                "It is signed with a key that was replaced since, and no manifest lists it, as "
                "each would that was written in time: somebody who has the old key wrote it "
                "later. What it removes counts as lost.",
            )
        elif created_ms < newest_ms - _LATE_MS:
            context.findings.notice(
                "unlisted", key, "It is validly signed, but no manifest lists it."
            )


def _is_back_dated(context: Context, key: str) -> bool:
    """Return whether a statement that no manifest lists can only have been written afterwards."""
    newest = context.newest
    signer = context.keyring.trust.keys.get(context.statements.signers[key])
    # Older writers did not list what was stated while nothing was exported.
    if newest is None or newest.place is None or signer is None or signer.until_ms is None:
        return False
    return newest.created_ms > signer.until_ms + 2 * newest.interval_ms + _LATE_MS


def check_media(context: Context) -> None:
    """Check that the attachments that records speak of are listed, and with the same hash."""
    for key, cited in context.cited.items():
        listed = context.media.get(key)
        if listed is None:
            if not is_media(key) or not _is_young(context, key):
                context.findings.wrong(
                    "media_unlisted",
                    cited.segment,
                    f"It says that {key} is stored, but no manifest lists that.",
                    cited.line,
                )
        elif not key.endswith(".age") and cited.sha256 not in {None, listed.sha256}:
            context.findings.wrong(
                "media", cited.segment, f"It gives {key} another hash.", cited.line
            )


def check_sealed_to(context: Context) -> None:
    """Check that the keys that records' content is sealed to are listed."""
    for name, segment in context.sealed_to.items():
        if name not in context.expected:
            context.findings.wrong(
                "sealed_key", segment, f"It is sealed to “{name}”, which no manifest lists."
            )


def _is_young(context: Context, key: str) -> bool:
    newest_ms = context.newest.created_ms if context.newest else 0
    item = context.inventory.items.get(key)
    if item is None:
        return key in context.statements.tombstones
    return item.modified_ms >= newest_ms - _LATE_MS


def check_memory(context: Context) -> None:
    """Compare with what was seen of this archive before."""
    for stream, seen in context.remembered.streams.items():
        chain = context.chains.get(stream)
        digest = context.manifest_digests.get(seen.key)
        when = moment(seen.seen_ms)
        if chain is None or chain.last is None:
            context.findings.wrong(
                "stream_missing",
                f"stream {stream}",
                f"This stream was here on {when} UTC, and it is gone.",
            )
        elif digest is None or chain.last.number < seen.number:
            context.findings.wrong(
                "cut_back",
                f"stream {stream}",
                f"Its manifest {seen.number} was seen on {when} UTC and is gone; the newest is "
                f"{chain.last.number}: the archive was cut back or replaced by an older copy.",
            )
        elif digest != seen.sha256:
            context.findings.wrong(
                "rewritten",
                seen.key,
                f"It is another manifest than was seen under this name on {when} UTC: the "
                "archive was written anew.",
            )


def check_notes(context: Context) -> None:
    """Compare with checkpoints that somebody kept."""
    for note in context.options.notes:
        stream = note.origin.rpartition("/")[2]
        root = context.roots.get((stream, note.size))
        name = f"the checkpoint of {note.size} records of stream {stream}"
        if not signed_by_trusted(context, note):
            context.findings.wrong("kept_checkpoint", name, "No trusted key signed it.")
        elif root is None:
            context.findings.wrong(
                "kept_checkpoint",
                name,
                "The archive has no tree of this size: it was cut back, or it is another one.",
            )
        elif root != note.root.hex():
            context.findings.wrong(
                "kept_checkpoint",
                name,
                "The archive gives another root: it is not the one that was there then.",
            )


async def check_head(context: Context) -> None:
    """Look at the hint to the newest manifest; it proves nothing, but may tell of a loss."""
    key = f"v1/{context.inventory.server}/state/head.json"
    try:
        head = parse(await context.place.get(key, most_bytes=_HEAD_MOST), type=Head)
    except (MissingObjectError, TooLargeError):
        context.findings.notice("head", key, "There is no hint to the newest manifest.")
        return
    except ValueError:
        context.findings.notice("head", key, "The hint to the newest manifest is damaged.")
        return
    chain = context.chains.get(head.stream)
    if chain is None or chain.last is None or head.number > chain.last.number:
        if await _came_since(context, head):
            return
        context.findings.wrong(
            "cut_back",
            key,
            f"It names the manifest {head.number} of stream {head.stream}, which is not here: "
            "the end of the archive is missing.",
        )
    elif context.manifest_digests.get(head.manifest) != head.manifest_sha256:
        context.findings.notice("head", key, "It names a manifest with another hash.")
    elif head.number < chain.last.number or head.stream != context.inventory.streams[-1]:
        context.findings.notice("head", key, "It is older than the newest manifest.")


async def _came_since(context: Context, head: Head) -> bool:
    """Return whether the manifest that the hint names was written after all was listed."""
    named = manifest_key(head.manifest)
    if named is None or (named.server, named.stream, named.number) != (
        context.inventory.server,
        head.stream,
        head.number,
    ):
        return False
    try:
        body, signature = await read_signed(context.place, head.manifest)
        manifest = parse(body, type=Manifest)
    except (MissingObjectError, TooLargeError, ValueError):
        return False
    fault = context.keyring.trust.judge(manifest.key_id, manifest.created_ms, body, signature)
    return fault is None and (manifest.stream, manifest.number) == (head.stream, head.number)


def remembered_after(context: Context, seen_before: dict[str, Seen]) -> dict[str, Seen]:
    """Return what is to be remembered of the streams after this verification."""
    options, result = context.options, context.result
    # Of what came since, all was looked into.
    is_next = options.since_last and options.sample is None and options.period == ALWAYS
    kept = {}
    for stream, seen in result.streams.items():
        before = seen_before.get(stream)
        looked = before.looked_until if before else -1
        looked_ms = before.looked_ms if before else None
        if result.whole or (is_next and looked < 0):
            looked, looked_ms = seen.number, options.now_ms
        elif is_next:
            looked = seen.number
        kept[stream] = structs.replace(
            seen, contents=looked == seen.number, looked=looked, looked_ms=looked_ms
        )
    return {**seen_before, **kept}


def older_looked_ms(context: Context) -> int | None:
    """Return when the contents that were not looked into now were found right, if they were."""
    options = context.options
    if context.result.whole or not options.since_last or options.sample is not None:
        return None
    if options.period != ALWAYS:
        return None
    before = context.remembered.streams.values()
    return min((seen.looked_ms or seen.seen_ms for seen in before), default=None)
