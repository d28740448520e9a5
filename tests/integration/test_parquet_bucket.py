"""The copy for query engines in a real bucket, and what it may touch there."""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from types_aiobotocore_s3 import S3Client

from auditbot.reader.cli import main
from auditbot.storage.s3_derived import S3Derived
from common.config.schema import S3
from common.config.secret import Secret
from common.demo.servers import SeaweedFS
from common.errors import PermanentError
from tests.integration.test_audit_bucket import upload
from tests.support.archive_maker import make_archive
from tests.support.s3 import s3_client
from tests.unit.config.builders import VALID

BUCKET = "parquet"
LOCKED = "parquet-locked"


def configured(store: SeaweedFS, folder: Path) -> Sequence[str]:
    path = folder / "config.yaml"
    path.write_text(
        VALID
        + f"""\
auditbot:
  destination: s3://{BUCKET}/audit
  s3:
    endpoint_url: {store.endpoint_url}
    access_key_id: {store.access_key_id}
    secret_access_key: {store.secret_access_key.reveal()}
    path_style: true
"""
    )
    path.chmod(0o600)
    return (f"--config={path}", f"--home={folder / 'home'}")


async def _objects(client: S3Client) -> dict[str, str]:
    answer = await client.list_objects_v2(Bucket=BUCKET)
    return {item["Key"]: item["ETag"] for item in answer.get("Contents", [])}


async def test_a_bucket_gets_its_copy_below_derived_and_nothing_else(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    maker = make_archive(tmp_path / "archive")
    where = configured(seaweedfs, tmp_path)
    async with s3_client(seaweedfs) as client:
        await client.create_bucket(Bucket=BUCKET)
        await upload(client, BUCKET, maker.root)
        before = await _objects(client)

        assert await asyncio.to_thread(main, ["parquet", *where]) == 0
        after = await _objects(client)
        assert await asyncio.to_thread(main, ["parquet", *where]) == 0
        again = await _objects(client)
        verified = await asyncio.to_thread(main, ["verify", *where])

        new = set(after) - set(before)
        assert all(key.startswith("audit/v1/example.org/derived/parquet/dt=") for key in new)
        assert len(new) == 2
        assert {key: after[key] for key in before} == before
        assert again == after
        assert verified == 0
        (name,) = [key for key in new if key.endswith("/records.parquet")]
        answer = await client.get_object(Bucket=BUCKET, Key=name)
        (tmp_path / "copy.parquet").write_bytes(await answer["Body"].read())
    with duckdb.connect(":memory:") as database:
        rows = database.execute(
            f"SELECT seq, body FROM '{tmp_path / 'copy.parquet'}' ORDER BY seq"
        ).fetchall()
    assert [seq for seq, _ in rows] == list(range(len(maker.lines)))


async def test_each_copy_goes_with_its_checksum_where_a_bucket_locks_it(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    # Amazon's store refuses what has none in a bucket with a default retention; this one stores it.
    settings = S3(
        endpoint_url=seaweedfs.endpoint_url,
        access_key_id=Secret(seaweedfs.access_key_id),
        secret_access_key=seaweedfs.secret_access_key,
        path_style=True,
    )
    store = S3Derived(LOCKED, "audit", settings)
    file = tmp_path / "file"
    key = "v1/example.org/derived/parquet/dt=2026-01-01/a"
    async with s3_client(seaweedfs) as client:
        await client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        await client.put_object_lock_configuration(
            Bucket=LOCKED,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
            },
        )
        try:
            for body in (b"first", b"again"):
                file.write_bytes(body)
                await store.put(key, file)
                answer = await client.head_object(
                    Bucket=LOCKED, Key=f"audit/{key}", ChecksumMode="ENABLED"
                )
                assert answer["ObjectLockMode"] == "GOVERNANCE"
                digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
                assert answer["ChecksumSHA256"] == digest
        finally:
            await store.close()


async def test_whoever_may_not_write_there_is_told(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    settings = S3(
        endpoint_url=seaweedfs.endpoint_url,
        access_key_id=Secret("stranger"),
        secret_access_key=Secret("nothing"),
        path_style=True,
    )
    store = S3Derived(BUCKET, "audit", settings)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    try:
        with pytest.raises(PermanentError) as refused:
            await store.put("v1/example.org/derived/parquet/dt=2026-01-01/a", file)
        with pytest.raises(PermanentError, match="writes nothing else"):
            await store.delete("v1/example.org/events/dt=2026-01-01/a")
    finally:
        await store.close()
    assert "nothing" not in str(refused.value)
