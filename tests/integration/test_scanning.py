"""Attachments are looked at by a real clamd before they are archived."""

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pyrage
import pytest

from auditbot.bot import Auditbot
from auditbot.checks import checks
from auditbot.clamd import Clamd
from auditbot.media import MediaKeeper
from auditbot.pipeline.scan import Scan, ScannerAwayError
from common.database.pool import Database
from tests.support.clamd import EICAR, LARGEST, LOOKED_INTO, SIGNATURE, ClamdServer
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock, entries, event, new_room
from tests.unit.auditbot.test_media import MINUTE_MS, ScriptedFiles, alarms, found, stored
from tests.unit.auditbot.world import World

BAD, GOOD = "mxc://example.org/bad", "mxc://example.org/good"


@pytest.fixture(scope="module")
async def clamd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClamdServer]:
    async with ClamdServer(tmp_path_factory.mktemp("clamd")) as server:
        yield server


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
def world(database: Database, tmp_path: Path, clamd: ClamdServer) -> World:
    world = World(database, tmp_path, StoppedClock(NOON))
    world.scanner = clamd.socket
    return world


class WholeFiles(ScriptedFiles):
    """A homeserver whose files come in one portion."""

    async def download(self, content_uri: object) -> AsyncIterator[bytes]:
        self.asked += 1
        yield self.held[str(content_uri)]


def started(world: World, held: dict[str, bytes]) -> tuple[Auditbot, MediaKeeper]:
    bot = cast(Auditbot, world.restart())
    assert bot.media is not None
    bot.media.files = WholeFiles(held)
    return bot, bot.media


def sent(event_id: str, url: str) -> bytes:
    return event(event_id, {"msgtype": "m.file", "body": "x", "url": url})


def said(record: dict[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(record["detail_json"])["scan"])


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_the_daemon_says_what_is_in_a_file(
    clamd: ClamdServer, tmp_path: Path, *, over_tcp: bool
) -> None:
    scanner = Clamd(clamd.tcp if over_tcp else clamd.socket)
    version = await scanner.version()
    path = tmp_path / "file"
    for body, scan in (
        (b"", Scan("clean", version)),
        (b"hello", Scan("clean", version)),
        (EICAR, Scan("infected", version, SIGNATURE)),
        (os.urandom(LOOKED_INTO), Scan("clean", version)),
    ):
        path.write_bytes(body)
        assert await scanner.scan(path, len(body)) == scan


async def test_what_is_infected_is_kept_marked_however_often_it_comes(world: World) -> None:
    bot, keeper = started(world, {BAD: EICAR, GOOD: b"good", "mxc://example.org/c": EICAR})
    messages = [
        sent("$1", BAD),
        sent("$2", GOOD),
        sent("$3", BAD),
        sent("$4", "mxc://example.org/c"),
    ]
    await world.give(bot, entries([*new_room(), *messages]))
    await keeper.step()

    records = {one["event_id"]: one for one in await found(world)}
    digest = hashlib.sha256(EICAR).hexdigest()
    for name in ("$1", "$3", "$4"):
        assert records[name]["media_status"] == "infected"
        assert records[name]["media_sha256"] == digest
        assert records[name]["media_key"].endswith(digest)
        assert said(records[name])["signature"] == SIGNATURE
        assert said(records[name])["by"].startswith("ClamAV ")
    assert records["$2"]["media_status"] == "stored"
    assert said(records["$2"])["result"] == "clean"
    assert sorted(stored(world).values()) == sorted([EICAR, b"good"])

    # Also when the scanner is not asked any more.
    world.scanner = None
    bot, keeper = started(world, {BAD: EICAR})
    await world.give(bot, entries([sent("$5", BAD)]))
    await keeper.step()
    assert (await found(world))[-1]["media_status"] == "infected"


async def test_what_is_infected_is_not_kept_where_it_is_not_to_be(world: World) -> None:
    world.keep_infected = False
    bot, keeper = started(world, {BAD: EICAR})
    await world.give(bot, entries([*new_room(), sent("$1", BAD), sent("$2", BAD)]))
    await keeper.step()

    for record in await found(world):
        assert (record["media_status"], record["media_key"]) == ("infected", None)
        assert record["media_sha256"] == hashlib.sha256(EICAR).hexdigest()
        assert said(record)["signature"] == SIGNATURE
    assert stored(world) == {}


async def test_our_database_does_not_say_what_is_in_an_encrypted_archive(world: World) -> None:
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    world.recipients = tuple(str(officer.to_public()) for officer in officers)
    bot, keeper = started(world, {BAD: EICAR})
    await world.give(bot, entries([*new_room(), sent("$1", BAD)]))
    await keeper.step()
    await world.give(bot, entries([sent("$2", BAD)]))
    await keeper.step()

    assert [one["media_status"] for one in await found(world)] == ["infected"] * 2
    rows = await world.database.fetch("SELECT * FROM audit_object")
    assert SIGNATURE not in str([dict(row) for row in rows])


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (LARGEST + 1, "StreamMaxLength"),
        (LOOKED_INTO + 1, "Heuristics.Limits.Exceeded.MaxFileSize"),
    ],
)
async def test_what_the_scanner_cannot_look_at_is_archived_and_said_to_be_so(
    world: World, size: int, reason: str
) -> None:
    held = {BAD: bytes(size), GOOD: b"y" * size}
    bot, keeper = started(world, held)
    await world.give(bot, entries([*new_room(), sent("$1", BAD), sent("$2", GOOD)]))
    await keeper.step()

    for record in await found(world):
        assert record["media_status"] == "stored"
        assert said(record)["result"] == "not_scanned"
        assert reason in said(record)["reason"]
    # The admins can do something about the first one; they are told once.
    assert len(await alarms(world)) == (1 if size > LARGEST else 0)


async def test_an_attachment_waits_for_a_scanner_that_is_away(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = ClamdServer(tmp_path_factory.mktemp("clamd"))
    world.scanner = server.socket
    bot, keeper = started(world, {BAD: EICAR, GOOD: b"good"})
    clock = cast(StoppedClock, world.clock)
    await world.give(bot, entries([*new_room(), sent("$1", BAD), sent("$2", GOOD)]))
    for _ in range(6):
        await keeper.step()
        clock.moment_ms = (await keeper.queue.next_due_ms()) or 0
    assert await found(world) == []
    # It is not fetched again and again meanwhile.
    assert cast(WholeFiles, keeper.files).asked == 0
    (told,) = await alarms(world)
    assert "does not work" in told
    assert "three days" in told

    # Nor is it told again after a restart.
    bot, keeper = started(world, {BAD: EICAR, GOOD: b"good"})
    await keeper.step()
    clock.moment_ms = (await keeper.queue.next_due_ms()) or 0
    assert await alarms(world) == [told]

    async with server:
        await keeper.step()
    statuses = {one["event_id"]: one["media_status"] for one in await found(world)}
    assert statuses == {"$1": "infected", "$2": "stored"}
    _, again = await alarms(world)
    assert "works again" in again


async def test_after_three_days_it_is_archived_as_not_scanned(
    world: World, tmp_path: Path
) -> None:
    world.scanner = str(tmp_path / "nobody.sock")
    bot, keeper = started(world, {BAD: EICAR})
    clock = cast(StoppedClock, world.clock)
    await world.give(bot, entries([*new_room(), sent("$1", BAD)]))
    waits = []
    while not await found(world):
        await keeper.step()
        due_ms = await keeper.queue.next_due_ms()
        if due_ms is not None:
            waits.append((due_ms - clock.moment_ms) // MINUTE_MS)
            clock.moment_ms = due_ms

    (record,) = await found(world)
    assert record["media_status"] == "stored"
    assert said(record)["result"] == "not_scanned"
    assert "away for three days" in said(record)["reason"]
    assert waits == sorted(waits)
    assert 3 * 24 * 60 <= sum(waits) < 4 * 24 * 60


async def test_a_file_from_before_the_scanner_is_looked_at_when_it_comes_again(
    world: World, clamd: ClamdServer
) -> None:
    world.scanner = None
    bot, keeper = started(world, {BAD: EICAR})
    await world.give(bot, entries([*new_room(), sent("$1", BAD)]))
    await keeper.step()
    world.scanner = clamd.socket
    bot, keeper = started(world, {BAD: EICAR})
    await world.give(bot, entries([sent("$2", BAD)]))
    await keeper.step()

    first, second = await found(world)
    assert (first["media_status"], first["detail_json"]) == ("stored", None)
    assert second["media_status"] == "infected"
    assert second["media_key"] == first["media_key"]


async def test_the_doctor_says_whether_the_scanner_answers(
    world: World, clamd: ClamdServer, tmp_path: Path
) -> None:
    (*_, well) = await checks(world.config)
    assert well.ok
    assert "ClamAV" in well.what
    world.scanner = str(tmp_path / "nobody.sock")
    (*_, away) = await checks(world.config)
    assert away.ok is False
    assert "No such file" in away.what
    with pytest.raises(ScannerAwayError, match="cannot be reached"):
        await Clamd("127.0.0.1:1").version()
