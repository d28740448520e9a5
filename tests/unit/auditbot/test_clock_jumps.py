"""Promise 9: a clock that jumps a day, either way, loses and doubles nothing."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from auditbot.late_keys import RETRY_AFTER_MS
from auditbot.manifests import INTERVAL_MS
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.layout import segment_key
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.database.pool import Database
from common.errors import TransientError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, encrypted, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

JUMPS = {
    "forward and back": (DAY_MS, -DAY_MS),
    "back and forward": (-DAY_MS, DAY_MS),
    "over midnight and back": (8 * 3_600_000, -8 * 3_600_000),
    "twice forward": (DAY_MS, DAY_MS),
}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def _manifests(office: Office) -> list[dict[str, Any]]:
    root = office.world.directory / "archive"
    latest_ms = max(office.world.clock.now_ms(), NOON + 3 * DAY_MS)
    options = Options(now_ms=latest_ms, destination=f"file:{root}")
    (result,) = await verify(DirectoryPlace(root), options)
    assert not result.findings.of(Severity.WRONG)
    (manifests,) = office.check().manifests.values()
    return manifests


@pytest.mark.parametrize("is_stored_between", [True, False])
@pytest.mark.parametrize("is_restarted", [True, False])
@pytest.mark.parametrize("jumps", JUMPS.values(), ids=JUMPS)
async def test_nothing_is_lost_or_doubled(
    database: Database,
    tmp_path: Path,
    jumps: tuple[int, int],
    is_restarted: bool,
    is_stored_between: bool,
) -> None:
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    said: Counter[str] = Counter()
    moment_ms = NOON
    bodies = [*new_room("@bob:example.org"), message("$before"), image("$image0")]
    for number, jump_ms in enumerate((0, *jumps)):
        moment_ms += jump_ms + 1000
        office.at(moment_ms)
        if is_restarted:
            office.start()
        if number:
            bodies = [message(f"$m{number}"), image(f"$image{number}")]
            # What was pushed before the jump is pushed again after it.
            bodies.append(message("$before"))
        await office.say(*bodies)
        said.update(f"$m{number}" for _ in range(bool(number)))
        said[f"$image{number}"] += 1
        if is_stored_between:
            await office.store()
    await office.store()

    manifests = await _manifests(office)

    found = office.check()
    events = Counter(str(one["event_id"]) for one in found.of_kind("event"))
    assert {name: events[name] for name in said} == said
    assert events["$before"] == 1
    assert max(events.values()) == 1
    stored = Counter(str(one["event_id"]) for one in found.of_kind("media"))
    assert stored == Counter({"$image0": 1, "$image1": 1, "$image2": 1})
    assert found.unlisted == []
    # Each record lies in the folder of the day on which our clock said that it came.
    for manifest in manifests:
        for item in manifest["objects"]:
            named = segment_key(item["key"])
            assert named is not None
            days = {item["first_ms"] // DAY_MS, item["last_ms"] // DAY_MS}
            assert days == {(named.day.toordinal() - 719_163)}
    made = [manifest["created_ms"] for manifest in manifests]
    assert made == sorted(made)


@dataclass
class JumpingClock:
    """A clock that is set, while the time that passes is measured rightly."""

    moment_ms: int = NOON
    passed_ms: int = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.moment_ms / 1000, UTC)

    def now_ms(self) -> int:
        return self.moment_ms

    def monotonic(self) -> float:
        return self.passed_ms / 1000

    def go_on(self, milliseconds: int) -> None:
        self.moment_ms += milliseconds
        self.passed_ms += milliseconds


@pytest.mark.parametrize("jump_ms", [DAY_MS, -DAY_MS])
async def test_manifests_go_on(database: Database, tmp_path: Path, jump_ms: int) -> None:
    office = Office(database, tmp_path)
    clock = office.world.clock = JumpingClock()
    office.start()
    await office.say(*new_room("@bob:example.org"))
    await office.store()
    before = len(await _manifests(office))
    clock.moment_ms += jump_ms
    for number in range(4):
        await office.say(message(f"$after{number}"))
        archive = office.bot.archive
        await archive.seal(flush=True)
        assert await archive.upload() is None
        await archive.sign()
        assert await archive.upload() is None
        clock.go_on(INTERVAL_MS)

    manifests = await _manifests(office)

    # One for each quarter of an hour that passed: neither none for a day nor a flood.
    assert len(manifests) - before in {3, 4}
    assert office.events() >= {f"$after{number}" for number in range(3)}


@pytest.mark.parametrize("is_restarted", [True, False])
async def test_late_keys_are_tried_again_at_once_after_the_clock_is_set_back(
    database: Database, tmp_path: Path, is_restarted: bool
) -> None:
    office = Office(database, tmp_path)

    async def retry(moment_ms: int) -> int:
        office.at(moment_ms)
        if is_restarted:
            office.start()
        assert office.bot.late_keys is not None
        return await office.bot.late_keys.retry_due()

    await office.say(encrypted("$before"))
    assert await retry(NOON + RETRY_AFTER_MS[0]) == 0
    assert await retry(NOON + DAY_MS) == 0
    await office.say(encrypted("$ahead"))
    assert await retry(NOON + DAY_MS + RETRY_AFTER_MS[0]) == 0
    office.world.crypto.sessions.add("session")

    # Nobody reports the key: the set times alone have to find it.
    found = await retry(NOON + RETRY_AFTER_MS[1])
    assert found >= 1
    found += await retry(NOON + RETRY_AFTER_MS[-1])

    late = Counter(str(one["event_id"]) for one in await office.world.events("decryption"))
    assert late == Counter(["$before", "$ahead"])
    assert found == 2
    assert await retry(NOON + 10 * RETRY_AFTER_MS[-1]) == 0


@pytest.mark.parametrize("is_restarted", [True, False])
async def test_attachments_are_tried_again_at_once_after_the_clock_is_set_back(
    database: Database, tmp_path: Path, is_restarted: bool
) -> None:
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    office.files.troubles.append(TransientError("The homeserver is away."))
    office.at(NOON + DAY_MS)
    await office.say(*new_room("@bob:example.org"), image("$image"))
    await office.media.step()
    assert await office.world.events("media") == []

    office.at(NOON)
    if is_restarted:
        office.start()
    await office.media.step()

    (stored,) = await office.world.events("media")
    assert stored["media_status"] == "stored"


async def _act(office: Office, name: str) -> None:
    async with office.world.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO admin_action"
            " (event_id, phase, step, at_ms, room_id, sender, command, detail)"
            " VALUES ($1, 'did', 1, $2, '!r', '@admin:x', 'user deactivate', 'done')",
            name,
            office.world.clock.now_ms(),
        )


async def test_acts_of_admins_are_recorded_after_the_clock_is_set_back(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    await _act(office, "$before")  # nothing is exported yet
    office.at(NOON + DAY_MS)  # nor is the clock right
    await office.bot.exporting.look()
    for moment_ms in (NOON + DAY_MS, NOON + DAY_MS - 3_600_000, NOON, NOON + 1000):
        office.at(moment_ms)
        await _act(office, f"$at{moment_ms}")
        for _ in range(2):
            await office.bot.exporting.look()

    acts = [one for one in await office.world.events("control") if one["action"] == "admin_action"]
    assert [json.loads(one["detail_json"])["at_ms"] for one in acts] == [
        NOON + DAY_MS,
        NOON + DAY_MS - 3_600_000,
        NOON,
        NOON + 1000,
    ]


async def test_acts_of_while_nothing_was_exported_are_not_recorded_later(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    await office.bot.exporting.look()
    destination = office.world.destination
    office.world.destination = None
    office.start()
    await office.bot.exporting.look()
    await _act(office, "$meanwhile")
    office.world.destination = destination
    office.at(NOON - DAY_MS)
    office.start()
    await office.bot.exporting.look()
    await _act(office, "$after")
    await office.bot.exporting.look()

    acts = [one for one in await office.world.events("control") if one["action"] == "admin_action"]
    assert [json.loads(one["detail_json"])["event_id"] for one in acts] == ["$after"]


async def test_the_daily_work_goes_on_after_the_clock_is_set_back(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.at(NOON + 300 * DAY_MS)
    await office.say(*new_room("@bob:example.org"))
    await office.store()
    await office.bot.daily.look()

    for day in (0, 1):
        office.at(NOON + day * DAY_MS)
        await office.say(message(f"${day}"))
        await office.store()
        await office.bot.daily.look()
        rows = await database.fetch("SELECT task, day FROM audit_daily")
        today = NOON // DAY_MS + day
        assert {row["task"]: row["day"] for row in rows}["legal holds"] == today

    stated = await database.fetchval(
        "SELECT object_key FROM audit_statement WHERE object_key LIKE '%completeness.json'"
    )
    assert stated == "v1/example.org/reports/dt=2025-11-24/completeness.json"
