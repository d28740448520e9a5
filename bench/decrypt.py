"""Decrypting, with everything that Steward does in its database, beside others."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import vodozemac

from bench.workload import BOT, PICKLE_KEY, SENDER, Workload, store_keys
from common.clock import SystemClock
from common.crypto.machine import CryptoMachine
from common.crypto.port import Decrypted, DeviceAddress
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.ids import DeviceId
from common.inbox.consumer import BATCH
from tests.unit.crypto.peers import FakeRequester, KeyServer

REPEATS = 5


@dataclass(frozen=True)
class Speed:
    """Events a second, of the wall clock and of this process's own time."""

    wall: float
    cpu: float


Contender = Callable[[], Awaitable[Speed]]


async def best(contenders: Mapping[str, Contender]) -> dict[str, Speed]:
    """Return the best of a few runs of each: what disturbs a run only makes it slower.

    They take turns, so that a busy moment of the machine does not fall on one of them alone.
    """
    speeds: dict[str, list[Speed]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, run in contenders.items():
            speeds[name].append(await run())
    return {
        name: Speed(max(speed.wall for speed in runs), max(speed.cpu for speed in runs))
        for name, runs in speeds.items()
    }


def bare(workload: Workload, *, cold: bool) -> Speed:
    """Decrypt with vodozemac alone; ``cold`` opens each session's pickle first."""
    pickles = {key.ref.session_id: key.session.pickle(bytes(32)) for key in workload.keys}
    sessions = {} if cold else {key.ref.session_id: key.session for key in workload.keys}
    started, cpu = time.perf_counter(), time.process_time()
    for event in workload.events:
        session_id = event.content["session_id"]
        if session_id not in sessions:
            sessions[session_id] = vodozemac.InboundGroupSession.from_pickle(
                pickles[session_id], bytes(32)
            )
        message = vodozemac.MegolmMessage.from_base64(event.content["ciphertext"])
        sessions[session_id].decrypt(message)
    return _speed(len(workload.events), started, cpu)


async def steward(workload: Workload, *, cold: bool) -> Speed:
    """Decrypt as auditbot does: in transactions, with the replay check and the sender's trust."""
    events = list(workload.events)
    async with _machine(workload) as (database, machine):
        if not cold:
            # The first message of each session, which is then not decrypted again. (A later one
            # would make all before it dearer: the ratchet only goes forward.)
            warming = {event.content["session_id"]: event for event in reversed(events)}
            async with database.transaction() as conn:
                await machine.decrypt(conn, list(warming.values()))
            used = {event.event_id for event in warming.values()}
            events = [event for event in events if event.event_id not in used]
        started, cpu = time.perf_counter(), time.process_time()
        for place in range(0, len(events), BATCH):
            async with database.transaction() as conn:
                readings = await machine.decrypt(conn, events[place : place + BATCH])
                if not all(isinstance(reading, Decrypted) for reading in readings):
                    raise AssertionError("Something could not be decrypted.")
        return _speed(len(events), started, cpu)


def nio_path(workload: Workload) -> Speed:
    """Decrypt with matrix-nio's own function, all in memory: no database work at all."""
    from nio.crypto import InboundGroupSession, Olm  # noqa: PLC0415  # only where it is measured
    from nio.events import MegolmEvent  # noqa: PLC0415  # only where it is measured
    from nio.store import DefaultStore  # noqa: PLC0415  # only where it is measured

    with TemporaryDirectory() as directory:
        olm = Olm(BOT, "BOT", DefaultStore(BOT, "BOT", directory))
        for key in workload.keys:
            olm.inbound_group_store.add(
                InboundGroupSession.import_session(
                    workload.session_keys[key.ref.session_id],
                    key.signing_key,
                    key.sender_key,
                    key.ref.room_id,
                )
            )
        events = [
            MegolmEvent.from_dict(
                {
                    "type": "m.room.encrypted",
                    "event_id": event.event_id,
                    "room_id": event.room_id,
                    "sender": SENDER,
                    "origin_server_ts": 1,
                    "content": dict(event.content),
                }
            )
            for event in workload.events
        ]
        started, cpu = time.perf_counter(), time.process_time()
        for event in events:
            olm.decrypt_megolm_event(event)
        return _speed(len(workload.events), started, cpu)


@asynccontextmanager
async def _machine(workload: Workload) -> AsyncIterator[tuple[Database, CryptoMachine]]:
    with TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{Path(directory) / 'bench.db'}", upgrade_table())
        await database.start()
        try:
            clock = SystemClock()
            await store_keys(database, clock, workload.keys)
            me = DeviceAddress(BOT, DeviceId("BENCH"))
            yield (
                database,
                CryptoMachine(
                    client=FakeRequester(KeyServer(), me),
                    database=database,
                    clock=clock,
                    pickle_key=PICKLE_KEY,
                    one_time_keys=50,
                    session_cache=10_000,
                ),
            )
        finally:
            await database.stop()


def _speed(count: int, started: float, cpu: float) -> Speed:
    return Speed(
        count / (time.perf_counter() - started), count / max(time.process_time() - cpu, 1e-9)
    )
