"""What is said when nothing can be added, and of which settings."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.access.settings import FILE, VARIABLE, access_place
from auditbot.reader.memory import private_directory, write_private
from auditbot.storage.adding import DirectoryAdding, RefusedError, TakenKeyError
from auditbot.storage.addressing import Origin
from auditbot.storage.s3_derived import S3Derived
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from common.config.secret import Secret
from common.errors import PermanentError, TransientError


@pytest.mark.parametrize("file", ["log", "log/access", "log/access/entries"])
def test_a_file_where_a_folder_should_be_is_no_entry_that_is_there(
    tmp_path: Path, file: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"")
    adding = DirectoryAdding(tmp_path / "log")

    with pytest.raises(PermanentError, match="is a file: move that away") as caught:
        adding.create("access/entries/a.json", b"x")
    assert not isinstance(caught.value, TakenKeyError)


def test_what_was_created_in_a_folder_that_cannot_be_read_was_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def hidden(path: Any, flags: int, *arguments: Any) -> int:
        # As a folder with the mode -wx is to whoever is not root.
        if flags & os.O_DIRECTORY:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *arguments)

    monkeypatch.setattr(os, "open", hidden)
    adding = DirectoryAdding(tmp_path)
    with pytest.raises(PermanentError, match="may not be read by this user") as caught:
        adding.create("access/a.json", b"x")

    assert not isinstance(caught.value, RefusedError)
    assert (tmp_path / "access" / "a.json").read_bytes() == b"x"


@dataclass
class Folders:
    """Which folders are synced, and what is in the way of that."""

    unreadable: set[Path] = field(default_factory=set)
    error: int = 0
    synced: list[Path] = field(default_factory=list)
    everything: int = 0


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Stand between the code and the folders: who runs the tests may be root, who reads them all."""
    watched = Folders()
    real_open, real_sync = os.open, os.fsync

    def opens(path: Any, flags: int, *arguments: Any) -> int:
        if flags & os.O_DIRECTORY and Path(path) in watched.unreadable:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, flags, *arguments)

    def syncs(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            if watched.error:
                raise OSError(watched.error, os.strerror(watched.error))
            watched.synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        real_sync(handle)

    def everything() -> None:
        watched.everything += 1

    monkeypatch.setattr(os, "open", opens)
    monkeypatch.setattr(os, "fsync", syncs)
    monkeypatch.setattr(os, "sync", everything)
    return watched


def test_a_parent_of_others_stops_no_entry(tmp_path: Path, folders: Folders) -> None:
    log = tmp_path / "log"
    log.mkdir()
    folders.unreadable = {tmp_path}

    DirectoryAdding(log).create("access/entries/a.json", b"x")

    assert folders.synced == [log / "access" / "entries", log / "access", log]
    assert folders.everything == 0
    folders.unreadable = {log}
    with pytest.raises(PermanentError, match="may not be read by this user"):
        DirectoryAdding(log).create("access/entries/b.json", b"x")


def test_each_folder_that_was_made_survives_a_power_cut(tmp_path: Path, folders: Folders) -> None:
    log = tmp_path / "far" / "away" / "log"
    DirectoryAdding(log).create("access/a.json", b"x")
    assert set(folders.synced) == {log / "access", log, *log.parents[:3]}

    # Of what is there nobody knows whether the run that made it was killed before it was synced.
    folders.synced.clear()
    DirectoryAdding(log).create("access/b.json", b"x")
    assert set(folders.synced) == {log / "access", log, log.parent}

    folders.unreadable = {tmp_path}
    DirectoryAdding(tmp_path / "other").create("access/a.json", b"x")
    assert folders.everything == 1


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
def test_only_a_file_system_that_can_sync_folders_is_tried_again(
    tmp_path: Path, folders: Folders, error: int
) -> None:
    folders.error = error
    log = DirectoryAdding(tmp_path / "log")
    if error == errno.EINVAL:
        log.create("access/a.json", b"x")
        private_directory(tmp_path / "home")
        write_private(tmp_path / "home" / "file", b"x")
    else:
        with pytest.raises(TransientError, match="cannot be synced"):
            log.create("access/a.json", b"x")
        with pytest.raises(PermanentError, match="cannot be used"):
            private_directory(tmp_path / "home")
    assert (tmp_path / "log" / "access" / "a.json").read_bytes() == b"x"


def test_a_home_can_be_made_where_its_user_may_not_look_around(
    tmp_path: Path, folders: Folders
) -> None:
    folders.unreadable = {tmp_path}

    private_directory(tmp_path / "home" / "access")

    assert (tmp_path / "home" / "access").stat().st_mode & 0o777 == 0o700
    assert folders.everything == 1
    assert folders.synced == [tmp_path / "home"]


def configured(home: Path, text: str) -> None:
    home.mkdir(exist_ok=True)
    (home / FILE).write_text(text)
    (home / FILE).chmod(0o600)


def test_the_sentence_names_where_the_setting_stands(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    configured(tmp_path, f"place: s3://log\nca_file: {missing}\n")
    where = access_place(None, tmp_path, S3(), {})
    assert where is not None
    with pytest.raises(PermanentError) as caught:
        where.adding().create("access/a", b"x")

    assert str(missing) in str(caught.value)
    assert f"which ca_file in “{tmp_path / FILE}” names, cannot be read" in str(caught.value)
    assert "auditbot" not in str(caught.value)
    configured(tmp_path, "place: s3://log\nprofile: other\n")
    where = access_place(None, tmp_path, S3(ca_file=str(missing)), {})
    assert where is not None
    with pytest.raises(PermanentError, match=r"which auditbot\.s3\.ca_file names"):
        where.adding().create("access/a", b"x")
    origin = where.origin
    assert origin.place == f"“place” in “{tmp_path / FILE}”"
    assert origin.named("region") == f"region in “{tmp_path / FILE}”"
    assert origin.credential("access_key_id") == "the access_key_id of the profile “other”"
    for given, environ, named in (
        ("s3://log", {}, "--access-log"),
        (None, {VARIABLE: "s3://log"}, VARIABLE),
    ):
        where = access_place(given, tmp_path, S3(), environ)
        assert where is not None
        assert where.origin.place == named


async def test_an_authority_that_is_not_there_is_no_store_that_is_away(tmp_path: Path) -> None:
    settings = S3(
        endpoint_url="https://127.0.0.1:9",
        access_key_id=Secret("a"),
        secret_access_key=Secret("b"),
        ca_file=str(tmp_path / "missing.pem"),
    )
    origin = Origin("--destination", "{} in “a file”")
    file = tmp_path / "copy"
    file.write_bytes(b"x")
    derived = S3Derived("archive", "", settings, origin)
    place = S3Place("archive", "", settings, origin)
    key = "v1/example.org/derived/parquet/dt=2026-01-01/a"
    for asked in (derived.put(key, file), derived.delete(key), place.get("a")):
        with pytest.raises(
            PermanentError, match="which ca_file in “a file” names, cannot be read"
        ):
            await asked
    await derived.close()
    await place.close()
