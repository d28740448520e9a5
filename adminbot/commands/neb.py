"""From the old NEB bots to Hookshot."""

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
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Attached
from adminbot.own.bridges import BridgeRow
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import ListRoomMembers, all_rooms
from common.i18n import n, t

MOST_SHOWN = 40


@command("bridge migrate-neb", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_migrate_neb(
    admin: AdminReader, own: OwnReader, attached: Attached, *, remove: bool = False
) -> Plan:
    """Move what the old RSS and GitHub bots (NEB) did to Hookshot; --dry-run first.

    What an RSS bot follows is in no room: send the export of NEB's services (JSON) as a file
    with this command as its caption, or reply to it. Repositories have to be connected by
    somebody with access; the plan says which.

    Args:
        remove: remove the old bots from rooms where everything stands at Hookshot by now
    """
    hookshot = await known_hookshot(own)
    data = await attached.file(most_bytes=MOST_BYTES)
    export = read_export(data) if data is not None else None
    found = migration(await _old_rooms(admin), export)
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
        result=_afterwards(found),
        bulk=Bulk(at_once=1),
        report="bridge",
        ask=True,
    )


def _removing(found: Migration) -> Plan:
    ready = [room for room in found.rooms if found.replaced(room)]
    if not ready:
        raise UserError(
            t(
                "In no room does everything stand at Hookshot yet. Send the export again, so that "
                "I can compare."
            )
        )
    steps = tuple(RemoveOldBot(bot=bot, room=room.room) for room in ready for bot in room.bots)
    return Plan(
        summary=n("Remove {count} old bot", "Remove {count} old bots", len(steps)),
        steps=steps,
        bulk=Bulk(at_once=1),
        report="bridge",
    )


def _told(found: Migration) -> tuple[Block, ...]:
    rows = tuple(
        (
            Pill(move.room),
            t("feed") if move.kind == "feed" else t("repository"),
            Mono(move.what),
            t("stands already") if move.here_already else (move.trouble or ""),
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


def _afterwards(found: Migration) -> Answer:
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
    said = said.followed_by(
        say(t("When all is well, the old bots can go: bridge migrate-neb --remove"))
    )
    return Answer(
        said.blocks,
        said.files,
        (Button("🧹", t("remove the old bots"), "bridge migrate-neb --remove"),),
    )


async def _old_rooms(admin: AdminReader) -> list[OldRoom]:
    """Return every room with an old bot in it, with what stands at Hookshot there already."""
    found: list[OldRoom] = []
    async for room in all_rooms(admin):
        members = await admin.read(ListRoomMembers(room.room_id))
        bots = tuple(member for member in members if is_old_bot(member))
        if not bots:
            continue
        options = await state_of(admin, room.room_id, OPTIONS)
        here = feeds(await state_of(admin, room.room_id, FEED))
        repos = repositories(await state_of(admin, room.room_id, GITHUB))
        found.append(
            OldRoom(
                room.room_id,
                bots,
                tuple(event.content for event in options),
                frozenset(one.url for one in here),
                frozenset(one.name.lower() for one in repos),
            )
        )
    return found
