"""Rooms whose own admins had a bot leave: it comes back when it is invited, not by itself."""

from collections.abc import Sequence

from common.clock import Clock
from common.database.pool import Database
from common.homeserver.client import AdminClient
from common.homeserver.synapse.rooms import GetRoomState
from common.ids import RoomId, UserId
from common.matrix.client import MatrixClient
from common.telemetry.log import Log

log = Log("membership")


async def dismiss(
    database: Database, clock: Clock, room: RoomId, bot: UserId, asked_by: UserId
) -> None:
    """Keep a bot out of a room from now on."""
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO membership_dismissal (room_id, user_id, asked_by, since_ms)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (room_id, user_id) DO NOTHING",
            room,
            bot,
            asked_by,
            clock.now_ms(),
        )


async def readmit(database: Database, room: RoomId) -> None:
    """Have every bot in a room again."""
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM membership_dismissal WHERE room_id = $1", room)


async def staying(
    database: Database, admin: AdminClient, bots: Sequence[MatrixClient], room: RoomId
) -> list[MatrixClient]:
    """Return the bots that are to be in a room: all but those that were asked to leave it.

    Whoever has invited one of them since wants it back.
    """
    rows = await database.fetch(
        "SELECT user_id FROM membership_dismissal WHERE room_id = $1", room
    )
    gone = {row["user_id"] for row in rows}
    if not gone:
        return list(bots)
    members = await admin.read(GetRoomState(room, "m.room.member"))
    if any(
        event.state_key in gone and event.content.get("membership") == "invite"
        for event in members
    ):
        log.info("a bot is wanted back in a room that it was asked to leave", room=room)
        await readmit(database, room)
        return list(bots)
    return [bot for bot in bots if bot.user_id not in gone]
