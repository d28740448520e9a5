"""Who rules in a room, and who is in it, by the right of a server admin."""

from collections.abc import Mapping
from typing import Any

from adminbot.commands.room_list import PAGE_OF_HOMESERVER
from adminbot.commands.room_look import Powers, powers_of
from adminbot.commands.rooms import room_or_error
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Pill, answer
from adminbot.engine.command import command
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.room_step import StepDown
from adminbot.engine.server_steps import EnsureJoined, MendRoom
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Settings
from adminbot.engine.values import Text
from adminbot.own.server_rooms import RoomTroubles
from common.config.schema import Config
from common.errors import UserError
from common.homeserver.client_server.membership import BanUser, KickUser, UnbanUser
from common.homeserver.client_server.state import SetPowerLevels
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import (
    GetRoomState,
    ListRooms,
    MakeRoomAdmin,
    RoomDetails,
    all_rooms,
)
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId, server_of

POWER_LEVELS = "m.room.power_levels"
MENDED_AT_ONCE = 4
NO_REASON = Text("")
HIGHEST = 2**53 - 1


@command("room admin", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_admin(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    user: UserId | None = None,
) -> Plan:
    """Make somebody of this server an admin of a room, e.g. where all admins have left.

    They get the power of the most powerful member of this server, and come into the room.

    Args:
        room: an address, a room ID or a link
        user: who; left out, it is you
    """
    person = user or caller.actor.user
    home = settings.config.homeserver.server_name
    if server_of(person) != home:
        raise UserError(t("{user} is not of this server.", user=person))
    details = await room_or_error(admin, room)
    powers = await powers_of(admin, room)
    _somebody_can_give(details, powers, home)
    if person in powers.members and powers.of(person).administers:
        raise UserError(t("{user} is an admin of {room} already.", user=person, room=room))
    steps: list[Step] = [MakeRoomAdmin(room=room, user=person)]
    if person not in powers.members and _me(settings.config) in powers.members:
        steps.append(EnsureJoined(person, room))
    return Plan(
        summary=t("Make {user} an admin of {room}", user=Pill(person), room=Pill(room)),
        steps=tuple(steps),
    )


def _somebody_can_give(details: RoomDetails, powers: Powers, home: str) -> None:
    """Explain why nobody can be made an admin, where that is so."""
    local = [member for member in powers.members if server_of(member) == home]
    if not local:
        raise UserError(
            t(
                "Nobody of this server is in {room}, so nobody can be given power there. Somebody "
                "has to be invited by its members; “room delete” removes it from this server.",
                room=details.room_id,
            )
        )
    able = [one for one in local if powers.of(one).may(POWER_LEVELS)]
    if able:
        return
    rulers = [one for one in powers.members if powers.of(one).may(POWER_LEVELS)]
    if rulers:
        raise UserError(
            t(
                "Nobody of this server in {room} may change power levels there, so the homeserver "
                "cannot give any. These people can: {people}.",
                room=details.room_id,
                people=", ".join(rulers[:5]),
            )
        )
    raise UserError(
        t(
            "Nobody in {room} may change power levels any more, here or elsewhere. A new room, "
            "“room delete” with --move-to for this one, is the only way.",
            room=details.room_id,
        )
    )


@command("room power set", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_power_set(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    user: UserId,
    level: int,
) -> Plan:
    """Give somebody a power level in a room.

    Args:
        room: an address, a room ID or a link
        user: whom
        level: 0 for an ordinary member, 50 for a moderator, 100 for an admin
    """
    return await _new_level(admin, caller, settings.config, room, user, level)


@command("room demote", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_demote(
    admin: AdminReader, caller: Caller, settings: Settings, room: RoomId, user: UserId
) -> Plan:
    """Make somebody an ordinary member of a room.

    Somebody of this server with as much power as the bot steps down in their own name.

    Args:
        room: an address, a room ID or a link
        user: whom
    """
    return await _new_level(admin, caller, settings.config, room, user, None)


async def _new_level(
    admin: AdminReader,
    caller: Caller,
    config: Config,
    room: RoomId,
    user: UserId,
    level: int | None,
) -> Plan:
    powers = await powers_of(admin, room)
    me = _me(config)
    ours, theirs = powers.of(me), powers.of(user)
    if user in {me, _auditbot(config)}:
        raise UserError(t("The bots keep their power; “bots status” says where they have it."))
    if theirs.creator:
        raise UserError(
            t("{user} created {room}; a creator's power cannot be taken.", user=user, room=room)
        )
    if level is not None and not -HIGHEST <= level <= HIGHEST:
        raise UserError(t("{level} is no power level.", level=level))
    content = _with_level(powers.levels or {}, user, level)
    if content == powers.levels:
        raise UserError(t("{user} has that level already.", user=user))
    new = level if level is not None else _default(content)
    step: Step = SetPowerLevels(room=room, content=content)
    by_themselves = (
        server_of(user) == config.homeserver.server_name
        and user in powers.members
        and theirs.may(POWER_LEVELS)
        and new < theirs.level
    )
    if not ours.creator and theirs.level >= ours.level and by_themselves:
        step = StepDown(room=room, user=user, level=level, by=caller.actor.user)
    else:
        _must_be_able(me, powers, user, room, level)
    return Plan(
        summary=t(
            "Change the power level of {user} in {room} from {old} to {new}",
            user=Pill(user),
            room=Pill(room),
            old=theirs.level,
            new=new,
        ),
        steps=(step,),
    )


def _must_be_able(
    me: UserId, powers: Powers, user: UserId, room: RoomId, level: int | None
) -> None:
    ours, theirs = powers.of(me), powers.of(user)
    _must_be_inside(me, powers, room)
    if not ours.may(POWER_LEVELS):
        raise UserError(t("I have no power in {room}; “room join-bots” may help.", room=room))
    if not ours.creator and (theirs.level >= ours.level or (level or 0) > ours.level):
        raise UserError(
            t(
                "In {room} I have level {ours} and {user} has {theirs}: nobody can change the "
                "level of somebody as powerful, or give more than they have.",
                room=room,
                ours=ours.level,
                user=user,
                theirs=theirs.level,
            )
        )


def _with_level(
    levels: Mapping[str, object], user: UserId, level: int | None
) -> Mapping[str, Any]:
    users = levels.get("users")
    named = dict(users) if isinstance(users, Mapping) else {}
    if level is None:
        named.pop(user, None)
    else:
        named[user] = level
    return {**levels, "users": named}


def _default(content: Mapping[str, object]) -> int:
    default = content.get("users_default", 0)
    return default if isinstance(default, int) else 0


@command("room kick", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_kick(
    admin: AdminReader,
    settings: Settings,
    room: RoomId,
    user: UserId,
    reason: Text = NO_REASON,
) -> Plan:
    """Remove somebody from a room; they may come back where the room lets them.

    Args:
        room: an address, a room ID or a link
        user: whom
        reason: they and the room see it
    """
    await _may_act(admin, settings.config, room, user, "kick")
    return Plan(
        summary=t("Remove {user} from {room}", user=Pill(user), room=Pill(room)),
        steps=(KickUser(room, user, reason or None),),
        ask=True,
    )


@command("room ban", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_ban(
    admin: AdminReader,
    settings: Settings,
    room: RoomId,
    user: UserId,
    reason: Text = NO_REASON,
) -> Plan:
    """Ban somebody from a room.

    Args:
        room: an address, a room ID or a link
        user: whom
        reason: they and the room see it
    """
    await _may_act(admin, settings.config, room, user, "ban")
    return Plan(
        summary=t("Ban {user} from {room}", user=Pill(user), room=Pill(room)),
        steps=(BanUser(room, user, reason or None),),
        ask=True,
    )


@command("room unban", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_unban(admin: AdminReader, settings: Settings, room: RoomId, user: UserId) -> Plan:
    """Lift somebody's ban from a room.

    Args:
        room: an address, a room ID or a link
        user: whose
    """
    await room_or_error(admin, room)
    state = await admin.read(GetRoomState(room, "m.room.member"))
    theirs = next((one for one in state if one.state_key == user), None)
    if theirs is None or theirs.content.get("membership") != "ban":
        raise UserError(t("{user} is not banned from {room}.", user=user, room=room))
    _must_be_inside(_me(settings.config), await powers_of(admin, room), room)
    return Plan(
        summary=t("Lift the ban of {user} from {room}", user=Pill(user), room=Pill(room)),
        steps=(UnbanUser(room, user),),
        ask=True,
    )


async def _may_act(
    admin: AdminReader, config: Config, room: RoomId, user: UserId, act: str
) -> None:
    """Say before anybody is asked why the homeserver would refuse."""
    powers, me = await powers_of(admin, room), _me(config)
    if user in {me, _auditbot(config)}:
        raise UserError(t("The bots stay; “bots leave-all” is the way to have them leave."))
    if act == "kick" and user not in powers.members:
        raise UserError(t("{user} is not in {room}.", user=user, room=room))
    _must_be_inside(me, powers, room)
    ours, theirs = powers.of(me), powers.of(user)
    if not ours.may(act):
        raise UserError(t("I have no power in {room}; “room join-bots” may help.", room=room))
    if theirs.creator or (not ours.creator and theirs.level >= ours.level):
        raise UserError(
            t(
                "In {room} {user} is as powerful as I am, so I cannot do that. “room demote” or "
                "“room delete” may be what helps.",
                room=room,
                user=user,
            )
        )


def _must_be_inside(me: UserId, powers: Powers, room: RoomId) -> None:
    if me not in powers.members:
        raise UserError(t("I am not in {room}; “room join-bots” brings me in.", room=room))


@command("room join-bots", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_join_bots(admin: AdminReader, room: RoomId) -> Plan:
    """Bring the bots into a room, with power.

    Args:
        room: an address, a room ID or a link
    """
    await room_or_error(admin, room)
    return Plan(
        summary=t("Bring the bots into {room}", room=Pill(room)),
        steps=(MendRoom(room, readmit=True),),
    )


@command("room adopt", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_adopt(admin: AdminReader, own: OwnReader) -> Plan:
    """Try again to bring the bots, with power, into the rooms where that did not work."""
    there = set(await local_rooms(admin))
    rooms = [one.room for one in await own.read(RoomTroubles()) if one.room in there]
    if not rooms:
        raise UserError(t("The bots are where they should be. “bots sweep” looks at every room."))
    return mending(rooms, t("Bring the bots into the rooms where that did not work"))


def mending(rooms: list[RoomId], summary: Msg, *, rejoin: bool = False) -> Plan:
    """Return the plan that brings the bots into many rooms."""
    return Plan(
        summary=n("{what}: {count} room", "{what}: {count} rooms", len(rooms), what=summary),
        steps=tuple(MendRoom(room, rejoin) for room in rooms),
        bulk=Bulk(at_once=MENDED_AT_ONCE),
        ask=True,
        result=answer(t("“bots missing” lists the rooms that could not be entered.")),
    )


async def local_rooms(admin: AdminReader) -> list[RoomId]:
    """Return every room that somebody of this server is in."""
    request = ListRooms(limit=PAGE_OF_HOMESERVER)
    return sorted(
        [one.room_id async for one in all_rooms(admin, request) if one.joined_local_members]
    )


def _me(config: Config) -> UserId:
    return UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")


def _auditbot(config: Config) -> UserId:
    return UserId(f"@{config.auditbot.localpart}:{config.homeserver.server_name}")
