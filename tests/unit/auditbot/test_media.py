"""Attachments: each is fetched, stored once, and said to be stored, or why not."""

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any, cast

import pyrage
import pytest

from auditbot import media
from auditbot.bot import Auditbot
from auditbot.clear_folder import clear_folder, sweep
from auditbot.media import MediaKeeper
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.layout import is_media
from common.crypto.attachments import EncryptedFile, decrypt_stream, encrypt_stream
from common.database.pool import Database
from common.errors import PermanentError, TransientError
from common.matrix.client import MatrixError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import (
    NOON,
    ScriptedDecryption,
    StoppedClock,
    entries,
    event,
    new_room,
)
from tests.unit.auditbot.builders import encrypted as encrypted_event
from tests.unit.auditbot.world import World

MINUTE_MS = 60_000
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@dataclass
class ScriptedFiles:
    """A homeserver's files; a trouble is raised as often as it says."""

    held: dict[str, bytes] = field(default_factory=dict)
    troubles: list[Exception] = field(default_factory=list)
    asked: int = 0

    async def download(self, content_uri: object) -> AsyncIterator[bytes]:
        self.asked += 1
        if self.troubles:
            raise self.troubles.pop(0)
        if content_uri not in self.held:
            raise MatrixError(404, "M_NOT_FOUND", "no")
        body = self.held[str(content_uri)]
        for at in range(0, len(body), 50):
            yield body[at : at + 50]

    async def read_file(self, content: Any) -> AsyncIterator[bytes]:
        if "file" in content:
            file = EncryptedFile.parse(content["file"])
            async for portion in decrypt_stream(self.download(file.url), file):
                yield portion
            return
        async for portion in self.download(content["url"]):
            yield portion


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, StoppedClock(NOON))


def started(world: World, files: ScriptedFiles) -> tuple[Auditbot, MediaKeeper]:
    bot = cast(Auditbot, world.restart())
    assert bot.media is not None
    bot.media.files = files
    bot.media.again_after_ms = (1000, 1000)
    return bot, bot.media


def image(event_id: str, url: str = "mxc://example.org/a", **more: object) -> bytes:
    return event(event_id, {"msgtype": "m.image", "body": "a.png", "url": url, **more})


async def found(world: World) -> list[dict[str, Any]]:
    return await world.events("media")


def stored(world: World) -> dict[str, bytes]:
    root = world.directory / "archive"
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("media/*/*")
    }


async def test_a_file_in_two_messages_is_one_object_and_two_records(world: World) -> None:
    files = ScriptedFiles({"mxc://example.org/a": PNG, "mxc://example.org/b": PNG})
    bot, keeper = started(world, files)
    sent = [*new_room(), image("$1"), image("$2"), image("$3", "mxc://example.org/b")]
    await world.give(bot, entries(sent))
    await keeper.step()

    records = await found(world)
    events = {record["seq"]: record for record in await world.events()}

    digest = hashlib.sha256(PNG).hexdigest()
    key = f"v1/example.org/media/{digest[:2]}/{digest}"
    assert stored(world) == {key: PNG}
    assert sorted(record["media_status"] for record in records) == [
        "duplicate",
        "duplicate",
        "stored",
    ]
    for record in records:
        assert (record["media_key"], record["media_sha256"]) == (key, digest)
        assert (record["media_size"], record["media_mime_sniffed"]) == (len(PNG), "image/png")
        carrier = events[record["of_seq"]]
        assert carrier["event_id"] == record["event_id"]
        assert carrier["media_status"] == "pending"
    assert files.asked == 2
    assert await world.database.fetchval("SELECT count(*) FROM audit_media") == 0


async def encrypted_file(clear: bytes) -> tuple[dict[str, Any], bytes]:
    async def portions() -> AsyncIterator[bytes]:
        yield clear

    stream = encrypt_stream(portions())
    body = b"".join([portion async for portion in stream])
    return stream.file("mxc://example.org/a").content(), body


async def test_an_encrypted_file_is_archived_in_clear_text(world: World) -> None:
    block, cipher = await encrypted_file(PNG)
    payload = {"type": "m.room.message", "content": {"msgtype": "m.image", "file": block}}
    world.crypto = ScriptedDecryption(payloads={"$1": json.dumps(payload).encode()})
    bot, keeper = started(world, ScriptedFiles({"mxc://example.org/a": cipher}))
    await world.give(bot, entries([*new_room(), encrypted_event("$1")]))
    await keeper.step()

    (record,) = await found(world)
    assert list(stored(world).values()) == [PNG]
    assert record["media_cipher_sha256"] == hashlib.sha256(cipher).hexdigest()
    assert block["key"]["k"] not in json.dumps(record)


async def test_a_file_that_is_not_the_one_described_is_said_to_be_so(world: World) -> None:
    block, cipher = await encrypted_file(PNG)
    bot, keeper = started(
        world, ScriptedFiles({"mxc://example.org/a": bytes([cipher[0] ^ 1, *cipher[1:]])})
    )
    content = {"msgtype": "m.image", "body": "x", "file": block}
    await world.give(bot, entries([*new_room(), event("$1", content)]))
    await keeper.step()

    (record,) = await found(world)
    assert record["media_status"] == "hash_mismatch"
    assert stored(world) == {}


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (MatrixError(404, "M_NOT_FOUND", "no"), "missing"),
        (MatrixError(403, "M_FORBIDDEN", "no"), "forbidden"),
        (MatrixError(400, "M_UNKNOWN", "no"), "gave_up"),
    ],
)
async def test_trouble_is_tried_again_and_recorded_once_at_the_end(
    world: World, trouble: Exception, status: str
) -> None:
    files = ScriptedFiles({"mxc://example.org/a": PNG}, troubles=[trouble] * 3)
    bot, keeper = started(world, files)
    clock = cast(StoppedClock, world.clock)
    await world.give(bot, entries([*new_room(), image("$1")]))
    for _ in range(3):
        await keeper.step()
        clock.moment_ms += 1000
    await keeper.step()

    (record,) = await found(world)
    assert record["media_status"] == status
    assert files.asked == 3


async def wait_through(world: World, keeper: MediaKeeper, *, days: float) -> list[int]:
    """Let days pass in which what is due is tried; return after how many minutes it was."""
    clock, tried = cast(StoppedClock, world.clock), list[int]()
    begun_ms = clock.moment_ms
    while True:
        await keeper.step()
        tried.append((clock.moment_ms - begun_ms) // MINUTE_MS)
        due_ms = await keeper.queue.next_due_ms()
        if due_ms is None or due_ms > begun_ms + days * DAY_MS:
            return tried
        clock.moment_ms = due_ms


async def test_an_outage_of_days_loses_no_file_and_is_no_attempt(world: World) -> None:
    files = ScriptedFiles({"mxc://example.org/a": PNG}, troubles=[TransientError("away")] * 1000)
    bot, keeper = started(world, files)
    await world.give(bot, entries([*new_room(), image("$1")]))
    tried = await wait_through(world, keeper, days=10)

    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1, 6 * 60)
    assert await found(world) == []

    # And who refuses it after that is still asked as often as otherwise.
    files.troubles = [MatrixError(404, "M_NOT_FOUND", "no")] * 2
    await wait_through(world, keeper, days=1)
    (record,) = await found(world)
    assert record["media_status"] == "stored"


async def test_a_server_that_stays_away_is_given_up_after_two_weeks(world: World) -> None:
    files = ScriptedFiles({"mxc://example.org/a": PNG}, troubles=[TransientError("away")] * 1000)
    bot, keeper = started(world, files)
    await world.give(bot, entries([*new_room(), image("$1")]))
    tried = await wait_through(world, keeper, days=30)

    (record,) = await found(world)
    assert record["media_status"] == "gave_up"
    assert json.loads(record["detail_json"]) == {"reason": "away"}
    assert 14 * 24 * 60 <= tried[-1] < 15 * 24 * 60


async def test_a_server_that_was_back_in_between_is_waited_for_anew(world: World) -> None:
    files = ScriptedFiles({"mxc://example.org/a": PNG}, troubles=[TransientError("away")] * 1000)
    bot, keeper = started(world, files)
    await world.give(bot, entries([*new_room(), image("$1")]))
    await wait_through(world, keeper, days=10)
    cast(StoppedClock, world.clock).moment_ms += DAY_MS
    files.troubles.insert(0, MatrixError(404, "M_NOT_FOUND", "no"))
    await wait_through(world, keeper, days=10)

    assert await found(world) == []


async def test_a_file_that_is_too_large_is_not_kept(world: World) -> None:
    bot, keeper = started(world, ScriptedFiles({"mxc://example.org/a": PNG}))
    keeper.max_bytes = len(PNG) - 1
    await world.give(bot, entries([*new_room(), image("$1")]))
    await keeper.step()

    (record,) = await found(world)
    assert record["media_status"] == "too_large"
    assert stored(world) == {}


@pytest.mark.parametrize(
    "content",
    [
        {"file": {"url": "mxc://example.org/a", "v": "v9"}},
        {"file": {"url": "mxc://example.org/a", "junk": "x" * 50_000}},
        {"url": "mxc://../../etc/passwd"},
        {"url": "mxc://" + "x" * 5000},
    ],
)
async def test_a_hostile_description_is_one_record_and_no_more(
    world: World, content: dict[str, Any]
) -> None:
    bot, keeper = started(world, ScriptedFiles())
    await world.give(
        bot, entries([*new_room(), event("$1", {"msgtype": "m.file", "body": "x", **content})])
    )
    for _ in range(4):
        await keeper.step()
        cast(StoppedClock, world.clock).moment_ms += 1000

    (record,) = await found(world)
    assert record["media_status"] in {"missing", "gave_up"}


async def test_in_an_encrypted_archive_only_the_officers_can_tell_which_file_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    world.recipients = tuple(str(officer.to_public()) for officer in officers)
    bot, keeper = started(world, ScriptedFiles({"mxc://example.org/a": PNG}))
    await world.give(bot, entries([*new_room(), image("$1")]))
    await keeper.step()

    ((key, body),) = stored(world).items()
    assert hashlib.sha256(PNG).hexdigest() not in key
    assert PNG not in body
    for officer in officers:
        assert pyrage.decrypt(body, [officer]) == PNG


async def test_a_crash_between_storing_and_recording_costs_only_a_repeat(world: World) -> None:
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    world.recipients = tuple(str(officer.to_public()) for officer in officers)
    files = ScriptedFiles({"mxc://example.org/a": PNG})
    bot, keeper = started(world, files)
    await world.give(bot, entries([*new_room(), image("$1")]))

    async def crash(*_: object, **__: object) -> None:
        raise ConnectionResetError

    finish: Callable[..., Any] = keeper._finish
    keeper._finish = crash  # type: ignore[method-assign]  # the failure that is tested
    with pytest.raises(ExceptionGroup):
        await keeper.step()
    keeper._finish = finish  # type: ignore[method-assign]  # the end of it
    before = stored(world)
    await keeper.step()

    (record,) = await found(world)
    assert record["media_status"] == "stored"
    assert stored(world) == before
    row = await world.database.fetchrow("SELECT sha256 FROM audit_object")
    assert row is not None
    assert row["sha256"] == hashlib.sha256(next(iter(before.values()))).hexdigest()


async def alarms(world: World) -> list[str]:
    rows = await world.database.fetch("SELECT sentence FROM alarm ORDER BY number")
    return [row["sentence"] for row in rows]


async def test_an_attachment_that_the_store_refuses_keeps_no_other_from_it(world: World) -> None:
    bodies = {f"mxc://example.org/{n}": PNG + bytes([n]) for n in range(6)}
    bot, keeper = started(world, ScriptedFiles(bodies))
    clock = cast(StoppedClock, world.clock)
    digest = hashlib.sha256(PNG + bytes([0])).hexdigest()
    squatted = world.directory / f"archive/v1/example.org/media/{digest[:2]}/{digest}"
    squatted.parent.mkdir(parents=True)
    squatted.write_bytes(b"not what the name says")
    sent = [image(f"${n}", url) for n, url in enumerate(bodies)]
    await world.give(bot, entries([*new_room(), *sent]))

    await keeper.step()

    assert len(await found(world)) == 5
    (told,) = await alarms(world)
    assert digest in told
    assert "remove it" in told
    clock.moment_ms += 600_000
    with pytest.raises(PermanentError):  # nothing else is due: it is waited
        await keeper.step()
    assert await alarms(world) == [told]
    squatted.unlink()
    clock.moment_ms += 600_000
    await keeper.step()
    assert len(await found(world)) == 6


def test_clear_text_that_a_crash_left_is_swept_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "steward-clear-left"
    left.mkdir()
    (left / "clear").write_bytes(PNG)
    (tmp_path / "steward-clear-link").symlink_to(tmp_path)
    with clear_folder() as folder:
        (folder / "clear").write_bytes(PNG)

        assert sweep() == 1

        assert (folder / "clear").exists()
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["steward-clear-link"]


@contextmanager
def full_folder(name: str, most: int = 0) -> Iterator[Callable[[], AbstractContextManager[Path]]]:
    """Lend a ``clear_folder`` on a full disk: what is written to files of a name does not fit.

    Args:
        name: which files
        most: the number of the last folder that has no room; 0 stands for all
    """
    made = count(1)

    @contextmanager
    def folder() -> Iterator[Path]:
        with clear_folder() as path:
            if not most or next(made) <= most:
                (path / name).symlink_to("/dev/full")
            yield path

    yield folder


def encrypted_to_officers(world: World) -> None:
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    world.recipients = tuple(str(officer.to_public()) for officer in officers)


@pytest.mark.parametrize("name", ["clear", "sealed"])
async def test_a_full_disk_lets_attachments_wait_and_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    encrypted_to_officers(world)
    bodies = {f"mxc://example.org/{n}": PNG + bytes([n]) for n in range(6)}
    bot, keeper = started(world, ScriptedFiles(bodies))
    clock = cast(StoppedClock, world.clock)
    sent = [image(f"${n}", url) for n, url in enumerate(bodies)]
    await world.give(bot, entries([*new_room(), *sent]))
    with full_folder(name) as folder, monkeypatch.context() as patch:
        patch.setattr(media, "clear_folder", folder)
        for _ in range(3):
            await keeper.step()
            clock.moment_ms += 600_000

    assert await found(world) == []
    assert [*await world.database.fetch("SELECT 1 FROM audit_media WHERE attempts > 0")] == []
    (told,) = await alarms(world)
    assert tempfile.gettempdir() in told
    assert "No space left on device" in told
    assert "TMPDIR" in told
    await keeper.step()
    assert [one["media_status"] for one in await found(world)] == ["stored"] * 6


async def test_a_folder_that_cannot_be_made_lets_attachments_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bot, keeper = started(world, ScriptedFiles({"mxc://example.org/a": PNG}))
    await world.give(bot, entries([*new_room(), image("$1")]))
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
        await keeper.step()

    assert await found(world) == []
    (told,) = await alarms(world)
    assert "not there" in told


async def test_an_attachment_that_fills_the_disk_keeps_no_other_from_being_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = {f"mxc://example.org/{n}": PNG + bytes([n]) for n in range(4)}
    bot, keeper = started(world, ScriptedFiles(bodies))
    sent = [image(f"${n}", url) for n, url in enumerate(bodies)]
    await world.give(bot, entries([*new_room(), *sent]))
    # Together they have no room, and the first one has none alone either.
    with full_folder("clear", most=5) as folder, monkeypatch.context() as patch:
        patch.setattr(media, "clear_folder", folder)
        await keeper.step()

    assert [one["media_status"] for one in await found(world)] == ["stored"] * 3


async def test_the_same_file_is_stored_again_for_other_officers(world: World) -> None:
    before, after = (pyrage.x25519.Identity.generate() for _ in range(2))
    files = ScriptedFiles({"mxc://example.org/a": PNG})
    for number, officer in enumerate((before, after, after)):
        world.recipients = (str(officer.to_public()),)
        world.advance(1000)
        bot, keeper = started(world, files)
        await world.give(bot, entries([*new_room(), image(f"${number}")]))
        await bot.exporting.look()
        await keeper.step()

    first, second, third = await found(world)
    assert [one["media_status"] for one in (first, second, third)] == [
        "stored",
        "stored",
        "duplicate",
    ]
    assert third["media_key"] == second["media_key"]
    digest = hashlib.sha256(PNG).hexdigest()
    assert (third["media_sha256"], third["media_size"]) == (digest, len(PNG))
    assert third["media_mime_sniffed"] == "image/png"
    # Only the officers are told which files the archive holds.
    rows = await world.database.fetch("SELECT * FROM audit_object")
    assert not any(digest in str(value) for row in rows for value in dict(row).values())
    assert {row["mime"] for row in rows} == {None}
    assert all(map(is_media, stored(world)))
    assert pyrage.decrypt(stored(world)[first["media_key"]], [before]) == PNG
    assert pyrage.decrypt(stored(world)[second["media_key"]], [after]) == PNG


def test_the_name_of_an_older_archives_attachment_is_known() -> None:
    assert is_media(f"v1/example.org/media/aa/{'a' * 64}.age")
