"""Whatever a command in a room plans, who asked could have done with their own client.

Each plan's steps are turned into the events that they make, by the asking person, and Synapse's
own authorisation rules are asked about each in turn.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from synapse.api.room_versions import RoomVersions

from adminbot.commands import catalogue
from adminbot.engine.actor import Caller
from adminbot.engine.bind import Bound, bind
from adminbot.engine.lend import POWER_LEVELS
from adminbot.engine.line import parse_line
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import AdjustPower, SetPicture, StepDown
from adminbot.engine.step import OwnReader, calls_homeserver
from adminbot.engine.supply import Attached, Dice, Settings
from adminbot.own.room_notes import RoomNotes
from common.config.load import load
from common.errors import UserError
from common.homeserver.client_server import server
from common.homeserver.client_server.directory import IsPublished, ListAliases
from common.homeserver.client_server.membership import ListMembers, Member
from common.homeserver.client_server.server import GetClientWellKnown, GetRoomVersions
from common.homeserver.client_server.timeline import (
    EventHead,
    EventHeads,
    GetEventHead,
    ListEventHeads,
)
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, HttpChange
from common.homeserver.synapse.rooms import (
    GetRoom,
    GetRoomState,
    GetStateEvent,
    ResolveAlias,
    RoomDetails,
    StateEvent,
)
from common.ids import EventId, UserId
from tests.unit.adminbot.situations import CREATOR, PEOPLE, Situation, people, situations
from tests.unit.adminbot.world import BOB, ME, NOW_MS, SHARED, setting
from tests.unit.config.test_environment import REQUIRED

DORA, EMIL = UserId("@dora:example.org"), UserId("@emil:example.org")
MEMBERS = {**dict.fromkeys([*PEOPLE, ME], "join"), DORA: "ban", EMIL: "knock"}
LINES = [
    f"kick {BOB} rude",
    "kick @*",
    f"ban {BOB} --for 7d",
    "ban @*",
    f"unban {DORA}",
    "kick-all",
    f"mute {BOB} --for 1h",
    f"unmute {BOB}",
    "lock --for 1h",
    "unlock",
    f"redact {BOB} --last 3",
    "redact $message",
    "purge-spam --ban",
    "purge-spam --media",
    "invite @frank",
    "knocks accept @emil",
    "knocks deny @emil",
    "name x",
    "topic x",
    "avatar mxc://example.org/x",
    "pin $message",
    f"promote {BOB}",
    f"promote {BOB} 100",
    f"demote {BOB}",
    f"demote {BOB} 1",
    "demote @alice",
    f"demote {CREATOR}",
    f"handover {BOB}",
    "powerlevel set ban 30",
    "powerlevel set m.room.name 75",
    "powerlevel set users_default 50",
    "powerlevel template open",
    "powerlevel template announcement",
    "powerlevel template strict",
    "join-rule public",
    "history joined",
    "guest allow",
    "encryption on",
    "retention set 90d",
    "alias main #here",
    "tombstone over",
    "close",
    "reopen",
    "apply template team",
    "apply template confidential",
    "apply template announcement",
    "widget jitsi",
    "widget element-call",
    "widget url https://example.org",
    "space add !child:example.org",
    "space remove !there:example.org",
    "space suggest !there:example.org",
]
CLOSED = {
    "levels": {"events_default": 0, "invite": None},
    "events": {"m.room.message": None, "m.reaction": 1},
    "join_rules": {"join_rule": "public"},
    "published": False,
}
"""What is remembered of the room as it was before it was closed."""
CONFIG = load(None, REQUIRED)


@dataclass
class Room:
    """A room as the homeserver shows it to adminbot."""

    situation: Situation
    members: Mapping[UserId, str] = field(default_factory=lambda: dict(MEMBERS))

    async def read(self, request: object) -> Any:  # noqa: C901, PLR0911, PLR0912  # a script
        match request:
            case GetRoom():
                return RoomDetails(
                    room_id=SHARED,
                    version=self.situation.version.identifier,
                    room_type="m.space",
                    join_rules="invite",
                    history_visibility="shared",
                )
            case GetRoomState(type=type_):
                return tuple(self._state(str(type_)))
            case GetStateEvent(state_key=user) if user in self.members:
                return StateEvent(
                    "m.room.member",
                    CREATOR,
                    EventId("$s"),
                    user,
                    0,
                    {"membership": self.members[UserId(user)]},
                )
            case GetStateEvent() | GetClientWellKnown():
                raise NotFoundError(404, "M_NOT_FOUND", "not found")
            case GetRoomVersions():
                return server.RoomVersions("12", {"11": "stable", "12": "stable"})
            case ListMembers(membership=wanted):
                return tuple(
                    Member(user, user)
                    for user, membership in self.members.items()
                    if membership == wanted
                )
            case ListEventHeads(types=("m.room.member",)):
                came = EventHead(
                    EventId("$j"), BOB, "m.room.member", NOW_MS - 1000, BOB, "join", None, True
                )
                return EventHeads((came,))
            case ListEventHeads():
                heads = [self._message(number) for number in range(5)]
                return EventHeads(tuple(heads))
            case GetEventHead():
                return self._message(0)
            case ResolveAlias():
                return SHARED
            case ListAliases():
                return ()
            case IsPublished():
                return False
            case RoomNotes():
                return {"close": json.dumps(CLOSED)}
            case _:
                return {}  # of our own tables: nothing else is remembered

    def _message(self, number: int) -> EventHead:
        at_ms, media = NOW_MS - 1000 - number, number % 2 == 0
        return EventHead(EventId(f"$m{number}"), BOB, "m.room.message", at_ms, media=media)

    def _state(self, type_: str) -> list[StateEvent]:
        contents: dict[str, dict[str, Any]] = {
            "m.room.create": {"": self.situation.create},
            POWER_LEVELS: {"": dict(self.situation.levels)},
            "m.room.member": {user: {"membership": one} for user, one in self.members.items()},
            "m.space.child": {"!there:example.org": {"via": ["example.org"]}},
        }
        found = contents.get(type_, {})
        return [
            StateEvent(type_, CREATOR, EventId("$s"), key, 0, content)
            for key, content in found.items()
        ]


class FixedDice:
    def token(self, length: int = 16) -> str:
        return "abcdefghijklmnopqrstuvwxyz"[:length]


class NothingAttached:
    def replied_to(self) -> EventId | None:
        return None

    async def file(self, *, most_bytes: int, of: EventId | None = None) -> bytes | None:
        return None


async def planned(line: str, room: Room, caller: Caller) -> Plan | None:
    """Return what a command plans; ``None`` where it refuses."""
    command, rest = catalogue().find(parse_line(line))
    bound = bind(command, rest, setting(room=SHARED))
    assert isinstance(bound, Bound), line
    supplies: dict[type, object] = {
        AdminReader: room,
        OwnReader: room,
        Caller: caller,
        Settings: Settings(CONFIG),
        Dice: FixedDice(),
        Attached: NothingAttached(),
    }
    try:
        outcome = await command.run(supplies, bound.arguments)
    except UserError:
        return None
    assert isinstance(outcome, Plan)
    return outcome


def events_of(step: object, situation: Situation) -> tuple[str, str | None, dict[str, Any]] | None:
    """Return the event that a step makes: type, state key, content; ``None`` for none."""
    if isinstance(step, AdjustPower | StepDown):
        return POWER_LEVELS, "", step.applied_to(situation.levels)
    if isinstance(step, SetPicture):
        return "m.room.avatar", "", {}
    if not calls_homeserver(cast(Any, step)):
        return None  # our own tables, and promises whose steps are judged by what comes before
    call = cast(HttpChange, cast(Any, step).to_http())
    parts = [unquote(part) for part in call.path.split("/")]
    body = dict(call.body)
    membership = {"kick": "leave", "unban": "leave", "ban": "ban", "invite": "invite"}
    if parts[-1] in membership and len(parts) > 6:
        return "m.room.member", str(body["user_id"]), {"membership": membership[parts[-1]]}
    if "state" in parts:
        at = parts.index("state")
        return parts[at + 1], parts[at + 2], body
    if "redact" in parts:
        return None  # judged in test_a_redaction_needs_the_power_for_it
    raise AssertionError(call.path)


def run(line: str, situation: Situation, sender: UserId) -> tuple[Plan | None, Room]:
    room = Room(situation)
    plan = asyncio.run(planned(line, room, situation.caller(sender)))
    return plan, room


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(situation=situations, sender=people)
def test_nothing_is_planned_that_the_person_could_not_do(
    situation: Situation, sender: UserId
) -> None:
    for line in LINES:
        judge(line, situation, sender)


def judge(line: str, situation: Situation, sender: UserId) -> None:
    """Ask Synapse's rules about each step that a command plans for somebody."""
    plan, room = run(line, situation, sender)
    if plan is None:
        return
    members = dict(room.members)
    for step in plan.steps:
        if isinstance(step, StepDown):
            assert (step.user, step.by) == (sender, sender), line
        made = events_of(step, situation)
        if made is None:
            continue
        type_, key, content = made
        assert situation.allows(sender, type_, key, content, members=members), (line, step)
        if type_ == POWER_LEVELS:
            situation = replace(situation, levels=content)


@settings(max_examples=100, deadline=None)
@given(situation=situations, sender=people)
def test_a_redaction_needs_the_power_for_it(situation: Situation, sender: UserId) -> None:
    power = situation.powers.of(sender)
    may = power.may("redact") or sender == BOB

    assert (run("redact $message", situation, sender)[0] is not None) == may


@pytest.mark.parametrize("line", LINES)
def test_a_creator_is_refused_nothing_that_can_be_done(line: str) -> None:
    """So that the property above is about something."""
    demoting = {f"demote {BOB} 1", f"demote {BOB}", "demote @alice", f"demote {CREATOR}"}
    lines_about_nothing = {"unlock", f"unmute {BOB}", *demoting}
    levels = {"users": {BOB: 0, ME: 100}, "events": {}}
    plan, _ = run(line, Situation(RoomVersions.V12, levels), CREATOR)

    assert (plan is None) == (line in lines_about_nothing or line.startswith("handover"))
