"""What is known to be wrong: rooms without a bot or without power, and why."""

from collections.abc import Iterable

from common.clock import Clock
from common.database.pool import Database
from common.ids import RoomId


async def remember(database: Database, clock: Clock, room: RoomId, problem: str | None) -> None:
    """Write down what is wrong in a room; ``None``: nothing any more."""
    async with database.transaction() as connection:
        if problem is None:
            await connection.execute("DELETE FROM membership_problem WHERE room_id = $1", room)
            return
        await connection.execute(
            "INSERT INTO membership_problem (room_id, problem, since_ms) VALUES ($1, $2, $3)"
            " ON CONFLICT (room_id) DO UPDATE SET problem = excluded.problem",
            room,
            problem,
            clock.now_ms(),
        )


async def forget_all_but(database: Database, rooms: Iterable[RoomId]) -> None:
    """Forget what was wrong in rooms that are none of these: they were deleted, or left by all."""
    rows = await database.fetch("SELECT room_id FROM membership_problem")
    gone = {row["room_id"] for row in rows} - set(rooms)
    if gone:
        async with database.transaction() as connection:
            await connection.executemany(
                "DELETE FROM membership_problem WHERE room_id = $1",
                [(room,) for room in sorted(gone)],
            )
