"""Both ways to name a bucket, in the path and in the host name, from the first byte to the proof."""

import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.open import open_store, probe
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from common.config.secret import Secret
from common.demo.process import LOOPBACK
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from tests.support.archive_maker import make_archive

DOMAIN = "s3.localhost"
LARGE = 24 * 2**20
"""Bytes of a file that is stored in parts."""


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    directory: Path = tmp_path_factory.mktemp("seaweedfs")
    async with SeaweedFS(SeaweedFSSpec(directory=directory, domain=DOMAIN)) as running:
        yield running


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the host names that are looked up; those below “localhost” are this machine.

    RFC 6761, section 6.3, has every resolver do that, and not every machine's does.
    """
    names: set[str] = set()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(host, str) or not host.endswith(".localhost"):
            return look_up(host, *args, **kwargs)
        names.add(host)
        return look_up(LOOPBACK, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.mark.parametrize(
    ("path_style", "host"), [(True, DOMAIN), (False, f"archive.{DOMAIN}")], ids=["path", "host"]
)
async def test_an_archive_is_stored_and_proved_either_way(
    server: SeaweedFS, asked: set[str], tmp_path: Path, path_style: bool, host: str
) -> None:
    settings = S3(
        endpoint_url=f"http://{DOMAIN}:{server.spec.ports[0]}",
        region=server.region,
        access_key_id=Secret(server.access_key_id),
        secret_access_key=server.secret_access_key,
        path_style=path_style,
    )
    prefix = "path" if path_style else "host"
    maker = make_archive(tmp_path / "archive")
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * (LARGE // 16))

    store = open_store(f"s3://{server.bucket}/{prefix}", settings)
    await probe(store)
    for path in sorted(maker.root.rglob("*")):
        if path.is_file():
            body = path.read_bytes()
            key = path.relative_to(maker.root).as_posix()
            await store.put(key, body, hashlib.sha256(body).hexdigest())
    await store.put_file("large", large, hashlib.sha256(large.read_bytes()).hexdigest())
    assert await store.get("large") == large.read_bytes()
    await store.delete("large")
    assert [key async for key in store.list("large")] == []
    await store.close()

    place = S3Place(server.bucket, prefix, settings)
    try:
        (result,) = await verify(
            place, Options(now_ms=maker.now_ms, destination=f"s3://{server.bucket}/{prefix}")
        )
    finally:
        await place.close()
    assert result.findings.found == []
    assert result.records == result.listed_records > 0
    assert asked == {host}
