"""The process that is measured: auditbot, the receiver of transactions, and nothing of the benchmark.

``python -m bench.measured SPEC`` sets everything up in a directory, prints the port it listens on,
works until its standard input is closed and all that was pushed is stored, and prints its figures.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import uvloop
import vodozemac
from aiohttp import web

from auditbot.bot import Auditbot, create_bot
from auditbot.pipeline.room_state import Member, RoomContext, completed
from auditbot.storage.port import ArchiveStore, Stored
from bench.homeserver import HS_TOKEN
from bench.workload import BOT, PICKLE_KEY, store_keys
from common.appservice.receiver import Receiver
from common.bots import Services
from common.clock import SystemClock
from common.config.schema import S3, Appservice, Config, Encryption, Homeserver
from common.config.schema import Auditbot as AuditbotSettings
from common.config.secret import Secret
from common.crypto.helpers import Helpers
from common.crypto.machine import CryptoMachine
from common.crypto.port import DeviceAddress, KeySource, SessionRef
from common.crypto.room_keys import RoomKey
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.demo.waiting import wait_for
from common.ids import DeviceId
from common.inbox.consumer import Consumer
from common.inbox.file import open_inbox_file
from common.inbox.port import EntryKind
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixError
from common.memory import set_thresholds
from tests.unit.crypto.peers import FakeRequester, KeyServer

SEGMENT_SECONDS = 1.0
MEMBERS = 10
"""People in each room that is there before."""


class Key(msgspec.Struct, array_like=True):
    """A room key that the bot received before."""

    room_id: str
    session_id: str
    exported: str
    sender: str


class Bucket(msgspec.Struct):
    """Where an object store is."""

    endpoint_url: str
    region: str
    access_key_id: str
    secret_access_key: str


class Spec(msgspec.Struct):
    """What to measure; ``rooms`` are those that are known before."""

    destination: str
    database_url: str
    keys: list[Key]
    rooms: list[str]
    helpers: int = 0
    ciphertext: bool = True
    bucket: Bucket | None = None


class _NoRooms:
    """The homeserver knows nothing of these rooms: they begin in the stream itself."""

    user_id = BOT

    async def state(self, _room_id: str) -> list[dict[str, Any]]:
        raise MatrixError(403, "M_FORBIDDEN", "not a member")


class _Watched:
    """A store that remembers when each object was durable."""

    def __init__(self, store: ArchiveStore, stored_at_ms: dict[str, int]) -> None:
        self._store = store
        self._stored_at_ms = stored_at_ms

    async def put(self, key: str, body: bytes, sha256: str, **more: Any) -> Stored | None:
        stored = await self._store.put(key, body, sha256, **more)
        self._stored_at_ms[key] = SystemClock().now_ms()
        return stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def measure(spec: Spec) -> dict[str, Any]:
    """Work until everything is stored; return the figures."""
    set_thresholds()
    database = Database(spec.database_url, upgrade_table())
    await database.start()
    stored_at_ms: dict[str, int] = {}
    try:
        async with (
            open_inbox_file(spec.database_url, database, SystemClock()) as entries,
            Helpers(spec.helpers) as helpers,
        ):
            inbox = StoredInbox(database, SystemClock(), entries=entries)
            await _receive_keys(database, spec.keys)
            bot = _bot(spec, database, inbox, helpers, stored_at_ms)
            await bot.exporting.settle()
            await _seed(bot, database, spec.rooms)
            spec.keys.clear()
            gc.collect()
            gc.freeze()  # as the program does with what is there before it begins
            cpu = time.process_time()
            await _work(bot, database, inbox)
            cpu = time.process_time() - cpu
            helper_mib = max((_peak_mib(pid) for pid in helpers.processes), default=0.0)
    finally:
        await database.stop()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": cpu + children.ru_utime + children.ru_stime,
        "peak_mib": _peak_mib(os.getpid()),
        "helper_mib": helper_mib,
        "stored_at_ms": stored_at_ms,
    }


def _peak_mib(pid: int) -> float:
    # Not ru_maxrss: that counts what the process that started this one had in memory, too.
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _receive_keys(database: Database, keys: list[Key]) -> None:
    for at in range(0, len(keys), 500):
        found = [
            RoomKey(
                SessionRef(key.room_id, key.session_id),
                key.sender,
                "c" * 43,
                "e" * 43,
                KeySource.DIRECT,
                vodozemac.InboundGroupSession.import_session(
                    vodozemac.ExportedSessionKey(key.exported)
                ),
            )
            for key in keys[at : at + 500]
        ]
        await store_keys(database, SystemClock(), found)


async def _seed(bot: Auditbot, database: Database, rooms: list[str]) -> None:
    """Make rooms known, each with some people, as a homeserver's first answer would."""
    for at in range(0, len(rooms), 500):
        async with database.transaction() as connection:
            for number, room in enumerate(rooms[at : at + 500], start=at):
                people = {
                    f"@user{(number * MEMBERS + one) % 20_000}:example.org": Member(
                        "join", f"User {one}", 1
                    )
                    for one in range(MEMBERS)
                }
                context = RoomContext(room, version="12", name=f"Room {room}", members=people)
                await bot.fetch.rooms.replace(connection, completed(context))


def _bot(
    spec: Spec,
    database: Database,
    inbox: StoredInbox,
    helpers: Helpers,
    stored_at_ms: dict[str, int],
) -> Auditbot:
    clock = SystemClock()
    bucket = spec.bucket
    config = Config(
        homeserver=Homeserver(url="http://127.0.0.1:1", server_name="example.org"),
        appservice=Appservice(as_token=Secret("a"), hs_token=Secret(HS_TOKEN)),
        encryption=Encryption(pickle_key=PICKLE_KEY),
        auditbot=AuditbotSettings(
            destination=spec.destination,
            s3=S3()
            if bucket is None
            else S3(
                endpoint_url=bucket.endpoint_url,
                region=bucket.region,
                access_key_id=Secret(bucket.access_key_id),
                secret_access_key=Secret(bucket.secret_access_key),
                path_style=True,
            ),
            segment_max_age_seconds=SEGMENT_SECONDS,
            ciphertext=spec.ciphertext,
        ),
    )
    crypto = CryptoMachine(
        client=FakeRequester(KeyServer(), DeviceAddress(BOT, DeviceId("BENCH"))),
        database=database,
        clock=clock,
        pickle_key=PICKLE_KEY,
        one_time_keys=50,
        session_cache=config.encryption.session_cache,
        helpers=helpers,
    )
    services = Services(
        config=config,
        clock=clock,
        database=database,
        inbox=inbox,
        client=cast(Any, _NoRooms()),
        crypto=crypto,
        messenger=cast(Any, None),
        admin=cast(Any, None),
        keeper=cast(Any, None),
    )
    bot = cast(Auditbot, create_bot(services))
    opened = bot.archive.open_store
    bot.archive.open_store = lambda place: cast(
        ArchiveStore, _Watched(opened(place), stored_at_ms)
    )
    return bot


async def _work(bot: Auditbot, database: Database, inbox: StoredInbox) -> None:
    consumer = Consumer(
        "auditbot",
        (EntryKind.EVENT,),
        bot.handle,
        inbox,
        database,
        SystemClock(),
        prepare=bot.prepare,
    )

    async def recorded() -> bool:
        return not await inbox.waiting("auditbot", (EntryKind.EVENT,))

    async with _listening(inbox) as port, asyncio.TaskGroup() as group:
        running = group.create_task(bot.run())
        reading = group.create_task(consumer.run())
        print(port, flush=True)
        await _end_of_input()
        await wait_for(recorded, 900, "everything in the ledger")
        await wait_for(partial(_is_stored, database), 900, "everything in the archive")
        print("stored", flush=True)
        reading.cancel()
        running.cancel()  # it signs what is there before it ends


@asynccontextmanager
async def _listening(inbox: StoredInbox) -> AsyncIterator[int]:
    receiver = Receiver(
        inbox=inbox,
        hs_token=Secret(HS_TOKEN),
        accounts=frozenset({BOT}),
        max_body_bytes=2**25,
        ready=lambda: True,
    )
    runner = web.AppRunner(receiver.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def _is_stored(database: Database) -> bool:
    return not await database.fetchval(
        "SELECT (SELECT count(*) FROM audit_lines)"
        " + (SELECT count(*) FROM audit_segment WHERE state <> 'uploaded')"
    )


if __name__ == "__main__":
    told = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
    figures = uvloop.run(measure(told))
    print(json.dumps(figures), flush=True)
    os._exit(0)  # the figures are complete: nothing of the end is measured
