"""The restore drill and the key drill: can the archive be got back, with each of the keys?

Objects are taken by chance out of those that trusted manifests list. Each is fetched, compared with
what was signed, opened with every key alone, unpacked, and compared record by record.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyrage

from auditbot.reader.day_keys import DayKeys
from auditbot.reader.documents import ListedFile, ListedSegment, Manifest
from auditbot.reader.layout import wrapped_key_of
from auditbot.reader.media import MOST_BYTES
from auditbot.reader.open_sealed import read_identities, unseal
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.contents import check_segment
from auditbot.reader.verify.sealed import check_sealed
from auditbot.storage.reading import MissingObjectError, Place, TooLargeError

_SPARE = 20
"""Further objects by chance, for those that were deleted on purpose."""
_LARGEST_LIST = 2**16

Item = ListedSegment | ListedFile


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is to be tried: the file it is in and its public half, never the secret itself."""

    file: str
    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an object was opened with one key, or without one; ``fault`` says why it was not."""

    key: Key | None
    fault: str | None
    records: int | None = None


@dataclass(frozen=True, slots=True)
class Drilled:
    """What became of one object."""

    item: Item
    server_name: str
    found_size: int
    found_sha256: str
    attempts: tuple[Attempt, ...]

    @property
    def is_sealed(self) -> bool:
        """Return whether a key is needed to read all of it."""
        return any(attempt.key is not None for attempt in self.attempts)

    @property
    def faults(self) -> list[str]:
        """Return what went wrong."""
        return [attempt.fault for attempt in self.attempts if attempt.fault is not None]


@dataclass
class Picker:
    """Takes objects by chance while manifests are verified; the same for the same seed."""

    seed: str
    count: int
    recipients: dict[str, str] = field(default_factory=dict)
    """Server name → key of the list of recipients that its newest manifest names."""
    _segments: list[tuple[bytes, ListedSegment, str]] = field(default_factory=list)
    _files: list[tuple[bytes, ListedFile, str]] = field(default_factory=list)

    def take(self, manifest: Manifest) -> None:
        """Take up what a manifest lists."""
        listed = (manifest.encryption or {}).get("recipients")
        if isinstance(listed, str):
            self.recipients[manifest.server_name] = listed
        else:
            self.recipients.pop(manifest.server_name, None)
        for segment in manifest.objects:
            self._segments.append((self._rank(segment.key), segment, manifest.server_name))
        for file in manifest.media:
            self._files.append((self._rank(file.key), file, manifest.server_name))
        self._shorten()

    def segments(self) -> Iterator[tuple[ListedSegment, str]]:
        """Yield segments by chance: more than are wanted, because some may be deleted."""
        yield from ((item, server) for _, item, server in self._segments)

    def files(self) -> Iterator[tuple[ListedFile, str]]:
        """Yield attachments likewise."""
        yield from ((item, server) for _, item, server in self._files)

    def _rank(self, key: str) -> bytes:
        return hashlib.sha256(f"{self.seed}\n{key}".encode()).digest()

    def _shorten(self) -> None:
        most = self.count + _SPARE
        self._segments = sorted(self._segments, key=lambda one: one[0])[:most]
        self._files = sorted(self._files, key=lambda one: one[0])[:most]


def read_keys(files: Sequence[Path]) -> list[Key]:
    """Return the keys in identity files, each for itself.

    Raises:
        ConfigError: a file cannot be read or holds none.
    """
    found = []
    for path in files:
        for secret in read_identities(path):
            try:
                public = str(pyrage.x25519.Identity.from_str(secret).to_public())
            except pyrage.IdentityError as error:
                # It will be tried and fail; what the file holds is never repeated.
                public = f"no sound key ({type(error).__name__})"
            found.append(Key(str(path), public, secret))
    return found


async def drill(
    place: Place, picker: Picker, keys: Sequence[Key], *, erased: Collection[str] = ()
) -> list[Drilled]:
    """Fetch and open the objects that were picked: segments, and as many attachments.

    Args:
        place: where the archive is
        picker: took the objects by chance
        keys: the keys to be tried
        erased: keys of days that were destroyed on purpose, with what only they open

    Raises:
        TransientError: the place is away.
        PermanentError: it cannot be read.
    """
    done: list[Drilled] = []
    day_keys = DayKeys(place)
    for some in (picker.segments(), picker.files()):
        tried = 0
        for item, server_name in some:
            if tried == picker.count:
                break
            if wrapped_key_of(item.key) in erased:
                continue
            try:
                body = await place.get(item.key, item.version_id, most_bytes=MOST_BYTES)
            except MissingObjectError:
                continue  # deleted on purpose: any other loss was told when it was verified
            except TooLargeError as error:
                done.append(Drilled(item, server_name, 0, "", (Attempt(None, str(error)),)))
                continue
            tried += 1
            found = _Fetched(item, body, server_name, await day_keys.get(item.key))
            done.append(_opened(found, keys, await _content_keys(found, day_keys)))
    return done


async def recipients(place: Place, key: str) -> list[str]:
    """Return the public keys that an archive is encrypted to; the list's name is its hash.

    Raises:
        DamagedArchiveError: the list is not there, or is not the one that was written.
    """
    try:
        body = await place.get(key, most_bytes=_LARGEST_LIST)
    except (MissingObjectError, TooLargeError) as error:
        raise DamagedArchiveError(str(error)) from error
    if not key.endswith(f"/recipients-{hashlib.sha256(body).hexdigest()[:16]}.txt"):
        raise DamagedArchiveError(f"“{key}” is not the list that was written: it was changed.")
    return body.decode("utf-8", "replace").split()


@dataclass(frozen=True, slots=True)
class _Fetched:
    """An object, and the wrapped key that it is encrypted to whole."""

    item: Item
    body: bytes
    server_name: str
    wrapped: bytes | None


async def _content_keys(found: _Fetched, day_keys: DayKeys) -> dict[str, bytes]:
    """Return the wrapped keys to which content in a segment is sealed, as far as they are there.

    One that is not there was destroyed on purpose: any other loss was told when it was verified.
    """
    item = found.item
    if not isinstance(item, ListedSegment) or item.key.endswith(".age"):
        return {}
    names = check_segment(item, found.body, found.server_name).sealed_to
    fetched = {name: await day_keys.wrapped(name) for name in names}
    return {name: wrapped for name, wrapped in fetched.items() if wrapped is not None}


def _opened(found: _Fetched, keys: Sequence[Key], content_keys: Mapping[str, bytes]) -> Drilled:
    is_sealed = found.item.key.endswith(".age") or bool(content_keys)
    tried: Sequence[Key | None] = keys if is_sealed else [None]
    return Drilled(
        found.item,
        found.server_name,
        len(found.body),
        hashlib.sha256(found.body).hexdigest(),
        tuple(_attempt(found, key, content_keys) for key in tried),
    )


def _attempt(found: _Fetched, key: Key | None, content_keys: Mapping[str, bytes]) -> Attempt:
    item, clear = found.item, found.body
    if key is not None and item.key.endswith(".age"):
        try:
            clear = unseal(item.key, found.body, [key.secret], found.wrapped)
        except DamagedArchiveError as error:
            return Attempt(key, str(error))
    if not isinstance(item, ListedSegment):
        return Attempt(key, _fault_of_file(item, found.body))
    result = check_segment(item, found.body, found.server_name, clear=clear)
    findings = result.findings
    if key is not None and content_keys and not findings:
        findings = check_sealed(item, found.body, [key.secret], content_keys).findings
    return Attempt(key, findings[0].sentence if findings else None, result.records)


def _fault_of_file(item: ListedFile, body: bytes) -> str | None:
    if len(body) != item.size or hashlib.sha256(body).hexdigest() != item.sha256:
        return "It is not the file that its manifest lists: it was changed."
    return None
