"""Locks, versions, encryption and large files, on a real S3 server."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from types_aiobotocore_s3 import S3Client

from auditbot.storage.open import open_store
from auditbot.storage.port import ArchiveStore
from auditbot.storage.s3 import PART_BYTES, S3Store
from common.clock import SystemClock
from common.config.schema import S3
from common.config.secret import Secret
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from common.demo.waiting import wait_for
from common.errors import PermanentError
from tests.support.s3 import s3_client
from tests.unit.auditbot.builders import StoppedClock

LOCKED = "locked"
ONE, TWO = b"one", b"two"


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    spec = SeaweedFSSpec(directory=tmp_path_factory.mktemp("seaweedfs"), kms=True)
    async with SeaweedFS(spec) as running:
        async with s3_client(running) as client:
            await client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        yield running


async def has_parts(client: S3Client) -> bool:
    uploads = (await client.list_multipart_uploads(Bucket=LOCKED)).get("Uploads", [])
    for upload in uploads:
        answer = await client.list_parts(
            Bucket=LOCKED, Key=str(upload.get("Key")), UploadId=str(upload.get("UploadId"))
        )
        if answer.get("Parts"):
            return True
    return False


@pytest.fixture
async def client(server: SeaweedFS) -> AsyncIterator[S3Client]:
    async with s3_client(server) as opened:
        yield opened


def store_of(server: SeaweedFS, bucket: str = LOCKED, **more: Any) -> ArchiveStore:
    values: dict[str, Any] = {
        "endpoint_url": server.endpoint_url,
        "access_key_id": Secret(server.access_key_id),
        "secret_access_key": server.secret_access_key,
        "path_style": True,
        **more,
    }
    return open_store(f"s3://{bucket}/p", S3(**values))


@pytest.mark.parametrize("mode", ["governance", "compliance"])
async def test_a_locked_object_cannot_be_deleted_or_hidden_from_who_knows_its_version(
    server: SeaweedFS, client: S3Client, mode: str
) -> None:
    store, name = store_of(server, object_lock=mode, retention_days=3), secrets.token_hex(4)
    stored = await store.put(name, ONE, digest(ONE))
    assert stored is not None
    assert stored.version_id is not None

    answer = await client.get_object_retention(Bucket=LOCKED, Key=f"p/{name}")
    with pytest.raises(ClientError, match="AccessDenied"):
        await client.delete_object(Bucket=LOCKED, Key=f"p/{name}", VersionId=stored.version_id)
    await client.put_object(Bucket=LOCKED, Key=f"p/{name}", Body=TWO)

    assert answer["Retention"].get("Mode") == mode.upper()
    assert await store.get(name, stored.version_id) == ONE
    assert await store.get(name) == TWO
    abilities = await store.abilities()
    assert (abilities.object_lock, abilities.lock_seen) == (mode.upper(), True)
    await store.close()


async def test_a_repeat_after_a_lost_answer_finds_the_same_version(server: SeaweedFS) -> None:
    store = store_of(server, object_lock="governance", retention_days=1)

    first = await store.put("again", ONE, digest(ONE))
    second = await store.put("again", ONE, digest(ONE))

    assert first == second
    await store.close()


async def test_a_bucket_without_lock_is_named(server: SeaweedFS) -> None:
    store = store_of(server, server.bucket, object_lock="governance", retention_days=1)

    with pytest.raises(PermanentError, match="without Object Lock"):
        await store.abilities()

    await store.close()


@pytest.mark.parametrize(
    ("sse", "key"), [("AES256", None), ("aws:kms", "steward-key")], ids=["s3", "kms"]
)
async def test_the_store_is_told_to_encrypt_in_the_same_call_as_the_lock(
    server: SeaweedFS, client: S3Client, sse: str, key: str | None
) -> None:
    store = store_of(
        server, sse=sse, sse_kms_key_id=key, object_lock="governance", retention_days=1
    )

    await store.put(f"sse/{sse}", ONE, digest(ONE))

    head = await client.head_object(Bucket=LOCKED, Key=f"p/sse/{sse}")
    assert head.get("ServerSideEncryption") == sse
    assert head.get("ObjectLockMode") == "GOVERNANCE"
    if key is not None:
        assert head.get("SSEKMSKeyId") == key
    assert await store.get(f"sse/{sse}") == ONE
    await store.close()


async def test_a_large_file_goes_in_parts_once_and_is_locked(
    server: SeaweedFS, client: S3Client, tmp_path: Path
) -> None:
    store = store_of(server, object_lock="governance", retention_days=1)
    body = bytes(range(256)) * ((2 * PART_BYTES) // 256 + 5)
    path = tmp_path / "file"
    path.write_bytes(body)

    first = await store.put_file("large", path, digest(body))
    second = await store.put_file("large", path, digest(body))

    assert first == second
    assert await store.get("large") == body
    found = await store.look("large")
    assert (found.sha256, found.size) == (digest(body), len(body))
    head = await client.head_object(Bucket=LOCKED, Key="p/large")
    assert head.get("ObjectLockMode") == "GOVERNANCE"
    uploads = await client.list_multipart_uploads(Bucket=LOCKED)
    assert uploads.get("Uploads", []) == []
    path.write_bytes(body + b"!")
    with pytest.raises(PermanentError, match="other bytes"):
        await store.put_file("large", path, digest(body + b"!"))
    await store.close()


async def test_an_upload_that_is_interrupted_leaves_nothing_behind(
    server: SeaweedFS, client: S3Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(server)
    assert isinstance(store, S3Store)
    body = bytes(3 * PART_BYTES)
    path = tmp_path / "file"
    path.write_bytes(body)
    own = cast(Any, await store._connected())
    upload_part = own.upload_part

    async def the_first_only(**arguments: Any) -> Any:
        if arguments["PartNumber"] > 1:
            await asyncio.Event().wait()
        return await upload_part(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(own, "upload_part", the_first_only)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(store.put_file("cut", path, digest(body)))
            await wait_for(partial(has_parts, client), 60, "a part")
            assert not task.done()
            task.cancel()

    assert (await client.list_multipart_uploads(Bucket=LOCKED)).get("Uploads", []) == []
    await store.put_file("cut", path, digest(body))
    await store.close()


async def test_what_a_killed_upload_left_behind_is_given_up_after_a_day(
    server: SeaweedFS, client: S3Client
) -> None:
    store = store_of(server)
    assert isinstance(store, S3Store)
    await client.create_multipart_upload(Bucket=LOCKED, Key="p/left")

    assert await store.abort_stale("") == 0
    store._clock = StoppedClock(SystemClock().now_ms() + 2 * 86_400_000)
    assert await store.abort_stale("") == 1

    assert (await client.list_multipart_uploads(Bucket=LOCKED)).get("Uploads", []) == []
    await store.close()


async def test_the_store_tells_how_far_the_clock_is_off(server: SeaweedFS) -> None:
    store = store_of(server)
    await store.put("clock", ONE, digest(ONE))

    assert store.clock_offset_ms is not None
    assert abs(store.clock_offset_ms) < 10_000  # one clock; the answer may have had to wait
    await store.close()
