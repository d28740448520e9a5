"""An archive proves by itself that nothing was left out, changed or added."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.archive import Archive
from auditbot.outage import Outages
from auditbot.pipeline import merkle
from auditbot.pipeline.segment import Limits
from auditbot.segments import Segments
from auditbot.storage.addressing import place_name
from auditbot.storage.directory import DirectoryStore
from common.database.pool import Database
from common.inbox.signal import Signal
from tests.support.archive_check import Checked, check_archive, read_directory, root_of
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock
from tests.unit.auditbot.test_archive import export, manifests_of

MINUTE = 60_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


class Running:
    """An archive in a directory, step by step."""

    def __init__(self, database: Database, root: Path, max_bytes: int = 10**6) -> None:
        self.database, self.root = database, root
        self.clock = StoppedClock(NOON)
        self.max_bytes = max_bytes
        self.restart()

    def restart(self) -> None:
        self.store = DirectoryStore(self.root)
        segments = Segments(self.database, "example.org", Limits(self.max_bytes, 1000))
        manifests = manifests_of(self.database, self.clock)
        self.archive = Archive(
            segments, manifests, Outages(self.database), lambda _: self.store, self.clock, Signal()
        )

    async def step(self, *, flush: bool = True) -> None:
        await self.archive.seal(flush=flush)
        await self.archive.upload()
        await self.archive.sign()
        await self.archive.upload()

    def check(self) -> Checked:
        return check_archive(read_directory(self.root))


@given(st.lists(st.binary(max_size=3), max_size=80), st.data())
def test_joined_ranges_have_the_root_of_all_leaves(
    lines: list[bytes], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=5)))
    tree = merkle.EMPTY
    for begin, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        tree = merkle.join(tree, merkle.range_of(begin, map(merkle.leaf, lines[begin:end])))

    assert tree.root == root_of(lines)


async def test_what_is_stored_is_listed_signed_and_chained(
    database: Database, tmp_path: Path
) -> None:
    running = Running(database, tmp_path / "archive")
    await export(database, 5)
    await running.step()
    running.clock.moment_ms += 15 * MINUTE
    await export(database, 70)
    await running.step()

    checked = running.check()

    (manifests,) = checked.manifests.values()
    assert [manifest["number"] for manifest in manifests] == [0, 1]
    assert [record["seq"] for record in checked.records] == list(range(76))
    assert checked.unlisted == []
    assert manifests[1]["totals"]["counts"] == {"control": 76}
    head = json.loads((running.root / "v1/example.org/state/head.json").read_bytes())
    assert (head["number"], head["tree_size"]) == (1, 76)


async def test_silence_is_signed_too(database: Database, tmp_path: Path) -> None:
    running = Running(database, tmp_path / "archive")
    await export(database, 1)
    for _ in range(3):
        await running.step()
        running.clock.moment_ms += 15 * MINUTE

    (manifests,) = running.check().manifests.values()

    assert [len(manifest["objects"]) for manifest in manifests] == [1, 0, 0]
    assert manifests[2]["created_ms"] - manifests[1]["created_ms"] == 15 * MINUTE


async def test_no_manifest_is_made_before_its_time(database: Database, tmp_path: Path) -> None:
    running = Running(database, tmp_path / "archive")
    await export(database, 1)
    for _ in range(3):
        await running.step()
        running.restart()
        running.clock.moment_ms += MINUTE

    (manifests,) = running.check().manifests.values()

    assert len(manifests) == 1


async def test_a_clock_that_is_set_back_neither_floods_nor_turns_the_order_round(
    database: Database, tmp_path: Path
) -> None:
    running = Running(database, tmp_path / "archive")
    await export(database, 1)
    await running.step()
    running.clock.moment_ms -= 24 * 60 * MINUTE
    running.restart()
    for _ in range(5):
        await running.step()

    (manifests,) = running.check().manifests.values()

    assert len(manifests) == 2
    assert manifests[1]["created_ms"] == manifests[0]["created_ms"]


async def test_the_end_of_a_stream_names_the_next(database: Database, tmp_path: Path) -> None:
    running = Running(database, tmp_path / "archive")
    first = await export(database, 1, destination="file:one")
    await running.step()
    second = await export(database, 1, destination="file:two")
    await running.step()

    checked = running.check()

    closed = checked.manifests[first][-1]["closed"]
    assert closed == {
        "reason": "destination changed",
        "next_stream": second,
        "next_destination": "file:two",
        "next_place": place_name("file:two"),
    }
    previous = checked.manifests[second][0]["previous_stream"]
    assert previous["stream"] == first
    places = [checked.manifests[stream][0]["place"] for stream in (first, second)]
    assert places == [previous["place"], closed["next_place"]]
    assert await database.fetchval("SELECT closed FROM audit_stream WHERE id = $1", first) == 1


async def test_bodies_stay_until_a_manifest_lists_them(database: Database, tmp_path: Path) -> None:
    running = Running(database, tmp_path / "archive")
    await export(database, 2)
    await running.archive.seal(flush=True)
    await running.archive.upload()
    left = "SELECT count(*) FROM audit_body"
    assert await database.fetchval(left) == 1

    await running.step()

    assert await database.fetchval(left) == 0


async def test_a_manifest_is_stored_with_the_same_bytes_after_a_crash(
    database: Database, tmp_path: Path
) -> None:
    running = Running(database, tmp_path / "archive")
    stream = await export(database, 2)
    await running.archive.seal(flush=True)
    await running.archive.upload()
    await running.archive.sign()
    await running.archive.upload()
    async with database.transaction() as connection:
        await connection.execute("UPDATE audit_manifest SET state = 'made'")
    before = read_directory(running.root)
    running.clock.moment_ms += MINUTE
    running.restart()
    await running.archive.upload()

    after = read_directory(running.root)
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"v1/example.org/state/head.json"}
    assert stream in running.check().manifests


async def test_every_act_of_tampering_with_a_record_is_seen(
    database: Database, tmp_path: Path
) -> None:
    running = Running(database, tmp_path / "archive")
    await export(database, 5)
    await running.step()
    objects = read_directory(running.root)

    for key, body in objects.items():
        if not any(part in key for part in ("/events/", "/manifests/", "/checkpoints/")):
            continue
        damaged = bytes([*body[:-1], body[-1] ^ 1])
        with pytest.raises(Exception):  # noqa: B017, PT011  # any: it must not pass
            check_archive({**objects, key: damaged})
