"""The archive's figures for Prometheus are what is in the archive and in the database."""

from collections import Counter
from pathlib import Path

import pytest

from auditbot.media_queue import AGAIN_AFTER_MS
from common.database.pool import Database
from common.telemetry.metrics import Metrics
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, encrypted, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.world import AUDITBOT

NAME = "steward_archive_"


@pytest.fixture
def office(database: Database, tmp_path: Path) -> Office:
    return Office(database, tmp_path)


async def figures(office: Office) -> dict[str, float]:
    """Return the figures by name and labels, as they are served."""
    text = await Metrics(asked=[office.bot.figures.samples]).text()
    assert ROOM not in text
    assert ALICE not in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(line.startswith(NAME) for line in lines)
    return {name.removeprefix(NAME): float(value) for name, value in map(str.split, lines)}


async def test_they_are_those_of_the_archive(office: Office) -> None:
    office.files.held["mxc://example.org/a"] = PNG
    await office.say(*new_room(AUDITBOT), message("$1"), encrypted("$2"), image("$3"))
    await office.say(image("$gone", "mxc://example.org/gone"))
    before = await figures(office)
    assert before["waiting_records"] > 0
    assert before["waiting_bytes"] > 0
    assert "newest_sequence" not in before
    assert before["media_waiting"] == 2

    await office.store()
    office.at(NOON + 90_000)
    found = await figures(office)

    checked = office.check()
    records = checked.records
    counts = Counter(record["kind"] for record in records)
    told = {name: figure for name, figure in found.items() if name.startswith("records_total")}
    assert told == {f'records_total{{kind="{kind}"}}': n for kind, n in counts.items()}
    assert found["newest_sequence"] == len(records) - 1
    assert found["newest_stored_age_seconds"] == 90
    assert found["newest_manifest_age_seconds"] == 90
    assert (found["waiting_records"], found["waiting_bytes"]) == (0, 0)
    assert found["undecryptable_open"] == 1
    assert found["rooms_covered"] == 1
    assert found["media_waiting"] == 1
    assert found['media_total{status="stored"}'] == 1
    assert (found["exporting"], found["destination_away"], found["figures_up"]) == (1, 0, 1)


async def test_an_attachment_that_was_given_up_is_counted(office: Office) -> None:
    await office.say(*new_room(AUDITBOT), image("$gone", "mxc://example.org/gone"))
    for after_ms in (0, *AGAIN_AFTER_MS):
        office.at(office.world.clock.now_ms() + after_ms)
        await office.media.step()

    found = await figures(office)
    assert found["media_waiting"] == 0
    assert found['media_total{status="missing"}'] == 1


async def test_without_a_manifest_its_age_is_that_of_the_stream(office: Office) -> None:
    await office.say(message("$1"))
    office.at(NOON + 3_600_000)

    assert (await figures(office))["newest_manifest_age_seconds"] == 3600


async def test_a_store_that_refuses_is_counted_and_told(office: Office) -> None:
    await office.say(message("$1"))
    (office.world.directory / "archive").write_bytes(b"no directory")
    await office.bot.archive.seal(flush=True)
    await office.bot.archive.upload()

    found = await figures(office)
    errors = [n for name, n in found.items() if name.startswith("storage_errors_total")]
    assert len(errors) == 3
    assert sum(errors) == 1
    assert found["destination_away"] == 1
    assert found["waiting_records"] > 0


async def test_where_nothing_is_exported_nothing_is_due(office: Office) -> None:
    office.world.destination = None
    office.start()
    await office.say(message("$1"))

    found = await figures(office)
    assert found["exporting"] == 0
    assert "newest_manifest_age_seconds" not in found


async def test_without_the_database_the_rest_is_served(office: Office) -> None:
    async with office.world.database.transaction() as connection:
        await connection.execute("DROP TABLE audit_gap")

    found = await figures(office)
    assert found["figures_up"] == 0
    assert found['storage_errors_total{class="away"}'] == 0
    assert "waiting_records" not in found
