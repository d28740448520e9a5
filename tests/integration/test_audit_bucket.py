"""An archive in a real bucket: read by version, so that nobody can hide what was stored."""

import secrets
import shutil
from pathlib import Path

import pyrage
import pytest
from types_aiobotocore_s3 import S3Client

from auditbot.reader.conversation import load
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace, MissingObjectError, TooLargeError
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from common.config.secret import Secret
from common.demo.servers import SeaweedFS
from common.errors import PermanentError, TransientError
from tests.support.archive_maker import Maker, make_archive
from tests.support.s3 import s3_client


def place(store: SeaweedFS, bucket: str, prefix: str = "audit") -> S3Place:
    settings = S3(
        endpoint_url=store.endpoint_url,
        access_key_id=Secret(store.access_key_id),
        secret_access_key=store.secret_access_key,
        path_style=True,
    )
    return S3Place(bucket, prefix, settings)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def upload(client: S3Client, bucket: str, root: Path) -> dict[str, str]:
    """Store every file of a directory below “audit”; return what the store calls them."""
    versions = {}
    for path in files(root):
        key = path.relative_to(root).as_posix()
        answer = await client.put_object(Bucket=bucket, Key=f"audit/{key}", Body=path.read_bytes())
        if "VersionId" in answer:
            versions[key] = answer["VersionId"]
    return versions


async def checked(store: SeaweedFS, bucket: str, maker: Maker) -> Verified:
    opened = place(store, bucket)
    try:
        (result,) = await verify(opened, Options(now_ms=maker.now_ms, destination="s3://a/audit"))
    finally:
        await opened.close()
    return result


async def test_what_was_stored_is_found_under_what_was_written_over_it(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    bucket = f"versions-{secrets.token_hex(4)}"
    first = make_archive(tmp_path / "first")
    async with s3_client(seaweedfs) as client:
        await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        named = await upload(client, bucket, first.root)
        objects = {key: name for key, name in named.items() if "/events/" in key}
        maker = make_archive(tmp_path / "second", objects)
        for folder in ("manifests", "checkpoints", "keys", "state", "media"):
            source = maker.root / maker.base / folder
            for path in files(source):
                key = f"audit/{path.relative_to(maker.root).as_posix()}"
                await client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        await client.put_object(
            Bucket=bucket, Key=f"audit/{maker.segments[0]}", Body=b"written over it"
        )
        await client.delete_object(Bucket=bucket, Key=f"audit/{maker.segments[1]}")

    result = await checked(seaweedfs, bucket, maker)

    found = {(item.code, item.key) for item in result.findings.of(Severity.WRONG)}
    assert ("overwritten", maker.segments[0]) in found
    assert ("hidden", maker.segments[1]) in found
    # All three were read, in the versions that the manifests name.
    assert (result.objects, result.records) == (3, 13)


async def test_an_end_that_was_hidden_behind_delete_markers_is_found(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    """The one thing that a lock keeps nobody from, with the hint of before put back."""
    bucket = "hidden"
    maker = make_archive(tmp_path / "archive")
    newest = maker.manifests[-1]
    note = max((maker.root / maker.base / "checkpoints").iterdir())
    ending = [newest, newest.replace(".json", ".sig"), maker.segments[-1]]
    ending.append(note.relative_to(maker.root).as_posix())
    async with s3_client(seaweedfs) as client:
        await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        await upload(client, bucket, maker.root)
        for key in ending:
            await client.delete_object(Bucket=bucket, Key=f"audit/{key}")
        await client.put_object(
            Bucket=bucket, Key=f"audit/{maker.base}/state/head.json", Body=maker.heads[-2]
        )

    result = await checked(seaweedfs, bucket, maker)

    hidden = {i.key for i in result.findings.of(Severity.WRONG) if i.code == "hidden"}
    assert hidden >= set(ending)


async def test_a_bucket_without_versions_is_verified_and_searched(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    bucket = f"plain-{secrets.token_hex(4)}"
    maker = make_archive(tmp_path / "archive")
    async with s3_client(seaweedfs) as client:
        await client.create_bucket(Bucket=bucket)
        await upload(client, bucket, maker.root)
    result = await checked(seaweedfs, bucket, maker)
    library = Library(tmp_path / "cache")
    opened = place(seaweedfs, bucket)
    done = await sync(opened, library, lambda _: Remembered())

    assert not result.findings.found
    assert (result.objects, result.media) == (3, 1)
    assert (done.segments, done.faults) == (3, [])
    assert len(load(library, search(library, Query(text="message 5")))) == 1
    with pytest.raises(MissingObjectError):
        await opened.get("v1/nothing")
    with pytest.raises(TooLargeError):
        await opened.get(maker.segments[0], most_bytes=10)
    await opened.close()
    library.close()


async def test_a_bucket_that_cannot_be_read_says_so(seaweedfs: SeaweedFS) -> None:
    wrong = S3Place(
        "archive",
        "",
        S3(
            endpoint_url=seaweedfs.endpoint_url,
            access_key_id=Secret("unknown"),
            secret_access_key=Secret("wrong"),
            path_style=True,
        ),
    )
    with pytest.raises(PermanentError, match="access_key_id"):
        await verify(wrong, Options(now_ms=0))
    await wrong.close()
    away = S3Place("archive", "", S3(endpoint_url="http://127.0.0.1:9", path_style=True))
    with pytest.raises((TransientError, PermanentError), match=r"127\.0\.0\.1:9"):
        await verify(away, Options(now_ms=0))
    await away.close()


async def test_an_encrypted_archive_is_verified_outside_and_read_with_the_identity(
    tmp_path: Path,
) -> None:
    identity = pyrage.x25519.Identity.generate()
    maker = Sealed(tmp_path / "archive", recipient=identity.to_public())
    maker.publish_key()
    maker.message("secret plans")
    maker.segment(".age")
    maker.manifest(encryption={"scheme": "age", "recipients": "keys/x"})
    opened = DirectoryPlace(maker.root)

    (outside,) = await verify(opened, Options(now_ms=maker.now_ms))
    (inside,) = await verify(opened, Options(now_ms=maker.now_ms, identities=(str(identity),)))
    library = Library(tmp_path / "cache", (str(identity),))
    done = await sync(opened, library, lambda _: Remembered())

    assert (outside.outside_only, inside.outside_only, inside.records) == (1, 0, 1)
    assert not outside.findings.found + inside.findings.found
    assert done.faults == []
    assert len(search(library, Query(text="plans"))) == 1
    assert b"secret" not in b"".join(
        path.read_bytes() for path in (library.folder / "objects").rglob("*") if path.is_file()
    )
    library.close()
    other = Library(tmp_path / "other", (str(pyrage.x25519.Identity.generate()),))
    refused = await sync(opened, other, lambda _: Remembered())
    assert "None of the identities that you named opens" in refused.faults[0]
    other.close()
    shutil.rmtree(maker.root)


class Sealed(Maker):
    """A maker that encrypts its segments."""

    def __init__(self, root: Path, *, recipient: object) -> None:
        super().__init__(root)
        self._recipient = recipient

    def packed(self, lines: list[bytes]) -> bytes:
        return bytes(pyrage.encrypt(super().packed(lines), [self._recipient]))
