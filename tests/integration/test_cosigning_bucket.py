"""Cosignatures in a real bucket: added by who may only add, read by who may only read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auditbot.reader.cli import main
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from tests.support.archive_maker import Maker, fingerprint, key_number, make_archive
from tests.support.s3 import s3_client

BUCKET = "cosignatures"
ADDS = ("adds-only", "secret-of-who-adds")
READS = ("reads-only", "secret-of-who-reads")
KEY = ("--key", fingerprint(key_number(1)))


def identity(name: str, keys: tuple[str, str], *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
    return {"name": name, "credentials": credentials, "actions": list(actions)}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    others = (
        identity("cosigner", ADDS, f"Write:{BUCKET}"),
        identity("verifier", READS, f"Read:{BUCKET}", f"List:{BUCKET}"),
    )
    spec = SeaweedFSSpec(directory=tmp_path_factory.mktemp("seaweedfs"), others=others)
    async with SeaweedFS(spec) as running:
        async with s3_client(running) as client:
            await client.create_bucket(Bucket=BUCKET)
            await client.put_bucket_versioning(
                Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
            )
        yield running


async def types(maker: Maker, home: Path, *words: str) -> int:
    options = [f"--destination=file:{maker.root}", f"--home={home}"]
    return await asyncio.to_thread(main, [*words, *options])


def configure(home: Path, server: SeaweedFS, keys: tuple[str, str] | None) -> None:
    settings = {"endpoint_url": server.endpoint_url, "place": f"s3://{BUCKET}/of/example"}
    if keys is not None:
        settings |= {"access_key_id": keys[0], "secret_access_key": keys[1]}
    home.mkdir(exist_ok=True)
    file = home / "cosign.yaml"
    file.write_text(json.dumps(settings))
    file.chmod(0o600)


async def test_who_may_only_add_cosigns_and_who_may_only_read_verifies(
    server: SeaweedFS,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = make_archive(tmp_path / "archive")
    auditor, officer = tmp_path / "auditor", tmp_path / "officer"
    assert await types(maker, auditor, "cosign", "--new", "auditor.example.com") == 0
    key = capsys.readouterr().out.splitlines()[-1].strip()
    configure(auditor, server, READS)
    assert await types(maker, auditor, "cosign", *KEY) == 2
    assert "needs credentials that may create objects there" in capsys.readouterr().err
    configure(auditor, server, ADDS)
    assert await types(maker, auditor, "cosign", *KEY) == 0, capsys.readouterr().err

    # Who verifies reads with the credentials that read archives, from the usual chain.
    configure(officer, server, None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READS[1])
    capsys.readouterr()
    assert await types(maker, officer, "verify", *KEY, "--cosigned-by", key) == 0
    assert "1 time by auditor.example.com" in capsys.readouterr().out

    async with s3_client(server) as client:
        (found,) = (await client.list_objects_v2(Bucket=BUCKET))["Contents"]
        name = found["Key"]
        await client.put_object(Bucket=BUCKET, Key=name, Body=b"something else")
        assert await types(maker, officer, "verify", *KEY, "--cosigned-by", key) == 1
        said = capsys.readouterr().out
        assert "Something was written over this cosignature" in said
        assert "1 time by auditor.example.com" in said, "what was there first is read"
        await client.delete_object(Bucket=BUCKET, Key=name)
    assert await types(maker, officer, "verify", *KEY, "--cosigned-by", key) == 1
    assert "This cosignature was deleted" in capsys.readouterr().out
