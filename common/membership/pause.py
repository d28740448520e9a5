"""The bots' leave: told to leave all rooms, they enter none until they are told to come back.

One kind of room is entered all the same: a direct chat that somebody begins with the leader, or
nobody could tell it to come back.
"""

from collections.abc import Collection

from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError
from common.homeserver.client import AdminClient
from common.homeserver.errors import RefusedError, StrangeAnswerError
from common.homeserver.synapse.rooms import GetRoomState
from common.ids import RoomId, UserId

_INSIDE = ("join", "invite", "knock")


async def is_paused(database: Database) -> bool:
    """Say whether the bots were told to leave all rooms."""
    return await database.fetchval("SELECT 1 FROM membership_pause") is not None


async def pause(database: Database, clock: Clock) -> None:
    """Enter no rooms from now on."""
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO membership_pause (id, since_ms) VALUES (1, $1)"
            " ON CONFLICT (id) DO NOTHING",
            clock.now_ms(),
        )


async def end_pause(database: Database) -> None:
    """Enter every room again."""
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM membership_pause")


async def is_begun_with(
    admin: AdminClient, room: RoomId, leader: UserId, bots: Collection[UserId]
) -> bool:
    """Say whether a room is a direct chat into which one person has invited the leader."""
    try:
        events = await admin.read(GetRoomState(room, "m.room.member"))
    except TransientError:
        raise
    except (RefusedError, StrangeAnswerError):
        return False
    inside = {
        event.state_key: event.content
        for event in events
        if event.content.get("membership") in _INSIDE
    }
    ours = inside.get(leader, {})
    people = [member for member in inside if member not in bots]
    invited = ours.get("membership") == "invite" and ours.get("is_direct") is True
    return invited and len(people) == 1
