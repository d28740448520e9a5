"""Schedules, figures, the homeserver's own work and the bots, by a server admin's commands."""

import secrets
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from common.config.load import load
from common.demo.waiting import wait_for
from tests.support.clients import RawClient
from tests.support.databases import open_database
from tests.support.talk import Talk, talk_in
from tests.support.world import MakeWorld, World

PNG = "image/png"


@pytest.fixture
async def talk(world: World) -> AsyncIterator[Talk]:
    async with talk_in(world) as one:
        yield one


async def test_a_command_is_given_at_its_time_with_the_rights_of_then(
    world: World, talk: Talk
) -> None:
    mark = secrets.token_hex(4)
    room = await talk.admin.create_room(name=mark)
    await talk.admin.wait_for_members(room, world.steward.adminbot)
    await talk.admin.wait_until_listed(mark, room)

    said = await talk.do(f'schedule --at "in 2s" room list --name {mark}')
    assert "Scheduled" in said
    bot = world.steward.adminbot
    listed = await talk.admin.wait_for_message(talk.chat, "1 room in all", sender=bot)
    assert room in listed["content"]["body"]

    # What asks elsewhere has been confirmed when it was scheduled.
    person = await world.person()
    async with person:
        await talk.do(f'schedule --at "in 2s" notice {person.user_id} Later {mark}')

        async def told() -> bool:
            rows = await talk.ask("notice status")
            return mark in rows

        await wait_for(told, 60, "the scheduled notice to be sent")

    await talk.do("schedule --every 1d --missed all version")
    shown = await talk.ask("schedule list")
    number = next(line.split()[0] for line in shown.splitlines() if "version" in line)
    await talk.do(f"schedule remove {number}")
    assert "version" not in await talk.ask("schedule list")
    for wrong, why in (
        ("schedule --every 1d versoin", "no command"),
        ("schedule --every 1d room show", "missing"),
        ("schedule --every 1d schedule list", "cannot be scheduled"),
        ("schedule --every 1d room prune-empty", "confirm room prune-empty"),
        ("schedule --every 10s version", "Once a minute"),
        ("schedule version", "either --at or --every"),
        ("schedule --at yesterday version", "is over"),
    ):
        assert why in await talk.ask(wrong)

    # Who lost the right meanwhile is refused then.
    await talk.do(f'schedule --at "in 1h" room list --name {mark}')
    async with await world.person(admin=True) as other:
        await other.request(
            "PUT", f"/_synapse/admin/v1/users/{talk.admin.user_id}/admin", {"admin": False}
        )
    url = f"sqlite:///{world.steward.directory / 'steward.db'}"
    async with open_database(url) as database, database.transaction() as connection:
        # As if that hour were over.
        await connection.execute(
            "UPDATE admin_schedule SET next_ms = $1 WHERE owner = $2 AND next_ms IS NOT NULL",
            1,
            talk.admin.user_id,
        )
    assert await talk.admin.wait_for_message(talk.chat, "is for server admins", sender=bot)


def make_guest(world: World) -> str:
    """Make a guest as Synapse does where it lets them in; here it does not."""
    user = f"@{secrets.randbelow(10**9)}:{world.synapse.server_name}"
    with sqlite3.connect(world.synapse.directory / "homeserver.db", timeout=30) as connection:
        connection.execute(
            "INSERT INTO users (name, password_hash, creation_ts, admin, is_guest, deactivated,"
            " approved, locked, suspended) VALUES (?, NULL, ?, 0, 1, 0, 1, 0, 0)",
            (user, int(datetime.now(UTC).timestamp())),  # noqa: TID251  # the servers' own day
        )
    return user


async def test_figures_are_counted_and_drawn(world: World, talk: Talk) -> None:
    guest = make_guest(world)
    async with await world.person() as alice:
        room = await alice.create_room(name="Figures")
        await alice.wait_for_members(room, world.steward.adminbot)
        await alice.send_text(room, "counted")

        async def seen() -> bool:
            csv = await talk.files("mau --csv", f"mau-{datetime.now(UTC):%Y-%m}.csv")  # noqa: TID251  # the servers' own day
            return int(csv["info"]["size"]) > len("user,days,counts")

        await wait_for(seen, 60, "somebody to be seen")
        # Seen on three days: one from now, two written as if they had been.
        url = f"sqlite:///{world.steward.directory / 'steward.db'}"
        async with open_database(url) as database, database.transaction() as connection:
            await connection.execute("DELETE FROM admin_seen WHERE month = $1", "2026-01")
            await connection.executemany(
                "INSERT INTO admin_seen (month, user_id, days) VALUES ($1, $2, 7)",
                [("2026-01", user) for user in (alice.user_id, guest, world.steward.adminbot)],
            )

        async def counted_in() -> bool:
            listed = await talk.ask("mau 2026-01 --list")
            return "Monthly active users: 1" in listed and alice.user_id in listed

        # As soon as it is known that this is a person.
        await wait_for(counted_in, 60, "alice to be a monthly active user")
        async with open_database(url) as database:
            rows = await database.fetch("SELECT kind FROM admin_account WHERE user_id = $1", guest)
        # The homeserver is asked for its accounts without guests, so none is taken for a person.
        assert list(rows) == []

    picture = await talk.files("mau --trend", "mau.png")
    assert picture["msgtype"] == "m.image"
    assert picture["info"]["mimetype"] == PNG
    assert picture["info"]["w"] > 500
    counted = await talk.ask("users count")
    assert "People:" in counted
    today = datetime.now(UTC).date()  # noqa: TID251  # the servers' own day
    # Of two days, since midnight may pass before it is answered.
    assert str(today) in await talk.ask("stats daily --days 2")
    assert "Week of" in await talk.ask("stats weekly --weeks 2")
    assert (await talk.files("stats daily --picture", "stats.png"))["info"]["mimetype"] == PNG
    assert "is no month" in await talk.ask("mau 2026-13")


async def test_the_homeserver_is_looked_after(world: World, talk: Talk) -> None:
    status = await talk.ask("server status")
    assert "1.163.2" in status
    assert "Default room version:" in await talk.ask("server capabilities")
    assert "checks found nothing wrong" in await talk.ask("doctor")
    assert "task" in await talk.ask("tasks")

    async def enabled() -> bool:
        path = "/_synapse/admin/v1/background_updates/status"
        return bool((await talk.admin.request("GET", path))["enabled"])

    await talk.do("updates pause")
    assert not await enabled()
    assert "paused" in await talk.ask("updates status")
    await talk.do("updates resume")
    assert await enabled()
    assert "Done" in await talk.do("updates run regenerate_directory")
    assert "This cannot be undone" in await talk.ask("updates resign --old-key ed25519:a_old")
    bots = await talk.ask("bots status")
    assert world.steward.auditbot in bots
    assert "server admin" in bots


async def test_the_world_is_told_whom_to_write_to(world: World, talk: Talk) -> None:
    service = load(world.steward.config_path, {}).appservice
    url = f"http://{service.listen_host}:{service.listen_port}/.well-known/matrix/support"

    async def served() -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.json(content_type=None)

    me = talk.admin.user_id
    await talk.do(f"contact set --email safety@example.org --user {me}")
    try:
        shown = await talk.ask("contact show")
        status, document = await served()
    finally:
        await talk.do("contact clear")

    assert "safety@example.org" in shown
    assert status == 200
    for contact in document["contacts"]:
        assert (contact["matrix_id"], contact["email_address"]) == (me, "safety@example.org")
    roles = {contact["role"] for contact in document["contacts"]}
    assert roles == {"m.role.admin", "m.role.security"}
    assert (await served())[0] == 404
    assert "There is no trust & safety contact" in await talk.ask("contact show")


async def test_the_bots_leave_every_room_and_come_back(make_world: MakeWorld) -> None:
    world = await make_world()
    bots = (world.steward.adminbot, world.steward.auditbot)
    async with talk_in(world) as talk, await world.person() as alice:
        rooms = [await alice.create_room(name=f"Room {number}") for number in range(3)]
        for room in rooms:
            await alice.wait_for_members(room, *bots)

        said = await talk.do("bots leave-all")

        assert "Done: Have the bots leave 3 rooms" in said
        for room in rooms:
            assert not set(bots) & await alice.joined_members(room)
        # Nor do they come by themselves: not for what is said, nor into new rooms.
        await alice.send_text(rooms[0], "alone at last")
        new = await alice.create_room(name="New")
        assert "Bots enter no rooms since" in await talk.ask("server status")
        assert "bots rejoin" in await talk.ask("bots sweep")
        assert not set(bots) & await alice.joined_members(rooms[0])
        # Who begins a chat with adminbot is heard all the same.
        await _can_still_command(world, talk.admin)

        said = await talk.do("bots rejoin")

        assert "Done" in said
        for room in (*rooms, new):
            await alice.wait_for_members(room, *bots)
        assert "Bots enter no rooms since" not in await talk.ask("server status")

        async def known() -> bool:
            return "in every room" in await talk.ask("bots missing")

        await wait_for(known, 60, "the bots in every room")
        assert "Done" in await talk.do("bots sweep")


async def _can_still_command(world: World, admin: RawClient) -> None:
    chat = await admin.create_room(direct=True, invite=[world.steward.adminbot])
    await admin.wait_for_members(chat, world.steward.adminbot)
    assert world.steward.auditbot not in await admin.joined_members(chat)
    asked = await admin.send_text(chat, "whoami")
    await admin.wait_for_message(chat, sender=world.steward.adminbot, after=asked)
