"""Who is to come into a room: invitations, and people who knock."""

from collections.abc import Iterable, Sequence

from adminbot.commands.here import memberships_of, named, person, powers_in
from adminbot.commands.lists import page_of, paged
from adminbot.commands.protect import refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Button,
    Mono,
    Pill,
    Table,
    answer,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.lend import lend_act, lend_against
from adminbot.engine.line import quote
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.supply import Attached, Settings
from adminbot.engine.values import FIRST_PAGE, Page
from common.errors import UserError
from common.homeserver.client_server.membership import InviteUser, KickUser, ListMembers, Member
from common.homeserver.port import AdminReader, Permission
from common.i18n import n, t
from common.ids import RoomId, UserId

MOST_WITHOUT_ASKING = 20
PER_SECOND = 2.0
MOST_BYTES = 2**20
MOST_INVITED = 5_000
MOST_BUTTONS = 9
_THERE = {"join", "invite"}
_NO = "❌"
_DIGITS = ("1️⃣", "2️⃣", "3️⃣", "4️⃣", "5️⃣", "6️⃣", "7️⃣", "8️⃣", "9️⃣")


@command("invite", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def invite(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *more: str | None,
) -> Plan:
    """Invite people into a room; who is there or invited already is left out.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
        more: more people
    """
    return await _inviting(admin, caller, settings, room, (who, *more))


@command("invite-list", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def invite_list(
    admin: AdminReader, caller: Caller, settings: Settings, attached: Attached, room: RoomId
) -> Plan:
    """Invite everybody on a list into a room: send it as a file, or reply to one.

    One person a line; of lines with commas the first column counts. A heading is skipped.

    Args:
        room: the current room if left out
    """
    data = await attached.file(most_bytes=MOST_BYTES)
    if data is None:
        raise UserError(t("Send the list as a file with this as its caption, or reply to it."))
    names = _listed(data.decode("utf-8-sig", "replace"))
    if not names:
        raise UserError(t("There is nobody on this list."))
    return await _inviting(admin, caller, settings, room, names)


@command("knocks list", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def knocks_list(
    admin: AdminReader, caller: Caller, room: RoomId, *, page: Page = FIRST_PAGE
) -> Answer:
    """Show who asks to be let in; react to let somebody in or turn them away.

    Args:
        room: the current room if left out
    """
    knocking = await _knocking(admin, room)
    if not knocking:
        return answer(t("Nobody asks to be let into this room."))
    shown = page_of(knocking, page, size=MOST_BUTTONS)
    rows = tuple(
        (
            str(number),
            Pill(one.state_key),
            Mono(_reason(one)),
            when(one.origin_server_ts, caller.now) or "",
        )
        for number, one in enumerate(shown, 1)
    )
    table = Table((t("Number"), t("Person"), t("Says"), t("Since")), rows)
    in_all = n("{count} person asks.", "{count} people ask.", len(knocking))
    told = paged(in_all, len(knocking), page, size=MOST_BUTTONS)
    how = t(
        "React with a number to let somebody in, or with {no} and the number to turn them away.",
        no=_NO,
    )
    buttons = tuple(
        button
        for sign, one in zip(_DIGITS, shown, strict=False)
        for button in _buttons(sign, room, one.state_key)
    )
    return Answer((table, say(told), say(how)), buttons=buttons)


def _buttons(sign: str, room: RoomId, user: UserId) -> tuple[Button, Button]:
    who = f"{quote(room)} {quote(user)}"
    return (
        Button(sign, t("Let {user} in", user=user), f"knocks accept {who}"),
        Button(f"{_NO}{sign}", t("Turn {user} away", user=user), f"knocks deny {who}"),
    )


@command("knocks accept", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def knocks_accept(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *more: str | None,
) -> Plan:
    """Let people in who asked for it.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
        more: more people
    """
    refuse(lend_act(caller, "invite"))
    people = await _who_knock(admin, settings, room, (who, *more))
    return Plan(
        summary=t("Let {people} into {room}", people=named(people), room=room),
        steps=tuple(InviteUser(room, user) for user in people),
    )


@command("knocks deny", who=Role.ROOM_MODERATOR, needs=Permission.MODERATE)
async def knocks_deny(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    *more: str | None,
    reason: str | None = None,
) -> Plan:
    """Turn people away who asked to be let in.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
        more: more people
        reason: what they are told
    """
    people = await _who_knock(admin, settings, room, (who, *more))
    powers = await powers_in(admin, room)
    for user in people:
        refuse(lend_against(caller, "kick", user, powers))
    return Plan(
        summary=t("Turn {people} away from {room}", people=named(people), room=room),
        steps=tuple(KickUser(room, user, reason) for user in people),
    )


async def _inviting(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    words: Sequence[str | None],
) -> Plan:
    refuse(lend_act(caller, "invite"))
    wanted = tuple(dict.fromkeys(person(word, settings) for word in words if word))
    if len(wanted) > MOST_INVITED:
        raise UserError(t("That are too many; {most} at most.", most=MOST_INVITED))
    members = await memberships_of(admin, room, wanted)
    banned = [user for user in wanted if members.get(user) == "ban"]
    if banned:
        raise UserError(
            n(
                "{people} is banned from this room; lift that first.",
                "{people} are banned from this room; lift that first.",
                len(banned),
                people=named(banned),
            )
        )
    new = [user for user in wanted if members.get(user) not in _THERE]
    if not new:
        raise UserError(t("Everybody you named is in this room or invited already."))
    left = len(wanted) - len(new)
    details: tuple[Block, ...] = ()
    if left:
        details = (say(_left_out(left)),)
    return Plan(
        summary=t("Invite {people} to {room}", people=named(new), room=room),
        steps=tuple(InviteUser(room, user) for user in new),
        details=details,
        ask=len(new) > MOST_WITHOUT_ASKING,
        bulk=_pace(caller) if len(new) > 1 else None,
    )


def _pace(caller: Caller) -> Bulk:
    """Return how fast invitations go out: the homeserver holds its own people back, not us.

    Source: Synapse's ``rc_invites.per_issuer``, 0.3 a second unless configured otherwise.
    """
    return Bulk() if caller.acts_as_server_admin else Bulk(at_once=1, per_second=PER_SECOND)


def _left_out(number: int) -> str:
    return n(
        "{count} is there already, and left out.",
        "{count} are there already, and left out.",
        number,
    )


def _listed(text: str) -> list[str]:
    firsts = [_first(line) for line in text.splitlines()]
    named_ = [first for first in firsts if first]
    # A heading is a word that no address of a person would be.
    return named_[1:] if named_ and named_[0].lower() in _HEADINGS else named_


_HEADINGS = {"user", "user_id", "userid", "mxid", "name", "localpart", "person"}


def _first(line: str) -> str:
    cell = line.split(",", maxsplit=1)[0].split(";", maxsplit=1)[0].strip().strip('"').strip()
    # As our own files have it, which are safe to open in a spreadsheet.
    return cell.removeprefix("'")


async def _knocking(admin: AdminReader, room: RoomId) -> tuple[Member, ...]:
    found = await admin.read(ListMembers(room, "knock"))
    return tuple(sorted(found, key=lambda one: one.origin_server_ts))


def _reason(one: Member) -> str:
    reason = one.content.get("reason")
    return reason if isinstance(reason, str) else ""


async def _who_knock(
    admin: AdminReader, settings: Settings, room: RoomId, words: Iterable[str | None]
) -> tuple[UserId, ...]:
    people = tuple(dict.fromkeys(person(word, settings) for word in words if word))
    knocking = {one.state_key for one in await _knocking(admin, room)}
    for user in people:
        if user not in knocking:
            raise UserError(t("{user} does not ask to be let into this room.", user=user))
    return people
