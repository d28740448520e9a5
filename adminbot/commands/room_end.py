"""Blocking, closing and deleting rooms, and what was said in them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from adminbot.commands.lists import page_of, paged
from adminbot.commands.room_list import Filters, matching, next_event
from adminbot.commands.rooms import room_or_error
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Mono,
    Pill,
    Spans,
    Strong,
    Table,
    answer,
    csv_file,
    facts,
    say,
    when,
    written,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Fate, Finished, report
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.space_tree import rooms_below
from adminbot.engine.step import OwnReader, SayInRoom, Step
from adminbot.engine.supply import Settings
from adminbot.engine.values import FIRST_PAGE, Page, Text
from adminbot.own.server_rooms import BlockedRooms, ForgetBlock, RememberBlock
from common.errors import UserError
from common.homeserver.client_server.directory import PublishRoom
from common.homeserver.client_server.settings import SetJoinRule
from common.homeserver.client_server.state import SetPowerLevels, TombstoneRoom
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.media import ListRoomMedia
from common.homeserver.synapse.media_changes import QuarantineRoomMedia
from common.homeserver.synapse.room_deletion import DeleteRoom, PurgeHistory
from common.homeserver.synapse.room_upkeep import (
    BlockRoom,
    DeleteForwardExtremities,
    GetRoomBlocker,
    ListForwardExtremities,
)
from common.homeserver.synapse.rooms import GetRoom, GetRoomState, RoomDetails, RoomSummary
from common.i18n import n, t
from common.ids import RoomId, UserId, localpart_of

NO_REASON = Text("")
DELETED_AT_ONCE = 2
MOST_SHOWN = 10
CLOSED_LEVEL = 100
DELETED_WORD = "delete"


@command("room block", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def room_block(caller: Caller, room: RoomId, reason: Text = NO_REASON) -> Plan:
    """Keep people of this server from joining a room, also one that this server does not know.

    Args:
        room: an address, a room ID or a link
        reason: kept for “room blocked”; nobody else sees it
    """
    return Plan(
        summary=t("Block {room}", room=Pill(room)),
        steps=(BlockRoom(room=room, block=True), _remembered(caller, room, reason)),
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

    Args:
        room: an address, a room ID or a link
        message: said in the room before
        move_to: the room that takes its place; clients then offer to go there (for good)
        tombstone: mark it as closed for good, though nothing takes its place
    """
    details = await room_or_error(admin, room)
    levels = await admin.read(GetRoomState(room, "m.room.power_levels"))
    content = next((one.content for one in levels if not one.state_key), {})
    locked = {**content, "events_default": CLOSED_LEVEL, "invite": CLOSED_LEVEL}
    steps: list[Step] = []
    if message:
        steps.append(SayInRoom(room=room, said=answer(message)))
    if details.public:
        steps.append(PublishRoom(room, published=False))
    steps += [SetJoinRule(room, "invite"), SetPowerLevels(room=room, content=locked)]
    if move_to is not None or tombstone:
        text = message or t("This room is closed.")
        steps.append(TombstoneRoom(room=room, text=str(text), replacement=move_to))
    word = _word(details)
    return Plan(
        summary=t("Close {room} ({name})", room=Pill(room), name=Mono(word)),
        steps=tuple(steps),
        typed=word,
    )


@command("room delete", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def room_delete(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    *,
    block: bool = False,
    purge: bool = True,
    message: str | None = None,
    move_to: str | None = None,
    force: bool = False,
    with_rooms: bool = False,
    reason: str | None = None,
) -> Plan:
    """Take everybody of this server out of a room and delete everything in it.

    Members of other servers keep their copy.

    Args:
        room: an address, a room ID or a link; a space too
        block: keep people of this server from joining it again
        purge: keep what was said with --no-purge
        message: what people read in the room they are moved to
        move_to: the name of a new room that they are moved to
        force: delete it even where somebody cannot be taken out
        with_rooms: of a space, delete every room and space in it too
        reason: kept with the block
    """
    details = await room_or_error(admin, room)
    rooms = await _whole(admin, details) if with_rooms else [details]
    if caller.place.room in {one.room_id for one in rooms}:
        raise UserError(t("You are asking in that room; ask elsewhere to have it deleted."))
    owner = _me(settings) if move_to is not None or message is not None else None
    steps: list[Step] = []
    for one in rooms:
        steps.append(
            DeleteRoom(
                room=one.room_id,
                block=block,
                purge=purge,
                force_purge=force,
                new_room_owner=owner,
                new_room_name=move_to,
                message=message,
            )
        )
        if block:
            steps.append(_remembered(caller, one.room_id, reason or t("deleted")))
    word = _word(details)
    return Plan(
        summary=n(
            "Delete {room} ({name}), with {count} person of this server in it",
            "Delete {room} ({name}), with {count} people of this server in it",
            details.joined_local_members,
            room=Pill(room),
            name=Mono(word),
        )
        if len(rooms) == 1
        else n(
            "Delete the space {room} ({name}): {count} room",
            "Delete the space {room} ({name}): {count} rooms and spaces",
            len(rooms),
            room=Pill(room),
            name=Mono(word),
        ),
        steps=tuple(steps),
        details=_shown(rooms) if len(rooms) > 1 else (),
        typed=word,
        report="room deletion" if len(rooms) > 1 else None,
    )


async def _whole(admin: AdminReader, space: RoomDetails) -> list[RoomDetails]:
    if space.room_type != "m.space":
        raise UserError(t("{room} is a room, not a space.", room=space.room_id))
    found: list[RoomDetails] = []
    for room in await rooms_below(admin, space.room_id):
        try:
            found.append(await admin.read(GetRoom(room)))
        except NotFoundError:
            continue  # of another server; its place in the space goes with the space
    # The space last: should something fail, it still shows what is left.
    return [*(one for one in found if one.room_id != space.room_id), space]


@command("room prune-empty", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def room_prune_empty(
    admin: AdminReader, own: OwnReader, caller: Caller, *, older_than: timedelta | None = None
) -> Plan:
    """Delete every room without a member of this server.

    Args:
        older_than: only those in which nothing happened for so long, e.g. 90d
    """
    filters = Filters(no_local=True, inactive_for=older_than)
    rooms = await matching(admin, own, filters, caller.now)
    if not rooms:
        raise UserError(t("There is no such room."))
    return Plan(
        summary=n(
            "Delete {count} room without a member of this server",
            "Delete {count} rooms without a member of this server",
            len(rooms),
        ),
        steps=tuple(DeleteRoom(room=one.room_id) for one in rooms),
        details=_shown(rooms),
        typed=DELETED_WORD,
        bulk=Bulk(at_once=DELETED_AT_ONCE),
        report="room deletion",
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
    word = _word(details)
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
        typed=_word(details),
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
        typed=_word(details),
    )


@report("room deletion")
def deleted(finished: Finished) -> Answer:
    """Tell which rooms are gone and which are not."""
    rooms = [each for each in finished.taken if isinstance(each.step, DeleteRoom)]
    gone = [each for each in rooms if each.fate is Fate.DONE]
    wrong = [each for each in rooms if each.fate in {Fate.FAILED, Fate.UNSURE}]
    rest = len(rooms) - len(gone) - len(wrong)
    said = answer(
        say(Strong(finished.summary)),
        facts(
            [
                (t("Deleted"), n("{count} room", "{count} rooms", len(gone))),
                (t("Failed"), str(len(wrong)) if wrong else None),
                (t("Not begun"), str(rest) if rest else None),
            ]
        ),
    )
    if wrong:
        rows = tuple((Pill(_room(each.step)), each.detail) for each in wrong[:MOST_SHOWN])
        said = said.followed_by(Table((t("Room"), t("Why")), rows))
    if len(wrong) > MOST_SHOWN:
        lines = ((_room(each.step), each.detail) for each in wrong)
        said = said.with_file(csv_file("failed.csv", ("room", "why"), lines))
    return said


def _room(step: Step) -> str:
    return str(getattr(step, "room", ""))


def _shown(rooms: Sequence[RoomSummary]) -> tuple[Block, ...]:
    lines: list[Spans] = [
        (Pill(one.room_id), " ", Mono(one.name or "")) for one in rooms[:MOST_SHOWN]
    ]
    if len(rooms) > MOST_SHOWN:
        more = len(rooms) - MOST_SHOWN
        lines.append((n("… and {count} more room", "… and {count} more rooms", more),))
    return (Bullets(tuple(lines)),)


def _word(details: RoomDetails) -> str:
    """Return what has to be typed: the address, else the name where it is a word, else “delete”."""
    if details.canonical_alias:
        return localpart_of(UserId(details.canonical_alias.replace("#", "@", 1)))
    name = " ".join((details.name or "").split())
    return name if name and name.isprintable() and len(name) <= 60 else DELETED_WORD  # noqa: PLR2004  # what fits to be typed


def _remembered(caller: Caller, room: RoomId, reason: str) -> RememberBlock:
    moment_ms = int(caller.now.timestamp() * 1000)
    return RememberBlock(room, str(reason), caller.actor.user, moment_ms)


def _me(settings: Settings) -> UserId:
    config = settings.config
    return UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
