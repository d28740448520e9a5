"""What ordinary people ask of the server admins, and what they may see of their own account."""

from dataclasses import replace
from datetime import timedelta
from typing import Literal

from adminbot.commands.addresses import alias_add
from adminbot.commands.bridging import bridge_connect
from adminbot.commands.closing import upgrade
from adminbot.commands.lists import page_of, paged
from adminbot.commands.room_power import room_admin
from adminbot.commands.user_rooms import user_join
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
from adminbot.engine.command import Command, command
from adminbot.engine.line import quote
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader, TellAdmins, TellPerson
from adminbot.engine.supply import Attached, Settings
from adminbot.engine.text import joined
from adminbot.engine.values import FIRST_PAGE, Page, Text
from adminbot.own.requests import AskedLately
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import ListUserDevices, ListUserRooms
from common.i18n import Msg, n, t
from common.ids import RoomAlias, RoomId, UserId, server_of

MOST_AN_HOUR = 5
_NO_WORDS = Text("")
What = Literal["admin", "join", "alias", "upgrade", "bridge", "other"]


@command("request", who=Role.ANYONE)
async def request(
    own: OwnReader,
    caller: Caller,
    what: What,
    room: RoomId,
    reason: Text = _NO_WORDS,
    *,
    address: RoomAlias | None = None,
    bridge: str | None = None,
    remote: str | None = None,
) -> Plan:
    """Ask the server admins for something about a room.

    Args:
        what: to become its admin, to join it, an address for it, a newer version, a bridge
        room: an address, a room ID or a link; the current room if left out
        reason: why, in your words
        address: which address you want, e.g. #choir
        bridge: which bridge you want, as “bridge list” names it
        remote: the channel or group there, e.g. #channel or a number
    """
    user = caller.actor.user
    await _not_too_often(own, caller)
    _said_well(caller, what, address, bridge, remote)
    wish = _wish(what)
    card = answer(
        say(
            t(
                "{user} asks for {wish} {room}.",
                user=Pill(user),
                wish=wish,
                room=Pill(room),
            )
        ),
        facts(
            [
                (t("Address"), None if address is None else Mono(address)),
                (t("Bridge"), None if bridge is None else Mono(bridge)),
                (t("There"), None if remote is None else Mono(remote)),
                (t("Why"), Mono(reason) if reason else None),
            ]
        ),
    )
    granting = ["request-approve", what, quote(user), quote(room)]
    options = {"--address": address, "--bridge": bridge, "--remote": remote}
    granting += [f"{name} {quote(value)}" for name, value in options.items() if value is not None]
    buttons = [
        Button("✅", t("approve"), " ".join(granting)),
        Button("❌", t("decline"), f"request-decline {quote(user)}"),
    ]
    said = Answer(card.blocks, buttons=tuple(buttons))
    if not _done_by_me(what, bridge, remote):
        said = said.followed_by(
            say(t("Do it first, then approve: that is how {user} is told.", user=Pill(user)))
        )
    return Plan(
        summary=t("Ask the server admins for {wish}", wish=wish),
        steps=(TellAdmins(said.followed_by(_legend(buttons))),),
        result=answer(t("The server admins know. You hear from them.")),
    )


def _wish(what: What) -> Msg:
    wishes = {
        "admin": t("the rights of an admin in the room"),
        "join": t("admission to the room"),
        "alias": t("an address for the room"),
        "upgrade": t("a newer version of the room"),
        "bridge": t("a bridge for the room"),
        "other": t("something about the room"),
    }
    return wishes[what]


def _said_well(
    caller: Caller, what: What, address: RoomAlias | None, bridge: str | None, remote: str | None
) -> None:
    """Refuse what nobody could grant as it is."""
    if what == "alias" and address is None:
        raise UserError(t("Say which address with --address, e.g. --address #choir."))
    if what != "alias" and address is not None:
        raise UserError(t("--address belongs to “request alias”."))
    if what != "bridge" and (bridge is not None or remote is not None):
        raise UserError(t("--bridge and --remote belong to “request bridge”."))
    home = server_of(caller.actor.user)
    if address is not None and address.partition(":")[2] != home:
        raise UserError(
            t(
                "{address} is of another server; here they end in :{home}.",
                address=address,
                home=home,
            )
        )


def _done_by_me(what: What, bridge: str | None, remote: str | None) -> bool:
    """Say whether approving does it; else somebody has to, and approving tells so."""
    if what == "bridge":
        return bridge is not None and remote is not None
    return what != "other"


@command(
    "request-approve",
    who=Role.SERVER_ADMIN,
    needs=Permission.MANAGE,
    also=(Permission.SUPPORT,),
)
async def request_approve(  # half of them are supplies
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    what: What,
    user: UserId,
    room: RoomId,
    *,
    address: RoomAlias | None = None,
    bridge: str | None = None,
    remote: str | None = None,
) -> Plan:
    """Do what somebody asked for about a room, and tell them.

    What only you can do, do first: then this tells them that it is done.

    Args:
        what: what they asked for, as in “request”
        user: who asked
        room: an address, a room ID or a link
        address: the address that they want
        bridge: the bridge that they want
        remote: the channel or group there
    """
    done: Plan | None = None
    if what == "admin":
        done = await _plan(room_admin, admin, caller, settings, room, user)
    elif what == "join":
        done = await _plan(user_join, admin, caller, settings, user, room)
    elif what == "upgrade":
        done = await _plan(upgrade, admin, caller, settings, room)
    elif what == "alias" and address is not None:
        done = await _plan(alias_add, admin, caller, settings, room, address)
    elif what == "bridge" and bridge is not None and remote is not None:
        done = await _plan(bridge_connect, admin, own, settings, caller, bridge, remote, room)
    said = answer(
        say(
            t(
                "A server admin has granted what you asked for: {wish} {room}.",
                wish=_wish(what),
                room=Pill(room),
            )
        )
    )
    tell = TellPerson(user=user, said=said)
    if done is None:
        return Plan(summary=t("Tell {user} that it is granted", user=user), steps=(tell,))
    # They are told when all before it is done: one that fails ends the plan.
    return replace(done, steps=(*done.steps, tell))


async def _plan(granting: Command, *arguments: object) -> Plan:
    """Return another command's plan; what takes two people there takes two here."""
    made = await granting.function(*arguments)
    assert isinstance(made, Plan)  # noqa: S101  # each of them changes things
    return replace(made, acts_as=granting.name)


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
async def me_sessions(admin: AdminReader, caller: Caller, *, page: Page = FIRST_PAGE) -> Answer:
    """Show where you are signed in. Only in a direct chat with me."""
    _in_private(caller)
    devices = await admin.read(ListUserDevices(caller.actor.user))
    newest = sorted(devices, key=lambda one: -(one.last_seen_ts or 0))
    rows = tuple(
        (
            Mono(each.device_id),
            Mono(each.display_name or ""),
            when(each.last_seen_ts, caller.now) or t("never"),
            Mono(each.last_seen_ip or ""),
        )
        for each in page_of(newest, page)
    )
    total = n("{count} session in all.", "{count} sessions in all.", len(newest))
    return answer(
        Table((t("Session"), t("Name"), t("Last seen"), t("Address")), rows),
        paged(total, len(newest), page),
    )


@command("me rooms", who=Role.ANYONE)
async def me_rooms(admin: AdminReader, caller: Caller, *, page: Page = FIRST_PAGE) -> Answer:
    """Show the rooms you are in. Only in a direct chat with me."""
    _in_private(caller)
    rooms = await admin.read(ListUserRooms(caller.actor.user))
    shown = tuple((Pill(room),) for room in page_of(rooms, page))
    total = n("{count} room in all.", "{count} rooms in all.", len(rooms))
    return answer(*([Bullets(shown)] if shown else []), paged(total, len(rooms), page))


def _in_private(caller: Caller) -> None:
    if not caller.place.private:
        raise UserError(t("Ask in a direct chat with me: others read along here."))
