"""Rooms and spaces that every new account is joined to."""

from adminbot.commands.audience import only_people, open_accounts
from adminbot.commands.room_look import powers_of
from adminbot.commands.rooms import room_or_error
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Table, answer, say
from adminbot.engine.command import command
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.server_steps import EnsureJoined
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.server_rooms import AddDefaultRoom, DefaultRooms, RemoveDefaultRoom
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import GetRoom, ListRoomMembers
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId

JOINED_AT_ONCE = 4
MOST_DEFAULT_ROOMS = 50


@command("default-rooms list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def default_rooms_list(admin: AdminReader, own: OwnReader) -> Answer:
    """List the rooms and spaces that new accounts are joined to."""
    found = await own.read(DefaultRooms())
    if not found:
        return answer(t("New accounts are joined to no room. “default-rooms add” changes that."))
    rows: list[tuple[Mono, str, str, Pill]] = []
    for room in found:
        try:
            details = await admin.read(GetRoom(room))
        except NotFoundError:
            rows.append((Mono(""), t("gone"), "", Pill(room)))
            continue
        kind = t("space") if details.room_type == "m.space" else t("room")
        rows.append((Mono(details.name or ""), kind, str(details.joined_members), Pill(room)))
    columns = (t("Name"), t("Kind"), t("Members"), t("Room"))
    return answer(Table(columns, tuple(rows)))


@command("default-rooms add", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def default_rooms_add(
    admin: AdminReader, own: OwnReader, caller: Caller, settings: Settings, room: RoomId
) -> Plan:
    """Join every new account to a room or space, within seconds of its registration.

    Accounts that are here already are joined by “default-rooms backfill”.

    Args:
        room: an address, a room ID or a link
    """
    await room_or_error(admin, room)
    powers = await powers_of(admin, room)
    me = _me(settings)
    if me not in powers.members or not powers.of(me).may("invite"):
        raise UserError(
            t("I cannot bring people into {room}; “room join-bots” may help.", room=room)
        )
    present = await own.read(DefaultRooms())
    if room in present:
        raise UserError(t("New accounts are joined to {room} already.", room=room))
    if len(present) >= MOST_DEFAULT_ROOMS:
        raise UserError(t("There are {most} default rooms already.", most=MOST_DEFAULT_ROOMS))
    at_ms = int(caller.now.timestamp() * 1000)
    return Plan(
        summary=t("Make every new account join {room}", room=Pill(room)),
        steps=(AddDefaultRoom(room, caller.actor.user, at_ms),),
        ask=True,
    )


@command("default-rooms remove", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def default_rooms_remove(own: OwnReader, room: RoomId) -> Plan:
    """Join new accounts to a room no longer; who is inside stays.

    Args:
        room: an address, a room ID or a link
    """
    if room not in await own.read(DefaultRooms()):
        raise UserError(t("New accounts are not joined to {room}.", room=room))
    return Plan(
        summary=t("Make new accounts join {room} no longer", room=Pill(room)),
        steps=(RemoveDefaultRoom(room),),
    )


@command("default-rooms backfill", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def default_rooms_backfill(
    admin: AdminReader, own: OwnReader, room: RoomId | None = None
) -> Plan:
    """Join everybody who has an account already to the default rooms, or to one of them.

    Bridged accounts, bots and closed accounts are left out, and who is banned stays out.

    Args:
        room: one of the default rooms; left out, all of them
    """
    present = await own.read(DefaultRooms())
    if room is not None and room not in present:
        raise UserError(t("{room} is no default room.", room=room))
    rooms = present if room is None else (room,)
    people = await only_people(admin, own, await open_accounts(admin))
    steps: list[EnsureJoined] = []
    for one in rooms:
        try:
            inside = frozenset(await admin.read(ListRoomMembers(one)))
        except NotFoundError:
            continue
        steps += [EnsureJoined(each.name, one) for each in people if each.name not in inside]
    if not steps:
        raise UserError(t("Everybody is in the default rooms already."))
    return Plan(
        summary=_summary(len({step.user for step in steps}), len(rooms)),
        steps=tuple(steps),
        bulk=Bulk(at_once=JOINED_AT_ONCE),
        details=(say(t("They are not asked, and can leave again.")),),
    )


def _summary(people: int, rooms: int) -> Msg:
    return t(
        "Join {people} to {rooms}",
        people=n("{count} person", "{count} people", people),
        rooms=n("{count} default room", "{count} default rooms", rooms),
    )


def _me(settings: Settings) -> UserId:
    config = settings.config
    return UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
