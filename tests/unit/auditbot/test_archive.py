"""What was sealed is stored once with the same bytes, whatever fails on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auditbot.archive import Archive, upload_next
from auditbot.ledger import Export, open_stream
from auditbot.pipeline.segment import Limits
from auditbot.reader.read import read
from auditbot.segments import SealedSegment, Segments
from auditbot.storage.directory import DirectoryStore
from auditbot.storage.port import ObjectStore
from common.clock import SystemClock
from common.database.pool import Database
from common.demo.waiting import wait_for
from common.errors import PermanentError, TransientError
from common.inbox.signal import Signal
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock


class CrashError(Exception):
    """The process is gone."""


def segment(number: int) -> SealedSegment:
    body = f"{number}\n".encode()
    return SealedSegment("s", number, f"s-{number}", hashlib.sha256(body).hexdigest(), body)


@dataclass
class FakeLedger:
    waiting: list[SealedSegment]
    crashes: int = 0

    async def oldest_sealed(self, stream: str) -> SealedSegment | None:
        return self.waiting[0] if self.waiting else None

    async def mark_uploaded(self, segment: SealedSegment, *, now_ms: int) -> None:
        if self.crashes:
            self.crashes -= 1
            raise CrashError
        self.waiting.remove(segment)


@dataclass
class FakeStore:
    """Keeps objects; ``failures`` are raised one after the other, before anything is kept."""

    objects: dict[str, bytes] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    puts: int = 0
    closed: bool = False

    async def put(self, key: str, body: bytes, sha256: str) -> None:
        self.puts += 1
        if self.failures:
            raise self.failures.pop(0)
        if self.objects.setdefault(key, body) != body:
            raise PermanentError("other bytes")

    async def get(self, key: str) -> bytes:
        return self.objects[key]

    async def list(self, prefix: str) -> AsyncIterator[str]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield key

    async def delete(self, key: str) -> None:
        del self.objects[key]

    async def close(self) -> None:
        self.closed = True


async def test_a_crash_after_the_upload_costs_only_a_repeat() -> None:
    ledger, store = FakeLedger([segment(0), segment(1)], crashes=1), FakeStore()
    with pytest.raises(CrashError):
        await upload_next(ledger, store, "s", now_ms=0)

    while await upload_next(ledger, store, "s", now_ms=0):
        pass

    assert store.objects == {"s-0": b"0\n", "s-1": b"1\n"}
    assert ledger.waiting == []


async def test_a_failed_upload_leaves_the_segment_waiting() -> None:
    ledger = FakeLedger([segment(0)])
    store = FakeStore(failures=[TransientError("away")])

    with pytest.raises(TransientError):
        await upload_next(ledger, store, "s", now_ms=0)

    assert ledger.waiting == [segment(0)]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def export(database: Database, records: int, *, destination: str = "file:a") -> str:
    """Write control records, the simplest ones, into the open stream; return its name."""
    async with database.transaction() as connection:
        writing = await open_stream(
            connection, Export(destination, None, "hash"), server_name="x", now_ms=NOON
        )
        assert writing is not None
        for number in range(records):
            writing.control(actor="test", action="counted", detail={"number": number})
        await writing.write(connection)
        return writing.stream


def archive_of(
    database: Database, store: ObjectStore, clock: StoppedClock, *, max_bytes: int = 10**6
) -> Archive:
    segments = Segments(database, "example.org", Limits(max_bytes, 1000))
    return Archive(segments, lambda _: store, clock, Signal())


async def states(database: Database) -> list[tuple[int, int, str]]:
    rows = await database.fetch(
        "SELECT first_seq, last_seq, state FROM audit_segment ORDER BY stream, first_seq"
    )
    return [(row["first_seq"], row["last_seq"], row["state"]) for row in rows]


async def test_a_segment_is_cut_when_it_is_old_and_not_before(database: Database) -> None:
    clock, store = StoppedClock(NOON), FakeStore()
    archive = archive_of(database, store, clock)
    await export(database, 4)

    assert await archive.seal() == NOON + 1000
    assert await states(database) == []
    clock.moment_ms = NOON + 1000
    await archive.seal()

    assert await states(database) == [(0, 4, "sealed")]


async def test_a_full_segment_is_cut_at_once_and_the_rest_waits(database: Database) -> None:
    clock = StoppedClock(NOON)
    archive = archive_of(database, FakeStore(), clock, max_bytes=7000)
    await export(database, 10)

    again = await archive.seal()

    # Every record is about 1.7 kB; four do not exceed the limit, five would.
    found = await states(database)
    assert [last - first for first, last, _ in found] == [found[0][1]] * len(found)
    assert again == NOON + 1000
    left = await database.fetchval("SELECT count(*) FROM audit_record")
    assert left == 11 - (found[-1][1] + 1)
    open_bytes = await database.fetchval("SELECT open_bytes FROM audit_stream")
    assert open_bytes == await database.fetchval("SELECT sum(size) FROM audit_record")


async def test_the_lines_are_kept_until_the_body_is_and_the_body_until_it_is_stored(
    database: Database,
) -> None:
    clock, store = StoppedClock(NOON), FakeStore()
    archive = archive_of(database, store, clock)
    await export(database, 2)

    await archive.segments.cut_due(now_ms=NOON, flush=True)
    assert await database.fetchval("SELECT count(*) FROM audit_record") == 3
    assert await archive.segments.build_next(now_ms=NOON)
    assert await database.fetchval("SELECT count(*) FROM audit_record") == 0
    assert await archive.upload() is None

    assert await states(database) == [(0, 2, "uploaded")]
    assert await database.fetchval("SELECT body FROM audit_segment") is None
    found = [item.record["seq"] async for item in read(store)]
    assert found == [0, 1, 2]


async def test_building_again_after_a_crash_gives_the_same_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditbot.segments.FRAME_BYTES", 2000)
    clock = StoppedClock(NOON)
    segments = archive_of(database, FakeStore(), clock).segments
    stream = await export(database, 600)
    await segments.cut_due(now_ms=NOON, flush=True)
    first, _ = await segments._body(stream, 0, 600)

    await segments.build_next(now_ms=NOON)

    sealed = await segments.oldest_sealed(stream)
    assert sealed is not None
    assert sealed.body == first
    assert hashlib.sha256(sealed.body).hexdigest() == sealed.sha256


async def test_a_segment_whose_lines_are_not_all_there_is_not_built_and_loses_no_more(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    clock, store = StoppedClock(NOON), FakeStore()
    archive = archive_of(database, store, clock)
    broken = await export(database, 4, destination="file:broken")
    sound = await export(database, 2, destination="file:sound")
    await archive.segments.cut_due(now_ms=NOON, flush=True)
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM audit_record WHERE stream = $1 AND seq = 2", broken)

    await archive.seal(flush=True)
    await archive.seal(flush=True)

    segments = await database.fetch("SELECT stream, state FROM audit_segment ORDER BY state")
    assert [(row["stream"], row["state"]) for row in segments] == [
        (broken, "cut"),
        (sound, "sealed"),
    ]
    # The first record, four counted ones and the last one, without the one that is lost.
    left = await database.fetch("SELECT stream, seq FROM audit_record ORDER BY seq")
    assert [(row["stream"], row["seq"]) for row in left] == [
        (broken, seq) for seq in (0, 1, 3, 4, 5)
    ]
    assert caplog.text.count("not stored any further") == 1


async def test_a_store_that_is_away_is_asked_with_growing_waits_and_nothing_is_lost(
    database: Database,
) -> None:
    clock = StoppedClock(NOON)
    store = FakeStore(failures=[TransientError("away")] * 9)
    archive = archive_of(database, store, clock)
    await export(database, 1)
    await archive.seal(flush=True)

    waits = []
    while (wait := await archive.upload()) is not None:
        waits.append(wait)
        clock.moment_ms += round(wait * 1000) + 1

    bounds = [min(0.5 * 2**turn, 60) for turn in range(9)]
    assert all(top / 2 <= wait <= top for wait, top in zip(waits, bounds, strict=True))
    assert len(store.objects) == 1


async def test_a_store_is_not_asked_before_its_time(database: Database) -> None:
    clock, store = StoppedClock(NOON), FakeStore(failures=[PermanentError("denied")])
    archive = archive_of(database, store, clock)
    await export(database, 1)
    await archive.seal(flush=True)

    assert await archive.upload() is not None
    assert await archive.upload() is not None
    assert store.puts == 1
    clock.moment_ms += 60_000
    assert await archive.upload() is None

    assert len(store.objects) == 1


async def test_an_old_destination_that_refuses_does_not_stop_the_new_one(
    database: Database,
) -> None:
    clock, new = StoppedClock(NOON), FakeStore()
    old = FakeStore(failures=[PermanentError("gone")] * 100)
    segments = Segments(database, "example.org", Limits(10**6, 1000))
    stores: dict[str, ObjectStore] = {"file:old": old, "file:new": new}
    archive = Archive(segments, lambda place: stores[place.destination], clock, Signal())
    await export(database, 1, destination="file:old")
    await export(database, 1, destination="file:new")

    await archive.seal(flush=True)
    await archive.upload()

    found = [item.record["action"] async for item in read(new)]
    assert found == ["export_started", "counted"]
    assert old.objects == {}


async def test_stopping_stores_what_is_there(database: Database, tmp_path: Path) -> None:
    clock = StoppedClock(NOON)
    store = DirectoryStore(tmp_path / "archive")
    archive = archive_of(database, store, clock)
    await export(database, 3)
    task_started = asyncio.Event()

    async def run() -> None:
        task_started.set()
        await archive.run()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        await task_started.wait()
        task.cancel()

    assert [item.record["seq"] async for item in read(store)] == [0, 1, 2, 3]


async def test_a_running_archive_stores_soon_after_the_age_is_reached(database: Database) -> None:
    store, written = FakeStore(), Signal()
    segments = Segments(database, "example.org", Limits(10**6, 100))
    archive = Archive(segments, lambda _: store, SystemClock(), written)

    async def stored() -> bool:
        return bool(store.objects)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(archive.run())
        async with database.transaction() as connection:
            now = SystemClock().now_ms()
            writing = await open_stream(
                connection, Export("file:a", None, "hash"), server_name="x", now_ms=now
            )
            assert writing is not None
            written.notify()
        await wait_for(stored, 10, "the first object")
        took = SystemClock().now_ms() - now
        task.cancel()

    assert 100 <= took < 1000
    assert store.closed
