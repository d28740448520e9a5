"""Languages, the log, jobs, approvals and requests, with fakes of our own ports around them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adminbot.commands import catalogue
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.confirm import Reaction
from adminbot.engine.intake import Confirmation
from adminbot.log_room import LogRoom
from common.database.pool import Database
from common.homeserver.synapse.rooms import Event
from common.homeserver.synapse.users import UserDetails
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    AUDITBOT,
    BOB,
    CONTROL,
    DIRECT,
    ME,
    SHARED,
    TEST_COMMANDS,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    parts,
    request,
)

OTHER = UserId("@other:example.org")
OTHERS_CHAT = RoomId("!others")
ALICES_CHAT = RoomId("!alices")
LOG = RoomId("!log")


@dataclass
class World:
    """Everything around the dispatcher, where closing accounts takes two."""

    made: Parts
    admin: FakeAdmin
    messenger: FakeMessenger
    clock: FakeClock
    database: Database
    given: int = 0

    async def give(self, text: str, *, by: UserId = ADMIN, room: RoomId = DIRECT) -> str:
        """Let a command be obeyed; return the last thing that was said in its room."""
        self.given += 1
        event = EventId(f"$given{self.given}")
        now_ms = self.clock.now_ms()
        one = replace(request(text, sender=by, room=room), event=event, origin_ms=now_ms)
        self.admin.events[event] = Event("m.room.message", by)
        async with self.database.transaction() as connection:
            await self.made.store.take_in(connection, one, None)
        await self.work()
        return self.said(room)

    async def work(self) -> None:
        for job in await self.made.store.jobs(10):
            await self.made.dispatcher.obey(job)
        for asked in await self.made.store.confirmed():
            await self.made.dispatcher.carry_out(asked)
        for asked in await self.made.store.executing():
            await self.made.dispatcher.carry_on(asked)

    def said(self, room: RoomId) -> str:
        return [str(c["body"]) for where, c in self.messenger.said.values() if where == room][-1]

    @property
    def closed(self) -> list[str]:
        return [call.path for call in self.admin.changes]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        clock, messenger = FakeClock(), FakeMessenger()
        admins = [UserDetails(ADMIN, admin=True), UserDetails(OTHER, admin=True)]
        people = [*admins, UserDetails(ALICE), UserDetails(BOB)]
        admin = FakeAdmin(
            users={one.name: one for one in people},
            members={
                DIRECT: (ADMIN, ME, AUDITBOT),
                OTHERS_CHAT: (OTHER, ME),
                ALICES_CHAT: (ALICE, ME),
                CONTROL: (ADMIN, OTHER, ME),
                SHARED: (ALICE, BOB, ME),
            },
        )
        commands = Catalogue((*catalogue(), *TEST_COMMANDS))
        made = parts(database, clock, admin, messenger, FakeSender(), commands)
        two = replace(made.dispatcher, two_person=("test close",))
        yield World(replace(made, dispatcher=two), admin, messenger, clock, database)


async def test_the_language_that_somebody_chose_is_kept(world: World) -> None:
    await world.give("language de", by=ALICE, room=ALICES_CHAT)
    rows = await world.database.fetch("SELECT * FROM admin_person")

    assert [(row["user_id"], row["language"]) for row in rows] == [(ALICE, "de")]
    for text in ("language", "lang"):
        assert "Ihre Sprache ist de." in await world.give(text, by=ALICE, room=ALICES_CHAT)
    refused = await world.give("language xx", by=ALICE, room=ALICES_CHAT)
    assert "„xx“ spreche ich nicht" in refused


async def test_the_log_tells_who_asked_for_what(world: World) -> None:
    await world.give("test rename alice")
    await world.give("user list", by=ALICE, room=ALICES_CHAT)

    log = await world.give("log")
    of_alice = await world.give(f"log --user {ALICE}")

    assert "test rename @alice:example.org" in log
    assert "about to" not in log
    assert "about to" in await world.give("log --steps")
    assert "refused" in log
    assert "user list" in of_alice
    assert "test rename" not in of_alice
    assert "for server admins" in await world.give("log", by=ALICE, room=ALICES_CHAT)


async def test_the_log_room_gets_each_command_once(world: World) -> None:
    follower = LogRoom(LOG, world.made.dispatcher.execution.records, world.made.telling)
    await world.give("version")
    await follower.catch_up()  # the first look: nothing of what was before
    world.clock.forward(60)
    await world.give("test rename alice")

    await follower.catch_up()
    await follower.catch_up()

    told = [str(c["body"]) for where, c in world.messenger.said.values() if where == LOG]
    assert len(told) == 1
    assert "test rename @alice:example.org – done" in told[0]
    assert "did: Rename @alice:example.org" in told[0]


async def test_jobs_are_shown_to_who_asked_and_to_server_admins(world: World) -> None:
    await world.give("test rename alice")

    assert "Rename @alice:example.org" in await world.give("jobs")
    assert "Rename @alice:example.org" in await world.give("jobs", by=OTHER, room=OTHERS_CHAT)
    assert "There is none." in await world.give("jobs", by=ALICE, room=ALICES_CHAT)
    assert "You have no job 1" in await world.give("jobs 1", by=ALICE, room=ALICES_CHAT)
    assert "You have no job 1" in await world.give("cancel 1", by=ALICE, room=ALICES_CHAT)
    assert "not running any more" in await world.give("cancel 1")


async def test_whoever_has_many_jobs_is_told_how_to_go_on(world: World) -> None:
    for _ in range(21):
        await world.give("test rename alice")

    first, second = await world.give("jobs"), await world.give("jobs --page 2")

    assert "Go on with --page 2." in first
    assert "test rename" not in second
    assert "Rename @alice:example.org" in second
    assert "Go on" not in second


async def test_long_lists_about_oneself_say_that_they_go_on(world: World) -> None:
    for number in range(50):
        world.admin.members[RoomId(f"!room{number:02}:example.org")] = (ALICE, ME)

    first = await world.give("me rooms", by=ALICE, room=ALICES_CHAT)
    second = await world.give("me rooms --page 2", by=ALICE, room=ALICES_CHAT)

    assert "Page 1 of 2. 52 rooms in all. Go on with --page 2." in first
    assert "!room49:example.org" in second
    assert second.count("•") == 2


async def test_whether_somebody_may_is_said_with_the_reason(world: World) -> None:
    async def may(words: str, *, by: UserId = ALICE, room: RoomId = ALICES_CHAT) -> str:
        return await world.give(f"can-i {words}", by=by, room=room)

    assert "Yes, you may run user deactivate here." in await may(
        "user deactivate alice --erase", by=ADMIN, room=DIRECT
    )
    assert "Yes, you may run ban here." in await may("!ban bob", by=ADMIN, room=DIRECT)
    assert "No. “user deactivate” is for server admins." in await may("user deactivate bob")
    assert "It depends on the room" in await may("ban bob")
    assert "No. “ban” is for a room moderator of that room." in await may("ban", room=SHARED)
    assert "others read along here" in await may("user list", by=ADMIN, room=SHARED)
    assert "There is no command “ban-all”." in await may("ban-all")


async def test_an_answer_to_ping_tells_how_long_it_took(world: World) -> None:
    # What the fake clocks say: the message is as old as our clock is ahead of it.
    said = await world.give("ping", by=ALICE, room=ALICES_CHAT)

    assert "Your message has taken 41 ms so far; the homeserver answers me within 0 ms." in said


async def test_a_request_is_granted_by_its_button_and_who_asked_is_told(world: World) -> None:
    async def asked(text: str) -> str:
        await world.give(text, by=ALICE, room=ALICES_CHAT)
        rows = await world.database.fetch(
            "SELECT command FROM admin_button WHERE key = '✅' ORDER BY until_ms"
        )
        world.clock.forward(1)
        return str(rows[-1]["command"])

    world.admin.names[ALICES_CHAT], lobby = "", "#lobby"
    alias = await asked(f"request alias {SHARED} --address {lobby}")
    bridge = await asked(f"request bridge {SHARED}")

    assert "--address" in alias
    assert f"{lobby}:example.org" in alias
    assert "Do it first, then approve" in world.said(CONTROL)
    assert "Say which address" in await world.give(
        f"request alias {SHARED}", by=ALICE, room=ALICES_CHAT
    )
    await world.give(bridge)
    granted = world.said(ALICES_CHAT)
    assert f"has granted what you asked for: a bridge for the room {SHARED}" in granted


async def test_granting_what_takes_two_takes_two(world: World) -> None:
    two = replace(world.made.dispatcher, two_person=("alias add",))
    world.made = replace(world.made, dispatcher=two)

    said = await world.give(f"request-approve alias other {SHARED} --address #lobby")

    assert "Another server admin has to approve it" in said
    assert world.closed == []


async def code(world: World) -> str:
    asked = await world.give("test close alice")
    assert "Another server admin has to approve it" in asked
    return asked.split("approve ")[-1][:4]


async def test_what_takes_two_is_done_when_another_admin_approves(world: World) -> None:
    word = await code(world)
    assert f"approve {word}" in world.said(CONTROL)
    assert "asks for your approval" in world.said(CONTROL)

    assert "Approved" in await world.give(f"approve {word}", by=OTHER, room=OTHERS_CHAT)
    await world.work()

    assert len(world.closed) == 1
    assert "Done" in world.said(DIRECT)


async def test_nobody_approves_what_they_asked_for_themselves(world: World) -> None:
    word = await code(world)

    assert "Somebody else has to approve" in await world.give(f"approve {word}")
    question = world.messenger.question()
    async with world.database.transaction() as connection:
        reply = Confirmation(EventId("$yes"), DIRECT, ADMIN, Reaction(question))
        assert not await world.made.store.take_confirmation(connection, reply)
    await world.work()

    assert world.closed == []


async def test_what_is_denied_or_late_is_not_done(world: World) -> None:
    word = await code(world)

    assert "Denied" in await world.give(f"deny {word}", by=OTHER, room=OTHERS_CHAT)
    late = await world.give(f"approve {word}", by=OTHER, room=OTHERS_CHAT)

    assert "Nothing waits" in late
    assert world.closed == []


async def test_who_is_no_admin_approves_nothing(world: World) -> None:
    word = await code(world)

    refused = await world.give(f"approve {word}", by=ALICE, room=ALICES_CHAT)

    assert "for server admins" in refused
    assert world.closed == []


async def test_people_ask_the_admins_a_few_times_an_hour(world: World) -> None:
    for _ in range(5):
        said = await world.give("report it smells", by=ALICE, room=ALICES_CHAT)
        assert "The server admins know." in said
    assert "it smells" in world.said(CONTROL)

    again = await world.give("report it smells", by=ALICE, room=ALICES_CHAT)

    assert "You have asked often" in again


async def test_the_trust_and_safety_contact_is_named_for_the_world(world: World) -> None:
    assert "no e-mail address" in await world.give("contact set --email nonsense")
    assert "of another server" in await world.give("contact set --user @x:elsewhere.org")

    await world.give("contact set --email safety@example.org --user other")
    reply = Confirmation(EventId("$yes"), DIRECT, ADMIN, Reaction(world.messenger.question()))
    async with world.database.transaction() as connection:
        await world.made.store.take_confirmation(connection, reply)
    await world.work()

    assert "safety@example.org" in await world.give("contact show")
    for text in ("about", "privacy"):
        assert "safety@example.org" in await world.give(text, by=ALICE, room=ALICES_CHAT)
    document = await world.database.fetchval(
        "SELECT value FROM admin_memory WHERE name = 'support-contact'"
    )
    contacts = json.loads(document)["contacts"]
    assert contacts[0] == {
        "role": "m.role.security",
        "email_address": "safety@example.org",
        "matrix_id": OTHER,
    }
