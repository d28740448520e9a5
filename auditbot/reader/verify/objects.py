"""The objects that manifests list: there, unchanged, and holding what is said of them."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Coroutine

from auditbot.reader.day_keys import DayKeys
from auditbot.reader.documents import ListedFile, ListedSegment, Manifest
from auditbot.reader.layout import (
    NEWER,
    is_content_key,
    is_day_key,
    is_media,
    is_otherwise_packed,
    is_stamp,
    segment_key,
    sessions_key,
    wrapped_key_of,
)
from auditbot.reader.times import moment
from auditbot.reader.verify.contents import SegmentResult
from auditbot.reader.verify.context import CitedFile, Context
from auditbot.reader.verify.fetching import Checkers
from auditbot.reader.verify.findings import Findings
from auditbot.reader.verify.sessions import open_sessions, read_sessions
from auditbot.reader.verify.stamps import Stamp, check_stamp
from auditbot.reader.verify.statements import load_statements
from auditbot.storage.reading import MissingObjectError, TooLargeError
from common.errors import PermanentError

_LATE_STAMP_MS = 2 * 86_400_000
_EARLY_STAMP_MS = 600_000
_SLACK = 2**16
"""What is larger than listed is still looked into, up to a bound, to name the wrong record."""


class Objects:
    """Checks objects, a bounded number at a time."""

    def __init__(self, context: Context, checkers: Checkers) -> None:
        self._context = context
        self._checkers = checkers
        self._slots = asyncio.Semaphore(checkers.cores + 2)
        self._chosen = _sample(context)
        self._day_keys = DayKeys(context.place)

    async def content_key(self, file: ListedFile, key: str, group: asyncio.TaskGroup) -> None:
        """Check a key that content is sealed to, which the manifest under ``key`` lists."""
        if not is_content_key(file.key):
            sentence = f"It lists “{file.key}” as a key of content."
            self._context.findings.wrong("listing", key, sentence)
            return
        await self._wrapped(file, group)

    async def day_key(self, file: ListedFile, key: str, group: asyncio.TaskGroup) -> None:
        """Check the key of a day that the manifest under ``key`` lists: all of a day needs it."""
        if not is_day_key(file.key):
            sentence = f"It lists “{file.key}” as the key of a day."
            self._context.findings.wrong("listing", key, sentence)
            return
        await self._wrapped(file, group)

    async def _wrapped(self, file: ListedFile, group: asyncio.TaskGroup) -> None:
        context = self._context
        context.expected.add(file.key)
        # What was not listed may have come since: trying tells.
        if not context.inventory.there(file.key) and self._is_erased(file):
            return
        await self._slots.acquire()
        group.create_task(self._check_day_key(file))

    async def _check_day_key(self, file: ListedFile) -> None:
        context = self._context
        try:
            body = await context.place.get(
                file.key, file.version_id, most_bytes=file.size + _SLACK
            )
        except MissingObjectError:
            if not self._is_erased(file):
                context.lost_keys.append(file)
        except PermanentError as error:
            context.findings.wrong("unreadable", file.key, str(error))
        else:
            if hashlib.sha256(body).hexdigest() != file.sha256:
                context.findings.wrong(
                    "day_key", file.key, "It is not the key that its manifest lists."
                )
        finally:
            self._slots.release()

    def _is_erased(self, file: ListedFile) -> bool:
        """Return whether the key of a day was destroyed on purpose, and take note of it."""
        stated = self._context.statements.erased.get(file.key)
        if stated is None or stated.sha256 != file.sha256:
            return False
        self._context.result.erased |= {file.key}
        return True

    async def stamp(self, file: ListedFile, key: str, group: asyncio.TaskGroup) -> None:
        """Check the time stamp of a checkpoint that the manifest under ``key`` lists."""
        context = self._context
        note = f"{file.key.removesuffix('.tsr')}.note"
        if not is_stamp(file.key) or note not in context.checkpoint_ms:
            context.findings.wrong("listing", key, f"It lists “{file.key}” as a time stamp.")
            return
        context.expected.add(file.key)
        await self._slots.acquire()
        group.create_task(self._check_stamp(file, note))

    async def _check_stamp(self, file: ListedFile, note: str) -> None:
        context = self._context
        try:
            body = await context.place.get(
                file.key, file.version_id, most_bytes=file.size + _SLACK
            )
            stamped = await context.place.get(note, most_bytes=_SLACK)
        except PermanentError as error:
            context.findings.wrong(
                "stamp", file.key, f"This time stamp cannot be checked: {error}"
            )
            return
        finally:
            self._slots.release()
        if hashlib.sha256(body).hexdigest() != file.sha256:
            context.findings.wrong(
                "stamp", file.key, "It is not the time stamp that its manifest lists."
            )
            return
        found = check_stamp(body, stamped, context.options.tsa_roots)
        if found.fault is not None:
            context.findings.wrong(
                "stamp", file.key, f"This time stamp proves nothing: {found.fault}."
            )
            return
        self._count_stamp(file, found, context.checkpoint_ms[note])

    def _count_stamp(self, file: ListedFile, found: Stamp, made_ms: int) -> None:
        result = self._context.result
        result.stamps += 1
        result.stamps_known = bool(self._context.options.tsa_roots)
        result.stamped_ms = max(result.stamped_ms or 0, found.stamped_ms)
        if found.stamped_ms - made_ms > _LATE_STAMP_MS:
            self._context.findings.notice(
                "stamp_late",
                file.key,
                f"What says that it was made on {moment(made_ms)} UTC was stamped only on "
                f"{moment(found.stamped_ms)}: it may have been made later than it says.",
            )
        elif made_ms - found.stamped_ms > _EARLY_STAMP_MS:
            self._context.findings.notice(
                "stamp_early",
                file.key,
                f"It was stamped on {moment(found.stamped_ms)} UTC, before it says that it was "
                f"made ({moment(made_ms)}): one of the clocks is wrong.",
            )

    async def _day_key(self, key: str) -> tuple[bytes | None, bool]:
        """Return the wrapped key that opens a segment, and whether it was destroyed on purpose."""
        if wrapped_key_of(key) in self._context.result.erased:
            return None, True
        if not key.endswith(".age") or not self._context.options.identities:
            return None, False
        return await self._day_keys.get(key), False

    async def segment(
        self, item: ListedSegment, manifest: Manifest, group: asyncio.TaskGroup
    ) -> None:
        """Check a segment, its contents too if those are wanted; waits for a free place only."""
        context = self._context
        context.expected.add(item.key)
        if segment_key(item.key) is None or not self._is_there(item):
            return
        if item.key in context.inventory.items and not self._wants(item, manifest):
            self._skip(item)
            return
        await self._slots.acquire()
        group.create_task(self._check_segment(item, manifest))

    async def media(
        self, file: ListedFile, key: str, manifest: Manifest, group: asyncio.TaskGroup
    ) -> None:
        """Check an attachment that the manifest under ``key`` lists."""
        context = self._context
        if not is_media(file.key):
            context.findings.wrong("listing", key, f"It lists “{file.key}” as attachment.")
            return
        if file.key in context.media:
            context.findings.wrong("listed_twice", key, f"It lists {file.key} once more.")
        context.expected.add(file.key)
        context.media[file.key] = file
        await self._file(file, manifest, group)

    async def sessions(
        self, file: ListedFile, key: str, manifest: Manifest, group: asyncio.TaskGroup
    ) -> None:
        """Check the room keys that the manifest under ``key`` lists; nothing opens them here."""
        context = self._context
        named = sessions_key(file.key)
        if is_otherwise_packed(file.key):
            context.expected.add(file.key)
            sentence = NEWER.format(what="How these room keys are compressed")
            context.findings.wrong("newer", file.key, sentence)
            return
        if named is None or named.stream != manifest.stream or file.key in context.expected:
            context.findings.wrong("listing", key, f"It lists “{file.key}” as room keys.")
            return
        context.expected.add(file.key)
        check = self._check_file if named.sealed else self._check_sessions
        await self._file(file, manifest, group, check)

    async def _file(
        self,
        file: ListedFile,
        manifest: Manifest,
        group: asyncio.TaskGroup,
        check: Callable[[ListedFile], Coroutine[None, None, None]] | None = None,
    ) -> None:
        if not self._is_there(file):
            return
        is_wanted = self._chosen is None and self._is_new(manifest)
        if file.key in self._context.inventory.items and not is_wanted:
            self._skip(file)
            return
        await self._slots.acquire()
        group.create_task((check or self._check_file)(file))

    def _is_there(self, item: ListedSegment | ListedFile) -> bool:
        """Tell what the listing shows to be wrong; return whether there is something to read."""
        context = self._context
        found = context.inventory.items.get(item.key)
        if found is None and item.version_id is None and item.key in context.statements.tombstones:
            self._lost(item)
            return False
        if found is not None and found.versions:
            self._versions(item, found.versions, deleted=found.deleted)
        return True

    def _skip(self, item: ListedSegment | ListedFile) -> None:
        """Leave an object's contents alone; its size costs nothing to compare."""
        context = self._context
        context.result.whole = False
        found = context.inventory.items.get(item.key)
        if found is None or found.deleted:
            return
        if item.version_id is not None and found.versions[:1] not in {(), (item.version_id,)}:
            return  # the size is of what was written over it, as was said
        if found.size != item.size:
            context.findings.wrong(
                "size",
                item.key,
                f"It has {found.size} bytes, but its manifest says {item.size}: it was changed.",
            )

    def _versions(
        self, item: ListedSegment | ListedFile, versions: tuple[str, ...], *, deleted: bool
    ) -> None:
        context = self._context
        if item.version_id is None or item.version_id not in versions:
            return
        if deleted and item.key not in context.statements.tombstones:
            context.findings.wrong(
                "hidden", item.key, "It was deleted; the store still keeps the version listed."
            )
        elif not deleted and versions[0] != item.version_id:
            context.findings.wrong(
                "overwritten",
                item.key,
                "Something else was written over it; the store still keeps the version listed.",
            )

    def _wants(self, item: ListedSegment, manifest: Manifest) -> bool:
        context = self._context
        period = context.options.period
        if self._chosen is not None and item.key not in self._chosen:
            return False
        if not self._is_new(manifest):
            return False
        return (period.start_ms is None or item.last_ms >= period.start_ms) and (
            period.end_ms is None or item.first_ms < period.end_ms
        )

    def _is_new(self, manifest: Manifest) -> bool:
        """Return whether the contents of what a manifest lists were not checked before."""
        before = self._context.remembered.streams.get(manifest.stream)
        return (
            not self._context.options.since_last
            or before is None
            or manifest.number > before.looked_until
        )

    async def _check_segment(self, item: ListedSegment, manifest: Manifest) -> None:
        context = self._context
        try:
            body = await context.place.get(
                item.key, item.version_id, most_bytes=2 * max(item.size, 0) + _SLACK
            )
            wrapped, is_erased = await self._day_key(item.key)
            result = await self._checkers.check(item, body, wrapped, erased=is_erased)
            await self._look_into_sealed(item, body, result)
        except MissingObjectError:
            self._lost(item)
            return
        except TooLargeError:
            context.findings.wrong(
                "size", item.key, f"It has far more bytes than the {item.size} its manifest says."
            )
            return
        except PermanentError as error:
            context.findings.wrong("unreadable", item.key, str(error))
            return
        finally:
            self._slots.release()
        self._take(item, manifest, result)

    async def _look_into_sealed(
        self, item: ListedSegment, body: bytes, result: SegmentResult
    ) -> None:
        """Open what is sealed of a segment's records, if somebody named an identity."""
        context = self._context
        for name in result.sealed_to:
            context.sealed_to.setdefault(name, item.key)
        seen = context.result
        seen.sealed_records += sum(result.sealed_to.values())
        seen.sealed_counts.update(result.sealed_to)
        if not context.options.identities or not result.sealed_to:
            return
        wrapped = {}
        for name in result.sealed_to:
            found = await self._day_keys.wrapped(name)
            if found is not None:
                wrapped[name] = found
        sealed = await self._checkers.check_sealed(item, body, wrapped)
        seen.opened_records += sealed.opened
        seen.unfit.update(sealed.unfit)
        context.findings.add(*sealed.findings)

    def _take(self, item: ListedSegment, manifest: Manifest, result: SegmentResult) -> None:
        context, seen = self._context, self._context.result
        context.findings.add(*result.findings)
        seen.objects += 1
        if wrapped_key_of(item.key) in seen.erased:
            seen.erased_segments += 1
        else:
            is_sealed = item.key.endswith(".age")
            has_opened = bool(context.options.identities) and result.unfit is None
            seen.opened += is_sealed and has_opened
            seen.outside_only += is_sealed and not has_opened
            seen.unfit.update(filter(None, [result.unfit]))
        seen.records += result.records
        seen.bytes += item.size
        seen.undecryptable.update(result.undecryptable)
        for line, key, sha256 in result.media:
            context.cited.setdefault(key, CitedFile(item.key, line, sha256))
        context.graph.add(manifest.stream, result.graph, item.last_ms)
        context.options.progress(seen.objects, seen.records)

    async def _check_file(self, file: ListedFile) -> None:
        context = self._context
        digest, size = hashlib.sha256(), 0
        try:
            async for piece in context.place.pieces(file.key, file.version_id):
                await asyncio.to_thread(digest.update, piece)
                size += len(piece)
                if size > file.size:
                    break
        except MissingObjectError:
            self._lost(file)
            return
        except PermanentError as error:
            context.findings.wrong("unreadable", file.key, str(error))
            return
        finally:
            self._slots.release()
        is_media_file = is_media(file.key)
        context.result.media += is_media_file
        if size != file.size or digest.hexdigest() != file.sha256:
            what = "This attachment is not the one" if is_media_file else "These are not the keys"
            context.findings.wrong(
                "media" if is_media_file else "sessions",
                file.key,
                f"{what} that its manifest lists: {'it was' if is_media_file else 'they were'} "
                "replaced.",
            )

    async def _check_sessions(self, file: ListedFile) -> None:
        """Check room keys that are sealed one by one, and open those that an identity opens."""
        context = self._context
        # It takes its place and gives it back.
        await self._check_file(file)
        try:
            async with self._slots:
                body = await context.place.get(
                    file.key, file.version_id, most_bytes=file.size + _SLACK
                )
        except PermanentError:
            return  # that was said
        if hashlib.sha256(body).hexdigest() != file.sha256:
            return
        read = await asyncio.to_thread(read_sessions, file.key, body)
        context.findings.add(*read.findings)
        for name in read.sealed_to:
            context.sealed_to.setdefault(name, file.key)
        if context.options.identities:
            wrapped = {
                name: found
                for name in sorted(read.sealed_to)
                if (found := await self._day_keys.wrapped(name)) is not None
            }
            identities = context.options.identities
            opened = await asyncio.to_thread(open_sessions, file.key, read, identities, wrapped)
            context.findings.add(*opened)

    def _lost(self, item: ListedSegment | ListedFile) -> None:
        context = self._context
        if context.statements.stands_for(item, context.findings):
            context.result.tombstones += 1
        else:
            context.lost.append(item)


async def settle_lost(context: Context) -> None:
    """Tell what is missing, unless it was removed on purpose while the rest was looked at."""
    if not context.lost and not context.lost_keys:
        return
    if await context.inventory.look_again(context.place, ("removals", "erasures")):
        context.statements = await load_statements(
            context.place, context.inventory, context.keyring.trust, Findings()
        )
    for item in context.lost:
        if context.statements.stands_for(item, context.findings):
            context.result.tombstones += 1
        else:
            context.findings.wrong("missing", item.key, _missing(item))
    for file in context.lost_keys:
        stated = context.statements.erased.get(file.key)
        if stated is not None and stated.sha256 == file.sha256:
            context.result.erased |= {file.key}
        else:
            context.findings.wrong(
                "missing",
                file.key,
                "Without this key nobody can read what was encrypted to it, and no erasure names it.",
            )


def _missing(item: ListedSegment | ListedFile) -> str:
    if isinstance(item, ListedSegment):
        what = f"Records {item.first_seq} to {item.last_seq} are gone"
    elif sessions_key(item.key) is not None:
        what = "These room keys are gone, without which nobody can decrypt again"
    else:
        what = "This attachment is gone"
    return f"{what}: the object is missing, and no removal names it."


def _sample(context: Context) -> frozenset[str] | None:
    wanted = context.options.sample
    if wanted is None:
        return None
    keys = [key for key in context.inventory.items if segment_key(key)]
    # By chance that nobody can foresee, or somebody would know where to change something.
    return frozenset(secrets.SystemRandom().sample(keys, min(wanted, len(keys))))
