"""Blocking and closing rooms, and deleting what was said in them."""

from datetime import datetime

from adminbot.commands.here import powers_in
from adminbot.commands.lists import page_of, paged
from adminbot.commands.reopening import closing_steps
from adminbot.commands.room_list import next_event
from adminbot.commands.rooms import room_or_error, word_for
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Table,
    answer,
    say,
    when,
    written,
)
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader, SayInRoom, Step
from adminbot.engine.values import FIRST_PAGE, Page, Text
from adminbot.own.server_rooms import BlockedRooms, ForgetBlock, RememberBlock
from common.errors import UserError
from common.homeserver.client_server.state import TombstoneRoom
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.media import ListRoomMedia
from common.homeserver.synapse.media_changes import QuarantineRoomMedia
from common.homeserver.synapse.room_deletion import PurgeHistory
from common.homeserver.synapse.room_upkeep import (
    BlockRoom,
    DeleteForwardExtremities,
    GetRoomBlocker,
    ListForwardExtremities,
)
from common.i18n import n, t
from common.ids import RoomId

NO_REASON = Text("")


@command("room block", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_block(caller: Caller, room: RoomId, reason: Text = NO_REASON) -> Plan:
    """Keep people of this server from joining a room, also one that this server does not know.

    Args:
        room: an address, a room ID or a link
        reason: kept for “room blocked”; nobody else sees it
    """
    return Plan(
        summary=t("Block {room}", room=Pill(room)),
        steps=(BlockRoom(room=room, block=True), remembered_block(caller, room, reason)),
        details=(say(t("Who is inside stays inside.")),),
    )


@command("room unblock", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_unblock(admin: AdminReader, room: RoomId) -> Plan:
    """Let people of this server join a room again.

    Args:
        room: an address, a room ID or a link
    """
    if not (await admin.read(GetRoomBlocker(room))).block:
        raise UserError(t("{room} is not blocked.", room=room))
    return Plan(
        summary=t("Unblock {room}", room=Pill(room)),
        steps=(BlockRoom(room=room, block=False), ForgetBlock(room)),
    )


@command("room blocked", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_blocked(own: OwnReader, caller: Caller, *, page: Page = FIRST_PAGE) -> Answer:
    """List the rooms that were blocked through me; the homeserver has no list of its own."""
    found = await own.read(BlockedRooms())
    if not found:
        return answer(t("No room was blocked through me."))
    rows = tuple(
        (Pill(one.room), Mono(one.reason), Mono(one.by), when(one.at_ms, caller.now) or "")
        for one in page_of(found, page)
    )
    told = paged(n("{count} room in all.", "{count} rooms in all.", len(found)), len(found), page)
    return answer(Table((t("Room"), t("Reason"), t("By"), t("When")), rows), told)


@command("room close", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def room_close(
    admin: AdminReader,
    room: RoomId,
    *,
    message: str | None = None,
    move_to: RoomId | None = None,
    tombstone: bool = False,
) -> Plan:
    """Close a room: nobody but admins may write, join or invite any more. Nothing is lost.

    “room reopen” opens it again as it was, unless it was closed for good.

    Args:
        room: an address, a room ID or a link
        message: said in the room before
        move_to: the room that takes its place; clients then offer to go there (for good)
        tombstone: mark it as closed for good, though nothing takes its place
    """
    details = await room_or_error(admin, room)
    powers = await powers_in(admin, room)
    steps: list[Step] = []
    if message:
        steps.append(SayInRoom(room=room, said=answer(message)))
    steps += await closing_steps(admin, room, powers, published=details.public)
    for_good = move_to is not None or tombstone
    shown = t("That is for good.") if for_good else t("“room reopen” opens it again.")
    if for_good:
        text = message or t("This room is closed.")
        steps.append(TombstoneRoom(room=room, text=str(text), replacement=move_to))
    word = word_for(details)
    return Plan(
        summary=t("Close {room} ({name})", room=Pill(room), name=Mono(word)),
        steps=tuple(steps),
        details=(say(shown),),
        typed=word,
    )


@command("room history purge", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def room_history_purge(
    admin: AdminReader, caller: Caller, room: RoomId, *, before: datetime, local: bool = False
) -> Plan:
    """Delete what was said in a room before a moment.

    What people of this server wrote stays, as it may be the only copy, unless you ask for more.

    Args:
        room: an address, a room ID or a link
        before: e.g. 2026-01-01
        local: also what people of this server wrote
    """
    details = await room_or_error(admin, room)
    if before > caller.now:
        raise UserError(t("That moment is still to come."))
    first_kept = await next_event(admin, room, int(before.timestamp() * 1000))
    if first_kept is None:
        raise UserError(
            t("Nothing was said in {room} since then; “room delete” removes it whole.", room=room)
        )
    word = word_for(details)
    return Plan(
        summary=t(
            "Delete what was said in {room} ({name}) before {moment}",
            room=Pill(room),
            name=Mono(word),
            moment=written(before),
        ),
        steps=(PurgeHistory(room=room, before_event=first_kept.event_id, local_too=local),),
        typed=word,
    )


@command("room extremities collapse", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def room_extremities_collapse(admin: AdminReader, room: RoomId) -> Plan:
    """Leave a room a single forward extremity. State may get lost: only where it is too slow.

    Args:
        room: an address, a room ID or a link
    """
    details = await room_or_error(admin, room)
    found = await admin.read(ListForwardExtremities(room))
    if len(found) < 2:  # noqa: PLR2004  # one is what there should be
        raise UserError(t("{room} has no extremities to collapse.", room=room))
    return Plan(
        summary=n(
            "Collapse {count} forward extremity of {room}",
            "Collapse {count} forward extremities of {room}",
            len(found),
            room=Pill(room),
        ),
        steps=(DeleteForwardExtremities(room),),
        typed=word_for(details),
    )


@command("room media quarantine", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_media_quarantine(admin: AdminReader, room: RoomId) -> Plan:
    """Make all media that were sent into a room unreachable, as far as they were not encrypted.

    Args:
        room: an address, a room ID or a link
    """
    details = await room_or_error(admin, room)
    found = await admin.read(ListRoomMedia(room))
    number = len(found.local) + len(found.remote)
    if not number:
        raise UserError(t("There are no media in {room} that I could see.", room=room))
    return Plan(
        summary=n(
            "Quarantine {count} file of {room}",
            "Quarantine {count} files of {room}",
            number,
            room=Pill(room),
        ),
        steps=(QuarantineRoomMedia(room),),
        typed=word_for(details),
    )


def remembered_block(caller: Caller, room: RoomId, reason: str) -> RememberBlock:
    """Return the step that keeps who blocked a room and why."""
    moment_ms = int(caller.now.timestamp() * 1000)
    return RememberBlock(room, str(reason), caller.actor.user, moment_ms)
