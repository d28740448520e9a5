"""Every command × every kind of person × every place, against the table in the documentation.

The table says who may; what that means for each person and place is said here once more, by
hand, and every command is taken through the real path up to the point where it would be run.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adminbot.commands import catalogue
from adminbot.engine.command import Command
from adminbot.engine.example import example
from adminbot.engine.intake import Ignored, open_envelope
from adminbot.engine.prepared import Mistyped, Ready, Refused
from adminbot.engine.waiting import Job
from common.crypto.port import Trust
from common.errors import UserError
from common.homeserver.port import Grant, Permission
from common.homeserver.synapse.rooms import StateEvent
from common.homeserver.synapse.users import UserDetails
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    AUDITBOT,
    ME,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    message,
    parts,
    request,
    surroundings,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "permissions.md"
ROW = re.compile(r"\| `(?P<command>[^`]+)` \| (?P<role>[^|]+) \| (?P<asks>[^|]+) \|")

TARGET = RoomId("!target:example.org")
"""The room that commands are about; “#lobby:example.org” names it."""
CONTROL = RoomId("!control")

ROOT = UserId("@root:example.org")
OWNER = UserId("@owner:example.org")
MODERATOR = UserId("@moderator:example.org")
MEMBER = UserId("@member:example.org")
STRANGER = UserId("@stranger:example.org")
ACCOUNTS = {
    ROOT: UserDetails(ROOT, admin=True),
    OWNER: UserDetails(OWNER),
    MODERATOR: UserDetails(MODERATOR),
    MEMBER: UserDetails(MEMBER),
    STRANGER: UserDetails(STRANGER),
}
UNHEARD = {
    "bridged puppet": UserDetails(OWNER, admin=True, appservice_id="irc"),
    "account of another application service": UserDetails(OWNER, admin=True, appservice_id="x"),
    "bot": UserDetails(OWNER, admin=True, user_type="bot"),
    "deactivated": UserDetails(OWNER, admin=True, deactivated=True),
    "suspended": UserDetails(OWNER, admin=True, suspended=True),
    "locked": UserDetails(OWNER, admin=True, locked=True),
    "guest": UserDetails(OWNER, admin=True, is_guest=True),
}
PLACES = ("direct", "control", "that room", "another room")


def table() -> Mapping[str, str]:
    """Return command → role, as the page says."""
    found = [ROW.match(line) for line in PAGE.read_text().splitlines()]
    return {row["command"]: row["role"] for row in found if row}


def expected(role: str, person: UserId, place: str) -> bool:
    """Say whether somebody may, in plain words."""
    private = place in {"direct", "control"}
    match role:
        case "anyone":
            return True
        case "server admin":
            return person == ROOT and private
        case "room moderator":
            inside = person in {OWNER, MODERATOR} and place in {"direct", "that room"}
            return inside or (person == ROOT and private)
        case "room admin":
            return (person == OWNER and place in {"direct", "that room"}) or (
                person == ROOT and private
            )
        case _:
            raise AssertionError(role)


def chat_of(person: UserId) -> RoomId:
    return RoomId(f"!chat-{person[1:].partition(':')[0]}")


def other_room_of(person: UserId) -> RoomId:
    return RoomId(f"!other-{person[1:].partition(':')[0]}")


def state(type_: str, sender: UserId, **content: object) -> StateEvent:
    return StateEvent(type_, sender, EventId("$s"), "", 0, content)


def the_server() -> FakeAdmin:
    people = tuple(ACCOUNTS)
    return FakeAdmin(
        users=dict(ACCOUNTS),
        members={
            TARGET: (OWNER, MODERATOR, MEMBER, ME, AUDITBOT),
            CONTROL: (ROOT, ME, AUDITBOT),
            **{chat_of(one): (one, ME, AUDITBOT) for one in people},
            # A room of theirs, so that they have power here, which must not help them there.
            **{other_room_of(one): (one, ROOT, MEMBER, ME) for one in people},
        },
        names={other_room_of(one): "Elsewhere" for one in people},
        state={
            TARGET: [
                state("m.room.create", OWNER, room_version="12"),
                state("m.room.power_levels", OWNER, users={MODERATOR: 50}),
            ],
            CONTROL: [state("m.room.create", ROOT, room_version="12")],
            **{
                other_room_of(one): [state("m.room.create", one, room_version="12")]
                for one in people
            },
        },
        aliases={"#lobby:example.org": TARGET},
    )


@dataclass
class World:
    """The path up to where a command would be run."""

    made: Parts
    admin: FakeAdmin

    async def prepared(
        self, command: Command, person: UserId, place: str, trust: Trust | None = None
    ) -> object:
        room = {
            "direct": chat_of(person),
            "control": CONTROL,
            "that room": TARGET,
            "another room": other_room_of(person),
        }[place]
        named = place != "that room" and command.about_a_room is not None
        text = example(command, room="#lobby:example.org" if named else None)
        given = replace(request(text, sender=person, room=room), event=EventId("$e"))
        try:
            return await self.made.dispatcher._prepare(Job(given, trust, 0))
        except UserError as error:
            return Refused(command.name, type("Said", (), {"silent": False, "sentence": error})())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        admin = the_server()
        made = parts(database, FakeClock(), admin, FakeMessenger(), FakeSender(), catalogue())
        yield World(made, admin)


def test_the_table_has_every_command_and_no_other() -> None:
    assert table().keys() == {command.name for command in catalogue()}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("person", list(ACCOUNTS))
async def test_everybody_may_exactly_what_the_table_says(
    world: World, person: UserId, place: str
) -> None:
    if place == "that room" and person in {STRANGER, ROOT}:
        world.admin.members[TARGET] = (*world.admin.members[TARGET], person)
    roles = table()
    wrong = []
    for command in catalogue():
        prepared = await world.prepared(command, person, place)
        assert not isinstance(prepared, Mistyped), f"{command.name}: {prepared.error}"
        may = isinstance(prepared, Ready)
        if may != expected(roles[command.name], person, place):
            wrong.append(f"{command.name} ({roles[command.name]}): {may}, {prepared}")

    assert wrong == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", list(UNHEARD))
async def test_who_is_not_heard_may_nothing_and_hears_nothing(
    world: World, kind: str, place: str
) -> None:
    """They have every right otherwise: server admin by flag, and creator of the room."""
    world.admin.users[OWNER] = UNHEARD[kind]

    for command in catalogue():
        prepared = await world.prepared(command, OWNER, place)

        assert isinstance(prepared, Refused), command.name
        assert prepared.refusal.silent


@pytest.mark.parametrize("place", PLACES)
async def test_who_did_not_encrypt_what_they_seem_to_say_may_nothing(
    world: World, place: str
) -> None:
    for command in catalogue():
        prepared = await world.prepared(command, ROOT, place, Trust.MISMATCH)

        assert isinstance(prepared, Refused)
        assert prepared.refusal.silent


@pytest.mark.parametrize(
    ("sender", "why"),
    [
        (UserId("@root:elsewhere.org"), Ignored.REMOTE),
        (ME, Ignored.OWN),
        (AUDITBOT, Ignored.OWN),
    ],
)
def test_other_servers_and_the_bots_are_not_even_read(sender: UserId, why: Ignored) -> None:
    for command in catalogue():
        event = message(f"!{example(command)}", sender=sender)

        assert open_envelope(event, surroundings()) is why


@pytest.mark.parametrize("person", [OWNER, MODERATOR])
async def test_what_is_lent_to_who_governs_a_room_ends_at_its_door(
    world: World, person: UserId
) -> None:
    for command in catalogue():
        prepared = await world.prepared(command, person, "direct")
        if not isinstance(prepared, Ready) or command.about_a_room is None:
            continue
        grant: Grant = prepared.grant

        assert grant.anywhere == {Permission.PUBLIC}
        assert grant.room in {TARGET, None}
