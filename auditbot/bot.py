"""auditbot: reads every event of every room and keeps a complete record of it."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec

from auditbot.archive import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, Archive
from auditbot.late_keys import LateKeys
from auditbot.ledger import Writing, export_of, open_stream
from auditbot.pipeline.segment import Limits
from auditbot.recorder import Recorder, item_of
from auditbot.room_fetch import RoomFetch
from auditbot.rooms import Rooms
from auditbot.segments import Segments, StreamPlace
from auditbot.storage.open import open_store
from auditbot.storage.port import ObjectStore
from common.bots import Bot, Services
from common.clock import Clock
from common.config.schema import Config
from common.crypto.port import SessionRef
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.identity import lost_devices
from common.inbox.consumer import Effect
from common.inbox.port import Entry, EntryKind
from common.inbox.signal import Signal
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
    recorder: Recorder | None
    late_keys: LateKeys | None
    _settled: bool = False
    _settling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def handle(self, entries: Sequence[Entry]) -> Effect:
        """Decide what a batch of room events means: records of each."""
        recorder = self.recorder
        if recorder is None:
            return _nothing
        await self._settle()
        events = [entry for entry in entries if entry.kind is EntryKind.EVENT]
        await self.fetch.learn(map(item_of, events))

        async def record(connection: Connection) -> None:
            await recorder.record(connection, events)

        return record

    async def keys_arrived(self, sessions: Collection[SessionRef]) -> None:
        """Read what could not be read until these Megolm sessions came."""
        if self.late_keys is not None and sessions:
            read = await self.late_keys.retry(sessions)
            if read:
                log.info("messages became readable", count=read)

    async def run(self) -> None:
        """Cut, seal and upload until cancelled; read what a key came for before we started."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._begin())
            group.create_task(self._retry_when_due())
            group.create_task(self.archive.run())

    async def _begin(self) -> None:
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                await self._settle()
                if self.late_keys is not None:
                    await self.late_keys.retry_all()
            except TransientError as error:
                log.warning("will try again", wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
            else:
                return

    async def _retry_when_due(self) -> None:
        while self.late_keys is not None:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                read = await self.late_keys.retry_due()
            except TransientError as error:
                log.warning("will try again", wait=LOOK_SECONDS, reason=error)
            else:
                if read:
                    log.info("messages became readable", count=read)

    async def _settle(self) -> None:
        """Open the export period that the configuration asks for, and close any other."""
        async with self._settling:
            if self._settled:
                return
            async with self.database.transaction() as connection:
                writing = await open_stream(
                    connection,
                    export_of(self.config),
                    server_name=self.config.homeserver.server_name,
                    now_ms=self.clock.now_ms(),
                )
                if writing is not None:
                    await _record_lost_devices(connection, writing)
            self._settled = True
            self.archive.written.notify()


def create_bot(services: Services) -> Bot:
    """Return the bot, ready to run; the only function here that constructs things."""
    config, clock, database = services.config, services.clock, services.database
    server_name = config.homeserver.server_name
    limits = Limits(
        max_bytes=config.auditbot.segment_max_bytes,
        max_age_ms=int(config.auditbot.segment_max_age_seconds * 1000),
    )
    segments = Segments(database, server_name, limits)
    added = Signal()

    def written(writing: Writing) -> None:
        # Two moments matter to the sealer: a segment begins (its age runs), a segment is full.
        if writing.began or writing.open_bytes >= limits.max_bytes:
            added.notify()

    def store_of(place: StreamPlace) -> ObjectStore:
        s3 = msgspec.structs.replace(config.auditbot.s3, endpoint_url=place.endpoint_url)
        return open_store(place.destination, s3)

    export = export_of(config)
    recorder = late_keys = None
    rooms = Rooms()
    if export is not None:
        recorder = Recorder(
            crypto=services.crypto,
            rooms=rooms,
            export=export,
            server_name=server_name,
            clock=clock,
            sender_kinds={
                f"@{config.adminbot.localpart}:{server_name}": "bot",
                f"@{config.auditbot.localpart}:{server_name}": "bot",
                f"@{config.appservice.sender_localpart}:{server_name}": "appservice",
            },
            written=written,
        )
        late_keys = LateKeys(database, services.crypto, export, server_name, clock, written)
    return Auditbot(
        config=config,
        clock=clock,
        database=database,
        archive=Archive(segments, store_of, clock, added),
        fetch=RoomFetch(services.client, database, rooms, clock),
        recorder=recorder,
        late_keys=late_keys,
    )


async def _record_lost_devices(connection: Connection, writing: Writing) -> None:
    """Say in the archive where room keys may be missing: a bot had no device for a while."""
    for lost in await lost_devices(connection, recorded=True):
        writing.control(
            actor="homeserver",
            action="device_replaced",
            detail={
                "account": lost.user_id,
                "device_id": lost.device_id,
                "noticed_ms": lost.noticed_ms,
            },
        )
    await writing.write(connection)


async def _nothing(_: Connection) -> None:
    """Write nothing."""
