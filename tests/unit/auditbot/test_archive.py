"""What was sealed is stored once with the same bytes, whatever fails on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auditbot.archive import Archive, upload_next
from auditbot.ledger import Export, open_stream
from auditbot.lines import opened, waiting
from auditbot.manifests import Manifests
from auditbot.operations import completeness
from auditbot.outage import Outages
from auditbot.pipeline.segment import DAY_MS, Limits, Line
from auditbot.reader.read import read
from auditbot.segments import SealedSegment, Segments
from auditbot.signing import Keyring
from auditbot.storage.directory import DirectoryStore
from auditbot.storage.errors import ObjectExistsError
from auditbot.storage.port import Abilities, ArchiveStore, Found, Stored
from common.clock import Clock, SystemClock
from common.config.secret import Secret
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

    async def mark_uploaded(
        self,
        segment: SealedSegment,
        stored: Stored | None,
        *,
        now_ms: int,
        sessions: Stored | None = None,
    ) -> None:
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

    clock_offset_ms: int | None = None

    async def put(
        self,
        key: str,
        body: bytes,
        sha256: str,
        *,
        locked: bool = True,
        lock_days: int | None = None,
    ) -> Stored:
        self.puts += 1
        if self.failures:
            raise self.failures.pop(0)
        if self.objects.setdefault(key, body) != body:
            raise ObjectExistsError("other bytes")
        return Stored(f"version of {key}")

    def look_first(self, *, on: bool) -> None:
        pass

    async def put_file(
        self, key: str, file: Path, sha256: str, *, lock_days: int | None = None
    ) -> Stored:
        return await self.put(key, await asyncio.to_thread(file.read_bytes), sha256)

    async def replace(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    async def look(self, key: str) -> Found:
        body = self.objects[key]
        return Found(hashlib.sha256(body).hexdigest(), len(body))

    async def abilities(self) -> Abilities:
        return Abilities("fake", versioning=True)

    async def refuses_damage(self, key: str) -> bool | None:
        return None

    async def keeps_legal_holds(self) -> bool:
        return False

    async def has_legal_hold(self, key: str, version_id: str) -> bool:
        return False

    async def set_legal_hold(self, key: str, version_id: str, *, on: bool) -> None:
        raise AssertionError(key)

    async def abort_stale(self, prefix: str) -> int:
        return 0

    async def get(self, key: str, version_id: str | None = None) -> bytes:
        return self.objects[key]

    async def list(self, prefix: str) -> AsyncIterator[str]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield key

    async def delete(self, key: str, version_id: str | None = None) -> None:
        self.objects.pop(key, None)

    async def delete_stored(self, key: str, version_id: str | None) -> None:
        raise AssertionError(key)

    async def destroy(self, key: str, version_id: str | None) -> None:
        raise AssertionError(key)

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


async def lines_left(database: Database) -> list[Line]:
    rows = await database.fetch("SELECT * FROM audit_lines ORDER BY stream, last_seq")
    return [line for row in rows for line in waiting(row)]


def archive_of(
    database: Database, store: ArchiveStore, clock: StoppedClock, *, max_bytes: int = 10**6
) -> Archive:
    segments = Segments(database, "example.org", Limits(max_bytes, 1000))
    manifests, outages = manifests_of(database, clock), Outages(database)
    return Archive(segments, manifests, outages, lambda _: store, clock, Signal())


def manifests_of(database: Database, clock: Clock) -> Manifests:
    keys = Keyring(Secret("pickle key"))
    return Manifests(database, "example.org", keys, clock, started_ms=clock.now_ms())


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
    store = FakeStore()
    archive = archive_of(database, store, clock, max_bytes=7000)
    await export(database, 10)

    again = await archive.seal()

    # Every record is about 1.7 kB; four do not exceed the limit, five would.
    found = await states(database)
    assert [last - first for first, last, _ in found] == [found[0][1]] * len(found)
    assert again == NOON + 1000
    # The row of the ten goes on in the segment that is open; its last lines are those left.
    left = [line for line in await lines_left(database) if line.seq > found[-1][1]]
    assert [line.seq for line in left] == list(range(found[-1][1] + 1, 11))
    open_bytes = await database.fetchval("SELECT open_bytes FROM audit_stream")
    assert open_bytes == sum(line.size for line in left)
    async with database.transaction() as connection:
        assert await completeness._waiting(connection, NOON // DAY_MS) == len(left)
        assert await completeness._waiting(connection, NOON // DAY_MS - 1) == 0

    clock.moment_ms = NOON + 1000
    await archive.seal()
    await archive.upload()

    assert await lines_left(database) == []
    assert [item.record["seq"] async for item in read(store)] == list(range(11))


async def test_the_lines_are_kept_until_the_body_is_and_the_body_until_it_is_stored(
    database: Database,
) -> None:
    clock, store = StoppedClock(NOON), FakeStore()
    archive = archive_of(database, store, clock)
    await export(database, 2)

    await archive.segments.cut_due(now_ms=NOON, flush=True)
    assert [line.seq for line in await lines_left(database)] == [0, 1, 2]
    assert await archive.segments.build_next(now_ms=NOON)
    assert await lines_left(database) == []
    assert await archive.upload() is None

    assert await states(database) == [(0, 2, "uploaded")]
    found = [item.record["seq"] async for item in read(store)]
    assert found == [0, 1, 2]


async def test_building_again_after_a_crash_gives_the_same_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditbot.segments.FRAME_BYTES", 2000)
    clock = StoppedClock(NOON)
    segments = archive_of(database, FakeStore(), clock).segments
    stream, *_ = [await export(database, records) for records in (250, 1, 349)]
    await segments.cut_due(now_ms=NOON, flush=True)
    first = await segments._body(stream, 0, 600)

    await segments.build_next(now_ms=NOON)

    sealed = await segments.oldest_sealed(stream)
    assert sealed is not None
    assert sealed.body == b"".join(first.frames)
    assert hashlib.sha256(sealed.body).hexdigest() == sealed.sha256


async def test_a_segment_whose_lines_are_not_all_there_is_not_built_and_loses_no_more(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    clock, store = StoppedClock(NOON), FakeStore()
    archive = archive_of(database, store, clock)
    broken, *_ = [await export(database, 1, destination="file:broken") for _ in range(4)]
    sound = await export(database, 2, destination="file:sound")
    await archive.segments.cut_due(now_ms=NOON, flush=True)
    async with database.transaction() as connection:
        await connection.execute(
            "DELETE FROM audit_lines WHERE stream = $1 AND first_seq = 2", broken
        )

    await archive.seal(flush=True)
    await archive.seal(flush=True)

    segments = await database.fetch("SELECT stream, state FROM audit_segment ORDER BY state")
    assert [(row["stream"], row["state"]) for row in segments] == [
        (broken, "cut"),
        (sound, "sealed"),
    ]
    # The first record, four counted ones and the last one, without the one that is lost.
    left = await database.fetch("SELECT stream, first_seq FROM audit_lines ORDER BY last_seq")
    assert [(row["stream"], row["first_seq"]) for row in left] == [
        (broken, seq) for seq in (0, 1, 3, 4, 5)
    ]
    assert caplog.text.count("not stored any further") == 1
    (told,) = await database.fetch("SELECT sentence FROM alarm")
    assert "Restore the database" in told["sentence"]


@pytest.mark.parametrize("damage", ["x'28b52ffd00'", "x'00'", "x''", "x'7b7d0a'"])
async def test_lines_that_are_damaged_are_missing_and_what_is_left_of_them_stays(
    database: Database, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    archive = archive_of(database, FakeStore(), StoppedClock(NOON))
    await export(database, 3)
    async with database.transaction() as connection:
        await connection.execute(f"UPDATE audit_lines SET lines = {damage} WHERE last_seq = 3")

    await archive.seal(flush=True)

    assert await states(database) == [(0, 3, "cut")]
    assert [line.seq for line in await lines_left(database)] == [0, 1, 2, 3]
    assert caplog.text.count("not stored any further") == 1


async def test_the_bytes_of_a_segment_do_not_depend_on_how_its_lines_were_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditbot.segments.FRAME_BYTES", 2000)
    segments = archive_of(database, FakeStore(), StoppedClock(NOON)).segments
    stream = await export(database, 40)
    at_once = await segments._body(stream, 0, 40)
    rows = await database.fetch("SELECT * FROM audit_lines ORDER BY last_seq")
    lines = [line for row in rows for line in opened(row, None)]

    async with database.transaction() as connection:
        await connection.execute("DELETE FROM audit_lines")
        # As the table before this one had them: each on its own, not compressed.
        await connection.executemany(
            "INSERT INTO audit_lines"
            " (stream, first_seq, last_seq, first_ms, last_ms, written_ms, sizes, lines)"
            " VALUES ($1, $2, $2, $3, $3, $3, $4, $5)",
            [(stream, seq, NOON, f"[[{len(line)},0]]", line) for seq, line in enumerate(lines)],
        )

    assert await segments._body(stream, 0, 40) == at_once
    assert len(at_once.frames) > 10


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
    stores: dict[str, ArchiveStore] = {"file:old": old, "file:new": new}
    archive = Archive(
        segments,
        manifests_of(database, clock),
        Outages(database),
        lambda place: stores[place.destination],
        clock,
        Signal(),
    )
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
    clock = SystemClock()
    archive = Archive(
        segments,
        manifests_of(database, clock),
        Outages(database),
        lambda _: store,
        clock,
        written,
    )

    async def stored() -> bool:
        return any("/events/" in key for key in store.objects)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(archive.run())
        async with database.transaction() as connection:
            now = SystemClock().now_ms()
            writing = await open_stream(
                connection, Export("file:a", None, "hash"), server_name="x", now_ms=now
            )
            assert writing is not None
            written.notify()
        await wait_for(stored, 60, "the first object")
        took = SystemClock().now_ms() - now
        task.cancel()

    assert 100 <= took < 20_000
    assert store.closed
