"""The end of a room: going on in a new version of it, leading elsewhere, or closing it."""

from adminbot.commands.here import own_power_for, powers_in, room_here, typed_name
from adminbot.commands.protect import own_accounts, refuse
from adminbot.commands.reopening import closing_steps, quiet
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Block, Bullets, answer, say
from adminbot.engine.command import command
from adminbot.engine.lend import lend_levels
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import MoveIn
from adminbot.engine.step import SayInRoom
from adminbot.engine.supply import Settings
from adminbot.engine.text import listed
from adminbot.engine.values import Text
from common.errors import UserError
from common.homeserver.client_server.making_rooms import UpgradeRoom
from common.homeserver.client_server.server import GetRoomVersions
from common.homeserver.client_server.state import TombstoneRoom
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId, UserId
from common.matrix.power import RoomPowers, version_number

CARRIED = (
    "im.vector.modular.widgets",
    "m.room.retention",
    "m.space.parent",
    "io.element.functional_members",
)
"""What Synapse leaves behind when it upgrades a room."""
_CREATORS_FROM = 12
_NO_TEXT = Text("")


@command("upgrade", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def upgrade(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    version: str | None = None,
) -> Plan:
    """Go on in a new room of another version, in the place of this one.

    Name, settings, addresses, power levels and bans come along, widgets too; members are invited.
    Nobody can write in the old room any more, but its history stays.

    Args:
        room: the current room if left out
        version: which version; what the server gives new rooms if left out
    """
    own_power_for(caller, "m.room.tombstone", "m.room.power_levels")
    details = await room_here(admin, room)
    if details.tombstoned:
        raise UserError(t("This room has been replaced or closed already."))
    versions = await admin.read(GetRoomVersions())
    chosen = version or versions.default
    if chosen not in versions.available:
        known = listed(sorted(versions.available, key=lambda one: (version_number(one), one)))
        raise UserError(
            t(
                "This server makes no rooms of version “{version}”; it knows {known}.",
                version=chosen,
                known=known,
            )
        )
    if chosen == details.version:
        raise UserError(t("This room has version {version} already.", version=chosen))
    powers = await powers_in(admin, room)
    creators = _creators(caller, settings, powers, chosen)
    # Who comes along by being invited is said; only a server admin may have people join.
    joining = caller.acts_as_server_admin
    steps = (
        UpgradeRoom(room, chosen, creators),
        MoveIn(
            room=room,
            state=CARRIED,
            since_ms=int(caller.now.timestamp() * 1000),
            join=joining,
            sentence=t("Carry widgets and members over"),
        ),
    )
    return Plan(
        summary=t("Replace {room} by a new room of version {version}", room=room, version=chosen),
        steps=steps,
        details=_what_upgrading_means(creators),
        typed=typed_name(details),
    )


@command("tombstone", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def tombstone(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    text: Text = _NO_TEXT,
    *,
    to: RoomId | None = None,
) -> Plan:
    """End a room for good, and lead people elsewhere.

    Args:
        room: the current room if left out
        text: what people read in its place
        to: the room where it goes on
    """
    own_power_for(caller, "m.room.tombstone")
    details = await room_here(admin, room)
    if details.tombstoned:
        raise UserError(t("This room has been replaced or closed already."))
    if to == room:
        raise UserError(t("A room cannot lead to itself."))
    said = text or str(t("This room has been replaced."))
    step = TombstoneRoom(room, said, to)
    return Plan(summary=step.describe(), steps=(step,), typed=typed_name(details))


@command("close", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def close(admin: AdminReader, caller: Caller, room: RoomId, text: Text = _NO_TEXT) -> Plan:
    """Keep a room as an archive: its members can read it, nobody can write or come in.

    “reopen” opens it again as it was.

    Args:
        room: the current room if left out
        text: what is said in the room at the end
    """
    own_power_for(caller, "m.room.power_levels", "m.room.join_rules")
    details = await room_here(admin, room)
    powers = await powers_in(admin, room)
    refuse(lend_levels(caller, powers, quiet(room).applied_to(powers.levels or {})))
    words = text or t("This room is closed. It stays here to be read.")
    steps = await closing_steps(admin, room, powers, published=False)
    return Plan(
        summary=t("Close {room}", room=room),
        steps=(SayInRoom(room=room, said=answer(words)), *steps),
        details=(say(t("“reopen” opens it again.")),),
        typed=typed_name(details),
    )


def _creators(
    caller: Caller, settings: Settings, powers: RoomPowers, version: str
) -> tuple[UserId, ...]:
    """Return who is to stand above every number in the new room besides adminbot.

    They were creators or admins of the old one: nobody gains by it but what they had.
    """
    if version_number(version) < _CREATORS_FROM:
        return ()
    own = own_accounts(settings.config)
    adminbot = UserId(
        f"@{settings.config.adminbot.localpart}:{settings.config.homeserver.server_name}"
    )
    auditbot = UserId(
        f"@{settings.config.auditbot.localpart}:{settings.config.homeserver.server_name}"
    )
    mine = powers.of(caller.actor.user)
    also = {caller.actor.user} if mine.administers else set()
    people = sorted({UserId(one) for one in powers.creators if one not in own} | also)
    return tuple(dict.fromkeys([auditbot, *(one for one in people if one != adminbot)]))


def _what_upgrading_means(creators: tuple[UserId, ...]) -> tuple[Block, ...]:
    lines = [
        t("Nobody can write in the old room any more."),
        t("Members are invited to the new one; in Element they follow with one click."),
    ]
    if creators:
        lines.append(
            t(
                "Creators of the new room, whom nobody can demote: {people}.",
                people=", ".join(creators),
            )
        )
    return (Bullets(tuple((line,) for line in lines)), say(t("This may take a while.")))
