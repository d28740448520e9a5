"""The bots themselves: where they are, where they should be, and having them leave."""

from collections.abc import Iterable

from adminbot.commands.lists import page_of, paged
from adminbot.commands.room_power import local_rooms, mending
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Table, answer, csv_file, facts, say, when
from adminbot.engine.command import command
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.server_steps import BotsLeave
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Health, Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.server_rooms import Dismissals, PausedSince, RoomTroubles, Trouble
from common.config.schema import Config
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import GetUser, ListUserDevices, ListUserRooms
from common.i18n import n, t
from common.ids import RoomId, UserId

LEAVE_WORD = "leave all rooms"
LEFT_AT_ONCE = 4


@command("bots status", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bots_status(
    admin: AdminReader, own: OwnReader, caller: Caller, settings: Settings, health: Health
) -> Answer:
    """Show where the bots are, and whether they are everywhere they should be."""
    rooms = await local_rooms(admin)
    rows: list[tuple[Pill, str, str, str, str]] = []
    for bot in _bots(settings.config):
        try:
            found = await admin.read(GetUser(bot))
        except NotFoundError:
            rows.append((Pill(bot), t("no such account"), "", "", ""))
            continue
        inside = set(await admin.read(ListUserRooms(bot)))
        missing = sum(1 for room in rooms if room not in inside)
        devices = await admin.read(ListUserDevices(bot))
        right = t("server admin") if found.admin else t("ordinary account")
        rows.append((Pill(bot), right, str(len(inside)), str(missing), str(len(devices))))
    troubles = await troubles_of(own, rooms)
    report = await health.report()
    columns = (t("Bot"), t("Is"), t("Rooms"), t("Missing in"), t("Devices"))
    return answer(
        Table(columns, tuple(rows)),
        facts(
            [
                (t("Rooms of this server's people"), str(len(rooms))),
                (t("Rooms that could not be mended"), str(len(troubles))),
                (t("Waiting for their room key"), str(report.commands_unreadable)),
                (t("Enter no rooms since"), when(await own.read(PausedSince()), caller.now)),
            ]
        ),
    )


@command("bots missing", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bots_missing(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the rooms into which the bots could not be brought with power, and why."""
    found = await troubles_of(own, await local_rooms(admin))
    left = await _dismissals(own, caller)
    if not found and left is not None:
        return answer(left)
    if not found:
        return answer(t("The bots are in every room, as far as the last look went."))
    told = paged(n("{count} room in all.", "{count} rooms in all.", len(found)), len(found), page)
    if csv:
        rows = ((one.room, one.problem, one.since_ms) for one in found)
        return answer(told).with_file(csv_file("missing.csv", ("room", "why", "since_ms"), rows))
    lines = tuple(
        (Pill(one.room), Mono(one.problem), when(one.since_ms, caller.now) or "")
        for one in page_of(found, page)
    )
    said = answer(
        Table((t("Room"), t("Why"), t("Since")), lines),
        told,
        t(
            "“room adopt” tries one of them again, “bots sweep” all. Where nobody of this server is "
            "inside, somebody there has to invite both bots."
        ),
    )
    return said if left is None else said.followed_by(left)


async def _dismissals(own: OwnReader, caller: Caller) -> Table | None:
    """Return the rooms that adminbot was asked to leave, if there are any."""
    found = await own.read(Dismissals())
    rows = tuple(
        (Pill(one.room), Pill(one.by), when(one.since_ms, caller.now) or "") for one in found
    )
    heading = (t("Room that adminbot was asked to leave"), t("By"), t("Since"))
    return Table(heading, rows) if rows else None


@command("bots sweep", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bots_sweep(admin: AdminReader, own: OwnReader) -> Plan:
    """Look at every room now, and bring the bots, with power, into those where they are missing."""
    if await own.read(PausedSince()) is not None:
        raise UserError(t("The bots were told to leave all rooms; “bots rejoin” undoes that."))
    return mending(await _rooms(admin), t("Look at every room"))


@command("bots rejoin", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bots_rejoin(admin: AdminReader) -> Plan:
    """Bring the bots into every room again, having had them leave."""
    summary = t("Bring the bots into every room again")
    return mending(await _rooms(admin), summary, rejoin=True)


@command("bots leave-all", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def bots_leave_all(admin: AdminReader, caller: Caller, settings: Settings) -> Plan:
    """Have both bots leave every room but this one, and enter none until “bots rejoin”.

    Nothing is archived meanwhile, and in encrypted rooms what is said meanwhile stays unreadable
    for auditbot for ever.
    """
    rooms: set[RoomId] = set()
    for bot in _bots(settings.config):
        try:
            rooms.update(await admin.read(ListUserRooms(bot)))
        except NotFoundError:
            continue
    rooms.discard(caller.place.room)
    if not rooms:
        raise UserError(t("The bots are in no other room."))
    return Plan(
        summary=n(
            "Have the bots leave {count} room",
            "Have the bots leave {count} rooms",
            len(rooms),
        ),
        steps=tuple(BotsLeave(room) for room in sorted(rooms)),
        details=(
            say(
                t(
                    "Nothing is archived meanwhile, and what is said meanwhile in encrypted rooms "
                    "stays unreadable for auditbot for ever."
                )
            ),
        ),
        typed=LEAVE_WORD,
        bulk=Bulk(at_once=LEFT_AT_ONCE),
        result=answer(t("“bots rejoin” brings them back.")),
    )


async def troubles_of(own: OwnReader, rooms: Iterable[RoomId]) -> list[Trouble]:
    """Return what is wrong in some rooms; one that was deleted meanwhile is not among them."""
    there = set(rooms)
    return [one for one in await own.read(RoomTroubles()) if one.room in there]


async def _rooms(admin: AdminReader) -> list[RoomId]:
    rooms = await local_rooms(admin)
    if not rooms:
        raise UserError(t("There is no room with people of this server."))
    return rooms


def _bots(config: Config) -> tuple[UserId, UserId]:
    server = config.homeserver.server_name
    names = (config.adminbot.localpart, config.auditbot.localpart)
    return UserId(f"@{names[0]}:{server}"), UserId(f"@{names[1]}:{server}")
