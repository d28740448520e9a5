"""From inbox entries to answers: intake and worker, with fakes of our own ports."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from adminbot.alarms import Alarms
from adminbot.bot import AdminBot
from adminbot.commands import catalogue
from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer, answer
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import command
from adminbot.intake import DirectChats, Intake
from adminbot.outages import Outages
from adminbot.worker import Worker
from common.crypto.port import Decrypted, KeySource, SessionRef, Trust, Undecryptable, Why
from common.database.pool import Database
from common.homeserver.synapse.rooms import Event
from common.ids import EventId, RoomId
from common.inbox.port import Entry, EntryKind, Source
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.test_dispatch import the_server
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    DIRECT,
    ME,
    SHARED,
    TEST_COMMANDS,
    FakeAdmin,
    FakeClock,
    FakeCrypto,
    FakeMessenger,
    FakeSender,
    message,
    parts,
    surroundings,
)

DEADLINE_SECONDS = 60.0


@command("test bug", who=Role.ANYONE)
async def bug() -> Answer:
    """Meet a bug."""
    return answer(str(1 // 0))


@dataclass
class World:
    """A whole bot without a homeserver."""

    bot: AdminBot
    admin: FakeAdmin
    messenger: FakeMessenger
    sender: FakeSender
    crypto: FakeCrypto
    clock: FakeClock
    database: Database

    async def push(self, *events: dict[str, Any]) -> None:
        """Let events come in as the inbox's consumer does."""
        entries = []
        for number, event in enumerate(events, start=1):
            kept = Event(event["type"], event["sender"])
            self.admin.events.setdefault(EventId(event["event_id"]), kept)
            entries.append(entry(json.dumps(event).encode(), number))
        await self.push_entries(*entries)

    async def push_entries(self, *entries: Entry) -> None:
        effect = await self.bot.handle(entries)
        async with self.database.transaction() as connection:
            await effect(connection)

    async def waiting(self) -> list[str]:
        rows = await self.database.fetch("SELECT text FROM admin_command ORDER BY event_id")
        return [row["text"] for row in rows]

    async def unreadable(self) -> int:
        return int(await self.database.fetchval("SELECT COUNT(*) FROM admin_unreadable"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.bot.run())
            yield
            task.cancel()

    async def until_said(self, number: int) -> list[str]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            async with self.messenger.spoke:
                await self.messenger.spoke.wait_for(lambda: len(self.messenger.said) >= number)
        return self.messenger.bodies


def entry(body: bytes, position: int = 1, kind: EntryKind = EntryKind.EVENT) -> Entry:
    return Entry(position, kind, body, Source.TRANSACTION, "", "", 0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        yield build(database)


async def nobody() -> list[RoomId]:
    """Find no direct chat."""
    return []


def build(database: Database) -> World:
    clock, admin, messenger, crypto = FakeClock(), the_server(), FakeMessenger(), FakeCrypto()
    sender = FakeSender()
    commands = Catalogue((*catalogue(), *TEST_COMMANDS, bug))
    made = parts(database, clock, admin, messenger, sender, commands)
    store, facts, dispatcher = made.store, made.facts, made.dispatcher
    around = surroundings(first_words=commands.first_words)
    intake = Intake(crypto, DirectChats(facts), store, clock, around, asyncio.Event())
    worker = Worker(dispatcher, intake, store, clock, 300_000, made.telling)
    alarms = Alarms(database, messenger, (), nobody)
    outages = Outages(database, made.telling)
    bot = AdminBot(intake, worker, (alarms.tell, made.later.run, outages.run))
    return World(bot, admin, messenger, sender, crypto, clock, database)


def numbered(event: dict[str, Any], number: int) -> dict[str, Any]:
    return {**event, "event_id": f"$command{number}"}


def encrypted(session: str = "s1", **changed: Any) -> dict[str, Any]:
    content = {"algorithm": "m.megolm.v1.aes-sha2", "session_id": session, "ciphertext": "…"}
    content.update(changed)
    given = message("", sender=ADMIN)
    return {**given, "type": "m.room.encrypted", "content": content}


def decrypted(
    text: str, trust: Trust = Trust.CROSS_SIGNED, *, type_: str = "m.room.message", **content: Any
) -> Decrypted:
    payload = {
        "type": type_,
        "room_id": DIRECT,
        "content": {"msgtype": "m.text", "body": text, **content},
    }
    body = json.dumps(payload).encode()
    return Decrypted(body, "s1", "key", "DEVICE", 0, trust, KeySource.DIRECT)


async def test_a_command_is_answered(world: World) -> None:
    async with world.running():
        await world.push(message("version", sender=ADMIN))

        (said,) = await world.until_said(1)

    assert "1.163.2" in said


async def test_a_command_taken_in_before_a_crash_is_answered_after_it(world: World) -> None:
    await world.push(message("version", sender=ADMIN))
    assert world.messenger.said == {}

    restarted = build(world.database)
    restarted.admin.events = world.admin.events
    async with restarted.running():
        assert len(await restarted.until_said(1)) == 1


async def test_the_same_event_by_both_feeds_is_answered_once(world: World) -> None:
    async with world.running():
        await world.push(message("version", sender=ADMIN), message("version", sender=ADMIN))
        await world.until_said(1)
        await world.push(message("version", sender=ADMIN))
        await world.push(numbered(message("whoami", sender=ADMIN), 2))
        said = await world.until_said(2)

    assert len(said) == 2


async def test_in_shared_rooms_what_is_not_ours_leaves_no_trace(world: World) -> None:
    await world.push(
        numbered(message("hello everybody", room=SHARED), 1),
        numbered(message("!poll best colour", room=SHARED), 2),
        numbered(message("help", room=SHARED), 3),
    )

    assert await world.waiting() == []


async def test_a_direct_chat_that_somebody_joins_is_none_any_more(world: World) -> None:
    await world.push(numbered(message("hello", sender=ADMIN), 1))
    assert await world.waiting() == ["hello"]

    world.admin.members[DIRECT] = (ADMIN, ALICE, ME)
    joined = {
        **message("", sender=ALICE),
        "type": "m.room.member",
        "state_key": ALICE,
        "content": {"membership": "join"},
    }
    await world.push(joined, numbered(message("dinner?", sender=ADMIN), 2))

    assert await world.waiting() == ["hello"]


async def test_entries_that_are_no_events_are_ignored(world: World) -> None:
    await world.push_entries(
        entry(b"not json"),
        entry(b"[" * 100_000, 2),
        entry(b"[1, 2]", 3),
        entry(b'{"type": 1}', 4),
        entry(b'{"sender": "@a:b"}', 5, EntryKind.TO_DEVICE),
    )

    assert await world.waiting() == []


async def test_an_encrypted_command_is_answered(world: World) -> None:
    world.crypto.readings["$command"] = decrypted("version")

    async with world.running():
        await world.push(encrypted())
        (said,) = await world.until_said(1)

    assert "1.163.2" in said
    trust = await world.database.fetchval("SELECT trust FROM admin_command")
    assert trust == "cross_signed"


async def test_a_message_encrypted_by_somebody_else_is_never_taken_in(world: World) -> None:
    world.crypto.readings["$command"] = decrypted("version", Trust.MISMATCH)

    await world.push(encrypted())

    assert await world.waiting() == []


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}, {}),
        ({}, {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}),
        (
            {"m.relates_to": {"rel_type": "m.thread", "event_id": "$x"}},
            {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}},
        ),
        ({}, {"m.new_content": {"body": "x"}}),
        ({}, {"msgtype": "m.notice"}),
    ],
)
async def test_edits_and_notices_are_ignored_when_encrypted_too(
    world: World, outer: dict[str, Any], inner: dict[str, Any]
) -> None:
    world.crypto.readings["$command"] = decrypted("version", **inner)

    await world.push(encrypted(**outer))

    assert await world.waiting() == []


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"type": 1, "content": {}}', b"\xff"])
async def test_a_payload_of_any_shape_is_survived(world: World, payload: bytes) -> None:
    world.crypto.readings["$command"] = replace(decrypted(""), payload=payload)

    await world.push(encrypted())

    assert await world.waiting() == []


async def test_a_command_whose_key_comes_late_is_answered_then(world: World) -> None:
    world.crypto.readings["$command"] = Undecryptable(Why.NO_SESSION, "s1")
    await world.push(encrypted())
    assert await world.unreadable() == 1

    await world.bot.keys_arrived({SessionRef(DIRECT, "other")})
    assert await world.unreadable() == 1

    world.crypto.readings["$command"] = decrypted("version")
    async with world.running():
        await world.bot.keys_arrived({SessionRef(DIRECT, "s1")})
        (said,) = await world.until_said(1)

    assert "1.163.2" in said
    assert await world.unreadable() == 0


async def test_a_command_whose_key_comes_too_late_is_forgotten(world: World) -> None:
    world.crypto.readings["$command"] = Undecryptable(Why.NO_SESSION, "s1")
    await world.push(encrypted())
    world.clock.forward(301)
    world.crypto.readings["$command"] = decrypted("version")

    await world.bot.keys_arrived({SessionRef(DIRECT, "s1")})

    assert await world.waiting() == []
    assert await world.unreadable() == 0


@pytest.mark.parametrize("why", [Why.REPLAY, Why.BAD_MAC, Why.ROOM_MISMATCH, Why.MALFORMED])
async def test_what_can_never_be_read_is_not_waited_for(world: World, why: Why) -> None:
    world.crypto.readings["$command"] = Undecryptable(why, "s1")

    await world.push(encrypted())

    assert await world.unreadable() == 0


async def test_question_and_reaction_through_the_whole_bot(world: World) -> None:
    async with world.running():
        await world.push(message("test close alice", sender=ADMIN))
        await world.until_said(1)
        relation = {
            "rel_type": "m.annotation",
            "event_id": world.messenger.question(),
            "key": "✅",
        }
        yes = {
            **numbered(message("", sender=ADMIN), 2),
            "type": "m.reaction",
            "content": {"m.relates_to": relation},
        }
        await world.push(yes)
        said = await world.until_said(2)

    assert said[1] == "Done: Close @alice:example.org and 0 shadows."
    assert len(world.admin.changes) == 1


async def test_an_unanswered_question_is_closed(world: World) -> None:
    async with world.running():
        await world.push(message("test close alice", sender=ADMIN))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await world.sender.offered.wait()
        world.clock.forward(61)
        said = await world.until_said(2)

    assert "Nobody confirmed in time" in said[1]
    assert world.admin.changes == []


async def test_a_bug_in_a_command_is_told_with_a_reference_and_stops_nothing(world: World) -> None:
    async with world.running():
        await world.push(numbered(message("test bug", sender=ADMIN), 1))
        (said,) = await world.until_said(1)
        await world.push(numbered(message("version", sender=ADMIN), 2))
        await world.until_said(2)

    assert "Something is wrong on my side" in said


async def test_a_command_found_long_after_a_crash_is_not_obeyed(world: World) -> None:
    await world.push(message("test rename alice", sender=ADMIN))
    world.clock.forward(3600)

    async with world.running():
        (said,) = await world.until_said(1)

    assert "I was away" in said
    assert world.admin.changes == []
