"""A store that is away, slow, full, forbidden or wrong: nothing is lost, nothing is doubled."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auditbot.archive import Archive
from auditbot.outage import Outages
from auditbot.pipeline.segment import Limits
from auditbot.segments import Segments
from auditbot.storage.open import open_store
from common.alarms import Alarm, untold
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS
from common.inbox.signal import Signal
from tests.support.archive_check import check_archive
from tests.support.databases import open_database, sqlite_url
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.s3 import s3_objects
from tests.unit.auditbot.builders import NOON, StoppedClock
from tests.unit.auditbot.test_archive import export, manifests_of

FAULTS = {
    "away": Fault(drop_request=True),
    "answer lost after it was stored": Fault(drop_answer=True),
    "answer cut": Fault(cut_answer=True),
    "damaged on the way": Fault(damage=True),
    "slow": Fault(delay_seconds=0.05),
    "forbidden": Fault(403, "AccessDenied"),
    "missing": Fault(404, "NoSuchBucket"),
    "conflict": Fault(409, "ConditionalRequestConflict"),
    "said to be there": Fault(412, "PreconditionFailed"),
    "too many": Fault(429, "TooManyRequests"),
    "broken": Fault(500, "InternalError"),
    "overloaded": Fault(503, "SlowDown"),
    "full": Fault(507, "InsufficientStorage"),
    "quota": Fault(403, "QuotaExceeded"),
    "wrong region": Fault(400, "AuthorizationHeaderMalformed"),
    "elsewhere": Fault(301, "PermanentRedirect"),
    "clock skew": Fault(403, "RequestTimeTooSkewed"),
    "expired": Fault(400, "ExpiredToken"),
}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


class Running:
    """An archive in a bucket, reached through the proxy, step by step."""

    def __init__(self, database: Database, server: SeaweedFS, proxy: FaultProxy) -> None:
        self.database, self.server, self.proxy = database, server, proxy
        self.clock = StoppedClock(NOON)
        self.prefix = proxy.name
        settings = S3(
            endpoint_url=proxy.url,
            access_key_id=Secret(server.access_key_id),
            secret_access_key=server.secret_access_key,
            path_style=True,
        )
        self.store = open_store(f"s3://{server.bucket}/{self.prefix}", settings)
        self.archive = Archive(
            Segments(database, "example.org", Limits(10**6, 1000)),
            manifests_of(database, self.clock),
            Outages(database),
            lambda _: self.store,
            self.clock,
            Signal(),
        )

    async def until_stored(self) -> int:
        """Try as long as it takes; return how often it had to wait."""
        waits = 0
        await self.archive.seal(flush=True)
        for _ in range(2):
            while (wait := await self.archive.upload()) is not None:
                waits += 1
                assert waits < 50
                self.clock.moment_ms += round(wait * 1000) + 1
            self.clock.moment_ms += 900_000
            await self.archive.sign()
        while (wait := await self.archive.upload()) is not None:
            self.clock.moment_ms += round(wait * 1000) + 1
        return waits

    async def check(self, records: int) -> None:
        objects = await s3_objects(self.server, self.prefix)
        found = {key.removeprefix(f"{self.prefix}/"): body for key, body in objects.items()}
        checked = check_archive(found)
        assert [record["seq"] for record in checked.records] == list(range(records))
        assert checked.unlisted == []


@pytest.mark.parametrize(
    ("name", "where"),
    [
        *((name, "/events/") for name in FAULTS),
        ("answer lost after it was stored", "/manifests/"),
        ("damaged on the way", "/manifests/"),
        ("forbidden", "/checkpoints/"),
        ("broken", "/state/"),
    ],
)
async def test_a_fault_while_storing_costs_only_time(
    database: Database, seaweedfs: SeaweedFS, name: str, where: str
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        proxy.fail_next(2, FAULTS[name], part=where)
        await export(database, 5)
        await running.until_stored()
        await running.store.close()
        await running.check(6)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("name", ["away", "forbidden", "missing", "broken", "answer cut"])
async def test_a_fault_while_comparing_or_reading_back_costs_only_time(
    database: Database, seaweedfs: SeaweedFS, name: str, method: str
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        await export(database, 5)
        await running.archive.seal(flush=True)
        left = {"PUT": [Fault(drop_answer=True)] * 2, method: [FAULTS[name]] * 2}

        def decide(request: Request) -> Fault | None:
            # First an answer that is lost, so that the repeat has to compare.
            faults = left.get(request.method, [])
            return faults.pop() if faults and "/probe-" not in request.path else None

        proxy.decide = decide
        await running.until_stored()
        assert left[method] == []
        await running.store.close()
        await running.check(6)


async def test_a_read_back_whose_body_is_cut_costs_only_time(
    database: Database, seaweedfs: SeaweedFS
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        proxy.fail_next(2, Fault(cut_body=True), method="GET", part="/manifests/")
        await export(database, 5)
        assert await running.until_stored() == 2
        await running.store.close()
        await running.check(6)


async def told(database: Database) -> list[Alarm]:
    """Return what admins are to be told of the store; of the new key they hear in any case."""
    return [one for one in await untold(database) if "Its fingerprint" not in one.sentence]


async def test_the_admins_are_told_once_when_it_begins_and_once_when_it_ends(
    database: Database, seaweedfs: SeaweedFS
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        await export(database, 3)
        proxy.fail_next(12, FAULTS["overloaded"], part="")
        await running.until_stored()
        await running.store.close()

    begun, ended = await told(database)
    assert "cannot be stored" in begun.sentence
    assert "Nothing is lost" in begun.sentence
    assert "again" in ended.sentence
    assert "still wait" in ended.sentence


async def test_a_store_in_which_nothing_may_be_deleted_is_a_good_one(
    database: Database, seaweedfs: SeaweedFS
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        await export(database, 3)
        proxy.fail_next(1000, FAULTS["forbidden"], method="DELETE")
        assert await running.until_stored() == 0
        await running.store.close()
        await running.check(4)


async def test_a_blip_is_told_to_nobody(database: Database, seaweedfs: SeaweedFS) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        await export(database, 3)
        proxy.fail_next(2, FAULTS["away"], part="")
        await running.until_stored()
        await running.store.close()

    assert await told(database) == []


async def test_an_outage_that_outlives_the_program_is_told_once(
    database: Database, seaweedfs: SeaweedFS
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        first = Running(database, seaweedfs, proxy)
        await export(database, 3)
        await first.archive.seal(flush=True)
        proxy.fail_next(1000, FAULTS["forbidden"], part="")
        assert await first.archive.upload() is not None
        again = Running(database, seaweedfs, proxy)
        assert await again.archive.upload() is not None
        proxy.fail_next(0, Fault())
        again.clock.moment_ms += 60_000
        await again.until_stored()
        for running in (first, again):
            await running.store.close()

    assert len(await told(database)) == 2


async def test_an_outage_of_a_day_loses_nothing_and_catches_up(
    database: Database, seaweedfs: SeaweedFS
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        running = Running(database, seaweedfs, proxy)
        await export(database, 5)
        await running.until_stored()
        asked = len(proxy.requests)
        proxy.fail_next(10**6, FAULTS["overloaded"], part="")
        for _ in range(24):
            await export(database, 5)
            running.clock.moment_ms += 3_600_000
            await running.archive.seal(flush=True)
            assert await running.archive.upload() is not None
            await running.archive.sign()
        assert len(proxy.requests) >= asked + 24, "it was tried again each time"
        proxy.fail_next(0, FAULTS["overloaded"])

        await running.until_stored()
        await running.store.close()

    recorded = await database.fetchval("SELECT sum(next_seq) FROM audit_stream")
    assert recorded > 25 * 5
    await running.check(recorded)
    objects = await s3_objects(seaweedfs, running.prefix)
    found = {key.removeprefix(f"{running.prefix}/"): body for key, body in objects.items()}
    (manifests,) = check_archive(found).manifests.values()
    # Each hour of the outage is signed, although that was stored only later.
    assert len({manifest["created_ms"] // 3_600_000 for manifest in manifests}) >= 24
    begun, ended = await told(database)
    assert "cannot be stored" in begun.sentence
    assert "again, after 23 hours" in ended.sentence
