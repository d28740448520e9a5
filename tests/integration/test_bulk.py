"""Work on very many accounts, through crashes, a homeserver that restarts, and one that says wait."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest
from aiohttp import web

from tests.support.clients import wait_for
from tests.support.commanding import Commander
from tests.support.doorway import Doorway
from tests.support.world import MakeWorld, Wish, World

PEOPLE = 1_000
AT_ONCE = 8
_ACT = "/_synapse/admin/v1/deactivate/"


@dataclass
class Storm:
    """Every fourth request is told to wait, the first time it is made."""

    asked: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def __call__(self, method: str, path: str) -> web.Response | None:
        self.asked[path] += 1
        if not path.startswith(_ACT) or self.asked[path] > 1 or len(self.asked) % 4:
            return None
        self.refused += 1
        wait = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too many", "retry_after_ms": 50}
        return web.json_response(wait, status=429)


def make_people(database: Path, server: str) -> Sequence[str]:
    """Make accounts as Synapse does, without a password, a thousand at once."""
    people = [f"@mass{number}:{server}" for number in range(PEOPLE)]
    with sqlite3.connect(database, timeout=30) as connection:
        connection.executemany(
            "INSERT INTO users (name, password_hash, creation_ts, admin, is_guest, deactivated,"
            " approved, locked, suspended) VALUES (?, '', 1700000000, 0, 0, 0, 1, 0, 0)",
            [(one,) for one in people],
        )
    return people


def closed(database: Path) -> Counter[int]:
    """Return how many of the people are closed (1) and how many not (0)."""
    with sqlite3.connect(database, timeout=30) as connection:
        rows = connection.execute("SELECT deactivated FROM users WHERE name LIKE '@mass%'")
        return Counter(int(row[0]) for row in rows)


@pytest.mark.timeout(600)
async def test_a_thousand_accounts_are_closed_through_everything(make_world: MakeWorld) -> None:
    storm = Storm()
    async with Doorway("/_synapse/", instead=storm) as door:
        world = await make_world(
            Wish(settings={"homeserver": {"admin_url": door.url}}), start=False
        )
        door.target = world.synapse.url
        await world.synapse.start()
        await world.steward.start()
        async with await world.person(admin=True) as client:
            await close_everybody(world, await Commander.of(client, world), door)

    assert storm.refused > PEOPLE / 8


async def close_everybody(world: World, root: Commander, door: Doorway) -> None:
    database = world.synapse.directory / "homeserver.db"
    people = make_people(database, world.synapse.server_name)
    asked = await root.send_file(
        "people.csv", "\r\n".join(["user", *people]).encode(), caption="user deactivate"
    )
    await root.answer(asked, deadline_seconds=60)
    await root.confirm(asked, typed=f"deactivate {PEOPLE}")

    for number in (200, 500):
        await until_closed(database, number)
        await world.steward.kill()
        await world.steward.start()
    await until_closed(database, 800)
    await world.synapse.restart()
    said = str((await root.answer(asked, 1, deadline_seconds=120))["body"])

    assert closed(database) == {1: PEOPLE}
    assert f"Done: Close {PEOPLE} accounts" in said
    assert f"Done: {PEOPLE}" in said
    assert "Failed" not in said
    calls = Counter(path for path in map(unquote, door.answered) if f"{_ACT}@mass" in path)
    assert len(calls) == PEOPLE
    # Only what was under way at a crash, of either side, was asked of the homeserver again.
    assert sum(calls.values()) - PEOPLE <= 3 * AT_ONCE


async def until_closed(database: Path, number: int) -> None:
    def enough() -> bool:
        return closed(database)[1] >= number

    await wait_for(enough, 120, f"{number} closed accounts")
