"""Decrypt the benchmark's messages with mautrix's ``OlmMachine``; run by ``python -m bench``.

It runs in an environment of its own (``requirements.txt``), so it imports nothing of Steward.
Reads the workload from the file named, prints events a second by store as JSON. The sending
device counts as verified, which spares mautrix the look at cross-signing keys; typed events are
made beforehand.
"""

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from mautrix.client import Client
from mautrix.crypto import InboundGroupSession, MemoryCryptoStore, OlmMachine, PgCryptoStore
from mautrix.types import DeviceIdentity, Event, TrustState
from mautrix.util.async_db import Database

REPEATS = {"memory": 5, "SQLite": 2}


async def prepare(machine, workload):
    sender = workload["sender"]
    await machine.crypto_store.put_devices(
        sender,
        {
            "ALICE": DeviceIdentity(
                user_id=sender,
                device_id="ALICE",
                identity_key=workload["sender_key"],
                signing_key=workload["signing_key"],
                trust=TrustState.VERIFIED,
                deleted=False,
                name="",
            )
        },
    )
    for session in workload["sessions"]:
        imported = InboundGroupSession.import_session(
            session["key"],
            workload["signing_key"],
            workload["sender_key"],
            session["room_id"],
        )
        await machine.crypto_store.put_group_session(
            session["room_id"], workload["sender_key"], imported.id, imported
        )


async def run(store, workload, events):
    machine = OlmMachine(
        Client(mxid="@bot:example.org", device_id="BOT", base_url="http://localhost"), store, None
    )
    await store.put_device_id("BOT")
    await machine.load()
    await prepare(machine, workload)
    started, cpu = time.perf_counter(), time.process_time()
    for event in events:
        await machine.decrypt_megolm_event(event)
    speed = {
        "wall": len(events) / (time.perf_counter() - started),
        "cpu": len(events) / (time.process_time() - cpu),
    }
    await machine.client.api.session.close()
    return speed


async def with_memory(workload, events):
    return await run(MemoryCryptoStore("bot", "pickle key"), workload, events)


async def with_sqlite(workload, events):
    with TemporaryDirectory() as directory:
        database = Database.create(
            f"sqlite:///{directory}/mautrix.db", upgrade_table=PgCryptoStore.upgrade_table
        )
        await database.start()
        try:
            return await run(PgCryptoStore("bot", "pickle key", database), workload, events)
        finally:
            await database.stop()


async def main(workload):
    logging.disable(logging.INFO)
    events = [Event.deserialize(event) for event in workload["events"]]
    best = {}
    for name, measure in (("memory", with_memory), ("SQLite", with_sqlite)):
        runs = [await measure(workload, events) for _ in range(REPEATS[name])]
        best[name] = {kind: max(one[kind] for one in runs) for kind in ("wall", "cpu")}
    print(json.dumps(best))


asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
