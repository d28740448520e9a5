"""Which rooms the bots are to be in."""

from common.config.schema import Rooms
from common.errors import TransientError
from common.homeserver.client import AdminClient
from common.homeserver.errors import RefusedError, StrangeAnswerError
from common.homeserver.synapse.rooms import GetRoomState, StateEvent
from common.ids import RoomId, server_of


async def is_wanted(admin: AdminClient, room: RoomId, settings: Rooms, server_name: str) -> bool:
    """Say whether the settings want the bots in a room; everything, unless told otherwise.

    A room whose state cannot be had yet is wanted: entering it then fails with a reason.
    """
    if settings.direct_chats and settings.federated:
        return True
    try:
        state = await admin.read(GetRoomState(room=room))
    except (RefusedError, StrangeAnswerError) as error:
        raise TransientError(f"The state of {room} cannot be read: {error}") from error
    if not settings.federated and not _is_local(state, server_name):
        return False
    return settings.direct_chats or not _is_direct(state)


def _is_local(state: tuple[StateEvent, ...], server_name: str) -> bool:
    return any(
        event.type == "m.room.create" and server_of(event.sender) == server_name for event in state
    )


def _is_direct(state: tuple[StateEvent, ...]) -> bool:
    """Say whether a room was made as a direct chat: an invitation into it says so."""
    return any(
        event.type == "m.room.member" and event.content.get("is_direct") is True for event in state
    )
