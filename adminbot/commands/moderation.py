"""Keeping order in a room: removing and banning people, for a while or for good."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from adminbot.commands.here import (
    Meant,
    memberships_in,
    memberships_of,
    named,
    not_protected,
    powers_in,
    room_here,
    typed_name,
    whom,
)
from adminbot.commands.protect import own_accounts, refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Block, say, written
from adminbot.engine.command import command
from adminbot.engine.lend import lend_act, lend_against
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.room_step import EndBan
from adminbot.engine.step import Step
from adminbot.engine.supply import Settings
from adminbot.own.later import ForgetLater, do_later
from common.errors import UserError
from common.homeserver.client_server.membership import BanUser, KickUser, UnbanUser
from common.homeserver.client_server.timeline import ListEventHeads, heads_back_to
from common.homeserver.port import AdminReader, Permission
from common.i18n import n, t
from common.ids import RoomId, UserId, server_of
from common.matrix.power import RoomPowers

MOST_LOOKED_AT = 5_000
"""How many events back a moment is looked for."""
_HERE = {"join", "invite", "knock"}


def ban_slot(room: RoomId, user: UserId) -> str:
    """Return the slot in which the end of a ban waits."""
    return f"ban {room} {user}"


@command("kick", who=Role.ROOM_MODERATOR, needs=Permission.MODERATE)
async def kick(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *more: str | None,
) -> Plan:
    """Remove people from a room; they may come back if the room lets them.

    Several people can be named, or all whose name fits a pattern such as @spam*:example.org;
    what follows them is the reason. Invitations are taken back too.

    Args:
        room: the current room if left out
        who: a mention, a user ID, a local name or a pattern with *
        more: more people, then the reason in as many words as you like
    """
    meant = whom((who, *more), settings)
    members = await _memberships(admin, room, meant)
    here = [user for user, membership in members.items() if membership in _HERE]
    people = await _judged(admin, caller, settings, room, "kick", meant, here)
    for user in people:
        if members.get(user) not in _HERE:
            raise UserError(t("{user} is not in this room.", user=user))
    return _plan(
        t("Remove {people} from {room}", people=named(people), room=room),
        [KickUser(room, user, meant.rest) for user in people],
        meant,
        people,
    )


@command("ban", who=Role.ROOM_MODERATOR, needs=Permission.MODERATE)
async def ban(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *more: str | None,
    for_: timedelta | None = None,
) -> Plan:
    """Remove people from a room and keep them out.

    Several people can be named, or all whose name fits a pattern such as @spam*:example.org;
    what follows them is the reason. With --for the ban ends by itself.

    Args:
        room: the current room if left out
        who: a mention, a user ID, a local name or a pattern with *
        more: more people, then the reason in as many words as you like
        for_: lift the ban after this time, e.g. 7d
    """
    meant = whom((who, *more), settings)
    members = await _memberships(admin, room, meant)
    here = [user for user, membership in members.items() if membership in _HERE]
    people = await _judged(admin, caller, settings, room, "ban", meant, here)
    steps: list[Step] = []
    for user in people:
        slot = ban_slot(room, user)
        if for_ is None:
            steps.append(ForgetLater(slot))
        else:
            refuse(lend_act(caller, "kick"))  # what lifting it takes
            steps.append(
                do_later(
                    EndBan(room=room, user=user),
                    slot=slot,
                    due=caller.now + for_,
                    requester=caller.actor.user,
                    asked_in=caller.place.room,
                )
            )
        steps.append(BanUser(room, user, meant.rest))
    summary = t("Ban {people} from {room}", people=named(people), room=room)
    if for_ is not None:
        until = written(caller.now + for_)
        summary = t(
            "Ban {people} from {room} until {moment}",
            people=named(people),
            room=room,
            moment=until,
        )
    return _plan(summary, steps, meant, people)


@command("unban", who=Role.ROOM_MODERATOR, needs=Permission.MODERATE)
async def unban(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *more: str | None,
) -> Plan:
    """Lift bans; the people may come back if the room lets them.

    Args:
        room: the current room if left out
        who: a mention, a user ID, a local name or a pattern with *
        more: more people, then the reason in as many words as you like
    """
    meant = whom((who, *more), settings)
    members = await _memberships(admin, room, meant)
    banned = [user for user, membership in members.items() if membership == "ban"]
    people = await _judged(admin, caller, settings, room, "unban", meant, banned)
    steps: list[Step] = []
    for user in people:
        if user not in banned:
            raise UserError(t("{user} is not banned from this room.", user=user))
        steps += [ForgetLater(ban_slot(room, user)), UnbanUser(room, user, meant.rest)]
    summary = t("Lift the ban of {people} from {room}", people=named(people), room=room)
    return _plan(summary, steps, meant, people)


@command("kick-all", who=Role.ROOM_ADMIN, needs=Permission.MODERATE)
async def kick_all(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    *,
    remote: bool = False,
    local: bool = False,
    server: str | None = None,
    since: timedelta | None = None,
    reason: str | None = None,
) -> Plan:
    """Remove everybody from a room, or everybody of a kind.

    You, adminbot, auditbot and whoever has at least as much power as you stay.

    Args:
        room: the current room if left out
        remote: only people of other servers
        local: only people of this server
        server: only people of this server by its name
        since: only those who came within this time, e.g. 1h
        reason: what they are told
    """
    if sum((remote, local, server is not None)) > 1:
        raise UserError(t("Only one of --remote, --local and --server can be given."))
    refuse(lend_act(caller, "kick"))
    details, powers = await room_here(admin, room), await powers_in(admin, room)
    members = await memberships_in(admin, room)
    home = settings.config.homeserver.server_name
    wanted = server or (home if local else None)
    people = [
        user
        for user, membership in members.items()
        if membership in _HERE
        and (wanted is None or server_of(user) == wanted)
        and not (remote and server_of(user) == home)
    ]
    if since is not None:
        came = await came_within(admin, caller, room, since)
        people = [user for user in people if user in came]
    stay = {*own_accounts(settings.config), caller.actor.user}
    going = [
        user
        for user in people
        if user not in stay and lend_against(caller, "kick", user, powers) is None
    ]
    if not going:
        raise UserError(t("Nobody like that can be removed from this room by you."))
    left = len([user for user in people if user not in stay]) - len(going)
    details_shown: tuple[Block, ...] = ()
    if left:
        said = n(
            "{count} person has at least as much power as you, and stays.",
            "{count} people have at least as much power as you, and stay.",
            left,
        )
        details_shown = (say(said),)
    return Plan(
        summary=t("Remove {people} from {room}", people=named(going), room=room),
        steps=tuple(KickUser(room, user, reason) for user in sorted(going)),
        details=details_shown,
        typed=typed_name(details),
        bulk=Bulk(),
    )


async def came_within(
    admin: AdminReader, caller: Caller, room: RoomId, span: timedelta
) -> frozenset[UserId]:
    """Return who joined a room within some time, and was not in it before."""
    since_ms = int((caller.now - span).timestamp() * 1000)
    request = ListEventHeads(room=room, types=("m.room.member",))
    came: set[UserId] = set()
    async for head in heads_back_to(admin, request, since_ms=since_ms, most=MOST_LOOKED_AT):
        if head.membership == "join" and head.before != "join" and head.member is not None:
            came.add(head.member)
    return frozenset(came)


async def _memberships(admin: AdminReader, room: RoomId, meant: Meant) -> Mapping[UserId, str]:
    if meant.patterns:
        return await memberships_in(admin, room)
    return await memberships_of(admin, room, meant.people)


async def _judged(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    act: str,
    meant: Meant,
    candidates: Sequence[UserId],
) -> tuple[UserId, ...]:
    """Return whom an act is for, or refuse it; patterns pass over who may not be touched."""
    powers = await powers_in(admin, room)
    own = own_accounts(settings.config)
    not_protected(settings, meant.people)
    for user in meant.people:
        if user == caller.actor.user:
            raise UserError(t("That is you."))
        refuse(lend_against(caller, act, user, powers))
    matched = [
        user
        for user in candidates
        if user not in own and user != caller.actor.user and _may(caller, act, user, powers)
    ]
    people = meant.among(matched)
    if not people:
        refuse(lend_act(caller, "kick" if act == "kick" else "ban"))
        raise UserError(
            t("Nobody that you may do that to fits {patterns}.", patterns=_listed(meant))
        )
    return people


def _may(caller: Caller, act: str, user: UserId, powers: RoomPowers) -> bool:
    return lend_against(caller, act, user, powers) is None


def _listed(meant: Meant) -> str:
    return " ".join(meant.patterns)


def _plan(summary: str, steps: Sequence[Step], meant: Meant, people: Sequence[UserId]) -> Plan:
    return Plan(
        summary=summary,
        steps=tuple(steps),
        ask=meant.several,
        bulk=Bulk() if len(people) > 1 else None,
    )
