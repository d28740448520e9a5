"""``make bench``: print the figures of this machine, as Markdown."""

import asyncio
import gc
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from bench.beside import mautrix_path
from bench.decrypt import Speed, bare, best, nio_path, steward
from bench.pipeline import table
from bench.workload import Workload, make_workload
from common.memory import set_thresholds

SESSIONS, MESSAGES = 100, 100


async def main() -> None:
    """Measure and print."""
    warm = make_workload(sessions=SESSIONS, messages=MESSAGES)
    cold = make_workload(sessions=SESSIONS * MESSAGES // 10, messages=10)
    # Or each garbage collection would walk through all of the benchmark's own messages.
    gc.collect()
    gc.freeze()
    # As the process that runs has it.
    set_thresholds()
    speeds = await best(
        {
            "bare": lambda: _now(bare(warm, cold=False)),
            "steward": lambda: steward(warm, cold=False),
            "nio": lambda: _now(nio_path(warm)),
        }
    )
    cold_speeds = await best(
        {
            "bare": lambda: _now(bare(cold, cold=True)),
            "steward": lambda: steward(cold, cold=True),
        }
    )
    mautrix = await mautrix_path(warm)
    rows: list[Row] = [
        Row("**warm: 100 sessions × 100 messages**"),
        Row("bare vodozemac", speeds["bare"]),
        Row("Steward, all database work", speeds["steward"], speeds["bare"]),
        Row("matrix-nio, no database", speeds["nio"], speeds["bare"]),
        *(
            Row(f"mautrix, store in {place}", speed, speeds["bare"])
            for place, speed in mautrix.items()
        ),
        Row("**cold: 1,000 sessions × 10 messages, none in memory**"),
        Row("bare vodozemac, opening each pickle", cold_speeds["bare"]),
        Row("Steward, all database work", cold_speeds["steward"], cold_speeds["bare"]),
    ]
    _print(warm, rows)


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    speed: Speed | None = None
    reference: Speed | None = None


async def _now(speed: Speed) -> Speed:
    return speed


def _print(workload: Workload, rows: Sequence[Row]) -> None:
    load = os.getloadavg()[0]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {load:.1f} at the end; {len(workload.events):,} events of 1 kB, SQLite, best of 5.\n"
    )
    print("| | events/s | events/s of CPU time | ratio to bare (wall) | (CPU) |")
    print("|---|---|---|---|---|")
    for row in rows:
        cells = [row.name, "", "", "", ""]
        if row.speed is not None:
            cells[1:3] = [f"{row.speed.wall:,.0f}", f"{row.speed.cpu:,.0f}"]
        if row.speed is not None and row.reference is not None:
            cells[3] = f"{row.speed.wall / row.reference.wall:.2f}"
            cells[4] = f"{row.speed.cpu / row.reference.cpu:.2f}"
        print(f"| {' | '.join(cells)} |")
    if not any("mautrix" in row.name for row in rows):
        print("\nmautrix was not measured: its environment, bench/mautrix/.venv, does not work.")


if __name__ == "__main__":
    asyncio.run(main())
    print("\nThe whole way of an event:\n", flush=True)
    table()
