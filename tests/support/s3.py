"""Look into the object store from outside, with a client of the test's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiobotocore.session import get_session
from types_aiobotocore_s3 import S3Client

from common.demo.servers import SeaweedFS


@asynccontextmanager
async def s3_client(store: SeaweedFS) -> AsyncIterator[S3Client]:
    """Open a client that may do everything."""
    async with get_session().create_client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.access_key_id,
        aws_secret_access_key=store.secret_access_key.reveal(),
    ) as client:
        yield client


async def s3_objects(store: SeaweedFS, prefix: str = "") -> dict[str, bytes]:
    """Return everything below a prefix, in order of key."""
    objects: dict[str, bytes] = {}
    async with s3_client(store) as client:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=store.bucket, Prefix=prefix
        )
        async for page in pages:
            for entry in page.get("Contents", []):
                answer = await client.get_object(Bucket=store.bucket, Key=entry["Key"])
                objects[entry["Key"]] = await answer["Body"].read()
    return dict(sorted(objects.items()))
