"""What is deleted for good is gone in each of its versions, also of a bucket that keeps them since."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pyrage
import pytest

from auditbot.operations import erasure, over, retention
from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.s3 import S3Store
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS
from common.errors import PermanentError
from tests.support.databases import open_database, sqlite_url
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.s3 import s3_client
from tests.unit.auditbot.builders import NOON, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import TODAY, Office

DAY = NOON // DAY_MS
BOB = "@bob:example.org"
IDENTITY = pyrage.x25519.Identity.generate()
Erasable = Literal["day", "person"] | None


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def bucket(seaweedfs: SeaweedFS) -> str:
    """Its own: whether versions are kept is a setting of the whole bucket."""
    name = f"versions-{secrets.token_hex(6)}"
    async with s3_client(seaweedfs) as client:
        await client.create_bucket(Bucket=name)
    return name


def _settings(server: SeaweedFS, endpoint_url: str | None = None) -> S3:
    return S3(
        endpoint_url=endpoint_url or server.endpoint_url,
        access_key_id=Secret(server.access_key_id),
        secret_access_key=server.secret_access_key,
        path_style=True,
    )


async def _keep_versions(
    server: SeaweedFS, bucket: str, status: Literal["Enabled", "Suspended"] = "Enabled"
) -> None:
    async with s3_client(server) as client:
        await client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": status}
        )


async def _versions(server: SeaweedFS, bucket: str, part: str = "") -> list[str]:
    """Return the keys of all versions and of all marks that something was deleted."""
    async with s3_client(server) as client:
        answer = await client.list_object_versions(Bucket=bucket)
    found = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    return sorted(one["Key"] for one in found if part in one["Key"])


async def _office(
    database: Database, directory: Path, server: SeaweedFS, bucket: str, erasable: Erasable
) -> Office:
    office = Office(database, directory)
    office.world.destination = f"s3://{bucket}/a"
    office.world.s3 = _settings(server)
    if erasable is not None:
        office.world.recipients = (str(IDENTITY.to_public()),)
        office.world.erasable = erasable
        office.world.seal = "content" if erasable == "person" else "segments"
    office.files.held["mxc://example.org/a"] = PNG
    office.start()
    await office.say(*new_room(BOB), message("$1", "said", sender=BOB), image("$image"))
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(message("$2", "said next"))
    await office.store()
    return office


async def _close(office: Office) -> None:
    for destination in office.bot.archive._destinations.values():
        await destination.store.close()
    for store in office.media._stores.values():
        await store.close()


@pytest.mark.parametrize("how", [("day", "Enabled"), ("person", "Suspended")])
async def test_a_key_from_before_versions_were_kept_is_destroyed(
    database: Database,
    seaweedfs: SeaweedFS,
    bucket: str,
    tmp_path: Path,
    how: tuple[Literal["day", "person"], Literal["Enabled", "Suspended"]],
) -> None:
    erasable, status = how
    office = await _office(database, tmp_path, seaweedfs, bucket, erasable)
    await _keep_versions(seaweedfs, bucket)
    await _keep_versions(seaweedfs, bucket, status)
    if erasable == "day":
        found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    else:
        found = await erasure.survey_person(office.desk, BOB)
    (key,) = found.keys

    told = await erasure.apply(office.desk, found, reason="a court said so")
    await _close(office)

    assert told == "1 keys were destroyed."
    assert key.version_id is None
    assert await _versions(seaweedfs, bucket, key.key) == []
    assert await _versions(seaweedfs, bucket, "/keys/") != [], "the others stay"


async def test_what_is_removed_from_before_versions_were_kept_is_gone(
    database: Database, seaweedfs: SeaweedFS, bucket: str, tmp_path: Path
) -> None:
    office = await _office(database, tmp_path, seaweedfs, bucket, None)
    await _keep_versions(seaweedfs, bucket)
    office.at(TODAY)

    found = await over.survey(office.desk, keep_days=30)
    await retention.apply(office.desk, found, keep_days=30)
    await _close(office)

    assert await _versions(seaweedfs, bucket, "/events/") == []
    assert await _versions(seaweedfs, bucket, "/media/") == []


async def _two_versions(server: SeaweedFS, bucket: str) -> list[str]:
    """Store one key twice, as after a lost answer where a store replaces what is there."""
    await _keep_versions(server, bucket)
    async with s3_client(server) as client:
        answers = [await client.put_object(Bucket=bucket, Key="a/key", Body=b"1") for _ in "12"]
        await client.put_object(Bucket=bucket, Key="a/key-2", Body=b"another")
    return [answer["VersionId"] for answer in answers]


async def test_a_key_is_destroyed_in_the_version_of_a_lost_answer_too(
    seaweedfs: SeaweedFS, bucket: str
) -> None:
    *_, known = await _two_versions(seaweedfs, bucket)
    store = S3Store(bucket, "a", _settings(seaweedfs))

    await store.destroy("key", known)
    await store.destroy("key", known)
    await store.close()

    assert await _versions(seaweedfs, bucket) == ["a/key-2"]


async def test_what_a_store_told_no_version_of_is_deleted_in_all_of_them(
    seaweedfs: SeaweedFS, bucket: str
) -> None:
    await _two_versions(seaweedfs, bucket)
    store = S3Store(bucket, "a", _settings(seaweedfs))

    await store.delete_stored("key", None)
    await store.close()

    assert await _versions(seaweedfs, bucket) == ["a/key-2"]


@pytest.mark.parametrize("is_said", [True, False])
async def test_whoever_may_not_list_versions_is_told_that_one_may_be_left(
    seaweedfs: SeaweedFS, bucket: str, *, is_said: bool
) -> None:
    *_, known = await _two_versions(seaweedfs, bucket)
    hidden = ("versions",) if is_said else ("versions", "versioning")

    def refuse(request: Request) -> Fault | None:
        asked = request.path.partition("?")[2].partition("&")[0].partition("=")[0]
        return Fault(403, "AccessDenied") if asked in hidden else None

    async with FaultProxy(seaweedfs.endpoint_url, decide=refuse) as proxy:
        store = S3Store(bucket, "a", _settings(seaweedfs, proxy.url))
        with pytest.raises(PermanentError, match="s3:ListBucketVersions"):
            await store.destroy("key", known)
        await store.close()

    assert await _versions(seaweedfs, bucket) == ["a/key", "a/key-2"]


async def test_a_bucket_that_does_not_say_that_it_keeps_versions_hides_nothing_only(
    seaweedfs: SeaweedFS, bucket: str
) -> None:
    body = b"from before"
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        proxy.fail_next(10**6, Fault(403, "AccessDenied"), method="GET", part="?versioning")
        store = S3Store(bucket, "a", _settings(seaweedfs, proxy.url))
        await store.put("key", body, hashlib.sha256(body).hexdigest())
        await _keep_versions(seaweedfs, bucket)

        await store.delete_stored("key", None)
        await store.close()

    assert await _versions(seaweedfs, bucket) == []


async def test_a_bucket_without_versions_needs_no_right_to_list_them(
    seaweedfs: SeaweedFS, bucket: str
) -> None:
    body = b"the only one"
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        proxy.fail_next(10**6, Fault(403, "AccessDenied"), method="GET", part="?versions")
        store = S3Store(bucket, "a", _settings(seaweedfs, proxy.url))
        await store.put("key", body, hashlib.sha256(body).hexdigest())

        await store.destroy("key", None)
        await store.close()

    assert await _versions(seaweedfs, bucket) == []
