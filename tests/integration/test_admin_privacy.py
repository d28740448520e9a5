"""Who reads along with adminbot's answers, and what hostile names and texts do, on real servers."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping

import pytest

from adminbot.engine.actor import Place, PlaceKind
from adminbot.facts import Facts
from common.crypto.port import SessionRef, Undecryptable, Why
from common.ids import RoomId
from tests.integration.test_admin_commands import People, answered, direct_chat, people_of
from tests.support.admin_api import admin_api
from tests.support.clients import RawClient, Seen, wait_for
from tests.support.databases import open_database
from tests.support.postgres import Postgres
from tests.support.world import World
from tests.unit.adminbot.test_bot import build, decrypted, numbered
from tests.unit.adminbot.test_bot import encrypted as encrypted_event
from tests.unit.adminbot.world import DIRECT


@pytest.fixture
async def people(world: World) -> AsyncIterator[People]:
    """Three people of the shared world."""
    async with people_of(world) as three:
        yield three


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_chat_with_somebody_who_has_not_come_yet_is_theirs(
    people: People, encrypted: bool
) -> None:
    chat = await people.admin.direct_chat(people.bob.user_id, encrypted=encrypted)
    await people.admin.wait_for_members(chat, people.adminbot)

    hello = await people.admin.send_text(chat, "Hello")
    refused = await people.ask(people.admin, chat, "!user list")

    said = people.admin.messages(chat, sender=people.adminbot)
    assert hello not in {answered(seen) for seen in said}
    assert "direct chat with me" in refused.body
    assert people.alice.user_id not in refused.body


async def test_a_direct_chat_that_the_world_may_read_shows_no_server_fact(
    people: People,
) -> None:
    chat = await direct_chat(people, people.admin, encrypted=False)
    name = people.bob.user_id[1:].partition(":")[0]
    listed = await people.ask(people.admin, chat, f"user list --name {name}")
    assert people.bob.user_id in listed.body
    path = f"/_matrix/client/v3/rooms/{chat}/state/m.room.history_visibility/"
    await people.admin.request("PUT", path, {"history_visibility": "world_readable"})

    refused = await people.ask(people.admin, chat, f"!user list --name {name}")

    assert "direct chat with me" in refused.body


async def place(world: World, root: RawClient, room: RoomId, *, control: bool) -> Place:
    """Return what a room is; root itself stands for adminbot."""
    bots = frozenset({root.user_id, world.steward.adminbot, world.steward.auditbot})
    facts = Facts(admin_api(root), root.user_id, bots, (), (room,) if control else ())
    people = await root.joined_members(room) - bots
    return await facts.place(room, min(people, default=root.user_id))


@pytest.mark.parametrize(
    ("kind", "content", "private"),
    [
        ("m.room.join_rules", {"join_rule": "invite"}, True),
        ("m.room.join_rules", {"join_rule": "knock"}, False),
        ("m.room.join_rules", {"join_rule": "public"}, False),
        ("m.room.join_rules", {"join_rule": "restricted", "allow": []}, False),
        ("m.room.history_visibility", {"history_visibility": "shared"}, True),
        ("m.room.history_visibility", {"history_visibility": "world_readable"}, False),
    ],
)
async def test_rooms_that_others_may_enter_or_read_are_not_private(
    prepared_world: World,
    synapse: object,
    kind: str,
    content: Mapping[str, object],
    private: bool,
) -> None:
    async with (
        await prepared_world.person(admin=True) as root,
        await prepared_world.person(admin=True) as other,
    ):
        room = await root.create_room(invite=[other.user_id])
        await other.join(room)
        await root.send_state(room, kind, content)

        assert (await place(prepared_world, root, room, control=False)).private == private
        assert (await place(prepared_world, root, room, control=True)).private == private


async def test_an_admin_room_that_somebody_else_joins_is_refused(
    prepared_world: World, synapse: object
) -> None:
    async with (
        await prepared_world.person(admin=True) as root,
        await prepared_world.person() as person,
    ):
        room = await root.create_room(invite=[person.user_id])
        assert (await place(prepared_world, root, room, control=True)).private
        await person.join(room)

        found = await place(prepared_world, root, room, control=True)

    assert (found.kind, found.outsider) == (PlaceKind.CONTROL, person.user_id)
    assert not found.private


async def test_rooms_with_hostile_names_are_all_listed(world: World, people: People) -> None:
    mark = f"x{secrets.token_hex(4)}"
    chat = await direct_chat(people, people.admin)
    async with await world.person() as person, asyncio.TaskGroup() as group:
        hostile = ("\\" * 1500, '"' * 1500, "\x01" * 1500, "'" * 1500, "😀" * 1500)
        rooms = [
            group.create_task(person.create_room(name=f"{mark}{hostile[number % 5]}"))
            for number in range(50)
        ]
        await asyncio.wait(rooms)

    async def all_are_listed() -> Seen | None:
        # The homeserver takes new names into its list in the background.
        answer = await people.ask(people.admin, chat, f"room list --name {mark}")
        return answer if "50 rooms in all" in answer.body else None

    answer = await wait_for(all_are_listed, 60, "all the rooms in the list")
    assert answer is not None
    assert answer.encrypted
    assert all(room.result() in answer.body for room in rooms)


async def test_late_commands_that_postgresql_cannot_store_stop_nothing(
    postgres: Postgres,
) -> None:
    target = await postgres.create_database()
    async with open_database(target.url) as database:
        bot = build(database)
        texts = ["help \0", "version", "user show x\0y", "whoami"]
        for number, text in enumerate(texts):
            event = numbered(encrypted_event(), number)
            bot.crypto.readings[event["event_id"]] = Undecryptable(Why.NO_SESSION, "s1")
            await bot.push(event)
            late = decrypted(text, formatted_body=f"<b>\0{text}</b>")
            bot.crypto.readings[event["event_id"]] = late

        await bot.bot.keys_arrived({SessionRef(DIRECT, "s1")})

        assert await bot.waiting() == ["help \ufffd", "version", "user show x\ufffdy", "whoami"]
        assert await bot.unreadable() == 0


async def test_a_late_command_that_postgresql_refuses_is_dropped_alone(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adminbot.engine.intake.storable", lambda text: text)
    target = await postgres.create_database()
    async with open_database(target.url) as database:
        bot = build(database)
        for number, text in enumerate(["version", "help \0x", "whoami"]):
            event = numbered(encrypted_event(), number)
            bot.crypto.readings[event["event_id"]] = Undecryptable(Why.NO_SESSION, "s1")
            await bot.push(event)
            bot.crypto.readings[event["event_id"]] = decrypted(text)

        await bot.bot.keys_arrived({SessionRef(DIRECT, "s1")})

        assert await bot.waiting() == ["version", "whoami"]
        assert await bot.unreadable() == 0
