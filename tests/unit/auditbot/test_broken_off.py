"""A store whose answer ends before its end: that passes, and nobody's process ends for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from auditbot.storage.addressing import Origin
from auditbot.storage.s3 import S3Store
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from common.config.secret import Secret
from common.demo.process import LOOPBACK
from common.errors import TransientError

PROMISED, GIVEN = 3 * 2**20, 2**20 + 5


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promise a body and give less of it, as a proxy does whose own source went away."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(
        f"HTTP/1.1 200 OK\r\nContent-Length: {PROMISED}\r\nConnection: close\r\n\r\n".encode()
    )
    if not head.startswith(b"HEAD"):
        writer.write(b"x" * GIVEN)
    await writer.drain()
    writer.close()


@pytest.fixture
async def settings() -> AsyncIterator[S3]:
    server = await asyncio.start_server(_answer, LOOPBACK, 0)
    async with server:
        yield S3(
            endpoint_url=f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}",
            access_key_id=Secret("key"),
            secret_access_key=Secret("secret"),
            path_style=True,
        )


@pytest.mark.parametrize("question", ["get", "look"])
async def test_the_writer_takes_it_for_a_passing_trouble(settings: S3, question: str) -> None:
    store = S3Store("bucket", "", settings)
    try:
        with pytest.raises(TransientError, match=r"broke off in the middle of “k”.*try again"):
            await getattr(store, question)("k")
    finally:
        await store.close()


async def test_a_reader_is_told_what_to_do(settings: S3) -> None:
    place = S3Place("bucket", "", settings, Origin("--destination"))
    try:
        with pytest.raises(TransientError, match=r"broke off in the middle of “k”.*try again"):
            await place.get("k")
    finally:
        await place.close()
