"""Starting costs the same however many room keys are stored."""

import asyncio
import json
import sys
from pathlib import Path

import vodozemac

from common.config.secret import Secret
from common.crypto.sealing import Sealer
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.crypto.peers import BOT

SESSIONS = 200_000
_ROOT = Path(__file__).parents[2]


async def test_a_start_with_two_hundred_thousand_room_keys(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    async with open_database(sqlite_url(tmp_path / "few")):
        pass
    async with open_database(sqlite_url(tmp_path / "many")) as database:
        await store_sessions(database)

    few = await start(sqlite_url(tmp_path / "few"))
    many = await start(sqlite_url(tmp_path / "many"))
    for _ in range(3):  # whatever else the machine does may slow one of them down
        if many["seconds"] - few["seconds"] < 2:
            break
        again = await start(sqlite_url(tmp_path / "many"))
        many = {name: min(many[name], again[name]) for name in many}

    assert many["seconds"] - few["seconds"] < 2, (few, many)
    assert many["mib"] - few["mib"] < 40, (few, many)


async def store_sessions(database: Database) -> None:
    """Store one room key under many names."""
    session = vodozemac.InboundGroupSession(vodozemac.GroupSession().session_key)
    pickle = session.pickle(Sealer(Secret("a key")).pickle_key)
    async with database.transaction() as conn:
        await conn.executemany(
            "INSERT INTO crypto_inbound_session (bot_id, room_id, session_id, sender_key, sender,"
            " signing_key, source, first_index, pickle, received_ms)"
            " VALUES ($1, $2, $3, 'c', '@alice:example.org', 'e', 'direct', 0, $4, 1)",
            (
                (BOT.user_id, f"!room{number % 500}", f"session{number}", pickle)
                for number in range(SESSIONS)
            ),
        )


async def start(url: str) -> dict[str, float]:
    """Start in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.start_machine", url),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return dict(json.loads(output))
