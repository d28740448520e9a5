"""Notices from the server to people: to one, or to many at once."""

from datetime import datetime, timedelta

from adminbot.commands.audience import MOST_IN_FILE, only_people, open_accounts, read_file
from adminbot.commands.notice_plans import (
    Around,
    Wish,
    content_of,
    in_rooms,
    kept,
    later,
    ms,
    to_many,
)
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Pill
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.server_steps import SendNotice
from adminbot.engine.space_tree import rooms_below
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Attached, Available, Settings
from adminbot.engine.values import Text, typed_span
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import GetUser
from common.i18n import n, t
from common.ids import EventId, RoomId, UserId

NO_WORDS = Text("")
MOST_WRONG = 10


@command("notice", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice(
    admin: AdminReader, caller: Caller, attached: Attached, user: UserId, words: Text = NO_WORDS
) -> Plan:
    """Send one person a notice from the server.

    It comes from the server notices account, which nobody can ignore or leave for good.

    Args:
        user: to whom
        words: what it says; left out, it is the message that you reply to
    """
    content = await content_of(attached, words)
    try:
        found = await admin.read(GetUser(user))
    except NotFoundError:
        raise UserError(t("There is no account {user} on this server.", user=user)) from None
    if found.deactivated:
        raise UserError(t("The account {user} is closed; nobody would read it.", user=user))
    return Plan(
        summary=t("Send {user} a notice", user=Pill(user)),
        steps=(kept(caller, content, str(user)), SendNotice(caller.command, user)),
        report="notice",
    )


@command("notice all", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_all(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    words: Text = NO_WORDS,
    *,
    exclude: str | None = None,
    at: datetime | None = None,
    rate: int | None = None,
    preview: bool = False,
) -> Plan:
    """Send everybody on this server a notice from the server.

    Bridged accounts, bots and closed accounts are left out. Each person gets it once, whatever
    happens in between. To send it again and again, schedule the command: schedule --every "0 9 * *
    mon" notice all …

    Args:
        words: what it says, after the options; left out, it is the message that you reply to
        exclude: people who do not get it, with commas between them
        at: when to send it, e.g. “tomorrow 9:00”
        rate: to how many people a second
        preview: send it to yourself alone
    """
    around = Around(admin, own, caller, attached, settings, available)
    wish = Wish(exclude, at, rate, preview)
    if at is not None:
        return await later(around, ("notice all",), words, wish)
    people = await only_people(admin, own, await open_accounts(admin))
    made = [one.name for one in people if (one.creation_ts or 0) <= ms(caller.now)]
    return await to_many(around, made, t("everybody"), words, wish)


@command("notice active", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_active(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    within: timedelta,
    words: Text = NO_WORDS,
    *,
    exclude: str | None = None,
    at: datetime | None = None,
    rate: int | None = None,
    preview: bool = False,
) -> Plan:
    """Send a notice to everybody who was here lately.

    Args:
        within: how lately, e.g. 30d
        words: what it says, after the options; left out, it is the message that you reply to
        exclude: people who do not get it, with commas between them
        at: when to send it, e.g. “tomorrow 9:00”
        rate: to how many people a second
        preview: send it to yourself alone
    """
    around = Around(admin, own, caller, attached, settings, available)
    wish = Wish(exclude, at, rate, preview)
    if at is not None:
        return await later(around, ("notice active", typed_span(within)), words, wish)
    since = ms(caller.now - within)
    seen = [one for one in await open_accounts(admin) if (one.last_seen_ts or 0) >= since]
    people = [one.name for one in await only_people(admin, own, seen)]
    audience = t("everybody seen within {span}", span=typed_span(within))
    return await to_many(around, people, audience, words, wish)


@command("notice admins", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_admins(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    words: Text = NO_WORDS,
    *,
    exclude: str | None = None,
    at: datetime | None = None,
    preview: bool = False,
) -> Plan:
    """Send a notice to all server admins.

    Args:
        words: what it says, after the options; left out, it is the message that you reply to
        exclude: people who do not get it, with commas between them
        at: when to send it, e.g. “tomorrow 9:00”
        preview: send it to yourself alone
    """
    around = Around(admin, own, caller, attached, settings, available)
    wish = Wish(exclude, at, None, preview)
    if at is not None:
        return await later(around, ("notice admins",), words, wish)
    people = await only_people(admin, own, await open_accounts(admin, admins=True))
    return await to_many(around, [one.name for one in people], t("all server admins"), words, wish)


@command("notice room", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_room(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    room: RoomId,
    words: Text = NO_WORDS,
    *,
    exclude: str | None = None,
    at: datetime | None = None,
    rate: int | None = None,
    preview: bool = False,
) -> Plan:
    """Send a notice to everybody of this server who is in a room.

    Args:
        room: an address, a room ID or a link
        words: what it says, after the options; left out, it is the message that you reply to
        exclude: people who do not get it, with commas between them
        at: when to send it, e.g. “tomorrow 9:00”
        rate: to how many people a second
        preview: send it to yourself alone
    """
    around = Around(admin, own, caller, attached, settings, available)
    wish = Wish(exclude, at, rate, preview)
    if at is not None:
        return await later(around, ("notice room", room), words, wish)
    people = await in_rooms(around, [room])
    return await to_many(around, people, t("everybody in {room}", room=room), words, wish)


@command("notice space", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_space(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    space: RoomId,
    words: Text = NO_WORDS,
    *,
    exclude: str | None = None,
    at: datetime | None = None,
    rate: int | None = None,
    preview: bool = False,
) -> Plan:
    """Send a notice to everybody of this server who is in a space or a room of it.

    Args:
        space: an address, a room ID or a link
        words: what it says, after the options; left out, it is the message that you reply to
        exclude: people who do not get it, with commas between them
        at: when to send it, e.g. “tomorrow 9:00”
        rate: to how many people a second
        preview: send it to yourself alone
    """
    around = Around(admin, own, caller, attached, settings, available)
    wish = Wish(exclude, at, rate, preview)
    if at is not None:
        return await later(around, ("notice space", space), words, wish)
    people = await in_rooms(around, await rooms_below(admin, space))
    audience = t("everybody in the space {space}", space=space)
    return await to_many(around, people, audience, words, wish)


@command("notice file", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_file(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    words: Text,
    *,
    exclude: str | None = None,
    at: datetime | None = None,
    rate: int | None = None,
    preview: bool = False,
    of: EventId | None = None,
) -> Plan:
    """Send a notice to the people in a file: one user ID a line, or the first column of a CSV.

    Give the command as the file's caption, or as a reply to the file.

    Args:
        words: what it says, after the options
        exclude: people who do not get it, with commas between them
        at: when to send it, e.g. “tomorrow 9:00”; the file's message must stay until then
        rate: to how many people a second
        preview: send it to yourself alone
        of: the message with the file, if it is neither this one nor the one you reply to
    """
    around = Around(admin, own, caller, attached, settings, available)
    data = await attached.file(most_bytes=MOST_IN_FILE, of=of)
    if data is None:
        raise UserError(t("Send the file with this command as its caption, or reply to the file."))
    named = read_file(data, around.server)
    accounts = {one.name for one in await open_accounts(admin)}
    unknown = sorted(named - accounts)
    # What was looked at when it was scheduled goes out to those who are still there.
    if unknown and of is None:
        raise UserError(
            n(
                "{count} of them is no open account: {people}. Mend the file and send it again.",
                "{count} of them are no open accounts: {people}. Mend the file and send it again.",
                len(unknown),
                people=", ".join(unknown[:MOST_WRONG]),
            )
        )
    wish = Wish(exclude, at, rate, preview)
    if at is not None:
        message = of or attached.of_file()
        return await later(around, ("notice file", f"--of {message}"), words, wish)
    return await to_many(around, named & accounts, t("the people in a file"), words, wish)
