"""What the admins are to be told unasked: written down by whoever notices, told by adminbot."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from common.database.pool import Connection, Database

MOST = 20
_CHANCE_BITS = 20


@dataclass(frozen=True, slots=True)
class Alarm:
    """One sentence; ``number`` names it for ever, later ones have greater numbers."""

    number: int
    sentence: str
    at_ms: int


async def raise_alarm(connection: Connection, sentence: str, *, now_ms: int) -> None:
    """Have the admins told, once this transaction is committed; no secret may be in it."""
    await connection.execute(
        "INSERT INTO alarm (number, sentence, at_ms)"
        " SELECT CASE WHEN coalesce(max(number), 0) >= $1 THEN max(number) + $2 ELSE $1 END,"
        " $3, $4 FROM alarm",
        # Never simply the next number, whatever the clock says: two transactions that do not see
        # each other would take the same one, and the second would fail.
        now_ms * 2**_CHANCE_BITS + secrets.randbits(_CHANCE_BITS),
        1 + secrets.randbits(_CHANCE_BITS),
        sentence,
        now_ms,
    )


async def untold(database: Database) -> Sequence[Alarm]:
    """Return what the admins were not told yet, oldest first."""
    rows = await database.fetch(
        "SELECT number, sentence, at_ms FROM alarm WHERE told = 0 ORDER BY number LIMIT $1", MOST
    )
    return [Alarm(row["number"], row["sentence"], row["at_ms"]) for row in rows]


async def mark_told(database: Database, alarm: Alarm) -> None:
    """Remember that the admins were told."""
    async with database.transaction() as connection:
        await connection.execute("UPDATE alarm SET told = 1 WHERE number = $1", alarm.number)
