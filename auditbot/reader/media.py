"""Attachments: fetched, compared with what was signed, and told by their bytes what they are.

Whatever a sender called a file, only what certainly is a picture is ever shown as one.
"""

import asyncio
import hashlib
from pathlib import Path

from auditbot.reader.day_keys import DayKeys
from auditbot.reader.documents import ListedFile
from auditbot.reader.index.library import Library
from auditbot.reader.layout import is_media, wrapped_key_of
from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.open_sealed import UnfitIdentityError, unseal
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.storage.reading import Place, TooLargeError
from common.errors import PermanentError

MOST_BYTES = 2 * 2**30

_SAFE = {
    "image/png": (".png", (b"\x89PNG\r\n\x1a\n",)),
    "image/jpeg": (".jpg", (b"\xff\xd8\xff",)),
    "image/gif": (".gif", (b"GIF87a", b"GIF89a")),
}
_ENDINGS = frozenset(
    [
        "pdf",
        "txt",
        "csv",
        "doc",
        "docx",
        "xls",
        "xlsx",
        "ppt",
        "pptx",
        "odt",
        "ods",
        "odp",
        "zip",
        "mp3",
        "mp4",
        "m4a",
        "ogg",
        "opus",
        "wav",
        "webm",
        "mov",
    ]
)


def picture_type(head: bytes) -> str | None:
    """Return the type of a picture that every program shows, by its first bytes."""
    for mime, (_, beginnings) in _SAFE.items():
        if head.startswith(beginnings):
            return mime
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def safe_name(sha256: str, name: str | None, head: bytes) -> str:
    """Return a file name that no program misunderstands: the hash, and an ending if harmless."""
    mime = picture_type(head)
    if mime in _SAFE:
        return sha256 + _SAFE[mime][0]
    ending = (name or "").rpartition(".")[2].lower()
    return f"{sha256}.{ending}" if ending in _ENDINGS else f"{sha256}.bin"


class ReplacedAttachmentError(DamagedArchiveError):
    """The bytes of an attachment are not those that a signed manifest lists."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The attachment “{key}” was replaced: its bytes are not those that were archived."
        )


class InfectedAttachmentError(PermanentError):
    """A scanner found something in an attachment, so it is not given out."""

    def __init__(self) -> None:
        super().__init__(
            "A malware scanner found something in it. It is in the archive, and only “steward audit "
            "attachment --infected” gives it out."
        )


async def fetch_file(
    place: Place | None, library: Library, key: str, *, with_infected: bool = False
) -> Path:
    """Return where an attachment is on this machine, fetched and compared if it was not yet.

    Args:
        place: the archive
        library: its index
        key: which attachment
        with_infected: also one in which a scanner found something

    Raises:
        InfectedAttachmentError: a scanner found something in it.
        ReplacedAttachmentError: it is not what its manifest lists.
        DamagedArchiveError: no manifest lists it, or no identity opens it.
        PermanentError: it cannot be fetched.
    """
    listed = library.file(key)
    if listed is None or not is_media(key):
        raise DamagedArchiveError(
            f"No manifest lists the attachment “{key}”, or it was deleted on purpose."
        )
    if library.is_infected(key) and not with_infected:
        raise InfectedAttachmentError
    path = library.folder / "media" / listed.sha256[:2] / listed.sha256
    if path.exists():
        return path
    if place is None:
        raise DamagedArchiveError(f"The attachment “{key}” is not on this machine.")
    clear = await _opened(place, library, key, await _fetched(place, listed))
    private_directory(path.parent)
    write_private(path, clear)
    return path


async def _opened(place: Place, library: Library, key: str, body: bytes) -> bytes:
    """Return an attachment in clear."""
    if not key.endswith(".age"):
        return body
    wrapped = library.day_key(key) or await DayKeys(place).get(key)
    if wrapped is None and library.is_erased(wrapped_key_of(key) or ""):
        raise DamagedArchiveError(f"The attachment “{key}” was erased on purpose.")
    try:
        return unseal(key, body, library.identities, wrapped)
    except UnfitIdentityError:
        if wrapped is not None or wrapped_key_of(key) is None:
            raise
        raise DamagedArchiveError(
            f"The key of the attachment “{key}” is not in the archive: it was destroyed on "
            "purpose, or somebody took it away. “steward audit verify” tells which."
        ) from None


async def _fetched(place: Place, listed: ListedFile) -> bytes:
    """Return the stored bytes of an attachment, which are those that its manifest lists."""
    key = listed.key
    try:
        body = await place.get(key, listed.version_id, most_bytes=min(listed.size, MOST_BYTES))
    except TooLargeError:
        if listed.size > MOST_BYTES:
            raise
        raise ReplacedAttachmentError(key) from None
    digest = await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
    if digest != listed.sha256:
        raise ReplacedAttachmentError(key)
    return body
