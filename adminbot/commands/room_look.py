"""Looking into rooms as a server admin: state, power, spaces, what lacks an admin, what was said."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from adminbot.commands.governing import Governing, Inhabited, inhabited, is_awaited, is_own_chat
from adminbot.commands.lists import PAGE_SIZE, page_of, paged
from adminbot.commands.room_list import PAGE_OF_HOMESERVER
from adminbot.commands.rooms import room_or_error
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Code,
    Mono,
    Pill,
    Span,
    Spans,
    Table,
    answer,
    csv_file,
    facts,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.space_tree import Leaf, tree_of, walk
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.engine.text import cut
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.server_rooms import RoomTroubles
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.media import ListRoomMedia
from common.homeserver.synapse.room_content import (
    FindMoment,
    ReadContext,
    ReadMessages,
    TimelineEvent,
)
from common.homeserver.synapse.room_upkeep import ListForwardExtremities
from common.homeserver.synapse.rooms import (
    GetRoomState,
    ListRoomMembers,
    ListRooms,
    RoomSummary,
    StateEvent,
    all_rooms,
)
from common.i18n import n, t
from common.ids import EventId, RoomId, UserId
from common.matrix.power import Power, creators, power_of, version_number

LONGEST_CONTENT = 2_000
MOST_READ = 100
LONGEST_SAID = 300


@dataclass(frozen=True)
class Powers:
    """Who can do what in a room."""

    levels: Mapping[str, object] | None
    create: StateEvent
    members: tuple[UserId, ...]

    def of(self, user: UserId) -> Power:
        """Return somebody's power."""
        return power_of(
            user,
            levels=self.levels,
            create_sender=self.create.sender,
            create=self.create.content,
        )

    @property
    def reigning(self) -> frozenset[str]:
        """The creators, where the room's version sets them above every number."""
        reign = version_number(self.create.content.get("room_version")) >= 12  # noqa: PLR2004  # room version 12
        return creators(self.create.sender, self.create.content) if reign else frozenset()


async def powers_of(admin: AdminReader, room: RoomId) -> Powers:
    """Return who can do what in a room, or say that this server does not know it."""
    try:
        state = await admin.read(GetRoomState(room, "m.room.power_levels"))
        created = await admin.read(GetRoomState(room, "m.room.create"))
        members = await admin.read(ListRoomMembers(room))
    except NotFoundError:
        raise UserError(t("This server is in no room {room}.", room=room)) from None
    create = next((one for one in created if not one.state_key), None)
    if create is None:
        raise UserError(t("The homeserver has no state of {room} any more.", room=room))
    levels = next((one.content for one in state if not one.state_key), None)
    return Powers(levels, create, members)


@command("room state", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_state(
    admin: AdminReader,
    room: RoomId,
    type: str | None = None,  # noqa: A002  # the specification's word
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """Show a room's state events: all types with their number, or those of one type.

    Args:
        room: an address, a room ID or a link
        type: e.g. m.room.power_levels; left out, an overview
    """
    await room_or_error(admin, room)
    state = await admin.read(GetRoomState(room, type))
    if csv:
        rows = ((one.type, one.state_key, one.sender, _json(one.content)) for one in state)
        file = csv_file("state.csv", ("type", "state_key", "sender", "content"), rows)
        return answer(_state_told(len(state))).with_file(file)
    if type is None:
        counts: dict[str, int] = {}
        for one in state:
            counts[one.type] = counts.get(one.type, 0) + 1
        kinds = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        table = Table(
            (t("Type"), t("Events")),
            tuple((Mono(kind), str(number)) for kind, number in page_of(kinds, page)),
        )
        return answer(table, paged(_state_told(len(state)), len(kinds), page))
    shown = page_of(state, page, size=5)
    blocks = [
        block
        for one in shown
        for block in (
            say(Mono(f"{one.type} {one.state_key}".strip()), " – ", Pill(one.sender)),
            Code(cut(_json(one.content, indent=2), LONGEST_CONTENT)),
        )
    ]
    return answer(*blocks, paged(_state_told(len(state)), len(state), page, size=5))


@command("room power", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_power(admin: AdminReader, room: RoomId) -> Answer:
    """Show who has power in a room, and what the room asks for.

    Args:
        room: an address, a room ID or a link
    """
    powers = await powers_of(admin, room)
    users = powers.levels.get("users") if powers.levels else None
    named = [UserId(name) for name in users] if isinstance(users, Mapping) else []
    people = sorted(
        {*named, *(UserId(one) for one in powers.reigning)},
        key=lambda one: (one not in powers.reigning, -powers.of(one).level, one),
    )
    inside = set(powers.members)
    rows = tuple(
        (
            Pill(one),
            t("creator") if one in powers.reigning else str(powers.of(one).level),
            t("in the room") if one in inside else t("not in the room"),
        )
        for one in people
    )
    somebody = Power(0, creator=False, levels=powers.levels or {})
    acts = ("invite", "kick", "ban", "redact", "m.room.name", "m.room.power_levels")
    return answer(
        Table((t("Person"), t("Level"), t("Is")), rows),
        facts((Mono(act).text, str(somebody.needed(act))) for act in acts),
    )


@command("room tree", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_tree(admin: AdminReader, space: RoomId) -> Answer:
    """Show a space with everything in it, as a tree.

    Args:
        space: an address, a room ID or a link
    """
    details = await room_or_error(admin, space)
    if details.room_type != "m.space":
        raise UserError(t("{room} is a room, not a space.", room=space))
    rooms, whole = await tree_of(admin, space)
    leaves = list(walk(rooms, space))
    lines = [_leaf(leaf) for leaf in leaves]
    spaces = sum(1 for one in rooms.values() if one.room_type == "m.space")
    said: list[Span] = [
        t(
            "{rooms} and {spaces}.",
            rooms=n("{count} room", "{count} rooms", len(rooms) - spaces),
            spaces=n("{count} space", "{count} spaces", spaces),
        )
    ]
    if not whole:
        said.append(t(" There is more; it is cut off here."))
    return answer(Code("\n".join(lines)), say(*said))


@command("room orphans", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_orphans(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List rooms that nobody looks after, with what can be done.

    These are rooms without any member of this server besides the bots, rooms into which the bots
    could not be brought with power, and rooms whose admins have all left.
    """
    troubles = {one.room: one.problem for one in await own.read(RoomTroubles())}
    looking = _Looking(admin, settings, troubles, await inhabited(admin, settings))
    rows: list[tuple[RoomId, str, str, str]] = []
    async for room in all_rooms(admin, ListRooms(limit=PAGE_OF_HOMESERVER)):
        found = await looking.what_is_wrong(room)
        if found is not None:
            rows.append((room.room_id, room.name or room.canonical_alias or "", *found))
    if not rows:
        return answer(t("Every room has somebody who looks after it."))
    told = paged(n("{count} room in all.", "{count} rooms in all.", len(rows)), len(rows), page)
    if csv:
        file = csv_file("orphans.csv", ("room", "name", "why", "proposal"), rows)
        return answer(told).with_file(file)
    shown = tuple(
        (Mono(name), why, Pill(room), Mono(proposal))
        for room, name, why, proposal in page_of(rows, page)
    )
    return answer(Table((t("Name"), t("Why"), t("Room"), t("Try")), shown), told)


class _Looking:
    """Looks for what is wrong with one room after another."""

    def __init__(
        self,
        admin: AdminReader,
        settings: Settings,
        troubles: Mapping[RoomId, str],
        counted: Inhabited,
    ) -> None:
        self.admin, self.config, self.troubles = admin, settings.config, troubles
        self.counted, self.governing = counted, Governing(admin, settings)

    async def what_is_wrong(self, room: RoomSummary) -> tuple[str, str] | None:
        """Return it with the command that helps, ``None`` if somebody looks after the room."""
        if self.counted.people_here(room) == 0:
            # Where somebody is invited by us it has only begun.
            if room.joined_local_members and await is_awaited(self.admin, room.room_id):
                return None
            return t("nobody of this server is in it"), f"room delete {room.room_id}"
        if room.room_id in self.troubles:
            return self.troubles[room.room_id], f"room admin {room.room_id}"
        if is_own_chat(self.config, room, self.counted.people(room)):
            return None
        if await self.governing.has_admin(room):
            return None
        heir = await self.governing.heir(room.room_id)
        return t(
            "nobody in it is an admin of it"
        ), f"room admin {room.room_id} {heir or ''}".strip()


@command("room extremities", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_extremities(admin: AdminReader, caller: Caller, room: RoomId) -> Answer:
    """Show a room's forward extremities; more than a few make it slow.

    Args:
        room: an address, a room ID or a link
    """
    await room_or_error(admin, room)
    found = await admin.read(ListForwardExtremities(room))
    rows = tuple(
        (Mono(one.event_id), str(one.depth), when(one.received_ts, caller.now) or "")
        for one in found[:PAGE_SIZE]
    )
    said = n("{count} forward extremity.", "{count} forward extremities.", len(found))
    return answer(Table((t("Event"), t("Depth"), t("Received")), rows), said)


@command("room media", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_media(
    admin: AdminReader, room: RoomId, *, page: Page = FIRST_PAGE, csv: Csv = NO_CSV
) -> Answer:
    """List the media that were sent into a room, as far as they were not encrypted.

    Args:
        room: an address, a room ID or a link
    """
    await room_or_error(admin, room)
    found = await admin.read(ListRoomMedia(room))
    names = [*found.local, *found.remote]
    told = paged(
        n(
            "{count} file, {local} of them of this server.",
            "{count} files, {local} of them of this server.",
            len(names),
            local=len(found.local),
        ),
        len(names),
        page,
    )
    if csv:
        return answer(told).with_file(csv_file("media.csv", ("mxc",), ((one,) for one in names)))
    shown: Sequence[Spans] = [(Mono(one),) for one in page_of(names, page)]
    return answer(Bullets(tuple(shown)), told) if shown else answer(told)


@command("room read", who=Role.SERVER_ADMIN, needs=Permission.READ_CONTENT)
async def room_read(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    *,
    reason: str,
    around: EventId | None = None,
    before: datetime | None = None,
    limit: int = 20,
) -> Answer:
    """Read what was said in a room that is not encrypted. The reason is kept in the log.

    Args:
        room: an address, a room ID or a link
        reason: why you have to
        around: an event, or a link to it
        before: a moment, e.g. “2026-11-20 12:00”
        limit: how many messages
    """
    if len(reason.strip()) < 5:  # noqa: PLR2004  # a word
        raise UserError(t("Say in a few words why; it is kept in the log."))
    if not 1 <= limit <= MOST_READ:
        raise UserError(t("Between 1 and {most} messages can be read at once.", most=MOST_READ))
    details = await room_or_error(admin, room)
    events = await _events(admin, room, around, before, limit)
    said = [_said(one, caller) for one in events if one.type == "m.room.message"]
    hidden = sum(1 for one in events if one.type == "m.room.encrypted")
    blocks: list[Bullets | str] = [Bullets(tuple(said))] if said else [t("There is nothing.")]
    if hidden or details.encryption:
        blocks.append(
            n(
                "{count} message is encrypted; auditbot's archive has what it could read.",
                "{count} messages are encrypted; auditbot's archive has what it could read.",
                hidden,
            )
        )
    return answer(*blocks)


async def _events(
    admin: AdminReader,
    room: RoomId,
    around: EventId | None,
    before: datetime | None,
    limit: int,
) -> list[TimelineEvent]:
    """Return the events, oldest first."""
    start: str | None = None
    try:
        if around is not None:
            found = await admin.read(ReadContext(room=room, event=around, limit=limit))
            return [*reversed(found.events_before), found.event, *found.events_after]
        if before is not None:
            moment = int(before.timestamp() * 1000)
            last = await admin.read(FindMoment(room=room, moment_ms=moment, direction="b"))
            nearby = await admin.read(ReadContext(room=room, event=last.event_id, limit=0))
            start = nearby.end
        page = await admin.read(ReadMessages(room=room, start=start, limit=limit))
    except NotFoundError:
        raise UserError(t("There is no such message in {room}.", room=room)) from None
    return list(reversed(page.chunk))


def _said(one: TimelineEvent, caller: Caller) -> Spans:
    body = one.content.get("body")
    text = body if isinstance(body, str) else t("(taken back)")
    moment = when(one.origin_server_ts, caller.now) or "?"
    return (Pill(one.sender), ", ", moment, ": ", Mono(cut(text, LONGEST_SAID)))


def _leaf(leaf: Leaf) -> str:
    indent = "  " * leaf.depth
    if leaf.known is None:
        return f"{indent}? {leaf.room}"
    name = cut(leaf.known.name or leaf.known.canonical_alias or "", 60)
    sign = "▸" if leaf.known.room_type == "m.space" else "#"
    again = " ↑" if leaf.seen else ""
    return f"{indent}{sign} {name} ({leaf.known.num_joined_members}) {leaf.room}{again}"


def _state_told(number: int) -> str:
    return n("{count} state event.", "{count} state events.", number)


def _json(content: Mapping[str, object], indent: int | None = None) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, indent=indent)
