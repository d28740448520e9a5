"""Whole sets of settings for a room, applied at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adminbot.commands.here import own_power_for, powers_in, room_here
from adminbot.commands.power_levels import differences, template_step
from adminbot.commands.protect import refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Mono, Span, Table
from adminbot.engine.command import command
from adminbot.engine.lend import lend_levels
from adminbot.engine.plan import Plan
from adminbot.engine.step import Step
from common.errors import UserError
from common.homeserver.client_server.settings import (
    HistoryVisibility,
    JoinRule,
    SetGuestAccess,
    SetHistoryVisibility,
    SetJoinRule,
)
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import RoomDetails
from common.i18n import t
from common.ids import RoomId


@dataclass(frozen=True)
class Preset:
    """What a kind of room is like; ``power`` is a template of “powerlevel template”."""

    power: str
    join: JoinRule
    history: HistoryVisibility
    guests: bool = False


PRESETS: Mapping[str, Preset] = {
    "team": Preset(power="open", join="invite", history="shared"),
    "confidential": Preset(power="strict", join="invite", history="joined"),
    "public": Preset(power="strict", join="public", history="shared"),
    "announcement": Preset(power="announcement", join="public", history="shared"),
}


@command("apply template", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def apply_template(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    name: Literal["team", "confidential", "public", "announcement"],
) -> Plan:
    """Set up a room as a kind of room: who joins, who reads back, who may do what.

    team: by invitation, everybody writes and invites. confidential: by invitation, new members
    read only what is said since they came. public: everybody joins, moderators invite.
    announcement: everybody joins and reads, only moderators write.

    Args:
        room: the current room if left out
        name: which
    """
    preset = PRESETS[name]
    found, powers = await room_here(admin, room), await powers_in(admin, room)
    settings = _settings(room, preset, found)
    own_power_for(caller, *(type_ for type_, _, _ in settings))
    power = template_step(room, preset.power)
    after = power.applied_to(powers.levels or {})
    refuse(lend_levels(caller, powers, after))
    levels = tuple(differences(powers.levels or {}, after))
    rows = (*(row for _, row, _ in settings), *levels)
    if not rows:
        raise UserError(t("That is how it is already."))
    steps: tuple[Step, ...] = tuple(step for _, _, step in settings)
    table = Table((t("What"), t("Now"), t("Then")), rows)
    return Plan(
        summary=t("Set up {room} as “{name}”", room=room, name=name),
        steps=(*steps, power) if levels else steps,
        details=(table,),
        ask=True,
    )


def _settings(
    room: RoomId, preset: Preset, found: RoomDetails
) -> list[tuple[str, tuple[Span, ...], Step]]:
    guests = "can_join" if preset.guests else "forbidden"
    every: list[tuple[str, str, str | None, str, Step]] = [
        (
            "m.room.join_rules",
            t("Who may join"),
            found.join_rules,
            preset.join,
            SetJoinRule(room, preset.join),
        ),
        (
            "m.room.history_visibility",
            t("Who may read back"),
            found.history_visibility,
            preset.history,
            SetHistoryVisibility(room, preset.history),
        ),
        (
            "m.room.guest_access",
            t("Guests"),
            found.guest_access or "forbidden",
            guests,
            SetGuestAccess(room, preset.guests),
        ),
    ]
    return [
        (type_, (label, Mono(now or ""), Mono(then)), step)
        for type_, label, now, then, step in every
        if now != then
    ]
