"""A bot that is set up, on a fresh SQLite database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.crypto.peers import Bot, FakeClock, KeyServer, Peer


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def bot(database: Database, server: KeyServer, clock: FakeClock) -> Bot:
    bot = Bot(database, server, clock)
    await bot.machine.set_up()
    return bot


@pytest.fixture
def alice(server: KeyServer) -> Peer:
    return Peer(server, "@alice:example.org", "ALICE")
