"""What is known of rooms without a bot or without power, and why; and of those left out."""

from collections.abc import Iterable

from common.clock import Clock
from common.database.pool import Database
from common.ids import RoomId


async def remember(
    database: Database, clock: Clock, room: RoomId, problem: str | None, *, inside: bool = False
) -> None:
    """Write down what is wrong in a room; ``None``: nothing any more.

    Args:
        database: where to
        clock: for when it began
        room: which
        problem: in words
        inside: whether all bots but the leader are in there nevertheless
    """
    async with database.transaction() as connection:
        if problem is None:
            await connection.execute("DELETE FROM membership_problem WHERE room_id = $1", room)
            return
        await connection.execute(
            "INSERT INTO membership_problem (room_id, problem, since_ms, inside)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (room_id)"
            " DO UPDATE SET problem = excluded.problem, inside = excluded.inside",
            room,
            problem,
            clock.now_ms(),
            int(inside),
        )


async def leave_out(database: Database, clock: Clock, room: RoomId, reason: str | None) -> None:
    """Write down why not all bots are to be in a room; ``None``: they are."""
    # Asked with every message of a room that is left out, and nearly always known already.
    if reason == await database.fetchval(
        "SELECT reason FROM membership_left_out WHERE room_id = $1", room
    ):
        return
    async with database.transaction() as connection:
        if reason is None:
            await connection.execute("DELETE FROM membership_left_out WHERE room_id = $1", room)
            return
        await connection.execute(
            "INSERT INTO membership_left_out (room_id, reason, since_ms) VALUES ($1, $2, $3)"
            " ON CONFLICT (room_id) DO UPDATE SET reason = excluded.reason",
            room,
            reason,
            clock.now_ms(),
        )


async def forget_all_but(database: Database, rooms: Iterable[RoomId]) -> None:
    """Forget what is known of rooms that are none of these: they were deleted, or left by all."""
    rows = await database.fetch(
        "SELECT room_id FROM membership_problem UNION SELECT room_id FROM membership_left_out"
    )
    gone = [(room,) for room in sorted({row["room_id"] for row in rows} - set(rooms))]
    if gone:
        async with database.transaction() as connection:
            for table in ("membership_problem", "membership_left_out"):
                await connection.executemany(
                    f"DELETE FROM {table} WHERE room_id = $1",  # noqa: S608  # one of the two
                    gone,
                )
