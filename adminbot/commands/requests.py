"""What ordinary people ask of the server admins, and what they may see of their own account."""

from datetime import timedelta
from typing import Literal

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Button,
    Mono,
    Paragraph,
    Pill,
    Strong,
    Table,
    answer,
    facts,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.line import quote
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader, TellAdmins, TellPerson
from adminbot.engine.supply import Attached, Available
from adminbot.engine.text import joined
from adminbot.engine.values import Text
from adminbot.own.requests import AskedLately
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import ListUserDevices, ListUserRooms
from common.i18n import Msg, t
from common.ids import RoomId, UserId

MOST_AN_HOUR = 5
MOST_SHOWN = 50
_NO_WORDS = Text("")
# What approving does, where there is such a command; {room} and {user} are identifiers.
_APPROVE = {
    "admin": "room admin {room} {user}",
    "join": "user join {user} {room}",
    "upgrade": "room upgrade {room}",
}


@command("request", who=Role.ANYONE)
async def request(
    own: OwnReader,
    caller: Caller,
    available: Available,
    what: Literal["admin", "join", "alias", "upgrade", "bridge", "other"],
    room: RoomId,
    reason: Text = _NO_WORDS,
) -> Plan:
    """Ask the server admins for something about a room.

    Args:
        what: to become its admin, to join it, an address for it, a newer version, a bridge
        room: an address, a room ID or a link; the current room if left out
        reason: why, in your words
    """
    user = caller.actor.user
    await _not_too_often(own, caller)
    wishes = {
        "admin": t("the rights of an admin in the room"),
        "join": t("admission to the room"),
        "alias": t("an address for the room"),
        "upgrade": t("a newer version of the room"),
        "bridge": t("a bridge for the room"),
        "other": t("something about the room"),
    }
    card = answer(
        say(
            t(
                "{user} asks for {wish} {room}.",
                user=Pill(user),
                wish=wishes[what],
                room=Pill(room),
            )
        ),
        facts([(t("Why"), Mono(reason) if reason else None)]),
    )
    buttons = [Button("❌", t("decline"), f"request-decline {quote(user)}")]
    approve = _APPROVE.get(what, "").format(room=quote(room), user=quote(user))
    if approve and available.all.named(" ".join(approve.split()[:2])) is not None:
        buttons.insert(0, Button("✅", t("approve"), approve))
    said = Answer(card.blocks, buttons=tuple(buttons)).followed_by(_legend(buttons))
    return Plan(
        summary=t("Ask the server admins for {wish}", wish=wishes[what]),
        steps=(TellAdmins(said),),
        result=answer(t("The server admins know. You hear from them.")),
    )


@command("request-decline", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def request_decline(user: UserId, reason: Text = _NO_WORDS) -> Plan:
    """Tell somebody that what they asked for is not to be had.

    Args:
        user: who asked
        reason: why, in your words
    """
    said = answer(t("A server admin has declined what you asked for."))
    if reason:
        said = said.followed_by(say(Mono(reason)))
    return Plan(
        summary=t("Tell {user} that it is declined", user=user),
        steps=(TellPerson(user=user, said=said),),
    )


@command("report", who=Role.ANYONE)
async def report(own: OwnReader, caller: Caller, attached: Attached, text: Text) -> Plan:
    """Tell the server admins what is wrong; as a reply to a message it names that message.

    Args:
        text: what is wrong, in your words
    """
    await _not_too_often(own, caller)
    quoted = await attached.quoted()
    place: Msg | Pill = (
        t("a direct chat with me") if caller.place.private else Pill(caller.place.room)
    )
    card = answer(
        say(t("{user} reports something.", user=Strong(caller.actor.user))),
        facts(
            [
                (t("What"), Mono(text)),
                (t("Where"), place),
                (t("About a message of"), None if quoted is None else Pill(quoted.sender)),
                (t("Message"), None if quoted is None else Mono(quoted.event)),
            ]
        ),
    )
    return Plan(
        summary=t("Tell the server admins what is wrong"),
        steps=(TellAdmins(card),),
        result=answer(t("The server admins know.")),
    )


def _legend(buttons: list[Button]) -> Paragraph:
    return say(joined(joined((each.key, each.label), " ") for each in buttons))


async def _not_too_often(own: OwnReader, caller: Caller) -> None:
    since = caller.now - timedelta(hours=1)
    asked = await own.read(AskedLately(caller.actor.user, int(since.timestamp() * 1000)))
    if asked >= MOST_AN_HOUR:
        raise UserError(t("You have asked often in the last hour. Try again later."))


@command("me sessions", who=Role.ANYONE)
async def me_sessions(admin: AdminReader, caller: Caller) -> Answer:
    """Show where you are signed in. Only in a direct chat with me."""
    _in_private(caller)
    devices = await admin.read(ListUserDevices(caller.actor.user))
    rows = tuple(
        (
            Mono(each.device_id),
            Mono(each.display_name or ""),
            when(each.last_seen_ts, caller.now) or t("never"),
            Mono(each.last_seen_ip or ""),
        )
        for each in devices[:MOST_SHOWN]
    )
    return answer(Table((t("Session"), t("Name"), t("Last seen"), t("Address")), rows))


@command("me rooms", who=Role.ANYONE)
async def me_rooms(admin: AdminReader, caller: Caller) -> Answer:
    """Show the rooms you are in. Only in a direct chat with me."""
    _in_private(caller)
    rooms = await admin.read(ListUserRooms(caller.actor.user))
    return answer(Bullets(tuple((Pill(room),) for room in rooms[:MOST_SHOWN])))


def _in_private(caller: Caller) -> None:
    if not caller.place.private:
        raise UserError(t("Ask in a direct chat with me: others read along here."))
