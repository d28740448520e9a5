"""What somebody hostile would try: each of these once went further than their own rights."""

from dataclasses import replace
from typing import Any, cast

import pytest
from msgspec import ValidationError

from adminbot.commands.invitations import knocks_list
from adminbot.engine.actor import Caller
from adminbot.engine.answer import Answer, answer
from adminbot.engine.confirm import Spoken
from adminbot.engine.intake import Confirmation, Source
from adminbot.engine.line import parse_line
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import AdjustPower, EndBan, InviteFrom, MoveIn
from adminbot.engine.values import FIRST_PAGE
from adminbot.log_room import LogRoom
from adminbot.own.approvals import Approve
from adminbot.perform_rooms import RoomPerformers
from adminbot.report_watch import ReportWatch
from adminbot.room_watch import RoomWatch
from common.errors import StewardError, UserError
from common.homeserver.client_server.membership import ListMembers, Member
from common.homeserver.port import AdminReader
from common.homeserver.synapse.registration_tokens import DeleteRegistrationToken
from common.homeserver.synapse.rooms import GetStateEvent, StateEvent
from common.i18n import t
from common.ids import EventId, RoomId, UserId, parse_room_id
from tests.unit.adminbot import test_general
from tests.unit.adminbot.test_dispatch import state, the_server
from tests.unit.adminbot.test_facts import facts
from tests.unit.adminbot.test_general import ALICES_CHAT, LOG, OTHER, OTHERS_CHAT, World
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    AUDITBOT,
    BOB,
    CONTROL,
    DIRECT,
    ME,
    NOW,
    NOW_MS,
    SERVER,
    SHARED,
    FakeAdmin,
    request,
)

common_world = test_general.world


@pytest.fixture
def world(common_world: World) -> World:
    """The same, in which people's direct chats have no name and so are found."""
    for room in (ALICES_CHAT, OTHERS_CHAT):
        common_world.admin.names[room] = ""
    return common_world


OLD, NEW, PRIVATE = RoomId("!old"), RoomId("!new"), RoomId("!board")


def performers(admin: FakeAdmin) -> RoomPerformers:
    return RoomPerformers(admin, cast(Any, None), frozenset({ME, AUDITBOT}), SERVER)


def made(sender: UserId, before: RoomId | None, at_ms: int) -> StateEvent:
    content = {} if before is None else {"predecessor": {"room_id": before}}
    return StateEvent("m.room.create", sender, EventId("$c"), "", at_ms, content)


@pytest.mark.parametrize(
    "create",
    [
        made(BOB, None, 0),
        made(BOB, OLD, NOW_MS + 1),
        made(ME, None, NOW_MS + 1),
        made(ME, OLD, NOW_MS - 10**7),
    ],
    ids=["unrelated", "of somebody else", "made by us for itself", "of an earlier upgrade"],
)
async def test_a_tombstone_that_was_changed_brings_nobody_into_another_room(
    create: StateEvent,
) -> None:
    tombstone = state("m.room.tombstone", replacement_room=PRIVATE)
    widget = state("im.vector.modular.widgets", url="https://evil.example")
    admin = FakeAdmin(
        members={OLD: (ALICE, ME), PRIVATE: (BOB, ME)},
        state={OLD: [tombstone, widget], PRIVATE: [create]},
    )
    step = MoveIn(
        room=OLD,
        state=("im.vector.modular.widgets",),
        since_ms=NOW_MS,
        join=True,
        sentence=t("Carry over"),
    )

    with pytest.raises(StewardError, match="another room"):
        await performers(admin).move_in(step, "key")

    assert admin.changes == []


async def test_the_room_that_an_upgrade_has_made_is_moved_into() -> None:
    tombstone = state("m.room.tombstone", replacement_room=NEW)
    admin = FakeAdmin(
        members={OLD: (ALICE, ME), NEW: (ME,)},
        state={OLD: [tombstone], NEW: [made(ME, OLD, NOW_MS + 5)]},
    )
    step = MoveIn(room=OLD, state=(), since_ms=NOW_MS, sentence=t("Carry over"))

    await performers(admin).move_in(step, "key")

    assert [call.body for call in admin.changes] == [{"user_id": ALICE}]


@pytest.mark.parametrize(("level", "invited"), [(0, False), (50, True)])
async def test_only_who_moderates_a_room_has_all_its_members_invited(
    level: int, invited: bool
) -> None:
    admin = FakeAdmin(
        members={SHARED: (ALICE, BOB, ME), NEW: (ALICE, ME)},
        state={
            SHARED: [
                state("m.room.create", BOB, room_version="11"),
                state("m.room.power_levels", users={ALICE: level}),
            ]
        },
    )
    step = InviteFrom(room=NEW, source=SHARED, requester=ALICE, sentence=t("Invite all"))

    if invited:
        await performers(admin).invite_from(step, "key")
    else:
        with pytest.raises(UserError, match="no moderator"):
            await performers(admin).invite_from(step, "key")

    assert bool(admin.changes) is invited


async def test_an_invitation_left_behind_by_somebody_gone_makes_a_chat_open() -> None:
    admin = the_server()
    key = {"display_name": "me", "public_key": "mine"}
    admin.state[DIRECT] = [state("m.room.third_party_invite", BOB, **key)]

    assert not (await facts(admin).place(DIRECT, ADMIN)).private
    assert not await facts(admin).alone_with(DIRECT, ADMIN)


@pytest.mark.parametrize("content", [{}, {"display_name": "my colleague"}])
async def test_an_invitation_by_a_member_or_taken_back_changes_nothing(
    content: dict[str, Any],
) -> None:
    admin = the_server()
    sender = ADMIN if content else BOB
    admin.state[DIRECT] = [state("m.room.third_party_invite", sender, **content)]

    assert (await facts(admin).place(DIRECT, ADMIN)).private


def said_in(world: World, room: RoomId) -> list[str]:
    return [str(c["body"]) for where, c in world.messenger.said.values() if where == room]


async def test_admin_rooms_that_others_read_are_told_nothing(world: World) -> None:
    # Somebody who was a server admin, and is still in the room.
    world.admin.members[CONTROL] = (ADMIN, OTHER, BOB, ME)

    await world.give("report it smells", by=ALICE, room=ALICES_CHAT)

    assert said_in(world, CONTROL) == []
    assert any("it smells" in body for body in said_in(world, DIRECT))
    assert any("it smells" in body for body in said_in(world, OTHERS_CHAT))


async def test_reports_do_not_go_where_others_read_them(world: World) -> None:
    world.admin.members[CONTROL] = (ADMIN, OTHER, BOB, ME)
    telling = world.made.telling
    watch = ReportWatch(
        world.admin, cast(Any, None), telling.records, telling, world.clock, CONTROL
    )

    await watch._tell(answer("what they said"), "key")

    assert said_in(world, CONTROL) == []
    assert said_in(world, DIRECT) == ["what they said"]


async def test_approving_one_plan_approves_no_other_of_the_same_code(world: World) -> None:
    await world.give("test close alice")
    await world.give("test close bob")
    async with world.database.transaction() as connection:
        await connection.execute("UPDATE admin_plan SET code = 'SAME'")

    refused = await world.give("approve SAME", by=OTHER, room=OTHERS_CHAT)
    await world.work()

    assert "Several plans" in refused
    assert world.closed == []
    step = Approve(EventId("$given1"), "SAME", OTHER, world.clock.now_ms())
    records = world.made.dispatcher.execution.records
    async with world.database.transaction() as connection:
        await records.apply(connection, step)
    await world.work()
    assert world.closed == ["/close/%40alice%3Aexample.org"]


async def test_what_was_scheduled_before_it_took_two_takes_two(world: World) -> None:
    one = replace(
        request("test close alice"),
        event=EventId("$steward-schedule-1-1"),
        source=Source.SCHEDULE,
        origin_ms=world.clock.now_ms(),
    )
    async with world.database.transaction() as connection:
        await world.made.store.take_in(connection, one, None)

    await world.work()

    assert world.closed == []
    assert "asks for your approval" in world.said(CONTROL)


@pytest.mark.parametrize(
    "room", ["!vic\\tim:example.org", "!a[b](matrix:u/x)--with-rooms", "!it's", '!"']
)
async def test_a_button_means_the_room_that_its_card_names(world: World, room: str) -> None:
    world.admin.members[parse_room_id(room)] = (BOB, ME)
    quoted = '"' + room.replace("\\", "\\\\").replace('"', '\\"') + '"'
    await world.give(f"request join {quoted}", by=ALICE, room=ALICES_CHAT)

    rows = await world.database.fetch("SELECT command FROM admin_button WHERE key = '✅'")
    (row,) = rows
    words = [word.text for word in parse_line(row["command"]).words]

    assert words == ["request-approve", "join", ALICE, room]


async def test_a_name_in_a_button_is_one_word() -> None:
    names = [UserId("@evil @accomplice:evil.example"), UserId("@x\\y:evil.example")]

    class Reader:
        async def read(self, request: object) -> object:
            assert isinstance(request, ListMembers)
            return tuple(
                Member(state_key=name, sender=name, content={"membership": "knock"})
                for name in names
            )

    caller = cast(Any, type("Caller", (), {"now": NOW}))
    supplies = {AdminReader: Reader(), Caller: caller}
    said = await knocks_list.run(supplies, {"room": SHARED, "page": FIRST_PAGE})

    assert isinstance(said, Answer)
    words = [[word.text for word in parse_line(each.command).words] for each in said.buttons]
    assert words == [
        ["knocks", verb, SHARED, name] for name in names for verb in ("accept", "deny")
    ]


async def test_a_greeting_in_private_says_whose_words_it_is(world: World) -> None:
    watch = RoomWatch(
        world.database, world.made.telling, world.clock, frozenset({ME, AUDITBOT}), SERVER
    )
    async with world.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO admin_reaction (key, kind, room_id, user_id, event_id, text, at_ms)"
            " VALUES ('k', 'whisper', $1, $2, '$e', 'Your account ends today: evil.example', 0)",
            SHARED,
            ALICE,
        )

    await watch._do_all()

    (body,) = said_in(world, ALICES_CHAT)
    assert body.index(SHARED) < body.index("Your account ends today")


async def test_many_commands_at_once_do_not_silence_the_log_room(world: World) -> None:
    follower = LogRoom(LOG, world.made.dispatcher.execution.records, world.made.telling)
    await world.give("version")
    await follower.catch_up()
    world.clock.forward(60)
    async with world.database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO admin_action (event_id, room_id, sender, command, phase, step, detail,"
            " at_ms) VALUES ($1, $2, $3, 'noise', 'refused', -1, '', $4)",
            [(f"$noise{n}", SHARED, BOB, world.clock.now_ms()) for n in range(250)],
        )
    world.clock.forward(1)
    await world.give("test rename alice")

    await follower.catch_up()

    assert any("test rename" in body for body in said_in(world, LOG))
    assert len(said_in(world, LOG)) == 251


@pytest.mark.parametrize(
    ("membership", "by", "lifted"), [("ban", ME, True), ("ban", BOB, False), ("leave", ME, False)]
)
async def test_a_ban_that_somebody_else_has_set_since_stays(
    membership: str, by: UserId, lifted: bool
) -> None:
    class Admin(FakeAdmin):
        def _answer(self, request: object) -> object:
            assert isinstance(request, GetStateEvent)
            return state("m.room.member", by, membership=membership)

    admin = Admin()

    await performers(admin).end_ban(EndBan(room=SHARED, user=ALICE), "key")

    assert bool(admin.changes) is lifted


@pytest.mark.parametrize(
    ("level", "lender", "given"),
    [
        (100, BOB, True),
        (0, BOB, False),
        (100, UserId("@gone:example.org"), False),
        (0, None, True),
    ],
)
async def test_power_promised_for_later_is_not_given_by_who_has_lost_theirs(
    level: int, lender: UserId | None, given: bool
) -> None:
    levels = {"users": {BOB: level, ALICE: -1, "@gone:example.org": 100}}
    admin = FakeAdmin(
        members={SHARED: (ALICE, BOB, ME)},
        state={
            SHARED: [
                state("m.room.create", ME, room_version="11"),
                state("m.room.power_levels", ALICE, users=levels["users"]),
            ]
        },
    )
    step = AdjustPower(
        room=SHARED, users={ALICE: 90}, only_if={ALICE: -1}, lender=lender, sentence=t("Give")
    )

    if given:
        with pytest.raises(ValidationError):  # the fake's answer, after the change
            await performers(admin).adjust_power(step, "key")
    else:
        with pytest.raises(UserError, match="any more"):
            await performers(admin).adjust_power(step, "key")

    assert bool(admin.changes) is given


async def test_what_is_typed_confirms_what_was_asked_last(world: World) -> None:
    await world.give("test close @dora:example.org --by-name")
    world.clock.forward(10)
    await world.give("test close @dora:example.org --by-name")
    reply = Confirmation(EventId("$yes"), DIRECT, ADMIN, Spoken("@dora:example.org"))
    async with world.database.transaction() as connection:
        # Where closing does not take two.
        await connection.execute("UPDATE admin_plan SET second = 0, code = '@dora:example.org'")
        assert await world.made.store.take_confirmation(connection, reply)
        found = await connection.fetch(
            "SELECT event_id FROM admin_plan WHERE status = 'confirmed'"
        )

    assert [row["event_id"] for row in found] == ["$given2"]


async def test_no_step_of_a_plan_that_waits_is_readable_in_the_database(world: World) -> None:
    plan = Plan(summary="Delete", steps=(DeleteRegistrationToken("a-secret-token"),), ask=True)

    asked = request("token delete a-secret-token")
    async with world.database.transaction() as connection:
        await world.made.store.take_in(connection, asked, None)

    assert await world.made.store.ask(asked, plan)

    (row,) = await world.database.fetch("SELECT * FROM admin_plan")
    assert "a-secret-token" not in str(dict(row))
