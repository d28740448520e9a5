"""The drill passes only what can be restored with every key, and leaves proof of what it did."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pyrage
import pytest

from auditbot.reader.cli import main
from common.database.pool import Database
from common.errors import ConfigError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import TODAY, Office, retain

Drill = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
def officers(tmp_path: Path) -> dict[str, Path]:
    """Return identity files: of the officer, of the escrow, and of somebody else."""
    files = {}
    for name in ("officer", "escrow", "stranger"):
        files[name] = tmp_path / f"{name}.key"
        files[name].write_text(f"# of the {name}\n{pyrage.x25519.Identity.generate()}\n")
    return files


def public(path: Path) -> str:
    secret = path.read_text().split("\n")[1]
    return str(pyrage.x25519.Identity.from_str(secret).to_public())


@pytest.fixture
async def sealed(database: Database, tmp_path: Path, officers: dict[str, Path]) -> Office:
    """An archive that is encrypted to the officer and the escrow."""
    office = Office(database, tmp_path)
    office.world.recipients = (public(officers["officer"]), public(officers["escrow"]))
    office.start()
    await _tell(office)
    return office


@pytest.fixture
async def plain(database: Database, tmp_path: Path) -> Office:
    office = Office(database, tmp_path)
    await _tell(office)
    return office


async def _tell(office: Office) -> None:
    office.files.held["mxc://example.org/a"] = PNG
    await office.say(*new_room("@bob:example.org"), message("$1"), image("$image"))
    await office.store()
    office.at(TODAY)
    await office.say(message("$today", "said today"))
    await office.store()


@pytest.fixture
def drill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Drill:
    async def run(*identities: Path, words: tuple[str, ...] = ()) -> tuple[int, str, str]:
        proof = tmp_path / "proof.txt"
        given = [
            "drill",
            f"--destination=file:{tmp_path / 'archive'}",
            f"--home={tmp_path / 'home'}",
            f"--output={proof}",
            *(f"--identity={path}" for path in identities),
            *words,
        ]
        status = await asyncio.to_thread(main, given)
        return status, capsys.readouterr().out, proof.read_text() if proof.exists() else ""

    return run


async def test_every_key_opens_every_object_alone(
    sealed: Office, drill: Drill, officers: dict[str, Path], tmp_path: Path
) -> None:
    words = ("--objects=20",)
    status, said, proof = await drill(officers["officer"], officers["escrow"], words=words)

    assert status == 0
    assert said.startswith("PASSED: ")
    assert "not tried" not in said
    assert "Result           PASSED" in proof
    events = [key for key in sealed.objects() if "/events/" in key]
    media = [key for key in sealed.objects() if "/media/" in key]
    count = len(events) + len(media)
    assert count > 2
    assert proof.count(f"opened {count} of {count} objects alone") == 2
    for key in (*events, *media):
        assert f"   {key}\n" in proof
        assert hashlib.sha256(sealed.objects()[key]).hexdigest() in proof
    assert "records are those of the signed tree" in proof
    assert "NOT COMPARED with a fingerprint" in proof
    assert "AGE-SECRET-KEY" not in proof + said
    written = tmp_path / "proof.txt"
    assert written.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(written.read_bytes()).hexdigest() in said
    assert b'"what": "drill"' in (tmp_path / "home" / "access.jsonl").read_bytes()


async def test_a_key_that_opens_nothing_fails(
    sealed: Office, drill: Drill, officers: dict[str, Path]
) -> None:
    count = len([key for key in sealed.objects() if key.endswith(".age")])
    words = ("--objects=20",)
    status, said, proof = await drill(officers["officer"], officers["stranger"], words=words)

    assert status == 1
    assert "FAILED" in said
    assert f"not tried: {public(officers['escrow'])}" in said
    assert f"opened {count} of {count} objects alone" in proof
    assert f"opened 0 of {count} objects alone" in proof
    assert f"{public(officers['stranger'])}, NOT one it is encrypted to now" in proof
    assert f"FAILED    opened with {public(officers['stranger'])}" in proof


async def test_an_object_that_was_changed_fails_with_every_key(
    sealed: Office, drill: Drill, officers: dict[str, Path], tmp_path: Path
) -> None:
    key = next(key for key in sealed.objects() if "/events/" in key)
    path = tmp_path / "archive" / key
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))

    status, said, proof = await drill(officers["officer"])

    assert status == 1
    assert f"{key}: “{key}” cannot be decrypted" in said
    assert "Result           FAILED" in proof


async def test_a_plain_archive_is_restored_without_keys(plain: Office, drill: Drill) -> None:
    status, said, proof = await drill(words=("--seed=x", "--objects=1"))
    again = await drill(words=("--seed=x", "--objects=1", "--force"))

    assert status == 0
    assert said.startswith("PASSED: 2 objects, 0 keys.")
    assert "no key is needed to read it" in proof

    def taken(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("   v1/")]

    assert taken(again[2]) == taken(proof)
    changed = next(key for key in plain.objects() if "/media/" in key)
    (plain.world.directory / "archive" / changed).write_bytes(b"other")
    status, said, _ = await drill(words=("--objects=5", "--force"))
    assert status == 1
    assert f"{changed}: It is not the file that its manifest lists" in said


async def test_what_was_deleted_on_purpose_is_not_taken(plain: Office, drill: Drill) -> None:
    await retain(plain)
    await plain.store()
    gone = set(plain.objects())

    status, _, proof = await drill(words=("--objects=9",))

    assert status == 0
    assert {line.strip() for line in proof.splitlines() if line.startswith("   v1/")} <= gone


async def test_a_changed_signature_fails_although_objects_can_be_read(
    plain: Office, drill: Drill
) -> None:
    key = next(key for key in plain.objects() if "/manifests/" in key and key.endswith(".sig"))
    (plain.world.directory / "archive" / key).write_bytes(bytes(64))

    status, said, _ = await drill()

    assert status == 1
    assert "WRONG: this is not the archive that was written" in said


async def test_without_a_key_an_encrypted_archive_is_no_drill(
    sealed: Office, drill: Drill, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--identity"):
        await drill()
    (sealed.world.directory / "archive").rename(tmp_path / "elsewhere")
    assert (await drill())[0] == 2
