"""Taking messages back: one, several of one person, or what spammers wrote."""

from datetime import timedelta

from adminbot.commands.here import named, not_protected, person, powers_in, room_here
from adminbot.commands.moderation import came_within
from adminbot.commands.protect import own_accounts, refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.command import command
from adminbot.engine.lend import lend_act, lend_against
from adminbot.engine.link import parse_link
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import Step
from adminbot.engine.supply import Attached, Settings
from common.errors import UserError
from common.homeserver.client_server.membership import BanUser
from common.homeserver.client_server.messages import RedactEvent
from common.homeserver.client_server.timeline import (
    EventHead,
    GetEventHead,
    ListEventHeads,
    heads_back_to,
)
from common.homeserver.errors import NotAllowedError, NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.i18n import Msg, n, t
from common.ids import EventId, RoomId, UserId, parse_event_id

MOST_REDACTED = 5_000
_LONG_AGO = timedelta(days=3_650)
_FRESH = timedelta(minutes=10)


@command("redact", who=Role.ROOM_MODERATOR, needs=Permission.MODERATE)
async def redact(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    room: RoomId,
    what: str | None = None,
    *,
    last: int | None = None,
    since: timedelta | None = None,
    reason: str | None = None,
) -> Plan:
    """Take messages back for everybody: reply to one with it, or name a person.

    Args:
        room: the current room if left out
        what: a link to a message, or a person together with --last or --since
        last: that many of their latest messages
        since: all they wrote within this time, e.g. 2h
        reason: what stands in the place of the messages
    """
    event = _event(what) if what is not None else attached.replied_to()
    if event is not None:
        head = await _message(admin, room, event)
        if head.sender != caller.actor.user:
            refuse(lend_act(caller, "redact"))
        return Plan(
            summary=t("Take back a message of {user} in {room}", user=head.sender, room=room),
            steps=(_redaction(room, event, reason),),
        )
    if what is None:
        raise UserError(t("Reply to a message with it, or name a person."))
    if last is None and since is None:
        raise UserError(t("Say how much: --last 10 or --since 2h."))
    user = person(what, settings)
    if user != caller.actor.user:
        refuse(lend_act(caller, "redact"))
        not_protected(settings, [user])
    found = await _written_by(admin, caller, room, (user,), since, last)
    if not found:
        raise UserError(t("I found no message of {user} like that.", user=user))
    return Plan(
        summary=n(
            "Take back {count} message of {user} in {room}",
            "Take back {count} messages of {user} in {room}",
            len(found),
            user=user,
            room=room,
        ),
        steps=tuple(_redaction(room, head.event, reason) for head in found),
        bulk=Bulk(),
    )


@command("purge-spam", who=Role.ROOM_MODERATOR, needs=Permission.MODERATE)
async def purge_spam(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    *,
    since: timedelta = _FRESH,
    ban: bool = False,
    media: bool = False,
) -> Plan:
    """Take back everything that people wrote who came into a room just now.

    Args:
        room: the current room if left out
        since: those who came within this time, e.g. 10m
        ban: and ban them
        media: only pictures and other files, as far as they are not encrypted
    """
    refuse(lend_act(caller, "redact", *(("ban",) if ban else ())))
    if media and (await room_here(admin, room)).encryption is not None:
        raise UserError(
            t("This room is encrypted, so I cannot tell files from words; leave --media out.")
        )
    powers = await powers_in(admin, room)
    own = own_accounts(settings.config)
    fresh = [
        user
        for user in sorted(await came_within(admin, caller, room, since))
        if user not in own
        and user != caller.actor.user
        and lend_against(caller, "ban" if ban else "kick", user, powers) is None
    ]
    if not fresh:
        raise UserError(t("Nobody came into this room within that time."))
    written = await _written_by(admin, caller, room, tuple(fresh), since, None)
    found = [head for head in written if head.media or not media]
    bans: tuple[Step, ...] = tuple(BanUser(room, user) for user in fresh) if ban else ()
    steps = (*bans, *(_redaction(room, head.event, None) for head in found))
    if not steps:
        if written:
            raise UserError(t("{people} came, and sent no files.", people=named(fresh)))
        raise UserError(t("{people} came, and wrote nothing.", people=named(fresh)))
    return Plan(summary=_purging(room, fresh, len(found), ban=ban), steps=steps, bulk=Bulk())


def _purging(room: RoomId, fresh: list[UserId], messages: int, *, ban: bool) -> Msg:
    values = {"people": named(fresh), "room": room}
    if ban:
        return n(
            "Ban {people} from {room}, and take {count} message back",
            "Ban {people} from {room}, and take {count} messages back",
            messages,
            **values,
        )
    return n(
        "Take {count} message of {people} back in {room}",
        "Take {count} messages of {people} back in {room}",
        messages,
        **values,
    )


def _event(what: str) -> EventId | None:
    link = parse_link(what)
    name = link.event if link is not None and link.event else what
    return parse_event_id(name) if name.startswith("$") else None


async def _message(admin: AdminReader, room: RoomId, event: EventId) -> EventHead:
    try:
        head = await admin.read(GetEventHead(room, event))
    except (NotFoundError, NotAllowedError):
        raise UserError(t("There is no such message in {room}.", room=room)) from None
    if head.empty:
        raise UserError(t("There is nothing left of this message."))
    return head


async def _written_by(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    users: tuple[UserId, ...],
    since: timedelta | None,
    last: int | None,
) -> list[EventHead]:
    """Return what people wrote, newest first; never state, which is no message."""
    since_ms = int((caller.now - (since or _LONG_AGO)).timestamp() * 1000)
    until_ms = int(caller.now.timestamp() * 1000)
    request = ListEventHeads(room=room, senders=users)
    found: list[EventHead] = []
    async for head in heads_back_to(admin, request, since_ms=since_ms, most=MOST_REDACTED):
        # What was written after the command was given is not meant by it; and so the same
        # messages are found when it is confirmed.
        if head.at_ms < until_ms and _is_message(head):
            found.append(head)
        if last is not None and len(found) >= last:
            break
    return found


def _is_message(head: EventHead) -> bool:
    return not head.state and not head.empty and head.type != "m.room.redaction"


def _redaction(room: RoomId, event: EventId, reason: str | None) -> RedactEvent:
    return RedactEvent(room=room, event=event, txn_id=f"steward-redact-{event}", reason=reason)
