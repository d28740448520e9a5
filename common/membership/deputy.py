"""The silent third account, which opens a door for a bot that the homeserver cannot empower.

In a room of version 12 the bots are creators, and a creator has no place in the power levels: once
they have left, ``make_room_admin`` for one of them is refused. It works for another account, which
then invites the bot and leaves.
"""

from common.errors import StewardError, TransientError
from common.homeserver.client import AdminClient
from common.homeserver.synapse.rooms import MakeRoomAdmin
from common.ids import RoomId, UserId
from common.matrix.client import MatrixClient, MatrixError


async def invite_through(
    admin: AdminClient, deputy: MatrixClient, room: RoomId, bot: UserId
) -> str | None:
    """Have a bot invited into a room; return what prevented it.

    Raises:
        TransientError: the homeserver is away.
    """
    try:
        await admin.change(MakeRoomAdmin(room=room, user=deputy.user_id))
        await deputy.join(room)
        try:
            await deputy.invite(room, bot)
        finally:
            await deputy.leave(room)
    except TransientError:
        raise
    except (MatrixError, StewardError) as error:
        return str(error)
    return None
