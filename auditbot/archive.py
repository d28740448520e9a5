"""Cut, build, upload, sign: from the ledger to the store, each step written down before the next.

The promise kept: whatever is killed whenever, the same segment is uploaded with the same bytes
under the same key.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from auditbot.content_keys import publish_content_keys
from auditbot.day_keys import publish_day_keys
from auditbot.fencing import Fencing
from auditbot.lease import RENEW_SECONDS, Leases
from auditbot.manifests import Manifests
from auditbot.outage import Outages
from auditbot.pipeline.seal import root_of
from auditbot.publish import publish
from auditbot.segments import SealedSegment, Segments, StreamPlace
from auditbot.stamping import publish_stamps
from auditbot.storage.errors import class_of
from auditbot.storage.port import ArchiveStore, ObjectStore, Stored
from common.clock import Clock
from common.errors import ConfigError, PermanentError, StewardError, TransientError
from common.inbox.signal import Signal
from common.telemetry.log import Log

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
FLUSH_SECONDS = 15.0

log = Log("audit.archive")

OpenStore = Callable[[StreamPlace], ArchiveStore]


class SegmentLedger(Protocol):
    """The sealed segments of a stream, oldest first."""

    async def oldest_sealed(self, stream: str) -> SealedSegment | None:
        """Return the segment that is to be uploaded next."""
        ...

    async def mark_uploaded(
        self,
        segment: SealedSegment,
        stored: Stored | None,
        *,
        now_ms: int,
        sessions: Stored | None = None,
    ) -> None:
        """Remember that a segment is stored."""
        ...


async def upload_next(
    ledger: SegmentLedger, store: ObjectStore, stream: str, *, now_ms: int
) -> bool:
    """Upload one sealed segment; safe to repeat after a crash at any line."""
    segment = await ledger.oldest_sealed(stream)  # decided and stored earlier
    if segment is None:
        return False
    days, sessions = segment.lock_days, None
    if segment.sessions is not None:
        kept = segment.sessions
        sessions = await store.put(kept.key, kept.body, kept.sha256, lock_days=days)
    stored = await store.put(segment.key, segment.body, segment.sha256, lock_days=days)
    await ledger.mark_uploaded(segment, stored, now_ms=now_ms, sessions=sessions)
    return True


@dataclass
class _Destination:
    """A stream's store and how long it has refused."""

    store: ArchiveStore
    wait_seconds: float = 0.0
    not_before: float = 0.0
    probed: bool = False
    entered: bool = False
    """Whether this writer was let in once since the start."""


@dataclass
class Archive:
    """The standing work. ``written`` is raised when there may be something to cut."""

    segments: Segments
    manifests: Manifests
    outages: Outages
    open_store: OpenStore
    clock: Clock
    written: Signal
    sign_now: Signal = field(default_factory=Signal)
    """Raised when a stream began or ended, or something was stored."""
    errors: Counter[str] = field(default_factory=Counter)
    """How often storing failed since the start, by class."""
    leases: Leases | None = None
    """What keeps a second writer out of stores that let themselves be overwritten."""
    _sealed: Signal = field(default_factory=Signal)
    _destinations: dict[str, _Destination] = field(default_factory=dict)

    @property
    def fencing(self) -> Fencing:
        """Return what says whether this writer may store."""
        return Fencing(self.manifests.probed, self.clock, self.leases)

    async def run(self) -> None:
        """Cut and upload until cancelled; then store what is there, within a few seconds."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._seal_when_due())
                group.create_task(self._upload_when_sealed())
                group.create_task(self._sign_when_due())
                group.create_task(self._stay_when_idle())
        except asyncio.CancelledError:
            await self._flush()
            raise
        finally:
            for destination in self._destinations.values():
                await destination.store.close()
            self._destinations.clear()

    async def seal(self, *, flush: bool = False) -> int | None:
        """Cut what is due and build it; return the moment to look again, if any."""
        look_again_ms = await self.segments.cut_due(now_ms=self.clock.now_ms(), flush=flush)
        while await self.segments.build_next(now_ms=self.clock.now_ms()):
            self._sealed.notify()
        return look_again_ms

    async def upload(self) -> float | None:
        """Upload all that is sealed; return how long to wait for the stores that refuse."""
        waits: list[float] = []
        for place in await self.segments.streams_waiting():
            destination = self._destination(place)
            wait = destination.not_before - self.clock.monotonic()
            if wait <= 0:
                wait = await self._upload_stream(place, destination)
            if wait > 0:
                waits.append(wait)
        return min(waits, default=None)

    async def sign(self, *, flush: bool = False) -> float:
        """Write down the manifests that are due; return how many seconds that may wait now."""
        look_again_ms = await self.manifests.make_due(flush=flush)
        self._sealed.notify()
        return max(look_again_ms, 1) / 1000

    async def _sign_when_due(self) -> None:
        while True:
            seen = self.sign_now.count
            try:
                wait = await self.sign()
            except TransientError as error:
                log.warning("no manifest can be made", reason=error)
                wait = FIRST_WAIT_SECONDS
            await self.sign_now.changed(seen, timeout_seconds=wait)

    async def _seal_when_due(self) -> None:
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            seen = self.written.count
            try:
                look_again_ms = await self.seal()
            except TransientError as error:
                log.warning("segments cannot be cut", wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
                continue
            wait_seconds = FIRST_WAIT_SECONDS
            remaining = None
            if look_again_ms is not None:
                remaining = max(look_again_ms - self.clock.now_ms(), 1) / 1000
            await self.written.changed(seen, timeout_seconds=remaining)

    async def _upload_when_sealed(self) -> None:
        while True:
            seen = self._sealed.count
            try:
                wait = await self.upload()
            except TransientError as error:
                log.warning("the ledger cannot be read", reason=error)
                wait = FIRST_WAIT_SECONDS
            await self._sealed.changed(seen, timeout_seconds=wait)

    async def _stay_when_idle(self) -> None:
        """Renew leases although nothing is to be stored, so that nobody takes them over."""
        while self.leases is not None:
            await asyncio.sleep(RENEW_SECONDS / 2)
            try:
                await self.stay()
            except TransientError as error:
                log.warning("leases cannot be renewed", reason=error)

    async def stay(self) -> None:
        """Renew the leases of the places of all streams that go on, in time."""
        for place in await self.segments.streams_open():
            destination = self._destinations.get(place.stream)
            if destination is None or not destination.entered:
                continue  # the next thing to be stored asks
            try:
                await self.fencing.enter(place, destination.store)
            except TransientError as error:
                log.warning("a lease cannot be renewed", stream=place.stream, reason=error)
            except PermanentError as error:
                destination.entered = False
                await self._tell(place, error, lasting=True)

    async def _upload_stream(self, place: StreamPlace, destination: _Destination) -> float:
        """Upload a stream's segments in order; return how long to wait, 0 when all is stored."""
        try:
            while await self._upload_one(place, destination):
                if destination.wait_seconds:
                    log.info("the archive's storage works again", stream=place.stream)
                    await self.outages.ended(place.stream, now_ms=self.clock.now_ms())
                destination.wait_seconds = 0.0
        except TransientError as error:
            if not destination.wait_seconds:
                log.warning("the archive's storage is away", stream=place.stream, reason=error)
            await self._tell(place, error, lasting=False)
            grown = min(
                max(destination.wait_seconds * 2, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS
            )
        except PermanentError as error:
            # Nothing is thrown away: somebody mends the store, then this goes on.
            if not destination.wait_seconds:
                log.error("the archive cannot be stored", stream=place.stream, reason=error)
            await self._tell(place, error, lasting=True)
            grown = LONGEST_WAIT_SECONDS
        else:
            return 0.0
        destination.wait_seconds = grown
        # Not all writers of a store that comes back should come at the same moment.
        wait = grown * (0.5 + secrets.randbelow(1000) / 2000)
        destination.not_before = self.clock.monotonic() + wait
        return wait

    async def _tell(self, place: StreamPlace, error: StewardError, *, lasting: bool) -> None:
        self.errors[class_of(error)] += 1
        await self.outages.began(
            place.stream, str(error), lasting=lasting, now_ms=self.clock.now_ms()
        )

    async def _upload_one(self, place: StreamPlace, destination: _Destination) -> bool:
        """Store the next segment of a stream, or its next manifest; return whether it did."""
        store, now_ms = destination.store, self.clock.now_ms()
        fencing = self.fencing
        if not destination.probed:
            await fencing.probe(place, store)
            destination.probed = True
        await fencing.enter(place, store)
        if not destination.entered:
            destination.entered = True
            # One that began before this start and ended meanwhile.
            await self.outages.ended(place.stream, now_ms=now_ms)
            left = await store.abort_stale(root_of(self.manifests.server_name))
            if left:
                log.info("unfinished uploads were given up", count=left)
        # Before anything that only they open.
        await publish_day_keys(self.manifests.database, store, place.stream)
        await publish_content_keys(self.manifests.database, store, place.stream)
        await publish_stamps(self.manifests.database, store, place.stream)
        if await upload_next(self.segments, store, place.stream, now_ms=now_ms):
            self.sign_now.notify()
            return True
        manifest = await self.manifests.oldest_made(place.stream)
        if manifest is None:
            return False
        await publish(store, manifest, self.manifests.server_name, now_ms=now_ms)
        await self.manifests.mark_stored(manifest)
        return True

    async def _flush(self) -> None:
        """Store what is there before the process ends; what is not done is done at the next."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.seal(flush=True)
                for destination in self._destinations.values():
                    destination.not_before = 0.0
                await self.upload()
                await self.sign(flush=True)
                await self.upload()
        except (TimeoutError, TransientError, PermanentError, ConfigError) as error:
            log.warning(
                "the rest will be stored after the next start", reason=str(error) or "no time left"
            )

    def _destination(self, place: StreamPlace) -> _Destination:
        if place.stream not in self._destinations:
            self._destinations[place.stream] = _Destination(self.open_store(place))
        return self._destinations[place.stream]
