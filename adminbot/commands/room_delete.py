"""Deleting rooms, at once or after a while, and how far that came."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from adminbot import schedule as rules
from adminbot.commands.governing import inhabited, is_awaited
from adminbot.commands.room_end import remembered_block
from adminbot.commands.room_list import Filters, matching
from adminbot.commands.rooms import DELETED_WORD, room_or_error, word_for
from adminbot.commands.schedules import adding
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
    written,
)
from adminbot.engine.command import command
from adminbot.engine.line import quote
from adminbot.engine.outcome import Fate, Finished, Taken, report, tell
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.space_tree import rooms_below
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Settings
from adminbot.own.server_rooms import DefaultRooms
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.room_deletion import DeleteRoom
from common.homeserver.synapse.rooms import GetRoom, RoomDetails, RoomSummary
from common.i18n import n, t
from common.ids import RoomId, UserId

DELETED_AT_ONCE = 2
MOST_SHOWN = 10


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
    grace: timedelta | None = None,
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
        grace: keep what was said for so long, e.g. 7d, and delete it then
        reason: kept with the block
    """
    details = await room_or_error(admin, room)
    rooms = await _whole(admin, details) if with_rooms else [details]
    if caller.place.room in {one.room_id for one in rooms}:
        raise UserError(t("You are asking in that room; ask elsewhere to have it deleted."))
    owner = _me(settings) if move_to is not None or message is not None else None
    how = DeleteRoom(
        room=room,
        block=block,
        purge=purge and grace is None,
        force_purge=force,
        new_room_owner=owner,
        new_room_name=move_to,
        message=message,
    )
    steps: list[Step] = []
    for one in rooms:
        steps.append(replace(how, room=one.room_id))
        if block:
            steps.append(remembered_block(caller, one.room_id, reason or t("deleted")))
    if grace is not None:
        if with_rooms or not purge:
            raise UserError(t("--grace goes with neither --no-purge nor --with-rooms."))
        steps.append(_deleted_then(caller, settings, room, grace, force=force))
    word = word_for(details)
    people = (await inhabited(admin, settings)).people_here(details)
    return Plan(
        summary=n(
            "Delete {room} ({name}), with {count} person of this server in it",
            "Delete {room} ({name}), with {count} people of this server in it",
            people,
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
        details=_about(rooms, caller, grace),
        typed=word,
        report="room deletion",
    )


def _about(
    rooms: Sequence[RoomSummary], caller: Caller, grace: timedelta | None
) -> tuple[Block, ...]:
    if grace is None:
        return _shown(rooms) if len(rooms) > 1 else ()
    return (
        say(
            t(
                "Everybody is taken out now. What was said stays until {moment}; “schedule remove” "
                "keeps it for good.",
                moment=written(caller.now + grace),
            )
        ),
    )


def _deleted_then(
    caller: Caller, settings: Settings, room: RoomId, grace: timedelta, *, force: bool
) -> Step:
    """Return the step that has the same command given once more, when the time is over."""
    if "room delete" in settings.config.adminbot.two_person:
        raise UserError(
            t(
                "“{command}” wants a second server admin, so it cannot be scheduled.",
                command="room delete",
            )
        )
    due = caller.now + grace
    text = f"room delete {quote(room)}{' --force' if force else ''}"
    return adding(caller, settings, rule=rules.at(due), text=text, first=due, missed="once")


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
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    *,
    older_than: timedelta | None = None,
) -> Plan:
    """Delete every room without a member of this server besides the bots.

    Rooms of the configuration, default rooms and those that somebody is invited to stay.

    Args:
        older_than: only those in which nothing happened for so long, e.g. 90d
    """
    filters = Filters(no_local=True, inactive_for=older_than)
    kept = {*_configured(settings), *await own.read(DefaultRooms())}
    rooms = [
        one
        for one in await matching(admin, own, settings, filters, caller.now)
        if one.room_id not in kept
        and not (one.joined_local_members and await is_awaited(admin, one.room_id))
    ]
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


def _configured(settings: Settings) -> set[str | None]:
    """Return the rooms that Steward was told to use, which may be empty for a while."""
    config = settings.config.adminbot
    return {*config.control_rooms, config.log_room, config.trust_and_safety_room}


@report("room deletion")
def deleted(finished: Finished) -> Answer:
    """Tell which rooms are gone and which are not, and what the homeserver had to say of them."""
    rooms = [each for each in finished.taken if isinstance(each.step, DeleteRoom)]
    if len(rooms) == 1:
        (one,) = rooms
        said = tell(finished)
        return said.followed_by(say(one.detail)) if _has_more_to_say(one) else said
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
    more = [each for each in gone if each.detail]
    if more:
        lines = tuple((Pill(_room(each.step)), " – ", each.detail) for each in more[:MOST_SHOWN])
        said = said.followed_by(Bullets(lines))
    if len(wrong) > MOST_SHOWN:
        file = ((_room(each.step), each.detail) for each in wrong)
        said = said.with_file(csv_file("failed.csv", ("room", "why"), file))
    return said


def _has_more_to_say(one: Taken) -> bool:
    return one.fate is Fate.DONE and bool(one.detail)


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


def _me(settings: Settings) -> UserId:
    config = settings.config
    return UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
