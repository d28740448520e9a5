"""From the old NEB bots to Hookshot."""

from collections.abc import AsyncIterator

from adminbot.bridges.hookshot import FEED, GITHUB, feeds, repositories
from adminbot.bridges.neb import (
    MOST_BYTES,
    OPTIONS,
    Export,
    Migration,
    OldRoom,
    is_old_bot,
    migration,
    read_export,
)
from adminbot.bridges.steps import PrepareRoom, RemoveOldBot, WriteConnection
from adminbot.commands.feeds import known_hookshot, state_of
from adminbot.commands.here import powers_in
from adminbot.engine.actor import Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Button,
    Mono,
    Pill,
    Spans,
    Table,
    answer,
    csv_file,
    say,
)
from adminbot.engine.command import command
from adminbot.engine.lend import POWER_LEVELS
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Attached, Settings
from adminbot.own.bridges import BridgeRow
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import ListRoomMembers, all_rooms
from common.i18n import n, t
from common.ids import RoomId, UserId

MOST_SHOWN = 40


@command("bridge migrate-neb", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_migrate_neb(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    attached: Attached,
    *,
    remove: bool = False,
) -> Plan:
    """Move what the old RSS and GitHub bots (NEB) did to Hookshot; --dry-run first.

    What an RSS bot follows is in no room: send the export of NEB's services (JSON) as a file
    with this command as its caption, or reply to it. Repositories have to be connected by
    somebody with access; the plan says which.

    Args:
        remove: remove the old bots from rooms where everything stands at Hookshot by now
    """
    hookshot = await known_hookshot(own)
    config = settings.config
    me = UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
    data = await attached.file(most_bytes=MOST_BYTES)
    export = read_export(data) if data is not None else None
    found = migration([room async for room in _old_rooms(admin, me, hookshot.bot)], export)
    if not found.rooms:
        raise UserError(t("No room has an old NEB bot in it."))
    if remove:
        return _removing(found)
    return _moving(found, export, hookshot)


def _moving(found: Migration, export: Export | None, hookshot: BridgeRow) -> Plan:
    steps: list[Step] = []
    for room in sorted({move.room for move in found.feeds}):
        steps.append(PrepareRoom(bridge=hookshot.name, bot=hookshot.bot, room=room))
        steps += [
            WriteConnection(
                bot=hookshot.bot,
                room=room,
                type=FEED,
                key=move.what,
                content=(("url", move.what),),
                what=move.what,
            )
            for move in found.feeds
            if move.room == room
        ]
    if not steps and not found.repositories:
        why = (
            t("Everything that is known stands at Hookshot already.")
            if export is not None
            else t(
                "Old bots are in {count} rooms, but what they follow is not known: send the "
                "export of NEB's services with this command.",
                count=len(found.rooms),
            )
        )
        raise UserError(why)
    return Plan(
        summary=n(
            "Move {count} feed of the old bots to Hookshot",
            "Move {count} feeds of the old bots to Hookshot",
            len(found.feeds),
        ),
        steps=tuple(steps),
        details=_told(found),
        result=_afterwards(found, by_file=export is not None),
        bulk=Bulk(at_once=1),
        report="bridge",
        ask=True,
    )


def _removing(found: Migration) -> Plan:
    bots = [(room, bot) for room in found.rooms for bot in room.bots]
    steps = tuple(
        RemoveOldBot(bot=bot, room=room.room) for room, bot in bots if found.replaced(room, bot)
    )
    if not steps:
        raise UserError(
            t(
                "In no room does everything stand at Hookshot yet. Send the export again, so that "
                "I can compare."
            )
        )
    stay = len(bots) - len(steps)
    left = n(
        "{count} old bot stays: not all that it follows stands at Hookshot, or it is not known.",
        "{count} old bots stay: not all that they follow stands at Hookshot, or it is not known.",
        stay,
    )
    return Plan(
        summary=n("Remove {count} old bot", "Remove {count} old bots", len(steps)),
        steps=steps,
        details=(say(left),) if stay else (),
        bulk=Bulk(at_once=1),
        report="bridge",
    )


def _told(found: Migration) -> tuple[Block, ...]:
    rows = tuple(
        (
            Pill(move.room),
            t("feed") if move.kind == "feed" else t("repository"),
            Mono(move.what),
            t("stands already") if move.here_already else move.trouble or move.remark or "",
        )
        for move in found.moves[:MOST_SHOWN]
    )
    blocks: list[Block] = []
    if rows:
        blocks.append(Table((t("Room"), t("Kind"), t("What"), ""), rows))
    if len(found.moves) > len(rows):
        blocks.append(say(t("… and {count} more", count=len(found.moves) - len(rows))))
    if found.unknown:
        blocks.append(
            say(
                n(
                    "Of {count} room it is not known what its old bot follows.",
                    "Of {count} rooms it is not known what their old bots follow.",
                    len(found.unknown),
                )
            )
        )
    return tuple(blocks)


def _afterwards(found: Migration, *, by_file: bool) -> Answer:
    said = answer()
    if found.repositories:
        items: list[Spans] = [
            (Mono(f"github connect https://github.com/{move.what} {move.room}"),)
            for move in found.repositories[:MOST_SHOWN]
        ]
        said = said.followed_by(
            say(t("Repositories have to be connected by somebody with access to each:")),
            Bullets(tuple(items)),
        ).with_file(
            csv_file(
                "repositories.csv",
                ("room", "repository", "events_without_twin"),
                ((one.room, one.what, " ".join(one.lost_events)) for one in found.repositories),
            )
        )
    if by_file:
        # No button: it cannot send the file again, without which no RSS bot goes.
        return said.followed_by(
            say(
                t(
                    "When all is well, the old bots can go: send the same file with this caption: "
                    "{words}",
                    words=Mono("bridge migrate-neb --remove"),
                )
            )
        )
    said = said.followed_by(
        say(t("When all is well, the old bots can go: bridge migrate-neb --remove"))
    )
    return Answer(
        said.blocks,
        said.files,
        (Button("🧹", t("remove the old bots"), "bridge migrate-neb --remove"),),
    )


async def _old_rooms(admin: AdminReader, me: UserId, hookshot: UserId) -> AsyncIterator[OldRoom]:
    """Yield every room with an old bot in it, with what stands at Hookshot there already."""
    async for room in all_rooms(admin):
        members = await admin.read(ListRoomMembers(room.room_id))
        bots = tuple(member for member in members if is_old_bot(member))
        if not bots:
            continue
        options = await state_of(admin, room.room_id, OPTIONS)
        here = feeds(await state_of(admin, room.room_id, FEED))
        repos = repositories(await state_of(admin, room.room_id, GITHUB))
        yield OldRoom(
            room.room_id,
            bots,
            tuple(event.content for event in options),
            frozenset(one.url for one in here),
            frozenset(one.name.lower() for one in repos),
            await _trouble(admin, room.room_id, me, present=me in members),
            _remark(encrypted=room.encryption is not None, absent=hookshot not in members),
        )


async def _trouble(admin: AdminReader, room: RoomId, me: UserId, *, present: bool) -> str | None:
    """Return why adminbot can set nothing up in a room."""
    if not present:
        return t("I am not in this room.")
    powers = (await powers_in(admin, room)).of(me)
    if all(powers.may(act) for act in ("invite", POWER_LEVELS, FEED)):
        return None
    return t("I have not the power to change the integrations of this room.")


def _remark(*, encrypted: bool, absent: bool) -> str | None:
    """Return what to know of a room before Hookshot is to write there."""
    if encrypted:
        return t("encrypted: Hookshot writes there only if its own encryption is on")
    return t("Hookshot is not in there yet; it is invited") if absent else None
