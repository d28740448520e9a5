"""Closing accounts for good: looked at first, asked about by a word to type."""

from collections.abc import Sequence

from adminbot.commands.protect import keep_an_admin, own_accounts, targets
from adminbot.commands.user_ties import ties
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Block, Bullets, Mono, Pill, Spans, Strong, facts, say
from adminbot.engine.command import command
from adminbot.engine.people import described
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Attached, Settings
from adminbot.engine.userlist import named_users
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import DeactivateUser
from common.homeserver.synapse.media import ListUserMedia
from common.homeserver.synapse.media_changes import DeleteUserMedia
from common.homeserver.synapse.redaction import RedactUser
from common.homeserver.synapse.rooms import GetRoomState, ListRoomMembers, StateEvent
from common.homeserver.synapse.users import ListUserRooms, UserDetails
from common.i18n import n, t
from common.ids import RoomId, UserId
from common.matrix.power import Power, power_of

MOST_ROOMS_LOOKED_AT = 100
MOST_PEOPLE_LOOKED_AT = 5
MOST_MEMBERS_COMPARED = 500
_MOST_NAMED = 10


@command(
    "user deactivate",
    who=Role.SERVER_ADMIN,
    needs=Permission.DESTROY,
    also=(Permission.MODERATE,),
)
async def user_deactivate(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    *users: UserId | None,
    erase: bool = False,
    redact: bool = False,
    delete_media: bool = False,
) -> Plan:
    """Close accounts for good: sessions end, rooms are left, addresses are forgotten.

    Looks first whether somebody is the only admin of a room, is logged in at bridges, and counts
    as active this month. The name can never be used again.

    Args:
        users: whose; or attach or reply to a file of user IDs
        erase: also hide what they wrote from those who come later, and empty the profile
        redact: before, take back what they wrote, in every room
        delete_media: before, delete the files they uploaded
    """
    named = await named_users(users, attached, settings.config.homeserver.server_name)
    found = await targets(admin, settings, caller, named)
    closed = [each.name for each in found if each.deactivated]
    if len(closed) == len(found):
        raise UserError(t("{users} is deactivated already.", users=described(closed)))
    open_ = [each for each in found if not each.deactivated]
    await keep_an_admin(admin, settings, open_)
    steps: list[Step] = []
    for each in open_:
        if redact:
            steps.append(RedactUser(user=each.name, reason=t("The account was closed.")))
        if delete_media:
            steps.append(await _no_files(admin, each.name))
        steps.append(DeactivateUser(each.name, erase=erase))
    names = [each.name for each in open_]
    return Plan(
        summary=n(
            "Close the account of {users}",
            "Close {count} accounts: {users}",
            len(names),
            users=described(names),
        ),
        steps=tuple(steps),
        details=(
            *await _looked_at(admin, settings, open_, closed),
            *await ties(own, caller.now, names),
        ),
        typed=names[0] if len(names) == 1 else f"deactivate {len(names)}",
        bulk=Bulk(chain=len(steps) // len(names)) if len(names) > 1 else None,
    )


async def _no_files(admin: AdminReader, user: UserId) -> DeleteUserMedia:
    total = (await admin.read(ListUserMedia(user=user, limit=1))).total
    return DeleteUserMedia(user, limit=max(1, total))


async def _looked_at(
    admin: AdminReader,
    settings: Settings,
    found: Sequence[UserDetails],
    closed: Sequence[UserId],
) -> list[Block]:
    """Return what somebody should know before: admins among them, rooms left without one."""
    admins = [each.name for each in found if each.admin]
    bots = [each.name for each in found if each.user_type is not None]
    card = facts(
        [
            (t("Accounts"), str(len(found)) if len(found) > 1 else None),
            (t("Server admins among them"), described(admins) if admins else None),
            (t("Bots among them"), described(bots) if bots else None),
            (t("Closed already, left alone"), str(len(closed)) if closed else None),
        ]
    )
    blocks: list[Block] = [card] if card.rows else []
    if len(found) > MOST_PEOPLE_LOOKED_AT:
        note = t(
            "For so many I do not look whether they are the only admin of a room; “room orphans” "
            "tells afterwards."
        )
        return [*blocks, say(note)]
    for each in found:
        blocks += await _rooms_left_alone(admin, settings, each.name)
    return blocks


async def _rooms_left_alone(admin: AdminReader, settings: Settings, user: UserId) -> list[Block]:
    own = own_accounts(settings.config)
    rooms = await admin.read(ListUserRooms(user))
    alone = [
        room
        for room in rooms[:MOST_ROOMS_LOOKED_AT]
        if await _is_only_admin(admin, room, user, own)
    ]
    if not alone:
        return []
    shown: list[Spans] = [(Pill(room), " ", Mono(room)) for room in alone[:_MOST_NAMED]]
    if len(alone) > len(shown):
        more = len(alone) - len(shown)
        shown.append((n("… and {count} more room", "… and {count} more rooms", more),))
    head = n(
        "{user} is the only admin, besides me, of {count} room with other people in it:",
        "{user} is the only admin, besides me, of {count} rooms with other people in them:",
        len(alone),
        user=user,
    )
    remedy = t(
        "Make somebody else an admin there first, with “room admin ROOM USER”; “room orphans” "
        "lists such rooms afterwards, too."
    )
    blocks: list[Block] = [say(Strong(head)), Bullets(tuple(shown)), say(remedy)]
    if len(rooms) > MOST_ROOMS_LOOKED_AT:
        blocks.append(say(t("I looked at {count} rooms only.", count=MOST_ROOMS_LOOKED_AT)))
    return blocks


async def _is_only_admin(
    admin: AdminReader, room: RoomId, user: UserId, own: frozenset[UserId]
) -> bool:
    try:
        members = await admin.read(ListRoomMembers(room))
        create = await _state(admin, room, "m.room.create")
        levels = await _state(admin, room, "m.room.power_levels")
    except NotFoundError:
        return False
    others = [one for one in members if one != user and one not in own]
    if create is None or not others:
        return False

    def power(one: UserId) -> Power:
        return power_of(
            one,
            levels=None if levels is None else levels.content,
            create_sender=create.sender,
            create=create.content,
        )

    return power(user).administers and not any(
        power(one).administers for one in others[:MOST_MEMBERS_COMPARED]
    )


async def _state(admin: AdminReader, room: RoomId, type_: str) -> StateEvent | None:
    events = await admin.read(GetRoomState(room, type_))
    return next((event for event in events if not event.state_key), None)
