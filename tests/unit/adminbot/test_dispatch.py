"""The whole path of a command, with fakes of our own ports and a real (SQLite) database."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adminbot.commands import catalogue
from adminbot.dispatch import Dispatcher
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.confirm import Reaction, Spoken
from adminbot.engine.intake import Confirmation, Request
from adminbot.engine.waiting import Job
from adminbot.store import Store
from common.crypto.port import Trust
from common.database.pool import Database
from common.errors import PermanentError, TransientError
from common.homeserver.port import HttpChange
from common.homeserver.synapse.rooms import Event, StateEvent
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
    PUPPET,
    SERVER,
    SHARED,
    TEST_COMMANDS,
    Close,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    parts,
    request,
)

ALICES = RoomId("!alices-own")


@dataclass
class World:
    """Everything around the dispatcher."""

    dispatcher: Dispatcher
    admin: FakeAdmin
    messenger: FakeMessenger
    sender: FakeSender
    store: Store
    clock: FakeClock
    database: Database

    async def give(self, given: Request, trust: Trust | None = None) -> None:
        """Let a command be taken in and obeyed."""
        self.admin.events[given.event] = Event("m.room.message", given.sender)
        async with self.database.transaction() as connection:
            await self.store.take_in(connection, given, trust)
        for job in await self.store.jobs(10):
            await self.dispatcher.obey(job)
        await self.carry_on()

    async def carry_on(self) -> None:
        """Carry out what is being carried out, as after a restart."""
        for asked in await self.store.executing():
            await self.dispatcher.carry_on(asked)

    async def confirm(
        self, reply: Reaction | Spoken, *, by: UserId = ADMIN, room: RoomId = DIRECT
    ) -> bool:
        """Let a confirmation be taken in, and what it confirms carried out."""
        given = Confirmation(EventId("$yes"), room, by, reply)
        async with self.database.transaction() as connection:
            taken = await self.store.take_confirmation(connection, given)
        for asked in await self.store.confirmed():
            await self.dispatcher.carry_out(asked)
        return taken

    async def trail(self) -> list[tuple[str, str]]:
        rows = await self.database.fetch(
            "SELECT phase, command FROM admin_action ORDER BY at_ms, step"
        )
        return [(row["phase"], row["command"]) for row in rows]

    async def texts_kept(self) -> list[str]:
        rows = await self.database.fetch("SELECT text FROM admin_command")
        return [row["text"] for row in rows]

    @property
    def said(self) -> str:
        return self.messenger.bodies[-1]

    @property
    def done(self) -> list[str]:
        return [call.path for call in self.admin.changes]


def state(type_: str, sender: UserId = ALICE, **content: Any) -> StateEvent:
    return StateEvent(type_, sender, EventId("$s"), "", 0, content)


def the_server() -> FakeAdmin:
    people = [
        UserDetails(ADMIN, admin=True),
        UserDetails(ALICE, displayname="Alice"),
        UserDetails(BOB),
        UserDetails(PUPPET, appservice_id="irc", admin=True),
    ]
    return FakeAdmin(
        users={one.name: one for one in people},
        members={
            DIRECT: (ADMIN, ME, AUDITBOT),
            SHARED: (ADMIN, ALICE, BOB, PUPPET, ME),
            CONTROL: (ADMIN, ME, AUDITBOT),
            ALICES: (ALICE, ME),
        },
        state={
            SHARED: [state("m.room.create", room_version="12"), state("m.room.power_levels")],
            CONTROL: [state("m.room.create", ADMIN, room_version="12")],
        },
        aliases={f"#lobby:{SERVER}": SHARED},
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        clock, admin, messenger, sender = FakeClock(), the_server(), FakeMessenger(), FakeSender()

        async def no_sleep(seconds: float) -> None:
            clock.forward(seconds)

        commands = Catalogue((*catalogue(), *TEST_COMMANDS))
        made = parts(database, clock, admin, messenger, sender, commands, sleep=no_sleep)
        dispatcher, store = made.dispatcher, made.store
        yield World(dispatcher, admin, messenger, sender, store, clock, database)


async def test_an_answer_in_a_direct_chat_is_a_reply_that_no_thread_hides(world: World) -> None:
    await world.give(request("version"))

    ((room, content),) = world.messenger.said.values()
    assert room == DIRECT
    assert "1.163.2" in content["body"]
    assert content["m.relates_to"] == {"m.in_reply_to": {"event_id": "$command"}}


async def test_among_others_an_answer_goes_into_the_commands_thread(world: World) -> None:
    await world.give(request("version", room=SHARED))

    ((room, content),) = world.messenger.said.values()
    assert room == SHARED
    assert content["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": "$command",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$command"},
    }


@pytest.mark.parametrize("room", [DIRECT, SHARED])
async def test_a_command_in_a_thread_is_answered_in_that_thread(
    world: World, room: RoomId
) -> None:
    await world.give(replace(request("version", room=room), thread=EventId("$root")))

    ((_, content),) = world.messenger.said.values()
    assert content["m.relates_to"]["event_id"] == "$root"


async def test_the_words_of_a_finished_command_are_forgotten(world: World) -> None:
    await world.give(request("version"))

    assert await world.texts_kept() == [""]
    assert await world.trail() == [("answered", "version")]


async def test_a_repeat_after_a_crash_says_it_once(world: World) -> None:
    given = request("version")
    await world.give(given)

    await world.dispatcher.obey(Job(given, None, 0))

    assert len(world.messenger.said) == 1
    assert len(await world.trail()) == 1


async def test_the_same_event_is_taken_in_once(world: World) -> None:
    await world.give(request("version"))

    async with world.database.transaction() as connection:
        await world.store.take_in(connection, request("test rename alice"), None)

    assert await world.store.jobs(10) == []
    assert await world.texts_kept() == [""]


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (request("user list", sender=ALICE, room=ALICES), "for server admins"),
        (request("user list", sender=ALICE, room=SHARED), "for server admins"),
        (request("user list", room=SHARED), "in a direct chat"),
        (request("room show", sender=BOB, room=SHARED), "for a room admin of that room"),
        (request(f"room show {SHARED}", sender=BOB, room=CONTROL), "in that room"),
        (request(f"room show {SHARED} --page 1"), "There is no option --page"),
        (request("user show nobody"), "There is no account @nobody:example.org"),
        (request("room show !unknown"), "This server is in no room !unknown"),
        (request("room show #unknown"), "There is no room with the address #unknown:example.org"),
        (request("user defenestrate bob"), "“user” goes on with"),
        (request("nonsense"), "There is no command “nonsense”"),
    ],
)
async def test_refusals_are_said(world: World, given: Request, refused: str) -> None:
    await world.give(given)

    assert refused in world.said
    assert await world.store.jobs(10) == []


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        (request("user list"), "@alice:example.org"),
        (request("user show alice", room=CONTROL), "Alice"),
        (request("room show", sender=ALICE, room=SHARED), "<b>Lobby</b>"),
        (request("room show #lobby", sender=ALICE, room=ALICES), str(SHARED)),
        (request("room members", sender=ALICE, room=SHARED), "5 members in all"),
        (request("room members #lobby"), "5 members in all"),
        (request("room list"), str(ALICES)),
        (request("whoami", sender=BOB, room=SHARED), "Server admin:"),
        (request("status", sender=BOB, room=SHARED), "I am up"),
        (request("status"), "Commands waiting"),
        (request("help", sender=BOB, room=SHARED), "whoami"),
        (request("help user list"), "user list [--name <word>]"),
        (request("user list --help"), "--no-locked"),
        (request("help accounts"), "user list"),
    ],
)
async def test_what_is_allowed_is_answered(world: World, given: Request, answered: str) -> None:
    await world.give(given)

    assert answered in world.said


async def test_help_lists_only_what_this_person_may_do_here(world: World) -> None:
    await world.give(request("help", sender=BOB, room=SHARED))
    assert "• user:" not in world.said
    assert "• room:" not in world.said

    await world.give(replace(request("help", sender=ALICE, room=SHARED), event=EventId("$2")))
    assert "• room: " in world.said

    await world.give(replace(request("help"), event=EventId("$3")))
    assert "• user: " in world.said


async def test_bridged_accounts_are_left_out_of_the_list_by_default(world: World) -> None:
    await world.give(request("user list"))
    assert PUPPET not in world.said
    assert "1 bridged account left out" in world.said

    await world.give(replace(request("user list --bridged"), event=EventId("$2")))
    assert PUPPET in world.said


async def test_status_shows_no_details_where_others_read_along(world: World) -> None:
    await world.give(request("status", room=SHARED))

    assert world.said == "I am up, and so is the homeserver."


async def test_names_chosen_by_others_are_escaped(world: World) -> None:
    await world.give(request("room show #lobby"))

    ((_, content),) = world.messenger.said.values()
    assert "<b>" not in content["formatted_body"]
    assert "&lt;b&gt;Lobby" in content["formatted_body"]


@pytest.mark.parametrize("text", ["user list", "user lizt", "user list --help", "nonsense", "“"])
@pytest.mark.parametrize(
    "account",
    [
        UserDetails(PUPPET, appservice_id="irc", admin=True),
        UserDetails(PUPPET, user_type="bot", admin=True),
        UserDetails(PUPPET, admin=True, suspended=True),
        UserDetails(PUPPET, admin=True, locked=True),
        UserDetails(PUPPET, admin=True, deactivated=True),
    ],
    ids=["bridged", "bot", "suspended", "locked", "deactivated"],
)
async def test_accounts_that_are_not_heard_are_not_answered_whatever_they_say(
    world: World, account: UserDetails, text: str
) -> None:
    world.admin.users[PUPPET] = account

    await world.give(request(text, sender=PUPPET, room=SHARED))

    assert world.messenger.said == {}
    assert await world.trail() == [("refused", "")]
    assert await world.store.jobs(10) == []


async def test_who_lost_their_account_meanwhile_is_not_answered_on_confirming(
    world: World,
) -> None:
    asked = await question(world)
    world.admin.users[ADMIN] = UserDetails(ADMIN, admin=True, suspended=True)
    said = len(world.messenger.said)

    assert await world.confirm(Reaction(asked))

    assert world.done == []
    assert len(world.messenger.said) == said
    assert await world.store.executing() == []


@pytest.mark.parametrize(
    "event",
    [
        None,
        Event("m.room.message", BOB),
        Event("m.room.message", ADMIN, {}, {"redacted_because": {}}),
    ],
    ids=["unknown to the homeserver", "from somebody else", "redacted meanwhile"],
)
async def test_only_what_the_homeserver_has_is_obeyed(world: World, event: Event | None) -> None:
    given = request("test rename alice")
    if event is not None:
        world.admin.events[given.event] = event

    await world.dispatcher.obey(Job(given, None, 0))

    assert world.done == []
    assert world.messenger.said == {}


async def test_what_was_said_before_the_bot_came_is_not_obeyed(world: World) -> None:
    await world.give(replace(request("test rename alice"), origin_ms=1000))

    assert world.done == []
    assert world.messenger.said == {}


async def test_a_harmless_plan_is_carried_out_at_once(world: World) -> None:
    await world.give(request("test rename alice"))

    assert world.done == ["/rename/%40alice%3Aexample.org"]
    assert world.said == "@alice:example.org is renamed."
    phases = {phase for phase, _ in await world.trail()}
    assert phases == {"planned", "confirmed", "about to", "did", "done"}


CLOSE = request("test close alice")


async def question(world: World) -> EventId:
    await world.give(CLOSE)
    assert world.done == []
    return world.messenger.question()


async def test_nothing_happens_before_the_confirmation(world: World) -> None:
    await question(world)

    assert "Close @alice:example.org and 0 shadows?" in world.said
    assert "This cannot be undone." in world.said
    assert "confirm " in world.said
    ((room, kind, content),) = world.sender.sent
    assert (room, kind) == (DIRECT, "m.reaction")
    assert content["m.relates_to"]["key"] == "✅"


async def test_a_reaction_by_the_same_person_confirms_once(world: World) -> None:
    asked = await question(world)

    assert await world.confirm(Reaction(asked))
    assert not await world.confirm(Reaction(asked))

    assert world.done == ["/close/%40alice%3Aexample.org"]
    assert world.said == "Done: Close @alice:example.org and 0 shadows."
    assert await world.texts_kept() == [""]
    phases = {phase for phase, _ in await world.trail()}
    assert {"planned", "confirmed", "about to", "did", "done"} <= phases


async def test_the_code_confirms(world: World) -> None:
    await question(world)
    code = world.said.split("“confirm ")[1][:4]

    assert not await world.confirm(Spoken("AAAA" if code != "AAAA" else "BBBB"))
    assert await world.confirm(Spoken(code.lower()))

    assert len(world.done) == 1


@pytest.mark.parametrize("by", [BOB, AUDITBOT, UserId("@root:evil.org")])
async def test_nobody_else_can_confirm(world: World, by: UserId) -> None:
    asked = await question(world)
    code = world.said.split("“confirm ")[1][:4]

    assert not await world.confirm(Reaction(asked), by=by)
    assert not await world.confirm(Spoken(code), by=by)

    assert world.done == []


async def test_a_confirmation_in_another_room_is_none(world: World) -> None:
    asked = await question(world)

    assert not await world.confirm(Reaction(asked), room=CONTROL)

    assert world.done == []


async def test_a_reaction_to_something_else_is_none(world: World) -> None:
    await question(world)

    assert not await world.confirm(Reaction(EventId("$other")))


async def test_a_late_confirmation_is_none(world: World) -> None:
    asked = await question(world)
    world.clock.forward(61)

    assert not await world.confirm(Reaction(asked))
    for overdue in await world.store.overdue():
        await world.dispatcher.expire(overdue)

    assert world.done == []
    assert "Nobody confirmed in time" in world.said
    assert await world.texts_kept() == [""]
    assert await world.store.overdue() == []


async def test_a_changed_world_is_asked_about_again(world: World) -> None:
    asked = await question(world)
    world.admin.users[BOB] = UserDetails(BOB, displayname=f"shadow of {ALICE}")

    assert await world.confirm(Reaction(asked))

    assert world.done == []
    assert "has changed since I asked" in world.said


async def test_who_lost_the_right_meanwhile_cannot_confirm(world: World) -> None:
    asked = await question(world)
    world.admin.users[ADMIN] = UserDetails(ADMIN, admin=False)

    assert await world.confirm(Reaction(asked))

    assert world.done == []
    assert "for server admins" in world.said


async def test_where_a_name_must_be_typed_a_reaction_is_not_enough(world: World) -> None:
    await world.give(request("test close alice --by-name"))

    assert not await world.confirm(Reaction(world.messenger.question()))
    assert not await world.confirm(Spoken("@ALICE:example.org"))
    assert world.sender.sent == []
    assert await world.confirm(Spoken("@alice:example.org"))

    assert len(world.done) == 1


async def test_a_reaction_that_overtakes_the_questions_name_counts(world: World) -> None:
    original = world.messenger.send

    async def slow(*arguments: Any, **options: Any) -> EventId:
        sent = await original(*arguments, **options)
        given = Confirmation(EventId("$yes"), DIRECT, ADMIN, Reaction(sent))
        async with world.database.transaction() as connection:
            assert not await world.store.take_confirmation(connection, given)
        return sent

    world.messenger.send = slow  # type: ignore[method-assign]  # the failure that is tested
    await question(world)
    world.messenger.send = original  # type: ignore[method-assign]  # the end of it

    for asked in await world.store.confirmed():
        await world.dispatcher.carry_out(asked)
    assert len(world.done) == 1


async def test_a_dry_run_asks_nothing_and_does_nothing(world: World) -> None:
    await world.give(request("test close alice --dry-run"))

    assert "Would do: Close @alice:example.org" in world.said
    assert await world.store.confirmed() == []
    assert world.done == []


async def test_a_refused_step_stops_the_plan_and_is_told(world: World) -> None:
    world.admin.users[BOB] = UserDetails(BOB, displayname=f"shadow of {ALICE}")
    asked = await question(world)
    world.admin.refuse_change = lambda call: "bob" in call.path

    await world.confirm(Reaction(asked))

    assert len(world.done) == 1
    assert "1 step done" in world.said
    assert "not today" in world.said
    assert ("failed", "test close @alice:example.org") in await world.trail()


async def killed_at(world: World, step: int) -> None:
    """Confirm the plan that was asked about, and die before a step's answer is written down."""
    world.admin.refuse_change = _die_at(world, step)
    with pytest.raises(ProcessKilledError):
        await world.confirm(Reaction(world.messenger.question()))
    world.admin.refuse_change = lambda call: False


class ProcessKilledError(BaseException):
    """Stands for the end of the process."""


def _die_at(world: World, step: int) -> Callable[[HttpChange], bool]:
    def die(call: HttpChange) -> bool:
        if len(world.admin.changes) == step:
            world.admin.changes.append(call)  # it got there; the answer did not come back
            raise ProcessKilledError
        return False

    return die


async def test_a_plan_that_was_cut_short_goes_on_where_it_was(world: World) -> None:
    world.admin.users[BOB] = UserDetails(BOB, displayname=f"shadow of {ALICE}")
    await question(world)
    await killed_at(world, 1)

    await world.carry_on()

    # The step in hand is repeated, since closing twice is closing once; the first one is not.
    assert [call.path.rpartition("/")[2] for call in world.admin.changes] == [
        "%40alice%3Aexample.org",
        "%40bob%3Aexample.org",
        "%40bob%3Aexample.org",
    ]
    assert "Done: Close @alice:example.org and 1 shadows" in world.said
    assert await world.store.executing() == []


async def test_a_step_that_must_not_be_repeated_is_left_as_unsure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Close, "idempotent", False)
    world.admin.users[BOB] = UserDetails(BOB, displayname=f"shadow of {ALICE}")
    await question(world)
    await killed_at(world, 0)

    await world.carry_on()

    assert len(world.done) == 1
    assert "may or may not have happened: Close the account of @alice" in world.said
    assert "1 step not begun" in world.said


async def test_who_lost_the_right_while_it_was_cut_short_gets_no_more_done(world: World) -> None:
    world.admin.users[BOB] = UserDetails(BOB, displayname=f"shadow of {ALICE}")
    await question(world)
    await killed_at(world, 0)
    world.admin.users[ADMIN] = UserDetails(ADMIN, admin=False)

    await world.carry_on()

    assert len(world.done) == 1
    assert "for server admins" in world.said
    assert await world.store.executing() == []


async def test_a_fault_of_ours_is_told_with_how_far_it_came(world: World) -> None:
    await question(world)
    await killed_at(world, 0)

    (asked,) = await world.store.executing()
    await world.dispatcher.report_interruption(asked, "abc")

    assert "0 steps done, 0 failed, 1 may or may not have happened" in world.said
    assert "abc" in world.said
    assert await world.store.executing() == []


async def test_steps_are_not_readable_in_the_database(world: World) -> None:
    await question(world)
    await killed_at(world, 0)

    (row,) = await world.database.fetch("SELECT step FROM admin_job_step")

    assert b"alice" not in bytes(row["step"])


async def test_only_one_carries_a_plan_out(world: World) -> None:
    asked_id = await question(world)
    given = Confirmation(EventId("$yes"), DIRECT, ADMIN, Reaction(asked_id))
    async with world.database.transaction() as connection:
        await world.store.take_confirmation(connection, given)
    (asked,) = await world.store.confirmed()

    await world.dispatcher.carry_out(asked)
    await world.dispatcher.carry_out(asked)

    assert len(world.done) == 1


async def test_a_reply_is_tried_again_while_the_homeserver_is_away(world: World) -> None:
    world.messenger.away = 3

    await world.give(request("version"))

    assert len(world.messenger.said) == 1


async def test_a_command_waits_while_the_homeserver_is_away(world: World) -> None:
    world.admin.away = 1

    with pytest.raises(TransientError):
        await world.give(request("version"))

    (job,) = await world.store.jobs(10)
    await world.dispatcher.obey(job)
    assert "1.163.2" in world.said


async def test_arguments_that_could_not_be_read_are_not_written_down(world: World) -> None:
    await world.give(request("user show alice geheim"))

    assert "one word too many" in world.said
    assert await world.trail() == [("mistyped", "user show")]


async def test_the_line_is_pointed_at_in_private_only(world: World) -> None:
    await world.give(request("user show alice geheim"))
    assert "user show alice geheim\n                ^^^^^^" in world.said

    given = request("room show #lobby --reason geheim", sender=BOB, room=SHARED)
    await world.give(replace(given, event=EventId("$2")))
    assert "--reason" in world.said
    assert "geheim" not in world.said


async def test_a_plan_that_changed_before_it_was_asked_about_is_another_question(
    world: World,
) -> None:
    original, first = world.messenger.send, []

    async def lost(*arguments: Any, **options: Any) -> EventId:
        first.append(await original(*arguments, **options))
        raise PermanentError("the answer was lost")

    world.messenger.send = lost  # type: ignore[method-assign]  # the failure that is tested
    with pytest.raises(PermanentError):
        await world.give(CLOSE)
    world.messenger.send = original  # type: ignore[method-assign]  # the end of it
    world.admin.users[BOB] = UserDetails(BOB, displayname=f"shadow of {ALICE}")
    (job,) = await world.store.jobs(10)
    await world.dispatcher.obey(job)

    assert "and 1 shadows?" in world.said
    assert not await world.confirm(Reaction(first[0]))
    assert world.done == []
    assert await world.confirm(Reaction(world.messenger.question()))
    assert len(world.done) == 2


async def test_a_typed_name_confirms_only_what_was_shown(world: World) -> None:
    original = world.messenger.send

    async def lost(*arguments: Any, **options: Any) -> EventId:
        await original(*arguments, **options)
        raise PermanentError("the answer was lost")

    world.messenger.send = lost  # type: ignore[method-assign]  # the failure that is tested
    with pytest.raises(PermanentError):
        await world.give(request("test close alice --by-name"))
    world.messenger.send = original  # type: ignore[method-assign]  # the end of it

    assert not await world.confirm(Spoken("@alice:example.org"))


async def test_a_plan_that_is_carried_out_at_once_is_carried_out_once(world: World) -> None:
    given = request("test rename alice")
    await world.give(given)

    await world.dispatcher.obey(Job(given, None, 0))

    assert len(world.done) == 1


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        (None, "not encrypted"),
        (Trust.CROSS_SIGNED, "encrypted, from a device that you have verified"),
        (Trust.UNVERIFIED_DEVICE, "encrypted, from a device that you have not verified"),
        (Trust.UNKNOWN_DEVICE, "encrypted, from a device that I do not know"),
        (Trust.IDENTITY_CHANGED, "encrypted; your identity has changed since I first saw it"),
    ],
)
async def test_whoami_says_how_the_message_came(
    world: World, trust: Trust | None, said: str
) -> None:
    await world.give(request("whoami"), trust)

    assert f"Your message:         {said}\n" in world.said
