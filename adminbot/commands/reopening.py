"""Closed rooms, opened again as they were: what closing changes is remembered before."""

import json
from collections.abc import Mapping
from typing import Any

from adminbot.commands.here import own_power_for, powers_in, room_here, state_in
from adminbot.commands.protect import refuse
from adminbot.commands.quiet import SPEAKING
from adminbot.engine.actor import Caller, Role
from adminbot.engine.command import command
from adminbot.engine.lend import lend_levels
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import AdjustPower
from adminbot.engine.step import OwnReader, Step
from adminbot.own.room_notes import RoomNotes, WriteRoomNote
from common.errors import UserError
from common.homeserver.client_server.directory import PublishRoom
from common.homeserver.client_server.settings import SetJoinRule
from common.homeserver.client_server.state import SetState
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId
from common.matrix.power import ADMIN_LEVEL, RoomPowers, level_in

_JOIN_RULES = "m.room.join_rules"
_LEVELS = ("events_default", "invite")
_NOTE = "close"


def quiet(room: RoomId) -> AdjustPower:
    """Return the step that lets nobody but admins write and invite."""
    return AdjustPower(
        room=room,
        levels=dict.fromkeys(_LEVELS, ADMIN_LEVEL),
        events=dict.fromkeys(SPEAKING, ADMIN_LEVEL),
        sentence=t("Let only admins write and invite"),
    )


async def closing_steps(
    admin: AdminReader, room: RoomId, powers: RoomPowers, *, published: bool
) -> tuple[Step, ...]:
    """Return the steps that close a room, what it was like before remembered first.

    ``published``: whether it is in the directory, which it is taken out of.
    """
    levels = powers.levels or {}
    rules = await state_in(admin, room, _JOIN_RULES) or {}
    act = quiet(room)
    shut = () if rules.get("join_rule") == "invite" else (SetJoinRule(room, "invite"),)
    hidden = (PublishRoom(room, published=False),) if published else ()
    changed: tuple[Step, ...] = (*hidden, *shut, act)
    if not shut and not hidden and act.applied_to(levels) == levels:
        # Closed already: what is remembered of the first time is what it was like.
        return changed
    held = levels.get("events")
    events = held if isinstance(held, Mapping) else {}
    before = {
        "levels": {name: level_in(levels, name) for name in _LEVELS},
        "events": {name: level_in(events, name) for name in SPEAKING},
        "join_rules": rules,
        "published": published,
    }
    remember = WriteRoomNote(
        room=room,
        name=_NOTE,
        value=json.dumps(before),
        sentence=t("Remember who could come in, write and invite before"),
    )
    return (remember, *changed)


@command("reopen", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def reopen(admin: AdminReader, own: OwnReader, caller: Caller, room: RoomId) -> Plan:
    """Open a closed room again: who could come in, write and invite before can again.

    Args:
        room: the current room if left out
    """
    own_power_for(caller, "m.room.power_levels", _JOIN_RULES)
    return await _reopening(admin, own, caller, room)


@command("room reopen", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_reopen(admin: AdminReader, own: OwnReader, caller: Caller, room: RoomId) -> Plan:
    """Open a closed room again: who could come in, write and invite before can again.

    Args:
        room: an address, a room ID or a link
    """
    return await _reopening(admin, own, caller, room)


async def _reopening(admin: AdminReader, own: OwnReader, caller: Caller, room: RoomId) -> Plan:
    details = await room_here(admin, room)
    note = (await own.read(RoomNotes(room))).get(_NOTE)
    if note is None:
        raise UserError(
            t(
                "{room} was not closed through me, so I do not know what it was like before; "
                "“join-rule” and “powerlevel” change it.",
                room=room,
            )
        )
    if details.tombstoned:
        raise UserError(t("{room} was closed for good: it has been replaced.", room=room))
    before: Mapping[str, Any] = json.loads(note)
    act = AdjustPower(
        room=room,
        levels=before["levels"],
        events=before["events"],
        sentence=t("Let everybody write and invite again who could before"),
    )
    powers = await powers_in(admin, room)
    refuse(lend_levels(caller, powers, act.applied_to(powers.levels or {})))
    steps: list[Step] = [act]
    rules = before["join_rules"]
    if rules and rules != await state_in(admin, room, _JOIN_RULES):
        sentence = t("Let everybody into {room} again who could come in before", room=room)
        steps.append(SetState(room=room, type=_JOIN_RULES, content=rules, sentence=sentence))
    if before["published"]:
        own_power_for(caller, "m.room.canonical_alias")
        steps.append(PublishRoom(room, published=True))
    steps.append(
        WriteRoomNote(
            room=room, name=_NOTE, value=None, sentence=t("Forget what it was like before")
        )
    )
    return Plan(summary=t("Open {room} again", room=room), steps=tuple(steps), ask=True)
