"""A notice to many people while Steward is killed: each person has it exactly once."""

import asyncio
import json
import secrets
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from common.demo.waiting import wait_for
from tests.support.clients import RawClient
from tests.support.talk import talk_in
from tests.support.world import MakeWorld, World

AT_ONCE = 8
ROOMS = 40
NOTICES = "@server:steward.localhost"
MARK = "org.matrix-steward.notice"


async def make_people(admin: RawClient, number: int) -> list[str]:
    """Make accounts without a password, as fast as the homeserver can."""
    made = [f"@person-{index:05}:steward.localhost" for index in range(number)]
    waiting = list(made)

    async def work() -> None:
        while waiting:
            user = waiting.pop()
            await admin.request("PUT", f"/_synapse/admin/v2/users/{user}", {})

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return made


async def make_thousands(world: World, admin: RawClient, number: int) -> list[str]:
    """Make many accounts that have a notices room already, most of them with SQL.

    A room costs Synapse a third of a second of computing, so 10,000 would take hours. Some
    people get a real one, and the others are written into the homeserver's database as members.
    """
    first = await make_people(admin, ROOMS)
    for user in first:
        body = {"user_id": user, "content": {"msgtype": "m.text", "body": "first"}}
        await admin.request("POST", "/_synapse/admin/v1/send_server_notice", body)
    await world.synapse.stop()
    others = [f"@person-{index:05}:steward.localhost" for index in range(ROOMS, number)]
    with sqlite3.connect(world.synapse.directory / "homeserver.db") as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(users)")]
        kept = ", ".join(name for name in names if name not in {"name", "creation_ts"})
        rooms = connection.execute(
            "SELECT room_id, event_id FROM local_current_membership WHERE user_id LIKE '@person-%'"
        ).fetchall()
        for index, user in enumerate(others):
            connection.execute(
                f"INSERT INTO users (name, creation_ts, {kept})"
                # Now: whoever has just come is looked for among the newest.
                f" SELECT ?, strftime('%s', 'now'), {kept} FROM users WHERE name = ?",
                (user, first[0]),
            )
            connection.execute(
                "INSERT INTO local_current_membership (room_id, user_id, event_id, membership)"
                " VALUES (?, ?, ?, 'invite')",
                (rooms[index % ROOMS][0], user, rooms[index % ROOMS][1]),
            )
    await world.synapse.start()
    return [*first, *others]


def told(database: Path, mark: str) -> Counter[str]:
    """Return from the homeserver's own database how often each person has the notice."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60) as connection:
        rows = connection.execute(
            "SELECT j.json FROM events e JOIN event_json j ON j.event_id = e.event_id"
            " WHERE e.sender = ? AND e.type = 'm.room.message'",
            (NOTICES,),
        ).fetchall()
    contents = [json.loads(row[0])["content"] for row in rows]
    return Counter(one[MARK]["to"] for one in contents if mark in one["body"])


def in_their_own_rooms(database: Path, people: list[str], mark: str) -> bool:
    """Say whether each person is in the room into which their notice went."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60) as connection:
        places = connection.execute(
            "SELECT user_id, room_id FROM local_current_membership WHERE user_id LIKE '@person-%'"
        ).fetchall()
        rows = connection.execute(
            "SELECT e.room_id, j.json FROM events e JOIN event_json j ON j.event_id = e.event_id"
            " WHERE e.sender = ? AND e.type = 'm.room.message'",
            (NOTICES,),
        ).fetchall()
    found = {
        (json.loads(text)["content"].get(MARK, {}).get("to"), room)
        for room, text in rows
        if mark in text
    }
    return set(places) <= found and {user for user, _ in places} == set(people)


@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("number", [40, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_each_person_has_a_notice_once_though_steward_is_killed(
    make_world: MakeWorld, number: int
) -> None:
    world = await make_world()
    database = world.synapse.directory / "homeserver.db"
    mark = secrets.token_hex(8)
    async with talk_in(world) as talk:
        many = number > 1_000
        make = (
            make_thousands(world, talk.admin, number) if many else make_people(talk.admin, number)
        )
        people = await make

        def known() -> bool:
            own = world.steward.directory / "steward.db"
            with sqlite3.connect(f"file:{own}?mode=ro", uri=True, timeout=60) as connection:
                (people,) = connection.execute(
                    "SELECT COUNT(*) FROM admin_account WHERE user_id LIKE '@person-%'"
                ).fetchone()
            return bool(people == number)

        await wait_for(known, 60 + number / 10, "Steward to know the accounts")
        asked = await talk.admin.send_text(talk.chat, f"notice all --rate 100000 Hello {mark}")
        question = await talk.admin.wait_for_message(
            talk.chat, "To 100000 people", after=asked, deadline_seconds=600
        )
        code = question["content"]["body"].rpartition("“confirm ")[2][:4]
        begun = time.monotonic()
        await talk.admin.send_text(talk.chat, f"confirm {code}")
        for share in (3, 2):

            async def so_many(share: int = share) -> bool:
                return (await asyncio.to_thread(told, database, mark)).total() >= number / share

            await wait_for(so_many, 60 + number, f"1/{share} of the notices to be sent")
            await world.steward.kill()
            await world.steward.start()
        said = await talk.admin.wait_for_message(
            talk.chat,
            "Done:",
            sender=world.steward.adminbot,
            after=asked,
            deadline_seconds=60 + number,
        )
        seconds = time.monotonic() - begun
        print(f"{number} notices in {seconds:.0f} s: {number / seconds:.1f} a second")  # noqa: T201  # make soak shows it

    # The server admin who asked is a person too.
    assert told(database, mark) == Counter([*people, talk.admin.user_id])
    assert in_their_own_rooms(database, people, mark)
    assert f"{number + 1} people" in said["content"]["body"]
