"""Work on very many accounts, through crashes, a homeserver that restarts, and one that says wait."""

import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web

from tests.support.clients import wait_for
from tests.support.commanding import Commander
from tests.support.doorway import Doorway
from tests.support.world import MakeWorld, Wish, World

PEOPLE = 1_000
NEW, CHANGED = 30, 70
"""Of a file that is imported: accounts that are made, and that get another name."""
AT_ONCE = 8
_ACT = "/_synapse/admin/v1/deactivate/"
_PUT = "PUT /_synapse/admin/v2/users/"


@dataclass
class Storm:
    """Every fourth request is told to wait, the first time it is made."""

    asked: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def __call__(self, method: str, path: str) -> web.Response | None:
        request = f"{method} {path}"
        self.asked[request] += 1
        changes = path.startswith(_ACT) or request.startswith(_PUT)
        if not changes or self.asked[request] > 1 or len(self.asked) % 4:
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


def named(database: Path) -> int:
    """Return how many people have the name that the imported file gives them."""
    with sqlite3.connect(database, timeout=30) as connection:
        rows = connection.execute(
            "SELECT COUNT(*) FROM profiles WHERE displayname LIKE 'Imported %'"
        )
        return int(next(rows)[0])


@pytest.mark.timeout(600)
async def test_accounts_are_imported_and_a_thousand_closed_through_everything(
    make_world: MakeWorld,
) -> None:
    storm = Storm()
    async with Doorway("/_synapse/", instead=storm) as door:
        world = await make_world(
            Wish(settings={"homeserver": {"admin_url": door.url}}), start=False
        )
        door.target = world.synapse.url
        await world.synapse.start()
        await world.steward.start()
        people = make_people(world.synapse.directory / "homeserver.db", world.synapse.server_name)
        async with await world.person(admin=True) as client:
            root = await Commander.of(client, world)
            await import_some(world, root, people, storm)
            assert storm.refused > (NEW + CHANGED) / 8
            await close_everybody(world, root, people, door)

    assert storm.refused > PEOPLE / 8


async def import_some(world: World, root: Commander, people: Sequence[str], storm: Storm) -> None:
    database = world.synapse.directory / "homeserver.db"
    new = [f"@new{number}:{world.synapse.server_name}" for number in range(NEW)]
    rows = [f"{one},Imported {one[1:]}" for one in (*people[:CHANGED], *new)]
    data = "\r\n".join(["user,displayname", *rows]).encode()
    asked = await root.send_file("people.csv", data, caption="user import")
    await root.answer(asked, deadline_seconds=150)
    await root.confirm(asked, typed=f"import {len(rows)}")

    for number in (25, 70):
        await wait_for(lambda: named(database) >= number, 120, f"{number} people with a name")  # noqa: B023  # used at once
        assert named(database) < len(rows)
        await world.steward.kill()
        await world.steward.start()
    said = str((await root.answer(asked, 1, deadline_seconds=120))["body"])

    assert "The import is done." in said
    assert "Failed" not in said
    assert [int(number) for number in re.findall(r": +([0-9]+)$", said, re.MULTILINE)] == [
        NEW,
        CHANGED,
        0,
    ]
    assert named(database) == len(rows)
    (result,) = await root.files("result.csv")
    acts = Counter(line.partition(",")[2] for line in result.decode("utf-8-sig").split()[1:])
    assert acts == {"create,done,": NEW, "change,done,": CHANGED}
    # The passwords that are told, once, are those with which people sign in.
    (secrets,) = await root.files("passwords.csv")
    # What begins with @ is marked as text, or a spreadsheet would take it for a formula.
    lines = secrets.decode("utf-8-sig").split()[1:]
    told = dict(line.removeprefix("'").split(",") for line in lines)
    assert set(told) == set(new)
    for one in (new[0], new[NEW // 2], new[-1]):
        await log_in(world, one, told[one])
    # Only what was under way at a crash was asked of the homeserver again.
    calls = Counter({one: number for one, number in storm.asked.items() if one.startswith(_PUT)})
    assert len(calls) == len(rows)
    assert sum(calls.values()) - len(rows) - storm.refused <= 2 * AT_ONCE


async def log_in(world: World, user: str, password: str) -> None:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    }
    where = f"{world.synapse.url}/_matrix/client/v3/login"
    async with aiohttp.ClientSession() as session, session.post(where, json=body) as answer:
        assert answer.status == HTTPStatus.OK, await answer.text()


async def close_everybody(
    world: World, root: Commander, people: Sequence[str], door: Doorway
) -> None:
    database = world.synapse.directory / "homeserver.db"
    asked = await root.send_file(
        "people.csv", "\r\n".join(["user", *people]).encode(), caption="user deactivate"
    )
    await root.answer(asked, deadline_seconds=150)
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
