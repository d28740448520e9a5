"""A day of a bucket whose objects nobody can delete is erased all the same: its key is not locked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pyrage
import pytest
from botocore.exceptions import ClientError
from types_aiobotocore_s3 import S3Client

from auditbot.operations import erasure
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.s3 import S3Store
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from tests.support.s3 import s3_client
from tests.unit.auditbot.builders import NOON, encrypted, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

BUCKET = "locked"
PREFIX = "erasable"
DAY = NOON // DAY_MS
BOB = "@bob:example.org"
IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SeaweedFS]:
    folder = tmp_path / "seaweedfs"
    folder.mkdir()
    async with SeaweedFS(SeaweedFSSpec(directory=folder)) as running:
        async with s3_client(running) as client:
            await client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        yield running


@pytest.fixture
async def office(database: Database, server: SeaweedFS, tmp_path: Path) -> AsyncIterator[Office]:
    """By day, whole segments."""
    async with _filled(Office(database, tmp_path), server, erasable=True) as office:
        yield office


@asynccontextmanager
async def _filled(
    office: Office,
    server: SeaweedFS,
    *,
    erasable: bool | Literal["day", "person"],
    seal: str = "segments",
) -> AsyncIterator[Office]:
    """Give two days of an archive in a bucket that locks what is put there."""
    office.world.destination = f"s3://{BUCKET}/{PREFIX}"
    office.world.s3 = _settings(server)
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.erasable = erasable
    office.world.seal = seal
    office.files.held["mxc://example.org/a"] = PNG
    office.start()
    await office.say(
        *new_room("@bob:example.org"),
        message("$1", "said first"),
        image("$image"),
        encrypted("$unread", "late"),
    )
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(message("$2", "said next", sender=BOB))
    await office.store()
    yield office
    for destination in office.bot.archive._destinations.values():
        await destination.store.close()
    for store in office.media._stores.values():
        await store.close()


def _settings(server: SeaweedFS) -> S3:
    return S3(
        endpoint_url=server.endpoint_url,
        access_key_id=Secret(server.access_key_id),
        secret_access_key=server.secret_access_key,
        path_style=True,
        object_lock="compliance",
        retention_days=1,
    )


async def _versions(client: S3Client, part: str) -> list[tuple[str, str]]:
    answer = await client.list_object_versions(Bucket=BUCKET, Prefix=PREFIX)
    found = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    return [(one["Key"], one["VersionId"]) for one in found if part in one["Key"]]


async def _looked_at(server: SeaweedFS, cache: Path, now_ms: int) -> tuple[Verified, int]:
    place = S3Place(BUCKET, PREFIX, _settings(server))
    secret = str(IDENTITIES[0])
    options = Options(now_ms=now_ms, destination=f"s3://{BUCKET}/{PREFIX}", identities=(secret,))
    try:
        (result,) = await verify(place, options)
        library = Library(cache, (secret,))
        done = await sync(place, library, lambda _: Remembered())
        assert done.faults == []
        found = search(library, Query(text="said"))
        library.close()
    finally:
        await place.close()
    return result, len(found)


async def test_a_locked_day_is_erased_by_its_key(
    office: Office, server: SeaweedFS, tmp_path: Path
) -> None:
    now_ms = office.world.clock.now_ms()
    before, count = await _looked_at(server, tmp_path / "before", now_ms)
    assert (before.findings.of(Severity.WRONG), count) == ([], 2)

    found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    told = await erasure.apply(office.desk, found, reason="a court said so")
    await office.store()

    assert told == "1 keys were destroyed."
    async with s3_client(server) as client:
        assert await _versions(client, "keys/day-") == await _versions(client, "2025-11-25.age")
        (segment,) = await _versions(client, "events/dt=2025-11-24")
        with pytest.raises(ClientError):
            await client.delete_object(Bucket=BUCKET, Key=segment[0], VersionId=segment[1])
    after, count = await _looked_at(server, tmp_path / "after", now_ms)
    assert after.findings.of(Severity.WRONG) == []
    assert (len(after.erased), count) == (1, 1)
    assert after.listed_records > before.listed_records
    assert await office.world.database.fetch("SELECT * FROM audit_pending") == []


async def test_what_a_person_wrote_is_erased_though_every_object_is_locked(
    database: Database, server: SeaweedFS, tmp_path: Path
) -> None:
    made = Office(database, tmp_path)
    async with _filled(made, server, erasable="person", seal="content") as office:
        now_ms = office.world.clock.now_ms()
        before, count = await _looked_at(server, tmp_path / "before", now_ms)
        assert (before.findings.of(Severity.WRONG), count) == ([], 2)

        found = await erasure.survey_person(office.desk, BOB)
        told = await erasure.apply(office.desk, found, reason="he asked for it")
        await office.store()

    assert told == "1 keys were destroyed."
    async with s3_client(server) as client:
        assert not [key for key, _ in await _versions(client, found.keys[0].key)]
        assert len(await _versions(client, "keys/content-")) == 1
        segments = await _versions(client, "/events/")
        for key, version in segments:
            with pytest.raises(ClientError):
                await client.delete_object(Bucket=BUCKET, Key=key, VersionId=version)
    after, count = await _looked_at(server, tmp_path / "after", now_ms)
    assert after.findings.of(Severity.WRONG) == []
    assert (len(after.erased), after.erased_records, count) == (1, 1, 1)


class Killed(BaseException):
    """The process ends here, and nothing of it runs on."""


async def test_an_erasure_that_was_killed_is_finished_by_itself(
    database: Database, server: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise Killed

    made = Office(database, tmp_path)
    async with _filled(made, server, erasable="person", seal="content") as office:
        found = await erasure.survey_person(office.desk, BOB)
        assert found.keys[0].records == 1
        with monkeypatch.context() as patch:
            patch.setattr(S3Store, "destroy", killed)
            with pytest.raises(Killed):
                await erasure.apply(office.desk, found, reason="he asked for it")
        office.at(office.world.clock.now_ms() + 16 * 60_000)
        await office.bot.daily.look()
        await office.store()
        now_ms = office.world.clock.now_ms()

    async with s3_client(server) as client:
        assert not [key for key, _ in await _versions(client, found.keys[0].key)]
        assert len(await _versions(client, "/erasures/")) == 2, "one document and its signature"
    after, count = await _looked_at(server, tmp_path / "after", now_ms)
    assert (after.findings.of(Severity.WRONG), count) == ([], 1)


async def test_two_who_erase_the_same_at_once_write_one_document(
    database: Database, server: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, both = erasure._announce, asyncio.Barrier(2)

    async def at_once(*arguments: Any, **more: Any) -> Any:
        # Both have found what is to be destroyed, and that nobody announced it.
        async with asyncio.timeout(30):
            await both.wait()
        return await whole(*arguments, **more)

    monkeypatch.setattr(erasure, "_announce", at_once)
    made = Office(database, tmp_path)
    async with _filled(made, server, erasable="person", seal="content") as office:
        found = await erasure.survey_person(office.desk, BOB)
        async with asyncio.TaskGroup() as group:
            acts = [
                group.create_task(erasure.apply(office.desk, found, reason=reason))
                for reason in ("the first", "the second")
            ]
        await office.store()
        now_ms = office.world.clock.now_ms()

    told = [act.result() for act in acts]
    assert sum("announced by another command at the same moment" in one for one in told) == 1
    async with s3_client(server) as client:
        assert not [key for key, _ in await _versions(client, found.keys[0].key)]
        assert len(await _versions(client, "/erasures/")) == 2, "one document and its signature"
    after, count = await _looked_at(server, tmp_path / "after", now_ms)
    assert (after.findings.of(Severity.WRONG), count) == ([], 1)


async def test_where_nothing_is_to_be_erased_the_keys_of_content_are_locked(
    database: Database, server: SeaweedFS, tmp_path: Path
) -> None:
    made = Office(database, tmp_path)
    async with _filled(made, server, erasable=False, seal="content") as office:
        now_ms = office.world.clock.now_ms()
    async with s3_client(server) as client:
        keys = await _versions(client, "keys/content-")
        assert len(keys) == 2
        for key, version in keys:
            with pytest.raises(ClientError):
                await client.delete_object(Bucket=BUCKET, Key=key, VersionId=version)
    result, count = await _looked_at(server, tmp_path / "cache", now_ms)
    assert (result.findings.of(Severity.WRONG), count) == ([], 2)
