"""The bucket, on a real S3 server: created once, never replaced, and errors that help."""

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from auditbot.checks import checks, probe_destination
from auditbot.probing import probe_stream
from auditbot.storage.open import open_store, probe
from auditbot.storage.port import ObjectStore
from auditbot.storage.s3 import S3Store
from common.config.schema import (
    S3,
    Appservice,
    Auditbot,
    Config,
    Encryption,
    Homeserver,
)
from common.config.secret import Secret
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from common.errors import PermanentError, TransientError

ONE, TWO = b"one", b"two"
WRITER = ("Read", "Write", "List")
"""What the archive needs; an admin's key would make a missing bucket by itself."""


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    directory: Path = tmp_path_factory.mktemp("seaweedfs")
    async with SeaweedFS(SeaweedFSSpec(directory=directory, actions=WRITER)) as running:
        yield running


def settings(server: SeaweedFS, **other: Any) -> S3:
    values: dict[str, Any] = {
        "endpoint_url": server.endpoint_url,
        "region": server.region,
        "access_key_id": Secret(server.access_key_id),
        "secret_access_key": server.secret_access_key,
        "path_style": True,
    }
    return S3(**(values | other))


@pytest.fixture
async def store(server: SeaweedFS) -> AsyncIterator[ObjectStore]:
    prefix = secrets.token_hex(6)
    opened = open_store(f"s3://{server.bucket}/{prefix}", settings(server))
    yield opened
    await opened.close()


async def test_an_object_reads_back_below_its_prefix(
    store: ObjectStore, server: SeaweedFS
) -> None:
    await store.put("v1/a/1", ONE, digest(ONE))
    await store.put("v1/a/2", TWO, digest(TWO))

    assert await store.get("v1/a/2") == TWO
    assert [key async for key in store.list("v1/")] == ["v1/a/1", "v1/a/2"]
    whole = open_store(f"s3://{server.bucket}", settings(server))
    keys = [key async for key in whole.list("")]
    assert any(key.endswith("/v1/a/1") and not key.startswith("v1/") for key in keys)
    await whole.close()


async def test_the_same_bytes_again_are_success_and_others_are_refused(
    store: ObjectStore,
) -> None:
    await store.put("a/1", ONE, digest(ONE))
    await store.put("a/1", ONE, digest(ONE))

    with pytest.raises(PermanentError, match="other bytes"):
        await store.put("a/1", TWO, digest(TWO))

    assert await store.get("a/1") == ONE


async def test_a_wrong_checksum_is_refused_before_sending(store: ObjectStore) -> None:
    with pytest.raises(PermanentError, match="checksum"):
        await store.put("a/1", ONE, digest(TWO))

    with pytest.raises(PermanentError, match="no “a/1”"):
        await store.get("a/1")


async def test_the_server_too_refuses_bytes_that_differ_from_their_checksum(
    store: ObjectStore, server: SeaweedFS
) -> None:
    assert isinstance(store, S3Store)
    client = await store._connected()

    with pytest.raises(ClientError, match=r"BadDigest|checksum"):
        await client.put_object(
            Bucket=server.bucket,
            Key="damaged",
            Body=ONE,
            ChecksumSHA256=base64.b64encode(hashlib.sha256(TWO).digest()).decode(),
        )
    assert await store.refuses_damage("probe")
    probed = await probe_stream(store, now_ms=0)
    assert (probed.conditional_create, probed.checksum) == (True, True)
    assert [key async for key in store.list("")] == []


async def test_many_objects_are_listed_over_pages_in_order(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(store, S3Store)
    for number in range(7):
        await store.put(f"p/{number}", ONE, digest(ONE))
    client = cast(Any, await store._connected())
    whole_list = client.list_objects_v2

    async def two_at_a_time(**arguments: Any) -> Any:
        return await whole_list(MaxKeys=2, **arguments)

    monkeypatch.setattr(client, "list_objects_v2", two_at_a_time)

    assert [key async for key in store.list("p/")] == [f"p/{number}" for number in range(7)]


async def test_an_object_of_some_megabytes_passes(store: ObjectStore) -> None:
    body = bytes(range(256)) * 40_000

    await store.put("large", body, digest(body))

    assert await store.get("large") == body


async def test_the_probe_finds_a_store_that_never_replaces(store: ObjectStore) -> None:
    assert (await probe(store)).create_only

    assert [key async for key in store.list("")] == []


async def refusal(destination: str, s3: S3) -> str:
    store = open_store(destination, s3)
    try:
        with pytest.raises(PermanentError) as caught:
            await store.put("a", ONE, digest(ONE))
    finally:
        await store.close()
    secret = s3.secret_access_key
    assert secret is None or secret.reveal() not in str(caught.value)
    assert s3.access_key_id is None or s3.access_key_id.reveal() not in str(caught.value)
    return str(caught.value)


async def test_a_wrong_secret_names_the_setting(server: SeaweedFS) -> None:
    wrong = settings(server, secret_access_key=Secret("0" * 40))

    sentence = await refusal(f"s3://{server.bucket}", wrong)

    assert "auditbot.s3.secret_access_key" in sentence
    assert server.bucket in sentence


async def test_an_unknown_key_names_the_setting(server: SeaweedFS) -> None:
    wrong = settings(server, access_key_id=Secret("nobody"))

    assert "auditbot.s3.access_key_id" in await refusal(f"s3://{server.bucket}", wrong)


async def test_a_missing_bucket_is_named_with_what_to_do(server: SeaweedFS) -> None:
    sentence = await refusal("s3://elsewhere/prefix", settings(server))

    # The server does not tell a mere writer which of the two it is.
    assert "“elsewhere”" in sentence
    assert "exists" in sentence


async def test_missing_credentials_name_the_settings(
    server: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    none = settings(server, access_key_id=None, secret_access_key=None)

    assert "auditbot.s3.access_key_id" in await refusal(f"s3://{server.bucket}", none)


async def test_a_server_that_is_away_is_a_passing_trouble_and_loses_nothing(
    tmp_path: Path,
) -> None:
    async with SeaweedFS(SeaweedFSSpec(directory=tmp_path)) as server:
        store = open_store(f"s3://{server.bucket}/p", settings(server))
        await store.put("a/1", ONE, digest(ONE))
        await server.kill()

        with pytest.raises(TransientError, match="cannot be reached"):
            await store.put("a/2", TWO, digest(TWO))

        await server.restart()
        await store.put("a/1", ONE, digest(ONE))
        await store.put("a/2", TWO, digest(TWO))
        assert [key async for key in store.list("a/")] == ["a/1", "a/2"]
        await store.close()


def config(destination: str | None, s3: S3) -> Config:
    return Config(
        homeserver=Homeserver(url="http://127.0.0.1:1", server_name="example.org"),
        appservice=Appservice(as_token=Secret("a"), hs_token=Secret("b")),
        encryption=Encryption(pickle_key=Secret("c")),
        auditbot=Auditbot(destination=destination, s3=s3),
    )


async def test_the_doctor_hears_what_to_mend(server: SeaweedFS, tmp_path: Path) -> None:
    good = settings(server)

    assert await probe_destination(config(f"s3://{server.bucket}/d", good)) is None
    assert await probe_destination(config(f"file:{tmp_path / 'archive'}", good)) is None
    assert await probe_destination(config(None, good)) is None
    found = await probe_destination(config("s3://elsewhere", good))
    assert found is not None
    assert "create it" in found
    (line,) = await checks(config("s3://elsewhere", good))
    assert (line.ok, line.mend) == (False, found)
    (line,) = await checks(config(f"s3://{server.bucket}/d", good))
    assert line.ok is True
    (line,) = await checks(config(None, good))
    assert line.ok is None
