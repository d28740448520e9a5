"""Two writers that reach for a lease at the same moment: the one whose word stays has it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auditbot.lease import WATCH_SECONDS, HeldElsewhereError, Leases
from auditbot.storage.directory import DirectoryStore
from common.database.pool import Database
from common.errors import PermanentError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock


@dataclass
class Contested(DirectoryStore):
    """A directory in which each lease is written over at once by what another one wrote."""

    root: Path
    rival: bytes | None = None
    written: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.root)

    async def replace(self, key: str, body: bytes) -> None:
        self.written.append(body)
        await super().replace(key, self.rival or body)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def leases(database: Database, clock: StoppedClock) -> Leases:
    return Leases(database, "example.org", clock, "here", settle_seconds=0.0)


async def test_who_was_written_over_at_the_same_moment_does_not_hold_it(
    database: Database, tmp_path: Path
) -> None:
    clock, store = StoppedClock(NOON), Contested(tmp_path / "a", b"the other one's")
    ours = leases(database, clock)

    with pytest.raises(HeldElsewhereError, match="an unknown writer"):
        await ours.hold("a", store)
    assert len(store.written) == 1

    clock.moment_ms += int(WATCH_SECONDS * 1000) - 1000
    with pytest.raises(HeldElsewhereError):
        await ours.hold("a", store)
    assert len(store.written) == 1, "it only watches"
    clock.moment_ms += 1000
    store.rival = None
    await ours.hold("a", store)
    assert await store.get(ours.key) == store.written[-1]


async def test_a_clock_that_is_set_ends_no_lease(database: Database, tmp_path: Path) -> None:
    """Only the clock that is never set counts, and here it stands while the other one jumps."""

    class Set(StoppedClock):
        def monotonic(self) -> float:
            return 0.0

    store = Contested(tmp_path / "a", b"the other one's")
    clock = Set(NOON)
    ours = leases(database, clock)
    for _ in range(3):
        with pytest.raises(HeldElsewhereError):
            await ours.hold("a", store)
        clock.moment_ms += 86_400_000


async def test_who_writes_hostile_words_into_a_lease_has_none_of_them_told(
    database: Database, tmp_path: Path
) -> None:
    store = Contested(tmp_path / "a")
    ours = leases(database, StoppedClock(NOON))
    body = (
        b'{"server_name":"x","writer":"<b>you</b>","token":"t","host":"@room","since_ms":0,'
        b'"renewed_ms":99999999999999999,"until_ms":0}'
    )
    await store.replace(ours.key, body)

    with pytest.raises(HeldElsewhereError) as told:
        await ours.hold("a", store)

    assert "<b>" not in str(told.value)
    assert "@room" not in str(told.value)


async def test_a_lease_that_is_nested_too_deeply_is_somebody_elses(
    database: Database, tmp_path: Path
) -> None:
    store = Contested(tmp_path / "a")
    ours = leases(database, StoppedClock(NOON))
    await store.replace(ours.key, b'{"deep":' + b"[" * 100_000)

    with pytest.raises(HeldElsewhereError, match="an unknown writer"):
        await ours.hold("a", store)


async def test_a_lease_that_may_not_be_read_is_not_taken_for_a_missing_one(
    database: Database, tmp_path: Path
) -> None:
    class Shut(Contested):
        async def get(self, key: str, version_id: str | None = None) -> bytes:
            raise PermanentError("may not be read")

    store = Shut(tmp_path / "a")
    ours = leases(database, StoppedClock(NOON))
    await store.replace(ours.key, b"the other one's")

    with pytest.raises(PermanentError, match="may not be read"):
        await ours.hold("a", store)
    assert len(store.written) == 1
