"""Words of adminbot in many rooms."""

from collections.abc import Sequence

from adminbot.commands.room_power import local_rooms
from adminbot.commands.rooms import room_or_error
from adminbot.engine.actor import Role
from adminbot.engine.answer import Block, Mono, Pill, answer, say
from adminbot.engine.command import command
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.space_tree import rooms_below
from adminbot.engine.step import SayInRoom
from adminbot.engine.supply import Settings
from adminbot.engine.text import cut
from adminbot.engine.values import Text
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.users import ListUserRooms
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId

AT_ONCE = 4
PER_SECOND = 5.0
SHOWN_CHARACTERS = 600


@command("announce room", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def announce_room(admin: AdminReader, room: RoomId, words: Text) -> Plan:
    """Write something into a room, as me.

    Args:
        room: an address, a room ID or a link
        words: what
    """
    await room_or_error(admin, room)
    return Plan(
        summary=t("Write into {room}", room=Pill(room)),
        steps=(SayInRoom(room=room, said=answer(words)),),
        details=_says(words),
        ask=True,
    )


@command("announce space", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def announce_space(
    admin: AdminReader, settings: Settings, space: RoomId, words: Text
) -> Plan:
    """Write something into every room of a space, as me.

    Args:
        space: an address, a room ID or a link
        words: what
    """
    await room_or_error(admin, space)
    mine = frozenset(await admin.read(ListUserRooms(_me(settings))))
    rooms = [room for room in await rooms_below(admin, space) if room in mine]
    what = t("Write into every room of {space}", space=Pill(space))
    return await _to_rooms(admin, rooms, words, what)


@command("announce all", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def announce_all(admin: AdminReader, settings: Settings, words: Text) -> Plan:
    """Write something into every room with more than two people of this server, as me.

    “notice all” reaches people instead of rooms.

    Args:
        words: what
    """
    mine = frozenset(await admin.read(ListUserRooms(_me(settings))))
    rooms = [room for room in await local_rooms(admin) if room in mine]
    return await _to_rooms(admin, rooms, words, t("Write into every room"), least=3)


async def _to_rooms(
    admin: AdminReader, rooms: Sequence[RoomId], words: str, what: Msg, *, least: int = 0
) -> Plan:
    """Return the plan for those of the rooms that are no spaces, and big enough beside the bots."""
    chosen: list[RoomId] = []
    for room in rooms:
        try:
            details = await admin.read(GetRoom(room))
        except NotFoundError:
            continue
        talk = details.room_type is None and not details.tombstoned
        if talk and details.joined_members >= least + 2:
            chosen.append(room)
    if not chosen:
        raise UserError(t("There is no such room that I am in."))
    return Plan(
        summary=n("{what}: {count} room", "{what}: {count} rooms", len(chosen), what=what),
        steps=tuple(SayInRoom(room=room, said=answer(words)) for room in chosen),
        details=_says(words),
        bulk=Bulk(at_once=AT_ONCE, per_second=PER_SECOND),
        ask=True,
    )


def _says(words: str) -> tuple[Block, ...]:
    return (say(t("It says:")), say(Mono(cut(words, SHOWN_CHARACTERS))))


def _me(settings: Settings) -> UserId:
    config = settings.config
    return UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
