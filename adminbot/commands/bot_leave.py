"""Having adminbot leave a room, where the operator lets a room's admins decide that."""

from adminbot.commands.here import own_power_for, room_here
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Pill, answer, say
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import Dismiss
from adminbot.engine.step import TellAdmins
from adminbot.engine.supply import Settings
from adminbot.own.later import do_later
from common.config.schema import Config
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId


@command("bot leave", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bot_leave(admin: AdminReader, caller: Caller, settings: Settings, room: RoomId) -> Plan:
    """Have me leave a room, if the operator of this server lets its admins decide that.

    What I do there by myself ends: greetings, answers, bans and locks with a time. auditbot
    stays. Whoever may invite has me back by an invitation.

    Args:
        room: the current room if left out
    """
    config = settings.config
    if not config.rooms.dismissal:
        raise UserError(
            t(
                "The operator of this server has me in every room. Ask the admins of {server} if "
                "that is to be otherwise.",
                server=config.homeserver.server_name,
            )
        )
    own_power_for(caller, "m.room.power_levels")
    await room_here(admin, room)
    if room in _needed(config):
        raise UserError(t("This room is one that the configuration needs me in."))
    leave = do_later(
        Dismiss(room=room, asked_by=caller.actor.user),
        slot=f"bot leave {room}",
        due=caller.now,
        requester=caller.actor.user,
        asked_in=caller.place.room,
    )
    told = answer(
        say(
            t(
                "{user} had me leave {room}. “room join-bots” brings me back.",
                user=Pill(caller.actor.user),
                room=Pill(room),
            )
        )
    )
    return Plan(
        summary=t("Leave {room}, and stay out until I am invited", room=Pill(room)),
        steps=(leave, TellAdmins(told)),
        details=(
            say(
                t(
                    "What I do there by myself ends: greetings, answers, bans and locks with a time."
                )
            ),
        ),
        result=answer(t("I leave now. Invite me if you want me back.")),
        ask=True,
    )


def _needed(config: Config) -> set[str]:
    settings = config.adminbot
    rooms = {*settings.control_rooms, settings.log_room, settings.trust_and_safety_room}
    return {room for room in rooms if room is not None}
