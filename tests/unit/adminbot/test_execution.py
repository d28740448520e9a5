"""Jobs of many steps, what is said in private, and buttons, with a real (SQLite) database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adminbot.commands import catalogue
from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer, Button, File, answer
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import command
from adminbot.engine.intake import Press, Request
from adminbot.engine.plan import Bulk, Plan
from adminbot.execution import ASK_AGAIN_SECONDS
from adminbot.own.jobs import ListJobs
from adminbot.own.people import LanguageOf, SetLanguage
from common.database.pool import Database
from common.errors import TransientError
from common.homeserver.errors import SwitchedOffError
from common.homeserver.port import AdminReader, HttpChange, Permission
from common.homeserver.synapse.media_changes import DeleteMedia
from common.homeserver.synapse.rooms import Event
from common.homeserver.synapse.users import ListUsers, UserDetails
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    AUDITBOT,
    CONTROL,
    DIRECT,
    ME,
    SERVER,
    TEST_COMMANDS,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    Rename,
    parts,
    request,
)


@command("test many", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def many(admin: AdminReader) -> Plan:
    """Rename everybody."""
    page = await admin.read(ListUsers())
    return Plan(
        summary="Rename everybody",
        steps=tuple(Rename(one.name) for one in page.users),
        bulk=Bulk(at_once=3),
        result=answer("They are glad."),
    )


@command("test paced", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def paced(admin: AdminReader) -> Plan:
    """Rename everybody, slowly."""
    page = await admin.read(ListUsers())
    steps = tuple(Rename(one.name) for one in page.users)
    return Plan(summary="Rename everybody", steps=steps, bulk=Bulk(at_once=3, per_second=2))


@command("test chained", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def chained(admin: AdminReader) -> Plan:
    """Rename everybody, and then once more."""
    page = await admin.read(ListUsers())
    names = [UserId(f"{one.name}-{part}") for one in page.users for part in ("a", "b", "c")]
    return Plan(
        summary="Rename everybody thrice",
        steps=tuple(Rename(name) for name in names),
        bulk=Bulk(at_once=4, chain=3),
    )


@command("test secret", who=Role.SERVER_ADMIN)
async def secret() -> Answer:
    """Tell a secret."""
    private = answer("hunter2").with_file(File("secret.csv", "text/csv", b"hunter2"))
    return replace(answer("Here."), private=private)


@command("test card", who=Role.SERVER_ADMIN)
async def card() -> Answer:
    """Offer a button."""
    return replace(answer("Well?"), buttons=(Button("👍", "rename", "test rename alice"),))


@command("test language", who=Role.ANYONE)
async def speak(word: str) -> Plan:
    """Change our own tables.

    Args:
        word: the language
    """
    return Plan(summary="Speak", steps=(SetLanguage(ALICE, word),))


@dataclass
class World:
    """Everything around the dispatcher."""

    made: Parts
    admin: FakeAdmin
    messenger: FakeMessenger
    sender: FakeSender
    clock: FakeClock
    database: Database

    async def give(self, given: Request) -> None:
        self.admin.events[given.event] = Event("m.room.message", given.sender)
        async with self.database.transaction() as connection:
            await self.made.store.take_in(connection, given, None)
        await self.work()

    async def work(self) -> None:
        for job in await self.made.store.jobs(10):
            await self.made.dispatcher.obey(job)
        for asked in await self.made.store.executing():
            await self.made.dispatcher.carry_on(asked)

    @property
    def said(self) -> str:
        return self.messenger.bodies[-1]

    @property
    def renamed(self) -> list[str]:
        return sorted(call.path.rpartition("/")[2] for call in self.admin.changes)


PEOPLE = [UserId(f"@person{number}:example.org") for number in range(20)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        clock, messenger, sender = FakeClock(), FakeMessenger(), FakeSender()
        people = [UserDetails(ADMIN, admin=True), *(UserDetails(one) for one in PEOPLE)]
        admin = FakeAdmin(
            users={one.name: one for one in people},
            members={DIRECT: (ADMIN, ME, AUDITBOT), CONTROL: (ADMIN, ME)},
        )

        async def sleep(seconds: float) -> None:
            clock.forward(seconds)
            await asyncio.sleep(0)

        from_here = (many, paced, chained, secret, card, speak)
        commands = Catalogue((*catalogue(), *from_here, *TEST_COMMANDS))
        made = parts(database, clock, admin, messenger, sender, commands, sleep=sleep)
        yield World(made, admin, messenger, sender, clock, database)


async def test_one_of_many_steps_that_fails_does_not_stop_the_others(world: World) -> None:
    world.admin.refuse_change = lambda call: "person7" in call.path

    await world.give(request("test many"))

    assert len(world.renamed) == 20
    assert "Done, not all of it: Rename everybody" in world.said
    assert "Done:   20" in world.said
    assert "Failed: 1" in world.said
    assert "Rename @person7:example.org – The homeserver refused: not today" in world.said
    assert "They are glad." in world.said


async def test_what_is_switched_off_stops_all_that_would_be_refused_alike(world: World) -> None:
    def off(call: HttpChange) -> bool:
        if len(world.admin.changes) >= 5:
            raise SwitchedOffError("Set “renaming” in homeserver.yaml, and restart it.")
        return False

    world.admin.refuse_change = off
    await world.give(request("test many"))

    assert len(world.renamed) == 5
    assert "Not begun:" in world.said
    assert world.said.rstrip().endswith("Set “renaming” in homeserver.yaml, and restart it.")
    (job,) = await world.made.dispatcher.execution.records.read(ListJobs(ADMIN))
    assert (job.status, job.reason[:3]) == ("cancelled", "Set")


async def test_many_steps_wait_for_a_homeserver_that_is_away(world: World) -> None:
    left = [5]

    def away(call: HttpChange) -> bool:
        if left[0]:
            left[0] -= 1
            raise TransientError("away")
        return False

    world.admin.refuse_change = away
    await world.give(request("test many"))

    assert len(world.renamed) == 21
    assert "Done: Rename everybody" in world.said


async def test_many_steps_begin_no_faster_than_they_may(world: World) -> None:
    before = world.clock.monotonic()

    await world.give(request("test paced"))

    assert world.clock.monotonic() - before >= 20 / 2


async def test_a_job_that_is_cancelled_says_how_far_it_came(world: World) -> None:
    class KilledError(BaseException):
        """Stands for the end of the process."""

    def die(call: HttpChange) -> bool:
        if len(world.admin.changes) >= 5:
            raise KilledError
        return False

    world.admin.refuse_change = die
    with pytest.raises(KilledError):
        await world.give(request("test many"))
    async with world.database.transaction() as connection:
        await connection.execute("UPDATE admin_job SET status = 'cancelling'")
    world.admin.refuse_change = lambda call: False

    await world.work()

    assert len(world.renamed) == 5
    assert "Cancelled: Rename everybody" in world.said
    assert "Not begun:" in world.said


async def test_a_job_whose_owner_lost_the_right_is_listed_as_cancelled_and_why(
    world: World,
) -> None:
    def demote(call: HttpChange) -> bool:
        if len(world.admin.changes) == 5:
            world.admin.users[ADMIN] = UserDetails(ADMIN, admin=False)
            world.clock.forward(ASK_AGAIN_SECONDS + 1)
        return False

    world.admin.refuse_change = demote
    await world.give(request("test many"))

    assert len(world.renamed) < 21
    assert "Cancelled: Rename everybody" in world.said
    (job,) = await world.made.dispatcher.execution.records.read(ListJobs(ADMIN))
    assert job.status == "cancelled"
    assert "is for server admins" in job.reason
    assert job.reason in world.said

    world.admin.users[ADMIN] = UserDetails(ADMIN, admin=True)
    await world.give(replace(request("jobs 1"), event=EventId("$jobs")))
    assert "State:   cancelled" in world.said
    assert "is for server admins" in world.said


async def test_a_job_whose_owner_lost_the_right_while_we_were_away_is_cancelled_too(
    world: World,
) -> None:
    class KilledError(BaseException):
        """Stands for the end of the process."""

    def die(call: HttpChange) -> bool:
        if len(world.admin.changes) >= 5:
            raise KilledError
        return False

    world.admin.refuse_change = die
    with pytest.raises(KilledError):
        await world.give(request("test many"))
    world.admin.refuse_change = lambda call: False
    world.admin.users[ADMIN] = UserDetails(ADMIN, admin=False)

    await world.work()

    assert len(world.renamed) == 5
    (job,) = await world.made.dispatcher.execution.records.read(ListJobs(ADMIN))
    assert (job.status, "is for server admins" in job.reason) == ("cancelled", True)


async def test_a_homeserver_that_is_away_when_the_right_is_looked_at_stops_no_job(
    world: World,
) -> None:
    def absent(call: HttpChange) -> bool:
        if len(world.admin.changes) == 5:
            world.admin.away = 1
            world.clock.forward(ASK_AGAIN_SECONDS + 1)
        return False

    world.admin.refuse_change = absent
    await world.give(request("test many"))

    assert len(world.renamed) == 21
    assert "Done: Rename everybody" in world.said


async def test_a_change_of_our_own_tables_is_made_once(world: World) -> None:
    await world.give(request("test language de"))

    assert await world.made.dispatcher.execution.records.read(LanguageOf(ALICE)) == "de"
    assert "Done: Speak." in world.said


async def test_a_secret_stays_out_of_a_room_that_others_read(world: World) -> None:
    await world.give(request("test secret", room=CONTROL))

    by_room = dict(world.messenger.said.values())  # the last one of each room
    assert "hunter2" not in str(by_room[CONTROL]["body"])
    assert "hunter2" in str(by_room[DIRECT]["body"])
    assert [room for room, _, _ in world.messenger.files.values()] == [DIRECT]


async def test_a_secret_is_taken_back_after_ten_minutes(world: World) -> None:
    await world.give(request("test secret"))

    await world.made.telling.take_back_secrets()
    assert not [one for one in world.sender.requests if "redact" in one[1]]

    world.clock.forward(601)
    await world.made.telling.take_back_secrets()
    taken = [path for _, path, _ in world.sender.requests if "/redact/" in path]
    assert len(taken) == 2  # the words and the file
    # A redaction leaves the file itself on the homeserver.
    assert DeleteMedia(SERVER, "0").to_http() in world.admin.changes

    await world.made.telling.take_back_secrets()
    assert len([path for _, path, _ in world.sender.requests if "/redact/" in path]) == 2


async def press(world: World, key: str, by: UserId, *, room: RoomId = DIRECT) -> bool:
    sent = next(EventId(f"${key}") for key in world.messenger.said if "answer" in key)
    pressed = Press(EventId("$pressed"), room, by, world.clock.now_ms(), sent, key)
    world.admin.events[EventId("$pressed")] = Event("m.reaction", by)
    async with world.database.transaction() as connection:
        taken = await world.made.store.take_press(connection, pressed)
    await world.work()
    return taken


async def test_a_button_gives_its_command_in_the_name_of_who_pressed_it(world: World) -> None:
    await world.give(request("test card"))

    assert await press(world, "👍", ADMIN)

    assert world.renamed == ["%40alice%3Aexample.org"]


@pytest.mark.parametrize(("key", "room"), [("👎", DIRECT), ("👍", CONTROL)])
async def test_another_sign_or_room_is_no_button(world: World, key: str, room: RoomId) -> None:
    await world.give(request("test card"))

    assert not await press(world, key, ADMIN, room=room)
    assert world.renamed == []


async def test_who_may_not_cannot_by_a_button(world: World) -> None:
    await world.give(request("test card"))
    world.admin.users[ALICE] = UserDetails(ALICE)

    assert await press(world, "👍", ALICE)

    assert world.renamed == []
    assert "for server admins" in world.said


async def test_steps_that_belong_together_follow_each_other(world: World) -> None:
    world.admin.refuse_change = lambda call: "person7%3Aexample.org-b" in call.path

    await world.give(request("test chained"))

    assert len(world.admin.changes) == 21 * 3 - 2
    assert not any("person7%3Aexample.org-c" in call.path for call in world.admin.changes)
    assert "Failed: 2" in world.said
    assert "not done, since what goes before it was not" in world.said.lower()
    for name in ("person3", "person12"):
        theirs = [call.path[-1] for call in world.admin.changes if f"{name}%3A" in call.path]
        assert theirs == ["a", "b", "c"]


async def test_a_chain_that_failed_before_a_crash_is_not_gone_on_with(world: World) -> None:
    class CrashError(Exception):
        pass

    def crash(call: HttpChange) -> bool:
        if "person2%3Aexample.org-b" in call.path:
            return True
        if "person9%3A" in call.path:
            raise CrashError
        return False

    world.admin.refuse_change = crash
    with pytest.raises(CrashError):
        await world.give(request("test chained"))
    async with world.database.transaction() as connection:
        # As if the crash had come between the failure and giving its chain up.
        await connection.execute(
            "UPDATE admin_job_step SET status = 'waiting', detail = ''"
            " WHERE detail LIKE 'Not done, since%'"
        )
    world.admin.refuse_change = lambda call: False
    await world.work()

    calls = [call.path.rpartition("/")[2] for call in world.admin.changes]
    assert not any("person2%3Aexample.org-c" in call for call in calls)
    assert {f"%40person9%3Aexample.org-{part}" for part in "abc"} <= set(calls)


@pytest.mark.parametrize(
    ("status", "said"),
    [(500, "an error of its own (500); its log says which"), (502, "does not answer")],
)
async def test_an_error_inside_the_homeserver_is_told_from_its_absence(
    world: World, status: int, said: str
) -> None:
    def broken(call: HttpChange) -> bool:
        raise TransientError("The homeserver answered.", status=status)

    world.admin.refuse_change = broken
    await world.give(request("test many"))

    assert said in world.said
