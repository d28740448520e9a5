"""The whole of auditbot: from the start of a transaction's push to a durable, sealed, signed object."""

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bench import floor
from bench.homeserver import Pushed, transactions
from bench.measured import SEGMENT_SECONDS, Bucket, Key, Spec
from bench.workload import SENDER, Workload, make_workload
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from tests.support.archive_check import check_archive, read_directory
from tests.support.postgres import Postgres
from tests.support.s3 import s3_objects

MOST_SECONDS = 1800
GOALS = (
    "\nGoals: 10,000 events/s in one process and 17,000 with two; push → durable inbox p50 50 ms and "
    "p99 150 ms; flush → stored object p99 300 ms; peak RSS 200 MB (191 MiB) with 10,000 rooms; "
    "nothing lost, doubled, reordered or undecryptable."
)
HEAD = (
    "| | events/s | CPU ms per 1,000 | push → durable inbox, p50 / p99 ms | received → stored "
    "object, p50 / p99 ms | flush → stored object, p50 / p99 ms | peak RSS MiB "
    "| lost / doubled / reordered / undecryptable |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Setup:
    """Where it runs. ``rate`` is events a second; 0 is as fast as it goes.

    ``rooms`` are there before the first message, each with some people; 0 lets a hundred begin
    in the stream.
    """

    encrypted: bool
    postgres: str | None = None
    s3: SeaweedFS | None = None
    rate: int = 0
    helpers: int = 0
    rooms: int = 0
    ciphertext: bool = True

    @property
    def name(self) -> str:
        """Return what a reader of the table is told."""
        parts = [
            "encrypted" if self.encrypted else "clear",
            "PostgreSQL" if self.postgres else "SQLite",
            "S3" if self.s3 else "directory",
        ]
        if self.helpers:
            parts.append(f"{1 + self.helpers} processes")
        if self.rooms:
            parts.append(f"{self.rooms:,} rooms")
        if not self.ciphertext:
            parts.append("without ciphertext")
        return ", ".join(parts)


@dataclass
class Figures:
    """What was measured."""

    name: str
    begun_ms: int
    cpu_seconds: float
    peak_mib: float
    helper_mib: float
    inbox_ms: list[float]
    seconds: float = 0.0
    """From the beginning of the first push until the last object was stored."""
    events: int = 0
    stored_ms: list[float] = field(default_factory=list)
    flush_ms: list[float] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    undecryptable: int = 0

    def row(self) -> str:
        """Return a row of the table."""
        beside = f" + {self.helper_mib:,.0f}" if self.helper_mib else ""
        cells = [
            self.name,
            f"{self.events / self.seconds:,.0f}",
            f"{self.cpu_seconds / self.events * 1e6:,.0f}",
            _percentiles(self.inbox_ms),
            _percentiles(self.stored_ms),
            _percentiles(self.flush_ms),
            f"{self.peak_mib:,.0f}{beside}",
            f"{self.lost} / {self.doubled} / {self.reordered} / {self.undecryptable}",
        ]
        return f"| {' | '.join(cells)} |"


def run(setup: Setup, workload: Workload) -> Figures:
    """Push everything, wait until it is stored, look at what was stored."""
    bodies = transactions(workload, encrypted=setup.encrypted, begin=not setup.rooms)
    with TemporaryDirectory() as directory:
        spec, pushed = Path(directory) / "spec.json", Path(directory) / "pushed"
        spec.write_bytes(msgspec.json.encode(_spec(setup, workload, Path(directory))))
        pushed.write_bytes(msgspec.msgpack.encode(bodies))
        figures, stored_at_ms = _measure(setup, spec, pushed)
        objects = _objects(setup, Path(directory))
        _look(figures, objects, bodies, stored_at_ms, steady=bool(setup.rate))
        return figures


def _measure(setup: Setup, spec: Path, pushed: Path) -> tuple[Figures, dict[str, int]]:
    with subprocess.Popen(  # noqa: S603  # ourselves
        [sys.executable, "-m", "bench.measured", str(spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as steward:
        if steward.stdin is None or steward.stdout is None:
            raise AssertionError
        port = steward.stdout.readline().strip()
        words = [sys.executable, "-m", "bench.homeserver", str(pushed), port, str(setup.rate)]
        done = subprocess.run(  # noqa: S603  # ourselves
            words, check=True, stdout=subprocess.PIPE, text=True, timeout=MOST_SECONDS
        )
        steward.stdin.close()
        if steward.stdout.readline() != "stored\n":
            raise AssertionError("it ended before everything was stored")
        told = json.loads(steward.stdout.readline())
    stored_at_ms = told.pop("stored_at_ms")
    pushed_then = msgspec.json.decode(done.stdout, type=Pushed)
    figures = Figures(setup.name, pushed_then.begun_ms, inbox_ms=pushed_then.waits_ms, **told)
    return figures, stored_at_ms


def _spec(setup: Setup, workload: Workload, directory: Path) -> Spec:
    store = setup.s3
    rooms = {key.ref.session_id: key.ref.room_id for key in workload.keys}
    exported = workload.session_keys if setup.encrypted else {}
    return Spec(
        destination=f"file:{directory / 'archive'}"
        if store is None
        else f"s3://{store.bucket}/{directory.name}",
        database_url=setup.postgres or f"sqlite:///{directory / 'bench.db'}",
        keys=[
            Key(rooms[session_id], session_id, text, SENDER)
            for session_id, text in exported.items()
        ],
        rooms=sorted({key.ref.room_id for key in workload.keys}) if setup.rooms else [],
        helpers=setup.helpers,
        ciphertext=setup.ciphertext,
        bucket=None
        if store is None
        else Bucket(
            store.endpoint_url,
            store.region,
            store.access_key_id,
            store.secret_access_key.reveal(),
        ),
    )


def _look(
    figures: Figures,
    objects: dict[str, bytes],
    bodies: Sequence[bytes],
    stored_at_ms: dict[str, int],
    *,
    steady: bool,
) -> None:
    """Compare what was pushed with what is stored, and prove the archive."""
    checked = check_archive(objects)
    wanted = [event["event_id"] for body in bodies for event in json.loads(body)["events"]]
    figures.events = len(wanted)
    records = checked.of_kind("event")
    found = Counter(record["event_id"] for record in records)
    places = {event: place for place, event in enumerate(wanted)}
    figures.lost = sum(event not in found for event in wanted)
    figures.doubled = sum(count - 1 for count in found.values())
    order = [places[record["event_id"]] for record in records]
    figures.reordered = sum(one > other for one, other in itertools.pairwise(order))
    figures.undecryptable = sum(record["enc_status"] == "undecryptable" for record in records)
    ends: list[tuple[int, int, int]] = []
    for manifests in checked.manifests.values():
        for manifest in manifests:
            ends += [
                (item["last_seq"], item["first_seq"], stored_at_ms[item["key"]])
                for item in manifest["objects"]
            ]
    ends.sort()
    figures.seconds = (max(stored for _, _, stored in ends) - figures.begun_ms) / 1000
    at = -1
    for record in records:
        begins = at < 0
        while at < 0 or ends[at][0] < record["seq"]:
            at, begins = at + 1, True
        figures.stored_ms.append(ends[at][2] - record["ts_received"])
        if begins and steady:
            # The first event of a segment waits for as long as a segment is open; what goes
            # beyond that is the way from the flush to the object.
            figures.flush_ms.append(figures.stored_ms[-1] - SEGMENT_SECONDS * 1000)


def _objects(setup: Setup, directory: Path) -> dict[str, bytes]:
    if setup.s3 is None:
        return read_directory(directory / "archive")
    prefix = directory.name
    found = asyncio.run(s3_objects(setup.s3, prefix))
    return {key.removeprefix(f"{prefix}/"): body for key, body in found.items()}


def _percentiles(values: Sequence[float]) -> str:
    if not values:
        return "–"
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else None
    high = cuts[98] if cuts is not None else values[0]
    return f"{statistics.median(values):,.0f} / {high:,.0f}"


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[str, SeaweedFS]]:
    with TemporaryDirectory() as directory:
        spec = SeaweedFSSpec(directory=Path(directory))
        async with Postgres(durable=True) as postgres, SeaweedFS(spec) as seaweedfs:
            database = await postgres.create_database()
            yield database.url, seaweedfs


async def _one(spec: dict[str, Any]) -> None:
    """Measure one setup."""
    servers = {"database": spec.pop("database"), "store": spec.pop("store")}
    count = spec.pop("count")
    rooms = spec.get("rooms") or 100
    workload = make_workload(
        sessions=rooms, messages=count // rooms, burst=min(10, count // rooms)
    )
    if "servers" not in servers.values():
        print((await asyncio.to_thread(run, Setup(**spec), workload)).row())
        return
    async with _servers() as (url, seaweedfs):
        spec["postgres"] = url if servers["database"] == "servers" else None
        spec["s3"] = seaweedfs if servers["store"] == "servers" else None
        print((await asyncio.to_thread(run, Setup(**spec), workload)).row())


def table(count: int = 60_000) -> None:
    """Print the figures of every setup."""
    print(HEAD)
    for store in ("file", "servers"):
        for encrypted in (False, True):
            _print_one(encrypted=encrypted, database=store, store=store, count=count)
    _print_one(encrypted=True, count=count, helpers=1)
    _print_one(encrypted=True, count=count, ciphertext=False)
    _print_one(encrypted=True, count=count, rooms=10_000)
    print("\nAt a steady 500 events a second, a segment each second:\n")
    print(HEAD)
    for database, store in itertools.product(("file", "servers"), repeat=2):
        _print_one(encrypted=True, database=database, store=store, count=5_000, rate=500)
    print(GOALS)
    from bench import script  # noqa: PLC0415  # it needs the extra packages of the demo

    print(
        "\nThe same encrypted stream through a matrix-nio script, and the least that has to be done:\n"
    )
    print("| | events/s | CPU ms per 1,000 | peak RSS MiB |\n|---|---|---|---|")
    workload = make_workload(sessions=100, messages=count // 100)
    print(script.row(workload), floor.row(workload), sep="\n")


def _print_one(*, database: str = "file", store: str = "file", **more: Any) -> None:
    spec = {"database": database, "store": store, **more}
    words = [sys.executable, "-m", "bench.pipeline", json.dumps(spec)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603  # us
    print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        told = {"database": "file", "store": "file", "count": 10_000, **json.loads(sys.argv[1])}
        asyncio.run(_one(told))
    else:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning.\n")
        table()
