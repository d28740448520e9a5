"""Transactions are counted by their numbers, over days, restarts and a database that is away."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.appservice.tally import KEEP_DAYS, Tally
from common.database.pool import Database
from common.errors import TransientError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock

DAY_MS = 86_400_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def after(
    database: Database, *names: str, at_ms: int = NOON, stored: str | None = None
) -> None:
    """Have a process count transactions and end in good order."""
    tally = Tally(database, StoppedClock(at_ms))
    await tally.begin(stored)
    for name in names:
        tally.count(name)
    await tally.save()


async def counts(database: Database) -> list[tuple[int, ...]]:
    rows = await database.fetch("SELECT * FROM appservice_transaction ORDER BY day")
    return [
        tuple(row[name] for name in ("seen", "repeated", "skipped", "restarted")) for row in rows
    ]


async def test_repetitions_holes_and_beginnings_are_told_apart(database: Database) -> None:
    await after(database, "7", "8", "8", "8", "11", "1", "2", "4")

    assert await counts(database) == [(8, 2, 3, 1)]


async def test_numbers_go_on_over_a_restart_and_a_crash(database: Database) -> None:
    await after(database, "7")
    await after(database, "7", "8")
    assert await counts(database) == [(3, 1, 0, 0)]

    # 9 to 20 were counted and not saved, but what they brought is in the inbox.
    await after(database, "21", stored="20")
    assert await counts(database) == [(4, 1, 0, 0)]


async def test_each_day_has_its_own_and_old_ones_go(database: Database) -> None:
    await after(database, "1")
    await after(database, "2", "4", at_ms=NOON + DAY_MS)
    assert await counts(database) == [(1, 0, 0, 0), (2, 0, 1, 0)]

    await after(database, "5", at_ms=NOON + (KEEP_DAYS + 1) * DAY_MS)
    assert await counts(database) == [(2, 0, 1, 0), (1, 0, 0, 0)]


async def test_names_that_are_no_numbers_are_only_counted(database: Database) -> None:
    await after(database, "a", "b", "b", "9" * 40, "\u0663")

    assert await counts(database) == [(5, 1, 0, 0)]


async def test_what_could_not_be_saved_is_saved_later(database: Database) -> None:
    tally = Tally(database, StoppedClock(NOON))
    tally.count("1")
    async with database.transaction() as connection:
        await connection.execute("ALTER TABLE appservice_transaction RENAME TO away")
    with pytest.raises(TransientError):
        await tally.save()
    async with database.transaction() as connection:
        await connection.execute("ALTER TABLE away RENAME TO appservice_transaction")
    tally.count("3")
    await tally.save()
    await tally.save()

    assert await counts(database) == [(2, 0, 1, 0)]
