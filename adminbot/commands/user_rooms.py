"""In which rooms people are, putting them in and taking them out, and taking back their words."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from adminbot.commands.protect import account, refuse, target, why_never
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Span, Table, answer, csv_file, say
from adminbot.engine.command import command
from adminbot.engine.paging import page_of, paged
from adminbot.engine.people import ms_of
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import LeaveAs
from adminbot.engine.supply import Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.redaction import RedactUser
from common.homeserver.synapse.room_content import ReadSpace, whole_space
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.user_lookup import GetMemberships
from common.homeserver.synapse.users import JoinUser
from common.i18n import n, t
from common.ids import RoomId, UserId, server_of

MOST_ROOMS = 1_000
_GONE = ("leave", "ban")
_ORDER = ("join", "invite", "knock", "leave", "ban")


@command("user rooms", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_rooms(
    admin: AdminReader,
    user: UserId,
    *,
    left: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the rooms somebody is in, invited to or, if you ask for it, was in.

    Of people of other servers, those rooms that this server is in too.

    Args:
        user: who
        left: also those they left or are banned from
    """
    found = await _memberships(admin, user)
    rooms = sorted(
        (room for room, membership in found.items() if left or membership not in _GONE),
        key=lambda room: (_ORDER.index(found[room]) if found[room] in _ORDER else 9, room),
    )
    in_all = n("{count} room in all.", "{count} rooms in all.", len(rooms))
    if csv:
        file = csv_file("rooms.csv", ("room", "membership"), ((one, found[one]) for one in rooms))
        return answer(in_all).with_file(file)
    if not rooms:
        return answer(t("{user} is in no room.", user=Pill(user)))
    words = _words()
    shown: list[tuple[Span, ...]] = [
        (Pill(room), Mono(await _name(admin, room)), words.get(found[room], found[room]))
        for room in page_of(rooms, page)
    ]
    columns = (t("Room"), t("Name"), t("Membership"))
    return answer(Table(columns, tuple(shown)), paged(in_all, len(rooms), page))


@command("user join", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def user_join(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    room: RoomId,
    *,
    with_rooms: bool = False,
) -> Plan:
    """Put somebody of this server into a room, or into a space and its rooms.

    Args:
        user: whom
        room: where; an address, a room ID or a link
        with_rooms: of a space, also into every room in it
    """
    await target(admin, settings, caller, user, oneself=True)
    rooms = await _tree(admin, room) if with_rooms else (room,)
    there = {one for one, each in (await _memberships(admin, user)).items() if each == "join"}
    steps = tuple(JoinUser(user, one) for one in rooms if one not in there)
    if not steps:
        raise UserError(t("{user} is inside already.", user=user))
    return Plan(
        summary=n(
            "Put {user} into {room}",
            "Put {user} into {count} rooms",
            len(steps),
            user=user,
            room=steps[0].room,
        ),
        steps=steps,
        bulk=Bulk(at_once=4) if len(steps) > 1 else None,
    )


@command("user leave", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def user_leave(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    room: RoomId | None = None,
    *,
    with_rooms: bool = False,
    all: bool = False,  # noqa: A002  # it is the option's name
    reason: str | None = None,
) -> Plan:
    """Let somebody of this server leave a room, a space and its rooms, or all rooms.

    In their own name, so that it works whatever power they have there.

    Args:
        user: whom
        room: which; an address, a room ID or a link
        with_rooms: of a space, also every room in it
        all: every room they are in or invited to
        reason: why, for the rooms to see
    """
    await target(admin, settings, caller, user, oneself=True)
    if room is None and not all:
        raise UserError(t("Say which room, or --all."))
    here = {
        one
        for one, each in (await _memberships(admin, user)).items()
        if each in {"join", "invite", "knock"}
    }
    rooms: tuple[RoomId, ...] = tuple(sorted(here))
    if room is not None and not all:
        rooms = await _tree(admin, room) if with_rooms else (room,)
    return _leaving(user, tuple(one for one in rooms if one in here), reason)


@command("user invites list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_invites_list(admin: AdminReader, settings: Settings, user: UserId) -> Answer:
    """List the invitations that somebody has not answered.

    Args:
        user: whose
    """
    await account(admin, settings, user)
    found = await _memberships(admin, user)
    invited = sorted(room for room, membership in found.items() if membership == "invite")
    if not invited:
        return answer(t("{user} has no invitations.", user=Pill(user)))
    rows = tuple([(Pill(room), Mono(await _name(admin, room))) for room in invited])
    return answer(Table((t("Room"), t("Name")), rows))


@command("user invites reject", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def user_invites_reject(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    *rooms: RoomId | None,
) -> Plan:
    """Reject invitations in somebody's name: all, or those to certain rooms.

    Args:
        user: whose
        rooms: only to these; addresses, room IDs or links
    """
    await target(admin, settings, caller, user, oneself=True)
    found = await _memberships(admin, user)
    invited = sorted(room for room, membership in found.items() if membership == "invite")
    wanted = [room for room in invited if not rooms or room in rooms]
    if not wanted:
        raise UserError(t("{user} has no such invitation.", user=user))
    plan = _leaving(user, tuple(wanted), None)
    summary = n(
        "Reject the invitation of {user} to {room}",
        "Reject {count} invitations of {user}",
        len(wanted),
        user=user,
        room=wanted[0],
    )
    return replace(plan, summary=summary)


@command("user redact", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_redact(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    *rooms: RoomId | None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
    reason: str | None = None,
) -> Plan:
    """Take back what somebody wrote, in every room or in certain ones.

    It goes on at the homeserver, and is followed until it is done.

    Args:
        user: whose words
        rooms: only in these; room IDs
        since: only what was written since this moment
        until: only what was written before this moment
        limit: at most this many messages a room
        reason: why, for the rooms to see
    """
    local = server_of(user) == settings.config.homeserver.server_name
    if local:
        await target(admin, settings, caller, user, oneself=True)
    else:
        refuse(why_never(settings.config, user))
    if limit < 1 or (since is not None and until is not None and since >= until):
        raise UserError(t("That leaves nothing to redact."))
    wanted = tuple(room for room in rooms if room is not None)
    if not wanted and not local:
        # Of others' people the homeserver does not look up by itself where they were.
        wanted = tuple(sorted(await _memberships(admin, user)))
    step = RedactUser(
        user=user,
        rooms=wanted,
        reason=reason,
        limit=limit,
        as_admin=not local,
        after_ms=None if since is None else ms_of(since),
        before_ms=None if until is None else ms_of(until),
    )
    return Plan(
        summary=step.describe(),
        steps=(step,),
        typed=user,
        details=(say(t("At most {count} messages a room, the newest.", count=limit)),),
    )


def _leaving(user: UserId, rooms: tuple[RoomId, ...], reason: str | None) -> Plan:
    if not rooms:
        raise UserError(t("{user} is in no such room.", user=user))
    return Plan(
        summary=n(
            "Let {user} leave {room}",
            "Let {user} leave {count} rooms",
            len(rooms),
            user=user,
            room=rooms[0],
        ),
        steps=tuple(LeaveAs(user, room, reason) for room in rooms),
        bulk=Bulk(at_once=4) if len(rooms) > 1 else None,
    )


async def _memberships(admin: AdminReader, user: UserId) -> Mapping[RoomId, str]:
    try:
        return await admin.read(GetMemberships(user))
    except NotFoundError:
        raise UserError(t("Nobody called {user} is known here.", user=user)) from None


async def _tree(admin: AdminReader, room: RoomId) -> tuple[RoomId, ...]:
    """Return a space and the rooms in it."""
    found: list[RoomId] = []
    async for one in whole_space(admin, ReadSpace(room=room)):
        found.append(one.room_id)
        if len(found) > MOST_ROOMS:
            raise UserError(t("There are more than {most} rooms in it.", most=MOST_ROOMS))
    return tuple(dict.fromkeys(found))


async def _name(admin: AdminReader, room: RoomId) -> str:
    try:
        found = await admin.read(GetRoom(room))
    except NotFoundError:
        return ""
    return found.name or found.canonical_alias or ""


def _words() -> Mapping[str, str]:
    return {
        "join": t("joined"),
        "invite": t("invited"),
        "knock": t("asks to be let in"),
        "leave": t("left"),
        "ban": t("banned"),
    }
