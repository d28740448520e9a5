"""What explains an archive to people: is it still what the writer put there?

These files say how to verify an archive, so whoever changes them can make people run anything.
"""

import hashlib

from auditbot.reader.documents import ListedFile
from auditbot.reader.layout import is_description, is_hint, is_recipients
from auditbot.reader.verify.context import Context
from auditbot.storage.reading import MissingObjectError, TooLargeError

_LARGEST = 2**20


async def check_described(context: Context) -> None:
    """Compare the files that explain the archive with what first manifests list."""
    listed: dict[str, set[str]] = {}
    for file in _listed(context):
        listed.setdefault(file.key, set()).add(file.sha256)
    named = context.recipients - set(listed)
    there = {
        key
        for key in context.inventory.items
        if context.inventory.there(key) and is_description(key) and not is_hint(key)
    }
    first = context.first
    is_listing = first is not None and first.description is not None
    for key in sorted({*listed, *named}):
        body = await _read(context, key)
        if body is None:
            _missing(context, key)
        elif is_recipients(key):
            _recipients(context, key, body, listed.get(key))
        else:
            _compare(context, key, body, listed[key], is_listing=is_listing)
    _tell_unlisted(context, there - set(listed), is_listing=is_listing)


def _tell_unlisted(context: Context, keys: set[str], *, is_listing: bool) -> None:
    unlisted = sorted(keys)
    if is_listing:
        for key in unlisted:
            context.findings.wrong(
                "foreign", key, "No manifest lists this file: somebody else put it here."
            )
    elif unlisted and context.first is not None:
        context.findings.notice(
            "not_described",
            unlisted[0],
            "An older Steward wrote it and did not sign what explains the archive "
            f"({len(unlisted)} files): do not do what they say without comparing them with "
            "Steward's own documentation.",
        )


def _listed(context: Context) -> list[ListedFile]:
    firsts = [chain.first for chain in context.chains.values() if chain.first is not None]
    return [file for first in firsts for file in first.description or ()]


async def _read(context: Context, key: str) -> bytes | None:
    try:
        return await context.place.get(key, most_bytes=_LARGEST)
    except MissingObjectError:
        return None
    except TooLargeError:
        return b""


def _compare(
    context: Context, key: str, body: bytes, digests: set[str], *, is_listing: bool
) -> None:
    if hashlib.sha256(body).hexdigest() in digests:
        return
    if is_listing:
        context.findings.wrong(
            "description",
            key,
            "It is not the file that was written: do not do what it says. Steward's documentation "
            "says what belongs there.",
        )
    else:
        # What an older version wrote first stays as it is, whatever a later one would write.
        context.findings.notice(
            "not_described", key, "An older Steward wrote it and did not sign what it says."
        )


def _recipients(context: Context, key: str, body: bytes, digests: set[str] | None) -> None:
    digest = hashlib.sha256(body).hexdigest()
    fits = key.endswith(f"/recipients-{digest[:16]}.txt")
    if not fits or (digests is not None and digest not in digests):
        context.findings.wrong(
            "recipients",
            key,
            "It is not the list of people to whom the archive is encrypted: its name is the hash "
            "of another one.",
        )


def _missing(context: Context, key: str) -> None:
    context.findings.notice("not_described", key, "A manifest names it, but it is not there.")
