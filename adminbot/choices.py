"""Questions that wait for a number, in the database: they last their minute through a restart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adminbot.engine.choice import LIFETIME_MS, REMEMBERED_MS, Open
from adminbot.engine.intake import Pick, Request
from common.clock import Clock
from common.database.pool import Connection, Database, Row
from common.ids import EventId, RoomId, UserId


@dataclass(frozen=True)
class Choices:
    """The table ``admin_choice``."""

    database: Database
    clock: Clock

    async def offer(self, request: Request, lines: Sequence[str]) -> None:
        """Take a number of who asked, in that room, for one of these commands, for a minute."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_choice (room_id, user_id, lines, formatted, replies_to, asked_ms,"
                " until_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (room_id, user_id) DO UPDATE SET"
                " lines = excluded.lines, formatted = excluded.formatted,"
                " replies_to = excluded.replies_to, asked_ms = excluded.asked_ms,"
                " until_ms = excluded.until_ms",
                request.room,
                request.sender,
                json.dumps(lines),
                request.formatted,
                request.replies_to,
                request.origin_ms,
                self.clock.now_ms() + LIFETIME_MS,
            )

    async def take(self, connection: Connection, pick: Pick) -> Request | None:
        """Return the command that a number makes, or the number itself where it is no choice.

        ``None``: no question of ours waits for a number of theirs there.
        """
        row = await self._row(connection, pick.request.room, pick.request.sender)
        if row is None:
            return None
        waiting = _opened(row, self.clock.now_ms())
        line = waiting.chosen(pick.number)
        if waiting.over or pick.request.origin_ms < int(row["asked_ms"]):
            # A number whose key came late is no answer to what was not asked then.
            return None
        if line is None:
            return pick.request
        await self.forget(connection, pick.request.room, pick.request.sender)
        replied = row["replies_to"]
        return replace(
            pick.request,
            text=line,
            formatted=row["formatted"],
            addressed=True,
            replies_to=None if replied is None else EventId(replied),
        )

    async def waiting(self, room: RoomId, user: UserId) -> Open | None:
        """Return somebody's question in a room, for some while after it is over, too."""
        async with self.database.transaction() as connection:
            row = await self._row(connection, room, user)
        return None if row is None else _opened(row, self.clock.now_ms())

    async def forget(self, connection: Connection, room: RoomId, user: UserId) -> None:
        """Forget somebody's question in a room."""
        await connection.execute(
            "DELETE FROM admin_choice WHERE room_id = $1 AND user_id = $2", room, user
        )

    async def forget_old(self) -> None:
        """Drop what was asked long ago, and the words of what is over."""
        now_ms = self.clock.now_ms()
        over = await self.database.fetchval(
            "SELECT COUNT(*) FROM admin_choice WHERE (until_ms < $1 AND lines <> '[]')"
            " OR until_ms < $2",
            now_ms,
            now_ms - REMEMBERED_MS,
        )
        if not over:
            return  # looked at every other second: nothing is to be written for nothing
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_choice SET lines = '[]', formatted = NULL WHERE until_ms < $1",
                now_ms,
            )
            await connection.execute(
                "DELETE FROM admin_choice WHERE until_ms < $1", now_ms - REMEMBERED_MS
            )

    async def _row(self, connection: Connection, room: RoomId, user: UserId) -> Row | None:
        return await connection.fetchrow(
            "SELECT * FROM admin_choice WHERE room_id = $1 AND user_id = $2", room, user
        )


def _opened(row: Row, now_ms: int) -> Open:
    return Open(tuple(json.loads(row["lines"])), over=int(row["until_ms"]) < now_ms)
