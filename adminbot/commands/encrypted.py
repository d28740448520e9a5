"""Encrypted rooms and bridges: what is typed to a bridge's bot would stand there in clear."""

import msgspec

from adminbot.bridges.arguments import spoken
from adminbot.bridges.kind import Command as Spoken
from adminbot.bridges.kind import Kind
from adminbot.bridges.known import settings_of
from adminbot.bridges.steps import Arguments
from adminbot.commands.here import state_in
from adminbot.engine.answer import Block, Mono, Pill, say
from adminbot.engine.supply import Settings
from adminbot.own.bridges import BridgeRow
from common.errors import UserError
from common.homeserver.port import AdminReader
from common.i18n import t
from common.ids import RoomId


async def is_encrypted(admin: AdminReader, room: RoomId) -> bool:
    """Say whether a room is encrypted; ``UserError`` if there is no such room.

    By its state: what the homeserver tells of a room's properties comes some moments later.
    """
    return await state_in(admin, room, "m.room.encryption") is not None


def nothing_in_clear(
    settings: Settings, row: BridgeRow, kind: Kind, command: Spoken, asked: Arguments, room: RoomId
) -> None:
    """Refuse to type a command's words into an encrypted room, and say what to type instead.

    What is typed to a bot elsewhere is no matter of the room's.
    """
    step = next((each for each in command.steps if each.where == "room"), None)
    if step is None:
        return
    prefix = settings_of(settings.config, row.name).prefix
    own = kind if prefix is None else msgspec.structs.replace(kind, prefix=prefix)
    raise UserError(
        t(
            "{room} is encrypted, and what I type to a bridge would stand there in clear. If the "
            "bridge can read encrypted rooms, type it there yourself: {words}",
            room=Pill(room),
            words=Mono(spoken(own, step, {"room": room, **dict(asked)})),
        )
    )


def warning(room: RoomId) -> Block:
    """Return what to know before a bridge comes into an encrypted room."""
    return say(
        t(
            "{room} is encrypted: the bridge can read along only if its own encryption is on, and "
            "what it brings may stand there in clear.",
            room=Pill(room),
        )
    )
