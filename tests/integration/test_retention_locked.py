"""Objects of a real bucket are locked for as long as the longest retention class in them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditbot.operations import over, retention
from auditbot.pipeline.segment import DAY_MS
from common.clock import SystemClock
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from tests.support.s3 import s3_client
from tests.unit.auditbot.builders import NOON
from tests.unit.auditbot.test_operations import TODAY, Office
from tests.unit.auditbot.test_retention_classes import (
    BOARD,
    CHATS,
    LOBBY,
    board,
    direct_chat,
    office_with,
    picture,
    room_of,
    said,
)

BUCKET = "locked"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SeaweedFS]:
    folder = tmp_path / "seaweedfs"
    folder.mkdir()
    async with SeaweedFS(SeaweedFSSpec(directory=folder)) as running:
        async with s3_client(running) as client:
            await client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        yield running


@pytest.fixture
async def office(database: Database, server: SeaweedFS, tmp_path: Path) -> AsyncIterator[Office]:
    settings = S3(
        endpoint_url=server.endpoint_url,
        access_key_id=Secret(server.access_key_id),
        secret_access_key=server.secret_access_key,
        path_style=True,
        object_lock="governance",
        retention_days=365,
    )
    office = await office_with(database, tmp_path, destination=f"s3://{BUCKET}/p", s3=settings)
    yield office
    for destination in office.bot.archive._destinations.values():
        await destination.store.close()
    for store in office.media._stores.values():
        await store.close()


async def _locked_days(server: SeaweedFS) -> dict[str, int]:
    """Return for how many days from now on each segment and attachment is locked."""
    found: dict[str, int] = {}
    async with s3_client(server) as client:
        answer = await client.list_objects_v2(Bucket=BUCKET)
        for item in answer.get("Contents", []):
            key = item["Key"]
            if "/events/" in key or "/media/" in key:
                held = await client.get_object_retention(Bucket=BUCKET, Key=key)
                until = held["Retention"]["RetainUntilDate"]
                found[key] = round((until - SystemClock().now()) / timedelta(days=1))
    return found


async def test_the_longest_class_is_the_date_of_the_lock(
    office: Office, server: SeaweedFS
) -> None:
    await office.say(*direct_chat(), *board(), *room_of(LOBBY))
    await office.store()
    told = {}
    for number, rooms in enumerate([(CHATS,), (CHATS, BOARD), (LOBBY,), (CHATS, LOBBY)], 1):
        office.at(NOON + number * DAY_MS)
        await office.say(*(said(f"${number}{room}", room) for room in rooms))
        await office.store()
        day = f"dt={datetime.fromtimestamp(office.world.clock.now_ms() / 1000, UTC):%Y-%m-%d}"
        told[day] = rooms
    office.at(NOON + 5 * DAY_MS)
    await office.say(picture(CHATS))
    await office.store()

    locked = await _locked_days(server)

    by_day = {
        told[key.split("/")[4]]: days
        for key, days in locked.items()
        if "/events/" in key and key.split("/")[4] in told
    }
    assert by_day == {(CHATS,): 30, (CHATS, BOARD): 3650, (LOBBY,): 365, (CHATS, LOBBY): 365}
    assert [days for key, days in locked.items() if "/media/" in key] == [30]


async def test_what_the_lock_keeps_is_tried_again(office: Office) -> None:
    await office.say(*direct_chat(), *board())
    office.at(NOON + DAY_MS)
    await office.say(said("$alone", CHATS))
    await office.store()
    office.at(TODAY)

    found = await over.survey(office.desk, keep_days=None)
    told = await retention.apply(office.desk, found, keep_days=None)

    assert [(len(day.segments), len(day.longer)) for day in found.days][-1] == (1, 0)
    assert "1 were not, because the store refused" in told
    for minutes in (16, 32):
        office.at(TODAY + minutes * 60_000)
        await office.bot.daily.look()
    rows = await office.world.database.fetch("SELECT sentence FROM alarm")
    assert sum("is not all gone" in row["sentence"] for row in rows) == 1
    statements = await office.world.database.fetch(
        "SELECT state FROM audit_statement WHERE object_key LIKE '%/removals/%'"
    )
    assert [row["state"] for row in statements] == ["stored"]
