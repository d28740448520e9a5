"""Matrix identifiers as types of their own, parsed once at the edge and trusted afterwards.

Source: Matrix specification v1.18, appendices, "Common identifier format". Room identifiers
of room version 12 (MSC4291) have no server part; nothing here may split one at a colon.
"""

import re
from typing import NewType

from common.errors import UserError
from common.i18n import t

UserId = NewType("UserId", str)
"""``@localpart:server``, at most 255 bytes."""
RoomId = NewType("RoomId", str)
"""``!opaque:server``, or ``!opaque`` from room version 12 on."""
RoomAlias = NewType("RoomAlias", str)
"""``#name:server``."""
EventId = NewType("EventId", str)
"""``$opaque``."""
DeviceId = NewType("DeviceId", str)
"""An opaque device identifier, unique for its user."""

MAX_BYTES = 255

# Historical user IDs may hold any printable ASCII; a remote server decides what it allows.
_USER = re.compile(r"@[\x21-\x39\x3b-\x7e]*:[A-Za-z0-9.\-\[\]:]+")
_ROOM = re.compile(r"![^\s\x00-\x1f\x7f]+")
_ALIAS = re.compile(r"#[^\s:\x00-\x1f\x7f]+:[A-Za-z0-9.\-\[\]:]+")
_EVENT = re.compile(r"\$[^\s\x00-\x1f\x7f]+")


def _fits(pattern: re.Pattern[str], text: str) -> bool:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_BYTES and pattern.fullmatch(text) is not None


def parse_user_id(text: str) -> UserId:
    """Return the user ID, or raise ``UserError``."""
    if not _fits(_USER, text):
        raise UserError(
            t("“{text}” is not a user ID; one looks like @alice:example.org.", text=text)
        )
    return UserId(text)


def parse_room_id(text: str) -> RoomId:
    """Return the room ID, or raise ``UserError``."""
    if not _fits(_ROOM, text):
        raise UserError(t("“{text}” is not a room ID; one begins with “!”.", text=text))
    return RoomId(text)


def parse_room_alias(text: str) -> RoomAlias:
    """Return the room alias, or raise ``UserError``."""
    if not _fits(_ALIAS, text):
        raise UserError(
            t("“{text}” is not a room address; one looks like #lobby:example.org.", text=text)
        )
    return RoomAlias(text)


def parse_event_id(text: str) -> EventId:
    """Return the event ID, or raise ``UserError``."""
    if not _fits(_EVENT, text):
        raise UserError(t("“{text}” is not an event ID; one begins with “$”.", text=text))
    return EventId(text)


def server_of(user: UserId) -> str:
    """Return the server name of a user ID: everything after the first colon."""
    return user.partition(":")[2]


def localpart_of(user: UserId) -> str:
    """Return the part of a user ID between ``@`` and the first colon."""
    return user.partition(":")[0].removeprefix("@")
