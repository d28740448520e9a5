"""Rooms this homeserver is in."""

from typing import Literal

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Pill,
    Span,
    Table,
    answer,
    count,
    csv_block,
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
    ListRooms,
    RoomDetails,
    RoomOrder,
    RoomSummary,
)
from common.ids import RoomId, UserId, server_of

PAGE_SIZE = 50
_ORDERS: dict[str, RoomOrder] = {
    "name": "name",
    "members": "joined_members",
    "local": "joined_local_members",
    "state": "state_events",
    "version": "version",
}


@command("room list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_list(
    admin: AdminReader,
    *,
    name: str | None = None,
    public: bool | None = None,
    empty: bool | None = None,
    sort: Literal["name", "members", "local", "state", "version"] = "name",
    reverse: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the rooms this server is in.

    Args:
        name: only those whose name, address or ID contains this
        public: only those in the room directory; --no-public for the others
        empty: only those without any member; --no-empty for the others
        sort: by name, by members (most first), local members, amount of state, or version
        reverse: the other way round
    """
    found = await admin.read(
        ListRooms(
            search=name,
            public=public,
            empty=empty,
            order_by=_ORDERS[sort],
            direction="b" if reverse else "f",
            start=(page - 1) * PAGE_SIZE,
            limit=PAGE_SIZE,
        )
    )
    if csv:
        return answer(csv_block(_COLUMNS, (_csv_row(one) for one in found.rooms)))
    said = _told(found.total_rooms, page, "room")
    if not found.rooms:
        return answer(said)
    rows = tuple(_row(one) for one in found.rooms)
    return answer(Table(("Room", "Name", "Members", "Local", "Encrypted", "Version"), rows), said)


@command("room show", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def room_show(admin: AdminReader, room: RoomId) -> Answer:
    """Show one room: its name, settings and size.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    found = await _room(admin, room)
    return answer(
        facts(
            [
                ("Room", Pill(found.room_id)),
                ("Address", Pill(found.canonical_alias) if found.canonical_alias else None),
                ("Name", Mono(found.name) if found.name else None),
                ("Topic", Mono(found.topic) if found.topic else None),
                ("Kind", "space" if found.room_type == "m.space" else found.room_type),
                ("Members", _members(found)),
                ("Version", found.version),
                ("Created by", Pill(found.creator) if found.creator else None),
                ("Encrypted", yes_no(found.encryption)),
                ("Who may join", found.join_rules),
                ("Who may read back", found.history_visibility),
                ("Guests", found.guest_access),
                ("In the directory", yes_no(found.public)),
                ("Other servers", "may take part" if found.federatable else "are shut out"),
                ("State events", str(found.state_events)),
                ("Replaced by", _replacement(found)),
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
    await _room(admin, room)
    home = server_of(caller.actor.user)
    members = sorted(
        await admin.read(ListRoomMembers(room)), key=lambda one: (server_of(one) != home, one)
    )
    shown = members[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    if csv:
        return answer(csv_block(("user", "server"), ((one, server_of(one)) for one in members)))
    said = _told(len(members), page, "member")
    return (
        answer(Bullets(tuple((_person(one),) for one in shown)), said) if shown else answer(said)
    )


async def _room(admin: AdminReader, room: RoomId) -> RoomDetails:
    try:
        return await admin.read(GetRoom(room))
    except NotFoundError:
        raise UserError(f"This server is in no room {room}.") from None


def _members(found: RoomSummary) -> str:
    return f"{found.joined_members}, {found.joined_local_members} of them of this server"


def _replacement(found: RoomDetails) -> Span | None:
    if not found.tombstoned:
        return None
    return Pill(found.replacement_room) if found.replacement_room else "nothing; it is closed"


_COLUMNS = ("room", "name", "address", "members", "local", "encryption", "version", "public")


def _csv_row(one: RoomSummary) -> tuple[object, ...]:
    return (
        one.room_id,
        one.name,
        one.canonical_alias,
        one.joined_members,
        one.joined_local_members,
        one.encryption,
        one.version,
        yes_no(one.public),
    )


def _row(one: RoomSummary) -> tuple[Span, ...]:
    return (
        Pill(one.room_id),
        Mono(one.name or one.canonical_alias or ""),
        str(one.joined_members),
        str(one.joined_local_members),
        yes_no(one.encryption),
        one.version or "?",
    )


def _person(user: UserId) -> Span:
    return Pill(user)


def _told(total: int, page: int, noun: str) -> str:
    pages = max(1, -(-total // PAGE_SIZE))
    more = f" Go on with --page {page + 1}." if page < pages else ""
    return f"Page {page} of {pages}, {count(total, noun)} in all.{more}"
