"""What lies in an archive that nothing signed names: on its way, hidden, or put there.

When something came is told by whoever keeps it; in a directory anybody can set that. So what no
manifest lists is remembered, and of the manifests that came since, one has to list it.
"""

from auditbot.reader.documents import Manifest
from auditbot.reader.layout import (
    PROBE,
    checkpoint_key,
    day_of,
    is_access,
    is_content_key,
    is_day_key,
    is_derived,
    is_description,
    is_lease,
    is_media,
    is_page,
    is_recipients,
    is_stamp,
    is_statement,
    is_written_once,
    manifest_key,
    segment_key,
    sessions_key,
    signing_key_id,
)
from auditbot.reader.verify.context import Context
from auditbot.reader.verify.findings import Findings
from auditbot.storage.reading import Item

LATE_MS = 60_000


def check_foreign(context: Context) -> None:
    """Tell what lies in the archive that nothing signed names."""
    for key, item in context.inventory.items.items():
        if item.deleted:
            _hidden(context, key)
        elif key not in context.expected and not _is_known(key):
            _unlisted(context, key, item)


def check_strange(findings: Findings, strange: list[Item]) -> None:
    """Tell what lies beside the servers' folders."""
    for item in strange:
        if not PROBE.fullmatch(item.key):
            findings.wrong("foreign", item.key, "No archive has an object of this name.")


def _hidden(context: Context, key: str) -> None:
    """Tell of an object behind a delete marker, of which only the listing of versions knows.

    A lock keeps nobody from deleting like that, so the newest manifests can vanish together with
    what they list: nothing that is left names them.
    """
    stated = context.statements
    if key in context.expected or key in stated.tombstones or key in stated.erased:
        return  # what is wrong with it, if anything is, was said where it was looked for
    if is_written_once(key):
        context.findings.wrong(
            "hidden",
            key,
            "It was deleted, though no removal says so, and the store still keeps a version: if "
            "it is of the end of the archive, that was cut away. Take the delete marker off, and "
            "verify again.",
        )


def _unlisted(context: Context, key: str, item: Item) -> None:
    newest = _lister(context, key)
    if newest is None and _is_newcomer(context, key, item):
        context.findings.notice(
            "unlisted", key, "It is of a new stream, whose first manifest is not here yet."
        )
        return
    if newest is None:
        context.findings.wrong(
            "foreign", key, "No manifest lists this object: somebody else put it here."
        )
        return
    first_ms = context.remembered.unlisted.get(key, newest.created_ms)
    overdue_ms = 2 * newest.interval_ms + LATE_MS
    came_before = item.modified_ms < newest.created_ms - overdue_ms
    if _waits(key, newest) or not (came_before or newest.created_ms > first_ms + overdue_ms):
        context.result.unlisted[key] = first_ms
        context.findings.notice(
            "unlisted", key, "It is younger than the newest manifest, which cannot list it."
        )
        return
    context.findings.wrong(
        "foreign",
        key,
        "It is where something new would be, but no manifest that was made since lists it: "
        "somebody else put it here.",
    )


def _lister(context: Context, key: str) -> Manifest | None:
    """Return the newest manifest of those of which the next one may list an object."""
    named = segment_key(key) or sessions_key(key)
    if named is None:
        return context.newest if _comes_early(context, key) else None
    chain = context.chains.get(named.stream)
    last = chain.last if chain is not None else None
    if chain is None or last is None or last.closed is not None:
        return None
    return last if named.first_seq >= chain.next_seq else None


def _comes_early(context: Context, key: str) -> bool:
    """Return whether an object is stored before the document that names it."""
    if is_media(key) or is_day_key(key) or is_stamp(key) or checkpoint_key(key):
        return True
    if is_recipients(key) or is_content_key(key):
        return True
    if is_page(key):
        # Only of a day of which there is anything to say.
        return f"/dt={day_of(context.result.from_ms or 0)}/" <= key[key.index("/dt=") :]
    named = manifest_key(key.removesuffix(".sig") + ".json") if key.endswith(".sig") else None
    if named is None:
        return False
    chain = context.chains.get(named.stream)
    last = chain.last if chain is not None else None
    if last is None:
        return named.number == 0
    return last.closed is None and named.number == last.number + 1


def _is_newcomer(context: Context, key: str, item: Item) -> bool:
    """Return whether a segment may be of a stream that has no manifest yet.

    After an outage the segments come first. No manifest tells then how late it is, so our own
    clock has to.
    """
    named, newest = segment_key(key) or sessions_key(key), context.newest
    if named is None or named.stream in context.chains or newest is None:
        return False
    if not any(_begins(other, named.stream) for other in context.inventory.items):
        return False
    now_ms = context.options.now_ms
    first_ms = context.remembered.unlisted.get(key, now_ms)
    context.result.unlisted[key] = first_ms
    return now_ms - min(first_ms, item.modified_ms) <= 2 * newest.interval_ms + LATE_MS


def _begins(key: str, stream: str) -> bool:
    other = segment_key(key)
    return other is not None and (other.stream, other.first_seq) == (stream, 0)


def _waits(key: str, newest: Manifest) -> bool:
    """Return whether the newest manifest says that something of this kind was on its way.

    What was stored while the answer of the store was lost is there long before it is listed.
    """
    if segment_key(key) or sessions_key(key) or is_day_key(key) or is_content_key(key):
        return newest.waiting.segments > 0
    return is_media(key) and newest.media_open > 0


def _is_known(key: str) -> bool:
    # What is wrong with these was said where they were read; copies prove nothing, whatever they say.
    if (
        is_derived(key)
        or is_description(key)
        or is_lease(key)
        or signing_key_id(key) is not None
        or is_statement(key)
    ):
        return True
    if is_access(key):
        return True  # officers put it here; its own check tells what is wrong with it
    return key.endswith(".sig") and is_statement(key[:-4] + ".json")
