"""auditbot: reads every event of every room and keeps a complete record of it."""

import asyncio
import socket
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from auditbot.archive import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, Archive
from auditbot.clamd import Clamd
from auditbot.completing import Completing
from auditbot.exporting import Exporting
from auditbot.figures import Figures
from auditbot.late_keys import LateKeys
from auditbot.lease import Leases
from auditbot.ledger import Destinations, Writing
from auditbot.manifests import Manifests
from auditbot.media import MediaKeeper
from auditbot.media_queue import MediaQueue
from auditbot.operations.daily import Daily
from auditbot.operations.desk import Desk
from auditbot.outage import Outages
from auditbot.pipeline.seal import Compression
from auditbot.pipeline.segment import Limits
from auditbot.recorder import Recorder
from auditbot.recovery import Recovered, Recovery
from auditbot.room_fetch import RoomFetch
from auditbot.room_notice import RoomNotice
from auditbot.rooms import Rooms
from auditbot.sampling import Sampling
from auditbot.scanning import Scanning
from auditbot.segments import Segments, StreamPlace
from auditbot.senders import SenderKinds
from auditbot.signing import Keyring
from auditbot.silent_devices import SilentDevices
from auditbot.stamping import Stamping, ask
from auditbot.storage.open import open_store
from auditbot.storage.port import ArchiveStore
from auditbot.unread import keep_older
from auditbot.walking import Walking
from common.bots import Bot, Services
from common.clock import Clock
from common.config.schema import Config
from common.crypto.port import SessionRef
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.inbox.consumer import Effect
from common.inbox.port import Entry, EntryKind
from common.inbox.signal import Signal
from common.matrix.media import Media
from common.telemetry.log import Log

log = Log("audit")

LOOK_SECONDS = 15.0
"""How often it is looked whether an unreadable message is to be tried again."""


@dataclass
class Auditbot:
    """The bot that archives. Without a destination it records nothing."""

    config: Config
    clock: Clock
    database: Database
    archive: Archive
    fetch: RoomFetch
    recorder: Recorder
    late_keys: LateKeys
    silent: SilentDevices
    figures: Figures
    exporting: Exporting
    daily: Daily
    completing: Completing
    stamping: Stamping | None
    media: MediaKeeper | None
    recovery: Recovery | None
    """What asks for the originals of what arrives deleted, if anything does."""
    notice: RoomNotice | None

    async def handle(self, entries: Sequence[Entry]) -> Effect:
        """Decide what a batch of room events means: records of each."""
        recorder = self.recorder
        await self.exporting.settle()
        if not self.exporting.active:
            # Nothing is asked or remembered of what nobody wants; the choice may be an instant
            # old, but then its record says so too.
            return _nothing
        events = [entry for entry in entries if entry.kind is EntryKind.EVENT]
        await self.fetch.learn(entry.body for entry in events)
        recovered: dict[int, Recovered] = {}
        if self.recovery is not None:
            recovered = await self.recovery.look(events)
        if self.notice is not None:
            self.notice.look_at(events)
        others = [entry for entry in entries if entry.kind is not EntryKind.EVENT]

        async def record(connection: Connection) -> None:
            await recorder.record(connection, events, others, recovered)

        return record

    async def prepare(self, entries: Sequence[Entry], storing: asyncio.Event) -> None:
        """Read in memory what comes next, while something else is being stored."""
        if self.exporting.active:
            await self.recorder.prepare(entries, storing)

    async def keys_arrived(self, sessions: Collection[SessionRef]) -> None:
        """Read what could not be read until these Megolm sessions came."""
        if sessions:
            read = await self.late_keys.retry(sessions)
            if read:
                log.info("messages became readable", count=read)

    async def run(self) -> None:
        """Cut, seal and upload until cancelled; read what a key came for before we started."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._begin())
            group.create_task(self._retry_when_due())
            group.create_task(self.silent.run())
            group.create_task(self.exporting.watch())
            group.create_task(self.archive.run())
            group.create_task(self.daily.run())
            group.create_task(self.completing.run())
            if self.stamping is not None:
                group.create_task(self.stamping.run())
            if self.media is not None:
                group.create_task(self.media.run())
            if self.notice is not None:
                group.create_task(self.notice.run())

    async def _begin(self) -> None:
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                await self.exporting.settle()
                if self.exporting.active:
                    # Now, not with the first manifest: people are told its fingerprint.
                    await self.archive.manifests.make_key()
                await keep_older(self.database)
                await self.late_keys.retry_all()
            except TransientError as error:
                log.warning("will try again", wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
            else:
                return

    async def _retry_when_due(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                read = await self.late_keys.retry_due()
            except TransientError as error:
                log.warning("will try again", wait=LOOK_SECONDS, reason=error)
            else:
                if read:
                    log.info("messages became readable", count=read)


def create_bot(services: Services) -> Bot:
    """Return the bot, ready to run; the only function here that constructs things."""
    config, clock, database = services.config, services.clock, services.database
    server_name = config.homeserver.server_name
    limits = Limits(
        max_bytes=config.auditbot.segment_max_bytes,
        max_age_ms=int(config.auditbot.segment_max_age_seconds * 1000),
    )
    destinations, rooms = Destinations(config), Rooms()
    segments = Segments(
        database,
        server_name,
        limits,
        destinations.spool,
        lock_days=config.auditbot.s3.retention_days,
        compression=Compression(config.auditbot.compression),
    )
    added = Signal()

    wanted = Signal()

    def written(writing: Writing) -> None:
        if writing.attachments:
            wanted.notify()
        # Two moments matter to the sealer: a segment begins (its age runs), a segment is full.
        if writing.began or writing.open_bytes >= limits.max_bytes:
            added.notify()

    def store_of(place: StreamPlace) -> ArchiveStore:
        s3 = msgspec.structs.replace(config.auditbot.s3, endpoint_url=place.endpoint_url)
        return open_store(place.destination, s3)

    queue = None
    if config.auditbot.media:
        queue = MediaQueue(database, config.encryption.pickle_key)
    silent = SilentDevices(database, clock, account=f"@{config.auditbot.localpart}:{server_name}")
    recorder = Recorder(
        crypto=services.crypto,
        rooms=rooms,
        destinations=destinations,
        server_name=server_name,
        account=f"@{config.auditbot.localpart}:{server_name}",
        clock=clock,
        sender_kinds=SenderKinds(
            {
                f"@{config.adminbot.localpart}:{server_name}": "bot",
                f"@{config.auditbot.localpart}:{server_name}": "bot",
                f"@{config.appservice.sender_localpart}:{server_name}": "appservice",
            },
            server_name,
            clock,
        ),
        silent=silent,
        written=written,
        media=queue,
        session_keys=config.auditbot.session_keys,
        ciphertext=config.auditbot.ciphertext,
    )
    late_keys = LateKeys(
        database,
        services.crypto,
        destinations,
        server_name,
        clock,
        written,
        silent,
        queue,
        config.auditbot.session_keys,
    )
    manifests = Manifests(
        database,
        server_name,
        Keyring(config.encryption.pickle_key),
        clock,
        started_ms=clock.now_ms(),
        interval_ms=int(config.auditbot.manifest_interval_seconds * 1000),
        receipts=config.auditbot.receipts,
        session_keys=config.auditbot.session_keys,
        media_kept=config.auditbot.media,
        ciphertext_kept=config.auditbot.ciphertext,
        media_scanner=None if config.auditbot.media_scanner is None else "clamd",
        infected_kept=config.auditbot.keep_infected,
        auditbot=f"@{config.auditbot.localpart}:{server_name}",
    )
    errors, outcomes = Counter[str](), Counter[str]()
    archive = Archive(
        segments,
        manifests,
        Outages(database),
        store_of,
        clock,
        added,
        errors=errors,
        leases=Leases(database, server_name, clock, socket.gethostname()),
    )
    figures = Figures(
        database,
        clock,
        auditbot=f"@{config.auditbot.localpart}:{server_name}",
        interval_ms=manifests.interval_ms,
        errors=errors,
        media=outcomes,
    )
    services.metrics.asked = (*services.metrics.asked, figures.samples)

    def changed() -> None:
        added.notify()
        archive.sign_now.notify()

    completing = Completing(
        services.client,
        database,
        services.inbox,
        destinations,
        Sampling(services.client, database, clock),
        Walking(services.client, database, services.inbox, clock),
        server_name,
        clock,
        written,
    )
    exporting = Exporting(database, destinations, server_name, clock, written, changed)
    return Auditbot(
        config=config,
        clock=clock,
        database=database,
        archive=archive,
        fetch=RoomFetch(services.client, database, rooms, clock),
        recorder=recorder,
        late_keys=late_keys,
        silent=silent,
        figures=figures,
        exporting=exporting,
        daily=Daily(Desk(config, database, clock), added.notify, archive.fencing.enter),
        completing=completing,
        recovery=Recovery(services.admin, database, clock)
        if config.auditbot.recover_redacted
        else None,
        stamping=None
        if config.auditbot.timestamp_url is None
        else Stamping(
            partial(ask, services.client, config.auditbot.timestamp_url), database, clock
        ),
        media=None
        if queue is None
        else MediaKeeper(
            queue,
            Media(services.client),
            destinations,
            server_name,
            clock,
            store_of,
            written,
            config.auditbot.media_max_bytes,
            wanted,
            archive.fencing.enter,
            errors=errors,
            outcomes=outcomes,
            scanning=None
            if config.auditbot.media_scanner is None
            else Scanning(Clamd(config.auditbot.media_scanner), queue, clock),
            keep_infected=config.auditbot.keep_infected,
        ),
        notice=_notice(services, rooms, exporting),
    )


def _notice(services: Services, rooms: Rooms, exporting: Exporting) -> RoomNotice | None:
    config = services.config
    text = (config.auditbot.room_notice or "").strip()
    if not text:
        return None
    server = config.homeserver.server_name
    accounts = (
        config.adminbot.localpart,
        config.auditbot.localpart,
        config.appservice.sender_localpart,
    )
    return RoomNotice(
        text=text,
        direct_chats=config.auditbot.room_notice_direct_chats,
        account=services.client,
        messenger=services.messenger,
        pinners=services.keeper.bots,
        own=frozenset(f"@{name}:{server}" for name in accounts),
        rooms=rooms,
        database=services.database,
        clock=services.clock,
        is_active=lambda: exporting.active,
    )


async def _nothing(_: Connection) -> None:
    """Write nothing."""
