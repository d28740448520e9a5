"""One room: its settings and its members."""

from adminbot.commands.lists import page_of, paged
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Pill,
    Span,
    answer,
    csv_file,
    facts,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import (
    GetRoom,
    ListRoomMembers,
    RoomDetails,
    RoomSummary,
)
from common.i18n import n, t
from common.ids import RoomId, UserId, localpart_of, server_of


@command("room show", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def room_show(admin: AdminReader, room: RoomId) -> Answer:
    """Show one room: its name, settings and size.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    found = await room_or_error(admin, room)
    return answer(
        facts(
            [
                (t("Room"), Pill(found.room_id)),
                (t("Address"), Pill(found.canonical_alias) if found.canonical_alias else None),
                (t("Name"), Mono(found.name) if found.name else None),
                (t("Topic"), Mono(found.topic) if found.topic else None),
                (t("Kind"), t("space") if found.room_type == "m.space" else found.room_type),
                (t("Members"), _members(found)),
                (t("Version"), found.version),
                (t("Created by"), Pill(found.creator) if found.creator else None),
                (t("Encrypted"), yes_no(found.encryption)),
                (t("Who may join"), found.join_rules),
                (t("Who may read back"), found.history_visibility),
                (t("Guests"), found.guest_access),
                (t("In the directory"), yes_no(found.public)),
                (
                    t("Other servers"),
                    t("may take part") if found.federatable else t("are shut out"),
                ),
                (t("State events"), str(found.state_events)),
                (t("Replaced by"), _replacement(found)),
            ]
        )
    )


@command("room members", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def room_members(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List who is in a room, people of this server first.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    await room_or_error(admin, room)
    home = server_of(caller.actor.user)
    members = sorted(
        await admin.read(ListRoomMembers(room)), key=lambda one: (server_of(one) != home, one)
    )
    shown = page_of(members, page)
    if csv:
        file = csv_file(
            "members.csv", ("user", "server"), ((one, server_of(one)) for one in members)
        )
        return answer(_members_told(len(members), page)).with_file(file)
    said = _members_told(len(members), page)
    return (
        answer(Bullets(tuple((_person(one),) for one in shown)), said) if shown else answer(said)
    )


DELETED_WORD = "delete"


async def room_or_error(admin: AdminReader, room: RoomId) -> RoomDetails:
    """Return a room, or say that this server is not in it."""
    try:
        return await admin.read(GetRoom(room))
    except NotFoundError:
        raise UserError(t("This server is in no room {room}.", room=room)) from None


def word_for(details: RoomDetails) -> str:
    """Return what has to be typed: the address, else the name where it is a word, else “delete”."""
    if details.canonical_alias:
        return localpart_of(UserId(details.canonical_alias.replace("#", "@", 1)))
    name = " ".join((details.name or "").split())
    return name if name and name.isprintable() and len(name) <= 60 else DELETED_WORD  # noqa: PLR2004  # what fits to be typed


def _members(found: RoomSummary) -> str:
    return t(
        "{members}, {local} of them of this server",
        members=found.joined_members,
        local=found.joined_local_members,
    )


def _replacement(found: RoomDetails) -> Span | None:
    if not found.tombstoned:
        return None
    return Pill(found.replacement_room) if found.replacement_room else t("nothing; it is closed")


def _person(user: UserId) -> Span:
    return Pill(user)


def _members_told(total: int, page: int) -> str:
    return paged(n("{count} member in all.", "{count} members in all.", total), total, page)
