"""Promise 2: no event is twice among what the manifests list, whoever sends or writes it again."""

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.alarms import untold
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def copy_of(folder: Path) -> Path:
    """Return a folder with a copy of the database and the same archive."""
    copied = folder / "copy"
    copied.mkdir()
    (copied / "archive").symlink_to(folder / "archive", target_is_directory=True)
    with (
        closing(sqlite3.connect(folder / "steward.db")) as source,
        closing(sqlite3.connect(copied / "steward.db")) as target,
    ):
        source.backup(target)
    return copied


async def events(office: Office) -> Counter[str]:
    """Return the events that signed manifests list; everything they list is right."""
    root = office.world.directory / "archive"
    options = Options(now_ms=office.world.clock.now_ms(), destination=f"file:{root}")
    (result,) = await verify(DirectoryPlace(root), options)
    assert not result.findings.of(Severity.WRONG)
    return Counter(str(one["event_id"]) for one in office.check().of_kind("event"))


async def test_everything_is_sent_again(database: Database, tmp_path: Path) -> None:
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    pushed = [
        *new_room("@bob:example.org"),
        *(message(f"${n}") for n in range(20)),
        image("$image"),
    ]
    await office.say(*pushed)
    await office.store()
    first = await events(office)

    for _ in range(2):
        await office.say(*pushed)
        await office.say(*reversed(pushed), *pushed)
        office.start()
        await office.store()

    assert await events(office) == first
    assert set(first.values()) == {1}
    assert Counter(one["event_id"] for one in office.check().of_kind("media")) == {"$image": 1}


async def test_a_second_writer_with_a_copy_of_the_database_is_stopped(
    database: Database, tmp_path: Path
) -> None:
    """A database that was restored beside a Steward that still runs: both write the same stream."""
    office = Office(database, tmp_path)
    await office.say(*new_room("@bob:example.org"), message("$both"))
    await office.store()
    copied = copy_of(tmp_path)
    async with open_database(sqlite_url(copied)) as other_database:
        other = Office(other_database, copied)
        for one, words in ((office, "the first one's"), (other, "the other one's")):
            await one.say(message("$shared", words), message(f"$of {words}"))
        await office.store()

        await other.bot.exporting.settle()
        await other.bot.exporting.look()
        await other.bot.archive.seal(flush=True)
        assert await other.bot.archive.upload() is not None, "it has to wait for a person"
        alarms = [alarm.sentence for alarm in await untold(other_database)]

        found = await events(office)
        left = await other_database.fetchval(
            "SELECT count(*) FROM audit_segment WHERE state <> 'uploaded'"
        )

    stop = "another Steward writes to this archive. Stop one of them."
    assert [stop in alarm for alarm in alarms] == [False, True], "the first is of the new key"
    assert left == 1, "what it recorded waits"
    assert found["$shared"] == 1
    assert found["$of the first one's"] == 1
    assert found["$of the other one's"] == 0
    assert set(found.values()) == {1}
