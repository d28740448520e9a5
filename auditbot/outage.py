"""Since when a stream cannot be stored: remembered over restarts, told when it begins and ends."""

from dataclasses import dataclass

from common.alarms import raise_alarm
from common.database.pool import Connection, Database, Row

PATIENCE_MS = 10_000
"""How long a store may be away before anybody is told: a blip is no outage."""


@dataclass(frozen=True)
class Outages:
    """The outages of all streams."""

    database: Database
    patience_ms: int = PATIENCE_MS

    async def began(self, stream: str, reason: str, *, lasting: bool, now_ms: int) -> None:
        """Note that a stream cannot be stored; tell the admins once it is worth it.

        Args:
            stream: which
            reason: a sentence that says what happened and what to do
            lasting: somebody has to mend something, so there is nothing to wait for
            now_ms: the present moment
        """
        async with self.database.transaction() as connection:
            row = await _row(connection, stream)
            if row is None or row["outage_told"]:
                return
            since = row["outage_ms"] if row["outage_ms"] is not None else now_ms
            tell = lasting or now_ms - since >= self.patience_ms
            await connection.execute(
                "UPDATE audit_stream SET outage_ms = $2, outage_told = $3 WHERE id = $1",
                stream,
                since,
                int(tell),
            )
            if tell:
                sentence = (
                    f"The archive cannot be stored in {row['destination']}: {reason} Nothing is "
                    "lost: what is recorded waits in Steward's database and is stored when this "
                    "is mended."
                )
                await raise_alarm(connection, sentence, now_ms=now_ms)

    async def ended(self, stream: str, *, now_ms: int) -> None:
        """Note that a stream can be stored again, and tell with how much waits."""
        if not await self.database.fetchval(
            "SELECT 1 FROM audit_stream WHERE id = $1 AND outage_ms IS NOT NULL", stream
        ):
            return
        async with self.database.transaction() as connection:
            row = await _row(connection, stream)
            await connection.execute(
                "UPDATE audit_stream SET outage_ms = NULL, outage_told = 0 WHERE id = $1", stream
            )
            if row is None or not row["outage_told"]:
                return
            lasted = max(0, now_ms - row["outage_ms"]) // 1000
            records, size = await _waiting(connection, stream)
            sentence = (
                f"The archive can be stored in {row['destination']} again, after {_span(lasted)}. "
                f"{records:,} records ({size / 2**20:.1f} MiB) still wait and follow now."
            )
            await raise_alarm(connection, sentence, now_ms=now_ms)


async def _row(connection: Connection, stream: str) -> Row | None:
    return await connection.fetchrow(
        "SELECT destination, outage_ms, outage_told FROM audit_stream WHERE id = $1", stream
    )


async def _waiting(connection: Connection, stream: str) -> tuple[int, int]:
    """Return how many records wait, and their size before compression."""
    row = await connection.fetchrow(
        "SELECT coalesce(sum(last_seq - first_seq + 1), 0) AS records,"
        " coalesce(sum(raw_bytes), 0) AS size"
        " FROM audit_segment WHERE stream = $1 AND state <> 'uploaded'",
        stream,
    )
    uncut = await connection.fetchrow(
        "SELECT next_seq - cut_seq AS records, open_bytes AS size FROM audit_stream WHERE id = $1",
        stream,
    )
    records = sum(int(found["records"]) for found in (row, uncut) if found is not None)
    return records, sum(int(found["size"]) for found in (row, uncut) if found is not None)


def _span(seconds: int) -> str:
    if seconds < 120:  # noqa: PLR2004  # two minutes
        return f"{seconds} seconds"
    minutes = seconds // 60
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"  # noqa: PLR2004  # two hours
