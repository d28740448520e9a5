"""A directory holds each object whole or not at all, once, for its owner only."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from auditbot.storage.directory import DirectoryStore
from auditbot.storage.open import open_store, probe
from auditbot.storage.s3 import S3Store
from common.config.schema import S3
from common.errors import ConfigError, PermanentError, TransientError


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "archive")


async def test_an_object_reads_back_and_is_listed_in_order(store: DirectoryStore) -> None:
    for key in ("v1/b/2", "v1/a/1", "v1/b/1", "w/1"):
        await store.put(key, key.encode(), digest(key.encode()))

    assert await store.get("v1/b/2") == b"v1/b/2"
    assert [key async for key in store.list("v1/")] == ["v1/a/1", "v1/b/1", "v1/b/2"]
    assert [key async for key in store.list("v1/b/2")] == ["v1/b/2"]
    assert [key async for key in store.list("nothing/")] == []


async def test_the_same_bytes_again_are_success_and_others_are_refused(
    store: DirectoryStore,
) -> None:
    await store.put("a/1", b"one", digest(b"one"))
    await store.put("a/1", b"one", digest(b"one"))

    with pytest.raises(PermanentError, match="other bytes"):
        await store.put("a/1", b"two", digest(b"two"))

    assert await store.get("a/1") == b"one"


async def test_of_two_writers_at_the_same_moment_the_first_one_wins(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("a/1", b"one", digest(b"one"))
    # The second one looked before the first one wrote.
    monkeypatch.setattr(Path, "exists", lambda _: False)

    with pytest.raises(PermanentError, match="other bytes"):
        await store.put("a/1", b"two", digest(b"two"))

    assert await store.get("a/1") == b"one"
    assert [key async for key in store.list("")] == ["a/1"]


async def test_a_wrong_checksum_writes_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="checksum"):
        await store.put("a/1", b"one", digest(b"two"))

    assert not (tmp_path / "archive").exists()


async def test_files_are_readable_for_their_owner_only(
    store: DirectoryStore, tmp_path: Path
) -> None:
    await store.put("a/b/1", b"one", digest(b"one"))

    file = tmp_path / "archive" / "a" / "b" / "1"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("key", ["../1", "/etc/passwd", "a/../../1", ""])
async def test_no_key_leads_out_of_the_directory(store: DirectoryStore, key: str) -> None:
    with pytest.raises(PermanentError):
        await store.put(key, b"one", digest(b"one"))


async def test_a_missing_object_is_named(store: DirectoryStore) -> None:
    with pytest.raises(PermanentError, match="a/1"):
        await store.get("a/1")


async def test_what_a_crash_left_half_written_is_no_object(
    store: DirectoryStore, tmp_path: Path
) -> None:
    await store.put("a/1", b"one", digest(b"one"))
    (tmp_path / "archive" / "a" / ".writing-x").write_bytes(b"half")

    assert [key async for key in store.list("")] == ["a/1"]


async def test_the_probe_leaves_nothing_behind(store: DirectoryStore) -> None:
    assert (await probe(store)).create_only

    assert [key async for key in store.list("")] == []


@pytest.mark.parametrize("place", ["file/archive", "/proc/nope"])
async def test_a_directory_that_cannot_be_made_is_named_with_what_to_do(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    store = DirectoryStore(tmp_path / place)

    with pytest.raises(PermanentError, match=r"cannot be made.*auditbot\.destination"):
        await probe(store)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
async def test_a_file_system_that_syncs_no_folders_keeps_objects_all_the_same(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(error, os.strerror(error))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)

    if error == errno.EIO:
        with pytest.raises(TransientError, match="cannot be used"):
            await store.put("a/1", b"one", digest(b"one"))
        return
    await store.put("a/1", b"one", digest(b"one"))
    await store.put("a/1", b"one", digest(b"one"))
    await store.replace("a/head", b"two")
    assert await store.get("a/1") == b"one"
    assert await store.get("a/head") == b"two"


async def test_a_folder_that_cannot_be_read_does_not_pass_for_an_empty_one(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("v1/a/1", b"one", digest(b"one"))
    await store.put("v1/b/1", b"one", digest(b"one"))
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # The tests may run as root, who may read everything.
    monkeypatch.setattr("os.scandir", refused)

    with pytest.raises(PermanentError, match="v1/a"):
        [key async for key in store.list("v1/")]


def test_destinations_are_directories_or_buckets() -> None:
    assert isinstance(open_store("file:archive", S3()), DirectoryStore)
    assert isinstance(open_store("file:///var/lib/archive", S3()), DirectoryStore)
    assert isinstance(open_store("s3://bucket/a/b", S3()), S3Store)


@pytest.mark.parametrize("destination", ["ftp://x", "file:", "s3:bucket", "s3://", "archive"])
def test_anything_else_is_refused_with_the_right_spelling(destination: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        open_store(destination, S3())
