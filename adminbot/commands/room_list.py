"""Rooms this homeserver is in, by everything that can be known of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from adminbot.commands.direct_chats import DirectChats
from adminbot.commands.governing import Governing, Inhabited, inhabited, is_own_chat
from adminbot.commands.lists import page_of, paged
from adminbot.commands.protect import own_accounts
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Span,
    Table,
    answer,
    csv_file,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.space_tree import rooms_below
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.server_rooms import BlockedRooms, RoomActivity
from common.errors import UserError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.room_content import FindMoment, Moment
from common.homeserver.synapse.rooms import (
    GetRoom,
    ListRooms,
    RoomOrder,
    RoomSummary,
    all_rooms,
)
from common.i18n import n, t
from common.ids import RoomId, UserId
from common.matrix.power import version_number

PAGE_OF_HOMESERVER = 500
MOST_ASKED_ONE_BY_ONE = 1_000
_ORDERS: dict[str, RoomOrder] = {
    "name": "name",
    "members": "joined_members",
    "local": "joined_local_members",
    "state": "state_events",
    "version": "version",
}
Test = Callable[[RoomSummary], bool]


@dataclass(frozen=True)
class Filters:
    """What a room must be to be listed; ``None`` where it does not matter."""

    name: str | None = None
    public: bool | None = None
    empty: bool | None = None
    no_local: bool = False
    no_local_admin: bool = False
    encrypted: bool | None = None
    version_below: int | None = None
    members_above: int | None = None
    state_above: int | None = None
    inactive_for: timedelta | None = None
    dm: bool | None = None
    spaces: bool | None = None
    tombstoned: bool | None = None
    blocked: bool | None = None
    creator: UserId | None = None
    within: RoomId | None = None


@command("room list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def room_list(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    *,
    name: str | None = None,
    public: bool | None = None,
    empty: bool | None = None,
    no_local: bool = False,
    no_local_admin: bool = False,
    encrypted: bool | None = None,
    version_below: int | None = None,
    members_above: int | None = None,
    state_above: int | None = None,
    inactive_for: timedelta | None = None,
    dm: bool | None = None,
    spaces: bool | None = None,
    tombstoned: bool | None = None,
    blocked: bool | None = None,
    creator: UserId | None = None,
    within: RoomId | None = None,
    sort: Literal["name", "members", "local", "state", "version"] = "name",
    reverse: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the rooms this server is in.

    Args:
        name: only those whose name, address or ID contains this
        public: only those in the room directory; --no-public for the others
        empty: only those that nobody is in but the bots; --no-empty for the others
        no_local: only those without a member of this server besides the bots
        no_local_admin: only those without an admin of this server besides the bots
        encrypted: only encrypted ones; --no-encrypted for the others
        version_below: only those of a room version below this
        members_above: only those with more members
        state_above: only those with more state events
        inactive_for: only those in which nothing was said for so long, e.g. 90d
        dm: only direct chats, which somebody keeps as such; --no-dm for the others
        spaces: only spaces; --no-spaces for rooms only
        tombstoned: only those that were replaced or closed; --no-tombstoned for the others
        blocked: only those that were blocked by “room block”
        creator: only those that this person created
        within: only those in this space
        sort: by name, by members (most first), local members, amount of state, or version
        reverse: the other way round
    """
    filters = Filters(
        name=name,
        public=public,
        empty=empty,
        no_local=no_local,
        no_local_admin=no_local_admin,
        encrypted=encrypted,
        version_below=version_below,
        members_above=members_above,
        state_above=state_above,
        inactive_for=inactive_for,
        dm=dm,
        spaces=spaces,
        tombstoned=tombstoned,
        blocked=blocked,
        creator=creator,
        within=within,
    )
    request = ListRooms(
        search=name,
        public=public,
        order_by=_ORDERS[sort],
        direction="b" if reverse else "f",
        limit=PAGE_OF_HOMESERVER,
    )
    found = await matching(admin, own, settings, filters, caller.now, request)
    told = paged(n("{count} room in all.", "{count} rooms in all.", len(found)), len(found), page)
    if csv:
        return answer(told).with_file(
            csv_file("rooms.csv", _COLUMNS, (_csv_row(one) for one in found))
        )
    rows = tuple(_row(one) for one in page_of(found, page))
    if not rows:
        return answer(told)
    columns = (t("Name"), t("Members"), t("Local"), t("Encrypted"), t("Version"), t("Room"))
    return answer(Table(columns, rows), told)


async def matching(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    filters: Filters,
    now: datetime,
    request: ListRooms | None = None,
) -> list[RoomSummary]:
    """Return every room that passes, in the order asked for."""
    request = request or ListRooms(
        search=filters.name,
        public=filters.public,
        limit=PAGE_OF_HOMESERVER,
    )
    inside = None
    if filters.within is not None:
        inside = frozenset(await rooms_below(admin, filters.within))
    kept = None
    if filters.blocked is not None:
        kept = frozenset(one.room for one in await own.read(BlockedRooms()))
    tests = [*_tests(filters), *_membership(filters, inside, kept)]
    counted = None
    if filters.empty is not None or filters.no_local or filters.no_local_admin:
        counted = await inhabited(admin, settings)
        tests += _inhabiting(filters, counted)
    found = [room async for room in all_rooms(admin, request) if all(test(room) for test in tests)]
    if filters.inactive_for is not None:
        found = await _inactive(admin, own, found, now - filters.inactive_for)
    if filters.tombstoned is not None:
        found = await _tombstoned(admin, found, wanted=filters.tombstoned)
    if filters.dm is not None:
        found = await _direct(admin, settings, found, wanted=filters.dm)
    if filters.no_local_admin and counted is not None:
        found = await _without_admin(admin, settings, found, counted)
    return found


def _tests(filters: Filters) -> list[Test]:
    """Return the tests that the homeserver's list can answer by itself."""
    tests: list[Test] = []
    below, members, state = filters.version_below, filters.members_above, filters.state_above
    if filters.encrypted is not None:
        tests.append(lambda room: bool(room.encryption) == filters.encrypted)
    if below is not None:
        tests.append(lambda room: 0 < version_number(room.version) < below)
    if members is not None:
        tests.append(lambda room: room.joined_members > members)
    if state is not None:
        tests.append(lambda room: room.state_events > state)
    if filters.spaces is not None:
        tests.append(lambda room: (room.room_type == "m.space") == filters.spaces)
    if filters.creator is not None:
        tests.append(lambda room: room.creator == filters.creator)
    return tests


def _membership(
    filters: Filters, inside: frozenset[RoomId] | None, kept: frozenset[RoomId] | None
) -> list[Test]:
    tests: list[Test] = []
    if inside is not None:
        tests.append(lambda room: room.room_id in inside)
    if kept is not None:
        tests.append(lambda room: (room.room_id in kept) == filters.blocked)
    return tests


def _inhabiting(filters: Filters, counted: Inhabited) -> list[Test]:
    """Return the tests that count people: the homeserver counts the bots, who stay, as well."""
    tests: list[Test] = []
    if filters.empty is not None:
        tests.append(lambda room: (counted.people(room) == 0) == filters.empty)
    if filters.no_local:
        tests.append(lambda room: counted.people_here(room) == 0)
    return tests


async def _without_admin(
    admin: AdminReader, settings: Settings, rooms: list[RoomSummary], counted: Inhabited
) -> list[RoomSummary]:
    governing = Governing(admin, settings)
    return [
        room
        for room in rooms
        if not is_own_chat(settings.config, room, counted.people(room))
        and not await governing.has_admin(room, of_this_server=True)
    ]


async def _direct(
    admin: AdminReader, settings: Settings, rooms: list[RoomSummary], *, wanted: bool
) -> list[RoomSummary]:
    _check_number(len(rooms))
    config = settings.config
    chats = DirectChats(admin, config.homeserver.server_name, own_accounts(config))
    return [room for room in rooms if (await chats.has(room)) == wanted]


async def _inactive(
    admin: AdminReader, own: OwnReader, rooms: list[RoomSummary], before: datetime
) -> list[RoomSummary]:
    """Keep the rooms in which nothing happened since; those we never saw are asked about."""
    known: Mapping[RoomId, int] = await own.read(RoomActivity())
    before_ms = int(before.timestamp() * 1000)
    unknown = [room for room in rooms if room.room_id not in known]
    _check_number(len(unknown))
    kept: list[RoomSummary] = []
    for room in rooms:
        last_ms = known.get(room.room_id)
        if last_ms is None:
            later = await next_event(admin, room.room_id, before_ms)
            last_ms = 0 if later is None else later.origin_server_ts
        if last_ms < before_ms:
            kept.append(room)
    return kept


async def next_event(admin: AdminReader, room: RoomId, moment_ms: int) -> Moment | None:
    """Return the first event of a room at or after a moment, ``None`` if there is none."""
    try:
        return await admin.read(FindMoment(room=room, moment_ms=moment_ms))
    except RefusedError:
        return None


async def _tombstoned(
    admin: AdminReader, rooms: list[RoomSummary], *, wanted: bool
) -> list[RoomSummary]:
    _check_number(len(rooms))
    kept: list[RoomSummary] = []
    for room in rooms:
        try:
            details = await admin.read(GetRoom(room.room_id))
        except NotFoundError:
            continue
        if details.tombstoned == wanted:
            kept.append(room)
    return kept


def _check_number(number: int) -> None:
    if number > MOST_ASKED_ONE_BY_ONE:
        raise UserError(
            t(
                "That would ask the homeserver about {count} rooms one by one; narrow it down, "
                "e.g. with --members-above or --name.",
                count=number,
            )
        )


_COLUMNS = (
    "room",
    "name",
    "address",
    "members",
    "local",
    "encryption",
    "version",
    "public",
    "creator",
    "join_rules",
    "history_visibility",
    "guest_access",
    "federatable",
    "state_events",
    "type",
)


def _csv_row(one: RoomSummary) -> tuple[object, ...]:
    return (
        one.room_id,
        one.name,
        one.canonical_alias,
        one.joined_members,
        one.joined_local_members,
        one.encryption,
        one.version,
        one.public,
        one.creator,
        one.join_rules,
        one.history_visibility,
        one.guest_access,
        one.federatable,
        one.state_events,
        one.room_type,
    )


def _row(one: RoomSummary) -> tuple[Span, ...]:
    return (
        Mono(one.name or one.canonical_alias or ""),
        str(one.joined_members),
        str(one.joined_local_members),
        yes_no(one.encryption),
        one.version or "?",
        Pill(one.room_id),
    )
