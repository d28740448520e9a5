"""Start a bot's encryption on a database and print what that cost: a process of its own.

``python -m tests.support.start_machine DATABASE_URL``; prints seconds and peak memory as JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from common.clock import SystemClock
from common.config.secret import Secret
from common.crypto.machine import CryptoMachine
from common.database.migrations import upgrade_table
from common.database.pool import Database
from tests.unit.crypto.peers import BOT, FakeRequester, KeyServer


async def main(url: str) -> None:
    """Start, and say what it took from opening the database on."""
    started = time.perf_counter()
    database = Database(url, upgrade_table())
    await database.start()
    machine = CryptoMachine(
        client=FakeRequester(KeyServer(), BOT),
        database=database,
        clock=SystemClock(),
        pickle_key=Secret("a key"),
        one_time_keys=50,
        session_cache=10_000,
    )
    await machine.set_up()
    took = time.perf_counter() - started
    await database.stop()
    print(json.dumps({"seconds": took, "mib": peak_kib() / 1024}))


def peak_kib() -> int:
    """Return the most memory that this process ever had; a child's ru_maxrss has its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
