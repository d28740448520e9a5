"""A backlog that is read ahead, with a helper process or without: killed, nothing of it is lost."""

import asyncio
import json
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from bench.homeserver import push, transactions
from bench.measured import Key, Spec
from bench.workload import SENDER, make_workload
from common.demo.waiting import wait_for
from common.inbox.consumer import BATCH
from tests.support.archive_check import check_archive, read_directory

SESSIONS, MESSAGES = 20, 100
KILLED_AT = (1, 2 * BATCH, 4 * BATCH)
"""How much was recorded at least when it is killed."""


async def start(spec: Path) -> tuple[Process, int]:
    """Start the process that records; return it with its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.measured", str(spec), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(90):
        return process, int(await process.stdout.readline())


def recorded(database: Path) -> int:
    """Return how many events are in the ledger."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        (count,) = connection.execute(
            "SELECT count(*) FROM audit_seen WHERE kind = 'event'"
        ).fetchone()
    finally:
        connection.close()
    return int(count)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("helpers", [0, 1])
async def test_a_backlog_is_recorded_once_whenever_the_work_on_it_is_killed(
    tmp_path: Path, helpers: int
) -> None:
    workload = make_workload(sessions=SESSIONS, messages=MESSAGES)
    rooms = {key.ref.session_id: key.ref.room_id for key in workload.keys}
    spec, database = tmp_path / "spec.json", tmp_path / "steward.db"
    spec.write_bytes(
        msgspec.json.encode(
            Spec(
                destination=f"file:{tmp_path / 'archive'}",
                database_url=f"sqlite:///{database}",
                keys=[
                    Key(rooms[name], name, exported, SENDER)
                    for name, exported in workload.session_keys.items()
                ],
                rooms=[],
                helpers=helpers,
            )
        )
    )
    bodies = transactions(workload, encrypted=True, begin=True)
    wanted = [event["event_id"] for body in bodies for event in json.loads(body)["events"]]

    process, port = await start(spec)
    await asyncio.to_thread(push, bodies, port, 0)
    for least in KILLED_AT:

        async def is_there(least: int = least) -> bool:
            return await asyncio.to_thread(recorded, database) >= least

        await wait_for(is_there, 90, f"{least} events are recorded")
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process, _ = await start(spec)
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(90):
        assert await process.wait() == 0

    checked = check_archive(read_directory(tmp_path / "archive"))
    records = checked.of_kind("event")
    found = Counter(record["event_id"] for record in records)
    assert [name for name in wanted if found[name] != 1] == []
    assert [record["event_id"] for record in records] == wanted
    assert {record["enc_status"] for record in records} == {"clear", "decrypted"}
    assert checked.unlisted == []
