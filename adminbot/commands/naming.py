"""What a room is called and shows: name, topic, picture and pinned messages."""

from typing import Any

from adminbot.commands.here import own_power_for, state_in
from adminbot.engine.actor import Caller, Role
from adminbot.engine.command import command
from adminbot.engine.link import parse_link
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import SetPicture
from adminbot.engine.supply import Attached
from adminbot.engine.values import Text
from common.errors import UserError
from common.homeserver.client_server.settings import (
    SetPinned,
    SetRoomAvatar,
    SetRoomName,
    SetRoomTopic,
)
from common.homeserver.client_server.timeline import GetEventHead
from common.homeserver.errors import NotAllowedError, NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import EventId, RoomId, parse_event_id

LONGEST_NAME = 255
LONGEST_TOPIC = 4_000
MOST_PICTURE_BYTES = 5 * 2**20
MOST_PINNED = 100
_NO_TEXT = Text("")
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


@command("name", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def name(caller: Caller, room: RoomId, text: Text) -> Plan:
    """Give a room another name.

    Args:
        room: the current room if left out
        text: the name
    """
    own_power_for(caller, "m.room.name")
    if len(text) > LONGEST_NAME:
        raise UserError(t("A name has at most {most} characters.", most=LONGEST_NAME))
    step = SetRoomName(room, text)
    return Plan(summary=step.describe(), steps=(step,))


@command("topic", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def topic(caller: Caller, room: RoomId, text: Text = _NO_TEXT) -> Plan:
    """Set what a room is about; without a text the topic is taken away.

    Args:
        room: the current room if left out
        text: the topic
    """
    own_power_for(caller, "m.room.topic")
    if len(text) > LONGEST_TOPIC:
        raise UserError(t("A topic has at most {most} characters.", most=LONGEST_TOPIC))
    step = SetRoomTopic(room, text)
    return Plan(summary=step.describe(), steps=(step,))


@command("avatar", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def avatar(
    caller: Caller, attached: Attached, room: RoomId, url: str | None = None, *, none: bool = False
) -> Plan:
    """Give a room a picture: send it with this as its caption, or reply to one.

    Args:
        room: the current room if left out
        url: the mxc:// address of a picture instead
        none: take the picture away
    """
    own_power_for(caller, "m.room.avatar")
    if none:
        step = SetRoomAvatar(room, None)
        return Plan(summary=step.describe(), steps=(step,))
    if url is not None:
        if not url.startswith("mxc://"):
            raise UserError(t("The address of a picture begins with mxc://."))
        step = SetRoomAvatar(room, url)
        return Plan(summary=step.describe(), steps=(step,))
    data = await attached.file(most_bytes=MOST_PICTURE_BYTES)
    if data is None:
        raise UserError(t("Send a picture with this as its caption, or reply to one."))
    summary = t("Give {room} another picture", room=room)
    picture = SetPicture(room=room, data=data, content_type=_content_type(data), sentence=summary)
    return Plan(summary=summary, steps=(picture,))


@command("pin", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def pin(
    admin: AdminReader, caller: Caller, attached: Attached, room: RoomId, what: str | None = None
) -> Plan:
    """Pin a message: reply to it with this, or give its link.

    Args:
        room: the current room if left out
        what: a link to the message
    """
    own_power_for(caller, "m.room.pinned_events")
    event = await _meant(admin, attached, room, what)
    pinned = await _pinned(admin, room)
    if event in pinned:
        raise UserError(t("This message is pinned already."))
    kept = pinned[-(MOST_PINNED - 1) :]
    return Plan(
        summary=t("Pin a message in {room}", room=room), steps=(SetPinned(room, (*kept, event)),)
    )


@command("unpin", who=Role.ROOM_MODERATOR, needs=Permission.MANAGE)
async def unpin(
    admin: AdminReader,
    caller: Caller,
    attached: Attached,
    room: RoomId,
    what: str | None = None,
    *,
    all_: bool = False,
) -> Plan:
    """Take a pinned message off: reply to it with this, or give its link.

    Args:
        room: the current room if left out
        what: a link to the message
        all_: every pinned message
    """
    own_power_for(caller, "m.room.pinned_events")
    pinned = await _pinned(admin, room)
    if all_:
        if not pinned:
            raise UserError(t("No message is pinned in this room."))
        step = SetPinned(room, ())
        return Plan(summary=step.describe(), steps=(step,), ask=True)
    event = _event(attached, what)
    if event not in pinned:
        raise UserError(t("This message is not pinned."))
    rest = tuple(one for one in pinned if one != event)
    return Plan(
        summary=t("Take a pinned message off in {room}", room=room),
        steps=(SetPinned(room, rest),),
    )


def _event(attached: Attached, what: str | None) -> EventId:
    if what is None:
        answered = attached.replied_to()
        if answered is None:
            raise UserError(t("Reply to the message with this, or give its link."))
        return answered
    link = parse_link(what)
    return parse_event_id(link.event if link is not None and link.event else what)


async def _meant(
    admin: AdminReader, attached: Attached, room: RoomId, what: str | None
) -> EventId:
    event = _event(attached, what)
    try:
        await admin.read(GetEventHead(room, event))
    except (NotFoundError, NotAllowedError):
        raise UserError(t("There is no such message in {room}.", room=room)) from None
    return event


async def _pinned(admin: AdminReader, room: RoomId) -> tuple[EventId, ...]:
    content = await state_in(admin, room, "m.room.pinned_events") or {}
    held: Any = content.get("pinned")
    found = held if isinstance(held, list) else []
    return tuple(EventId(one) for one in found if isinstance(one, str))


def _content_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    known = next((kind for magic, kind in _PICTURES.items() if data.startswith(magic)), None)
    if known is None:
        raise UserError(t("That is no picture that I know: PNG, JPEG, GIF or WebP."))
    return known
