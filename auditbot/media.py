"""Attachments: fetched, decrypted, hashed, stored once; apart from the messages' way.

The promise kept: each attachment gets one ``media`` record that says what became of it, and an
object that a record names is stored before the record is.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import puremagic

from auditbot.clear_folder import ClearFolderError, clear_folder, local_files, sweep
from auditbot.content_keys import LAST_SEQ, SEAL_CONTENT, ContentKey, Officers, is_ended, keys_for
from auditbot.day_keys import readers_of_day
from auditbot.encryption import encrypt_file
from auditbot.late_keys import SET_BACK_MS
from auditbot.ledger import Destinations, Writing, open_stream
from auditbot.media_queue import (
    AGAIN_AFTER_MS,
    TOLD_NO_ROOM,
    TOLD_REFUSED,
    Json,
    KeptObject,
    MediaQueue,
    Target,
    Told,
    Wanted,
    source_of,
)
from auditbot.pipeline.other_records import MediaFound, media_record
from auditbot.pipeline.scan import INFECTED, NOT_SCANNED, Scan
from auditbot.pipeline.seal import root_of
from auditbot.pipeline.sealing import scope_at
from auditbot.scanning import Scanning
from auditbot.segments import StreamPlace
from auditbot.storage.errors import ObjectExistsError, class_of
from auditbot.storage.port import ArchiveStore, Found
from common.clock import Clock
from common.crypto.attachments import AttachmentError, EncryptedFile
from common.database.pool import Connection, Database
from common.errors import PermanentError, StewardError, TransientError
from common.inbox.signal import Signal
from common.matrix.client import MatrixError
from common.telemetry.log import Log

AT_ONCE = 4
STORE_WAIT_SECONDS = 15.0
REFUSED_WAIT_MS = 600_000
GOING_WAIT_MS = 60_000
LONGEST_WAIT_SECONDS = 60.0
_HEAD_BYTES = 4096
_REFUSED = {401, 403}
_ABSENT = {404, 410}

log = Log("audit.media")

OpenStore = Callable[[StreamPlace], ArchiveStore]


class Files(Protocol):
    """What is needed of ``common.matrix.media.Media``."""

    def download(self, content_uri: object) -> AsyncIterator[bytes]:
        """Yield a file as the homeserver holds it."""
        ...

    def read_file(self, content: Json) -> AsyncIterator[bytes]:
        """Yield a message's file, decrypted."""
        ...


class _GoneWrongError(Exception):
    """An attachment cannot be had.

    ``final``: asking again is of no use. ``is_away``: a server could not be reached, or is in
    trouble of its own, which says nothing of the attachment.
    """

    def __init__(
        self, status: str, reason: str, *, final: bool = False, is_away: bool = False
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.final, self.is_away = status, reason, final, is_away


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A file in clear text."""

    path: Path
    sha256: str
    size: int
    mime: str | None


@dataclass
class MediaKeeper:
    """The standing work. ``wanted`` is raised when attachments were added."""

    queue: MediaQueue
    files: Files
    destinations: Destinations
    server_name: str
    clock: Clock
    open_store: OpenStore
    written: Callable[[Writing], None]
    max_bytes: int
    wanted: Signal = field(default_factory=Signal)
    enter: Callable[[StreamPlace, ArchiveStore], Awaitable[None]] | None = None
    """Asked before each is stored: whether this writer may."""
    again_after_ms: tuple[int, ...] = AGAIN_AFTER_MS
    errors: Counter[str] = field(default_factory=Counter)
    """How often storing failed since the start, by class."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """What became of attachments since the start."""
    scanning: Scanning | None = None
    keep_infected: bool = True
    _stores: dict[str, ArchiveStore] = field(default_factory=dict)
    _looked_ms: int | None = None

    async def run(self) -> None:
        """Fetch until cancelled."""
        try:
            if left := await asyncio.to_thread(sweep):
                log.info("attachments on their way were left by a crash, and removed", count=left)
        except ClearFolderError as error:
            log.warning("attachments left by a crash were not looked for", reason=error)
        try:
            while True:
                seen = self.wanted.count
                try:
                    wait = await self.step()
                except (TransientError, PermanentError) as error:
                    # The store's or the database's fault: nothing is given up for it.
                    log.debug("attachments wait", wait=STORE_WAIT_SECONDS, reason=error)
                    await asyncio.sleep(STORE_WAIT_SECONDS)
                    continue
                await self.wanted.changed(seen, timeout_seconds=wait)
        finally:
            for store in self._stores.values():
                await store.close()
            self._stores.clear()

    async def step(self) -> float:
        """Fetch what is due; return how many seconds there is nothing to do."""
        now_ms = self.clock.now_ms()
        if self._looked_ms is None or now_ms < self._looked_ms - SET_BACK_MS:
            await self.queue.clock_was_set_back(
                now_ms=now_ms, noted_later_only=self._looked_ms is None
            )
        self._looked_ms = now_ms
        while True:
            target = await self.queue.target(now_ms=self.clock.now_ms())
            if target is None:
                return LONGEST_WAIT_SECONDS
            due = await self.queue.due(now_ms=self.clock.now_ms(), limit=AT_ONCE)
            if not due:
                return await self._pause()
            # Two messages with the same file would both store it.
            by_file = {source_of(wanted.file): wanted for wanted in reversed(due)}
            async with asyncio.TaskGroup() as group:
                tasks = {
                    source: group.create_task(
                        self._try(target, wanted, source, is_alone=len(by_file) == 1)
                    )
                    for source, wanted in by_file.items()
                }
            troubles = {source: task.result() for source, task in tasks.items()}
            for source, trouble in troubles.items():
                if isinstance(trouble, ClearFolderError) and len(by_file) > 1:
                    # Perhaps another one had filled the folder: a small one must not wait for it.
                    troubles[source] = await self._try(
                        target, by_file[source], source, is_alone=True
                    )
            errors = [one for one in troubles.values() if one is not None]
            # What has no room in the folder says nothing of the others that are due.
            if len(errors) == len(troubles) and not any(map(_is_of_folder, errors)):
                raise errors[0]  # the store's or the database's fault, not the attachments'

    async def _pause(self) -> float:
        due_ms = await self.queue.next_due_ms()
        if due_ms is None:
            return LONGEST_WAIT_SECONDS
        return min(max((due_ms - self.clock.now_ms()) / 1000, 0.01), LONGEST_WAIT_SECONDS)

    async def _try(
        self, target: Target, wanted: Wanted, source: str, *, is_alone: bool
    ) -> StewardError | None:
        """Fetch one; what the store refuses must not keep the others from being stored.

        One that finds no room in the folder for clear text waits only where it had that alone.
        """
        try:
            await self._fetch(target, wanted, source)
        except ClearFolderError as error:
            if is_alone:
                try:
                    await self._wait_for_room(wanted, error)
                except TransientError as away:
                    return away
            return error
        except (TransientError, PermanentError) as error:
            try:
                await self._wait_for_store(target, wanted, error)
            except TransientError as away:
                return away
            return error
        return None

    async def _wait_for_store(self, target: Target, wanted: Wanted, error: StewardError) -> None:
        """Try an attachment again later that was fetched and could not be stored."""
        self.errors[class_of(error)] += 1
        refused = isinstance(error, PermanentError)
        now_ms = self.clock.now_ms()
        wait_ms = REFUSED_WAIT_MS if refused else int(STORE_WAIT_SECONDS * 1000)
        sentence = (
            f"An attachment cannot be stored in {target.destination}: {error} Nothing is lost: it "
            "is tried again every ten minutes, and other attachments are stored meanwhile."
        )
        await self.queue.wait(
            wanted,
            due_ms=now_ms + wait_ms,
            now_ms=now_ms,
            told=Told(TOLD_REFUSED, sentence) if refused else None,
        )

    async def _wait_for_room(self, wanted: Wanted, error: ClearFolderError) -> None:
        """Try an attachment again later for which this machine has no room on its way."""
        sentence = (
            f"An attachment cannot be archived: {error} Nothing is lost: it is tried again every "
            "ten minutes, and smaller attachments are stored meanwhile."
        )
        now_ms = self.clock.now_ms()
        await self.queue.wait(
            wanted,
            due_ms=now_ms + REFUSED_WAIT_MS,
            now_ms=now_ms,
            told=Told(TOLD_NO_ROOM, sentence),
        )

    async def _fetch(self, target: Target, wanted: Wanted, source: str) -> None:
        if target.seal == SEAL_CONTENT:
            target = replace(target, content_key=await self._content_key(target, wanted))
        # After a key was made: one that is made later no erasure that is under way would name.
        if await self._is_being_erased(self.queue.database, target, wanted):
            now_ms = self.clock.now_ms()
            await self.queue.wait(wanted, due_ms=now_ms + REFUSED_WAIT_MS, now_ms=now_ms)
            return
        known = await self.queue.known(target, source)
        if known is not None and not self._is_to_be_scanned(known):
            await self._finish(target, wanted, _found("duplicate", known), named=(source, known))
            return
        if self.scanning is not None and not await self.scanning.is_ready(wanted):
            return
        with clear_folder() as folder:
            try:
                fetched = await self._download(wanted, folder / "clear")
            except _GoneWrongError as trouble:
                await self._trouble(target, wanted, trouble)
                return
            scan = None
            if self.scanning is not None:
                scan = await self.scanning.look(wanted, fetched.path, fetched.size)
                if scan is None:
                    return
            await self._store(target, wanted, source, fetched, scan)

    def _is_to_be_scanned(self, known: KeptObject) -> bool:
        """Return whether the scanner has still to say something of a file that is stored."""
        told = known.scan is not None and known.scan.result != NOT_SCANNED
        return self.scanning is not None and not told

    async def _store(
        self, target: Target, wanted: Wanted, source: str, fetched: _Fetched, scan: Scan | None
    ) -> None:
        object_id = self.queue.id_of(fetched.sha256, target)
        kept = KeptObject(
            object_id,
            f"{root_of(self.server_name)}media/{object_id[:2]}/{object_id}{target.suffix}",
            fetched.sha256,
            fetched.size,
            fetched.mime,
            _cipher_sha256(wanted.file),
            scan,
        )
        before = await self.queue.scan_of(target, object_id)
        if before is not None and (scan is None or scan.result == NOT_SCANNED):
            kept = replace(kept, scan=before)
        if await self.queue.stored(target, object_id):
            await self._finish(target, wanted, _found("duplicate", kept), named=(source, kept))
            return
        if await self.queue.is_going(target, object_id):
            # Whoever deletes it would delete what is stored now too.
            now_ms = self.clock.now_ms()
            await self.queue.wait(wanted, due_ms=now_ms + GOING_WAIT_MS, now_ms=now_ms)
            return
        if scan is not None and scan.result == INFECTED:
            log.warning("the scanner found something in an attachment", kept=self.keep_infected)
            if not self.keep_infected:
                await self._finish(target, wanted, replace(_found("infected", kept), key=None))
                return
        found = await self._upload(target, kept.key, fetched, wanted.retention)
        await self._finish(
            target, wanted, _found("stored", kept), named=(source, kept), stored=found
        )

    async def _download(self, wanted: Wanted, path: Path) -> _Fetched:
        """Write a file's clear text to ``path``, a portion at a time."""
        digest, size, head = hashlib.sha256(), 0, b""
        try:
            with _written(path) as write:
                async for portion in self.files.read_file(wanted.file):
                    size += len(portion)
                    if size > self.max_bytes:
                        raise _GoneWrongError(
                            "too_large", f"more than {self.max_bytes} bytes", final=True
                        )
                    digest.update(portion)
                    head += portion[: _HEAD_BYTES - len(head)] if len(head) < _HEAD_BYTES else b""
                    await asyncio.to_thread(write, portion)
        except ClearFolderError:
            raise  # this machine's trouble, not the homeserver's
        except AttachmentError as error:
            status = "hash_mismatch" if size else "gave_up"
            raise _GoneWrongError(status, str(error), final=True) from error
        except MatrixError as error:
            raise _refusal(error) from error
        except TransientError as error:
            raise _GoneWrongError("gave_up", str(error), is_away=True) from error
        return _Fetched(path, digest.hexdigest(), size, _sniffed(head))

    async def _upload(
        self,
        target: Target,
        key: str,
        fetched: _Fetched,
        retention: tuple[str, int | None],
    ) -> Found:
        store = self._store_of(target)
        if self.enter is not None:
            await self.enter(_place_of(target), store)
        path, digest = fetched.path, fetched.sha256
        if target.recipients:
            path = fetched.path.with_name("sealed")
            readers = await self._readers(target)
            with local_files():
                await asyncio.to_thread(encrypt_file, fetched.path, path, readers)
                fetched.path.unlink()
                digest = await asyncio.to_thread(_digest, path)
        try:
            # What goes wrong at the store is none of these errors: it has sentences of its own.
            with local_files():
                size = path.stat().st_size
                stored = await store.put_file(key, path, digest, lock_days=retention[1])
        except ObjectExistsError:
            if not target.recipients:
                raise PermanentError(
                    f"The object “{key}” is there already, with other contents than its name "
                    "says. Somebody else wrote it: look who may write there, and remove it."
                ) from None
            # Ours, from before a crash: the name says what is in it, the bytes differ each time.
            return await store.look(key)
        return Found(digest, size, stored.version_id if stored is not None else None)

    async def _readers(self, target: Target) -> Sequence[str]:
        """Return the public keys that an attachment is encrypted to."""
        if target.content_key is not None:
            return [target.content_key.public_key]
        if target.day is None:
            return target.recipients
        day = (target.stream, target.day)
        database = self.queue.database
        return await readers_of_day(database, self.server_name, *day, target.recipients)

    async def _content_key(self, target: Target, wanted: Wanted) -> ContentKey:
        """Return the key that what an attachment says is sealed to: that of who sent it."""
        scope = scope_at(
            wanted.carrier.get("sender") if target.per_person else None,
            self.clock.now_ms(),
            wanted.carrier.get("retention_class"),
        )
        seq = LAST_SEQ
        if scope.person is not None and wanted.stream == target.stream:
            # What was sent before its key was destroyed is destroyed with it.
            seq = wanted.seq
        officers = Officers(self.server_name, target.stream, target.recipients)
        keys = await keys_for(self.queue.database, officers, {scope: seq})
        return next(one for one in keys[scope] if one.serves(seq))

    async def _is_being_erased(
        self, reader: Connection | Database, target: Target, wanted: Wanted
    ) -> bool:
        """Return whether what an attachment says is to be destroyed, and would not be where it goes.

        That of another stream would get a key of this one. It waits: once the erasure is carried
        out nobody wants it any more.
        """
        sender = wanted.carrier.get("sender")
        if wanted.stream == target.stream or not sender:
            return False
        return await is_ended(reader, wanted.stream, sender, wanted.seq)

    async def _trouble(self, target: Target, wanted: Wanted, trouble: _GoneWrongError) -> None:
        now_ms = self.clock.now_ms()
        if trouble.is_away:
            if await self.queue.put_off_away(wanted, now_ms=now_ms):
                return
        elif not trouble.final and wanted.attempts < len(self.again_after_ms):
            due_ms = now_ms + self.again_after_ms[wanted.attempts]
            await self.queue.put_off(wanted, due_ms=due_ms)
            return
        log.warning("an attachment could not be archived", status=trouble.status)
        await self._finish(target, wanted, MediaFound(trouble.status, reason=trouble.reason[:300]))

    async def _finish(
        self,
        target: Target,
        wanted: Wanted,
        found: MediaFound,
        *,
        named: tuple[str, KeptObject] | None = None,
        stored: Found | None = None,
    ) -> None:
        """Record what became of an attachment, and forget that it was wanted."""
        async with self.queue.database.transaction() as connection:
            now_ms = self.clock.now_ms()
            writing = await open_stream(
                connection, self.destinations, server_name=self.server_name, now_ms=now_ms
            )
            if writing is None or writing.stream != target.stream:
                return  # another destination was chosen meanwhile: fetch it again for that one
            if await self._is_gone(connection, target, named, stored):
                return  # removed meanwhile: it is fetched again
            is_wanted = await self._is_taken(connection, target, wanted)
            if not is_wanted and stored is None:
                return
            if named is not None:
                found = await self._named(
                    connection, target, found, named, stored, is_wanted=is_wanted
                )
            object_id = None if named is None else named[1].id
            room_class = await self._mention(connection, writing, target, wanted, object_id)
            if not is_wanted:
                return  # erased meanwhile: the object is listed, and nothing more is said of it
            record = media_record(
                wanted.carrier,
                found,
                writing.place(),
                now_ms=now_ms,
                retention_class=room_class,
            )
            writing.add(record, name=wanted.name, sub_key=f"{wanted.stream}:{wanted.seq}")
            await writing.write(connection)
        self.outcomes[found.status] += 1
        self.written(writing)

    async def _is_gone(
        self,
        connection: Connection,
        target: Target,
        named: tuple[str, KeptObject] | None,
        stored: Found | None,
    ) -> bool:
        """Return whether what was known to be there already is not there any more."""
        if named is None or stored is not None:
            return False
        return not await self.queue.stored(target, named[1].id, connection)

    async def _named(
        self,
        connection: Connection,
        target: Target,
        found: MediaFound,
        named: tuple[str, KeptObject],
        stored: Found | None,
        *,
        is_wanted: bool,
    ) -> MediaFound:
        """Remember an object and whose file it is; return what became of it."""
        if stored is not None:
            found = await self._listed(
                connection, target, found, named[1], stored, is_known=is_wanted
            )
        elif is_wanted and named[1].scan is not None:
            await self.queue.scanned(connection, target, named[1])
        if is_wanted:
            await self.queue.name(connection, target, *named)
        return found

    async def _listed(
        self,
        connection: Connection,
        target: Target,
        found: MediaFound,
        kept: KeptObject,
        stored: Found,
        *,
        is_known: bool,
    ) -> MediaFound:
        """Remember an object, so that a manifest lists it; return what became of it."""
        if await self.queue.stored(target, kept.id, connection):
            # Another message with the same file, at the same time.
            if kept.scan is not None and is_known:
                await self.queue.scanned(connection, target, kept)
            return found if found.status == INFECTED else replace(found, status="duplicate")
        now_ms = self.clock.now_ms()
        await self.queue.keep(connection, target, kept, stored, now_ms=now_ms, is_known=is_known)
        return found

    async def _is_taken(self, connection: Connection, target: Target, wanted: Wanted) -> bool:
        """Forget that an attachment was wanted; return whether it was, and may be recorded."""
        # With the ledger locked: an erasure that is announced later ends the key that this gets.
        if await self._is_being_erased(connection, target, wanted):
            return False
        return await self.queue.done(connection, wanted)

    async def _mention(
        self,
        connection: Connection,
        writing: Writing,
        target: Target,
        wanted: Wanted,
        object_id: str | None,
    ) -> str:
        """Remember which records speak of an attachment, if it is there; return its room's class."""
        room_class = await writing.class_of_room(connection, wanted.carrier["room_id"])
        if object_id is not None:
            kept_for = (room_class, writing.policy.keeps.get(room_class))
            await self.queue.mention(
                connection, target, object_id, wanted, kept_for, now_ms=writing.now_ms
            )
        return room_class

    def _store_of(self, target: Target) -> ArchiveStore:
        if target.stream not in self._stores:
            self._stores[target.stream] = self.open_store(_place_of(target))
        return self._stores[target.stream]


def _place_of(target: Target) -> StreamPlace:
    return StreamPlace(target.stream, target.destination, target.endpoint_url)


def _is_of_folder(error: StewardError) -> bool:
    return isinstance(error, ClearFolderError)


@contextmanager
def _written(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Lend what appends to a new file.

    Raises:
        ClearFolderError: it cannot be written; what goes wrong in between is told as it is.
    """
    with local_files():
        file = path.open("wb")

    def write(portion: bytes) -> None:
        with local_files():
            file.write(portion)

    try:
        yield write
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with local_files():
        file.close()


def _found(status: str, kept: KeptObject) -> MediaFound:
    infected = kept.scan is not None and kept.scan.result == INFECTED
    return MediaFound(
        INFECTED if infected else status,
        kept.key,
        kept.clear_bytes,
        kept.clear_sha256,
        kept.cipher_sha256,
        kept.mime,
        scan=None if kept.scan is None else kept.scan.entry(),
    )


def _refusal(error: MatrixError) -> _GoneWrongError:
    if error.status in _ABSENT:
        return _GoneWrongError("missing", "the homeserver has no such file")
    if error.status in _REFUSED:
        return _GoneWrongError("forbidden", "the homeserver refuses the file")
    return _GoneWrongError("gave_up", f"the homeserver answered {error.status}")


def _cipher_sha256(file: Json) -> str | None:
    try:
        return EncryptedFile.parse(file.get("file")).sha256.hex()
    except AttachmentError:
        return None


def _sniffed(head: bytes) -> str | None:
    """Return what a file's first bytes say it is, whatever its sender calls it."""
    try:
        return puremagic.from_string(head, mime=True) or None
    except (puremagic.PureError, ValueError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
