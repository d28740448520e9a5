"""Who may write in a room: single people muted, or all of it locked, for a while or until told."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from adminbot.commands.here import not_protected, person, powers_in, room_here
from adminbot.commands.protect import refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import answer, written
from adminbot.engine.command import command
from adminbot.engine.lend import lend_above, lend_levels
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import AdjustPower
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Settings
from adminbot.own.later import ForgetLater, do_later
from adminbot.own.room_notes import RoomNotes, WriteRoomNote
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId, UserId
from common.matrix.power import DEFAULT_STATE_LEVEL, RoomPowers, level_in

SPEAKING = ("m.room.message", "m.room.encrypted", "m.reaction", "m.sticker")
"""What counts as writing; each may have a level of its own beside ``events_default``."""
_LOCK = "lock"


@command("mute", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def mute(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *,
    for_: timedelta | None = None,
) -> Plan:
    """Keep somebody from writing in a room; they can still read.

    Their power level goes below what writing needs; which one they had is remembered.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
        for_: let them write again after this time, e.g. 1h
    """
    user = person(who, settings)
    powers = await _judged(admin, caller, settings, room, user)
    muted = _needed_to_write(powers) - 1
    now, given = powers.of(user).level, powers.named.get(user)
    set_to = min(muted, now)
    act = AdjustPower(
        room=room, users={user: set_to}, sentence=t("Keep {user} from writing", user=user)
    )
    refuse(lend_levels(caller, powers, act.applied_to(powers.levels or {})))
    slot = _mute_slot(room, user)
    remember = WriteRoomNote(
        room=room,
        name=_mute_note(user),
        value="" if given is None else str(given),
        keep=now <= muted,
        sentence=t("Remember the power level of {user}", user=user),
    )
    steps: list[Step] = [remember, ForgetLater(slot)]
    summary = t("Mute {user} in {room}", user=user, room=room)
    if for_ is not None:
        undo = AdjustPower(
            room=room,
            users={user: given},
            only_if={user: set_to},
            lender=None if caller.acts_as_server_admin else caller.actor.user,
            sentence=t("Let {user} write again", user=user),
        )
        due = caller.now + for_
        steps[1] = do_later(
            undo, slot=slot, due=due, requester=caller.actor.user, asked_in=caller.place.room
        )
        summary = t(
            "Mute {user} in {room} until {moment}", user=user, room=room, moment=written(due)
        )
    return Plan(summary=summary, steps=(*steps, act))


@command("unmute", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def unmute(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
) -> Plan:
    """Let somebody write in a room again, with the power level they had before.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
    """
    user = person(who, settings)
    powers = await _judged(admin, caller, settings, room, user)
    needed = _needed_to_write(powers)
    if powers.of(user).level >= needed:
        raise UserError(t("{user} can write in this room already.", user=user))
    note = (await own.read(RoomNotes(room))).get(_mute_note(user), "")
    before = int(note) if note else None
    usual = level_in(powers.levels or {}, "users_default") or 0
    # Remembered from a time when writing needed less, or not remembered at all.
    if (usual if before is None else before) < needed:
        before = needed
    act = AdjustPower(
        room=room, users={user: before}, sentence=t("Let {user} write again", user=user)
    )
    refuse(lend_levels(caller, powers, act.applied_to(powers.levels or {})))
    return Plan(
        summary=t("Let {user} write in {room} again", user=user, room=room),
        steps=(
            ForgetLater(_mute_slot(room, user)),
            act,
            WriteRoomNote(
                room=room,
                name=_mute_note(user),
                value=None,
                sentence=t("Forget the old power level of {user}", user=user),
            ),
        ),
    )


@command("lock", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def lock(
    admin: AdminReader, caller: Caller, room: RoomId, *, for_: timedelta | None = None
) -> Plan:
    """Let only moderators write in a room, until it is unlocked.

    Args:
        room: the current room if left out
        for_: unlock it after this time, e.g. 2h
    """
    await room_here(admin, room)
    powers = await powers_in(admin, room)
    levels = powers.levels or {}
    if _needed_to_write(powers) >= DEFAULT_STATE_LEVEL:
        raise UserError(t("Only moderators can write in this room already."))
    raised = {
        name: DEFAULT_STATE_LEVEL
        for name, level in _own_levels(levels).items()
        if level < DEFAULT_STATE_LEVEL
    }
    act = AdjustPower(
        room=room,
        levels={"events_default": DEFAULT_STATE_LEVEL},
        events=raised,
        sentence=t("Let only people with power level {level} write", level=DEFAULT_STATE_LEVEL),
    )
    refuse(lend_levels(caller, powers, act.applied_to(levels)))
    before = {
        "levels": {"events_default": level_in(levels, "events_default")},
        "events": {name: _own_levels(levels)[name] for name in raised},
    }
    remember = WriteRoomNote(
        room=room,
        name=_LOCK,
        value=json.dumps(before),
        sentence=t("Remember who could write before"),
    )
    slot, summary = _lock_slot(room), t("Lock {room}", room=room)
    promise: Step = ForgetLater(slot)
    if for_ is not None:
        due = caller.now + for_
        promise = do_later(
            _unlocking(room, before, only_if={"events_default": DEFAULT_STATE_LEVEL}),
            slot=slot,
            due=due,
            requester=caller.actor.user,
            asked_in=caller.place.room,
        )
        summary = t("Lock {room} until {moment}", room=room, moment=written(due))
    said = answer(t("{done}. Moderators can still write; “unlock” opens it again.", done=summary))
    return Plan(summary=summary, steps=(remember, promise, act), result=said)


@command("unlock", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def unlock(admin: AdminReader, own: OwnReader, caller: Caller, room: RoomId) -> Plan:
    """Let everybody write in a room again who could before it was locked.

    Args:
        room: the current room if left out
    """
    powers = await powers_in(admin, room)
    levels = powers.levels or {}
    note = (await own.read(RoomNotes(room))).get(_LOCK)
    if _needed_to_write(powers) <= (level_in(levels, "users_default") or 0):
        raise UserError(t("This room is not locked."))
    lowered: Mapping[str, Any] = {
        "levels": {"events_default": 0},
        "events": {name: None for name in SPEAKING if name in _own_levels(levels)},
    }
    act = _unlocking(room, lowered if note is None else json.loads(note))
    refuse(lend_levels(caller, powers, act.applied_to(levels)))
    return Plan(
        summary=t("Unlock {room}", room=room),
        steps=(
            ForgetLater(_lock_slot(room)),
            act,
            WriteRoomNote(
                room=room, name=_LOCK, value=None, sentence=t("Forget who could write before")
            ),
        ),
    )


def _unlocking(
    room: RoomId, before: Mapping[str, Any], only_if: Mapping[str, int] | None = None
) -> AdjustPower:
    return AdjustPower(
        room=room,
        only_if_levels=only_if or {},
        levels=before["levels"],
        events=before["events"],
        sentence=t("Let everybody write again who could before"),
    )


def _own_levels(levels: Mapping[str, Any]) -> Mapping[str, int]:
    """Return what kinds of messages have a level of their own."""
    events = levels.get("events")
    held = events if isinstance(events, Mapping) else {}
    found = {name: level_in(held, name) for name in SPEAKING}
    return {name: level for name, level in found.items() if level is not None}


def _needed_to_write(powers: RoomPowers) -> int:
    levels = powers.levels or {}
    usual = level_in(levels, "events_default") or 0
    own = _own_levels(levels)
    return min(own.get(name, usual) for name in SPEAKING)


async def _judged(
    admin: AdminReader, caller: Caller, settings: Settings, room: RoomId, user: UserId
) -> RoomPowers:
    not_protected(settings, [user])
    powers = await powers_in(admin, room)
    if user == caller.actor.user:
        raise UserError(t("That is you."))
    refuse(lend_above(caller, user, powers))
    return powers


def _mute_note(user: UserId) -> str:
    return f"mute {user}"


def _mute_slot(room: RoomId, user: UserId) -> str:
    return f"mute {room} {user}"


def _lock_slot(room: RoomId) -> str:
    return f"lock {room}"
