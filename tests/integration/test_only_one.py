"""Two Stewards never work on one database, and a dead one keeps nobody out."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from common.database import only_one as lock
from common.database.only_one import AnotherRunsError, only_one
from common.demo.servers import free_port
from common.demo.waiting import wait_for
from tests.support.backup import steward_command
from tests.support.databases import sqlite_url
from tests.support.postgres import Postgres, PostgresDatabase
from tests.support.world import MakeWorld, Wish


@pytest.fixture(params=["sqlite", "postgres"])
async def url(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    made = await postgres.create_database()
    yield made.url
    await postgres.drop_database(made)


async def test_the_second_is_refused_until_the_first_has_ended(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with only_one(url):
        with monkeypatch.context() as patch:
            patch.setattr(lock, "_PATIENCE_SECONDS", 0.5)
            with pytest.raises(AnotherRunsError, match="Another Steward runs on this database"):
                async with only_one(url):
                    pass
    async with only_one(url):  # PostgreSQL may take a moment to see that the first has gone
        pass


async def test_a_lost_connection_takes_the_lock_anew(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_CHECK_SECONDS", 0.1)
    made = await postgres.create_database()

    # Looked at, not tried: who holds it for the trial would keep it from being taken anew.
    async with only_one(made.url):
        before = await _holders(made)
        assert len(before) == 1
        await postgres.cut_connections(made)

        async def is_taken_anew() -> bool:
            now = await _holders(made)
            return len(now) == 1 and now != before

        await wait_for(is_taken_anew, 60, "the lock, taken anew")
        monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.5)
        with pytest.raises(AnotherRunsError):
            async with only_one(made.url):
                pass
    await postgres.drop_database(made)


async def _holders(database: PostgresDatabase) -> set[int]:
    """Return the sessions that hold an advisory lock of a database."""
    connection = await asyncpg.connect(database.url)
    try:
        rows = await connection.fetch(
            "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE d.datname = $1 AND l.locktype = 'advisory' AND l.granted",
            database.name,
        )
    finally:
        await connection.close()
    return {row["pid"] for row in rows}


async def test_a_process_whose_lock_another_one_took_ends(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(lock, "_CHECK_SECONDS", 1.0)
    made = await postgres.create_database()

    with pytest.RaisesGroup(AnotherRunsError):
        async with only_one(made.url):
            await postgres.cut_connections(made)
            async with only_one(made.url):  # quicker
                await asyncio.Event().wait()

    await postgres.drop_database(made)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_steward_says_so_in_one_sentence(
    make_world: MakeWorld, postgres: Postgres, kind: str
) -> None:
    world = await make_world(Wish(postgres=postgres if kind == "postgres" else None))
    config = json.loads(world.steward.config_path.read_text())
    config["appservice"]["listen_port"] = free_port()
    second = world.steward.directory / "second.yaml"
    second.touch(0o600)
    second.write_text(json.dumps(config))
    world.steward.config_path = second

    said = await steward_command(world.steward, "run")

    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("steward: Another Steward runs on this database.")
