"""A key for each day of an erasable archive: destroying it destroys what the day's objects say.

The objects are encrypted to the day's key; its secret half is encrypted to the officers the moment
it is made and kept nowhere else, so that whoever writes the archive cannot read it back either.
"""

import hashlib
from collections.abc import Sequence

import pyrage

from auditbot.encryption import SUFFIX, encrypt
from auditbot.gaps import READER
from auditbot.pipeline.seal import day_of, root_of
from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.port import ArchiveStore
from auditbot.storage.read_back import put_and_read_back
from common.database.pool import Connection, Database
from common.telemetry.log import Log

log = Log("audit.day_keys")


def day_key_object(server_name: str, stream: str, day: int) -> str:
    """Return where the wrapped key of a day is stored."""
    return f"{root_of(server_name)}keys/day-{stream}-{day_of(day)}{SUFFIX}"


async def readers_of_day(
    database: Database, server_name: str, stream: str, day: int, officers: Sequence[str]
) -> list[str]:
    """Return whom a day's objects are encrypted to: a key that is made when it is first asked for.

    What is received on a day that was erased, because the clock was set back, is encrypted to the
    officers themselves: nothing may be lost for that.
    """
    row = await database.fetchrow(
        "SELECT public_key, state FROM audit_day_key WHERE stream = $1 AND day = $2", stream, day
    )
    if row is not None:
        if row["state"] != "erased":
            return [str(row["public_key"])]
        log.error("the key of this day was destroyed; is the clock right?", day=day_of(day))
        return list(officers)
    identity = pyrage.x25519.Identity.generate()
    wrapped = encrypt(f"{identity}\n".encode(), officers)
    async with database.transaction() as connection:
        # Two may make one at the same time; the first one stays.
        await connection.execute(
            "INSERT INTO audit_day_key"
            " (stream, day, public_key, object_key, wrapped, sha256, size, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, 'made') ON CONFLICT (stream, day) DO NOTHING",
            stream,
            day,
            str(identity.to_public()),
            day_key_object(server_name, stream, day),
            wrapped,
            hashlib.sha256(wrapped).hexdigest(),
            len(wrapped),
        )
    return await readers_of_day(database, server_name, stream, day, officers)


async def publish_day_keys(database: Database, store: ArchiveStore, stream: str) -> None:
    """Store the wrapped keys of a stream that are not stored yet; safe to repeat after a crash.

    They are never locked: what cannot be deleted cannot be erased.
    """
    rows = await database.fetch(
        "SELECT day, object_key, wrapped, sha256 FROM audit_day_key"
        " WHERE stream = $1 AND state = 'made' ORDER BY day",
        stream,
    )
    for row in rows:
        wrapped = bytes(row["wrapped"])
        stored = await put_and_read_back(
            store, row["object_key"], wrapped, row["sha256"], locked=False
        )
        async with database.transaction() as connection:
            # From here on only the archive has it: a copy in our backups would outlive an erasure.
            await connection.execute(
                "UPDATE audit_day_key SET state = 'stored', wrapped = NULL, version_id = $3"
                " WHERE stream = $1 AND day = $2",
                stream,
                row["day"],
                stored.version_id if stored is not None else None,
            )


async def forget_day(connection: Connection, stream: str, day: int) -> None:
    """Take out of our database what would say later what a destroyed day's messages said."""
    await connection.execute(
        "UPDATE audit_day_key SET state = 'erased', wrapped = NULL WHERE stream = $1 AND day = $2",
        stream,
        day,
    )
    # What could not be recorded goes with it: a later try would have it readable for all officers.
    await connection.execute(
        "DELETE FROM inbox_set_aside WHERE reader = $1 AND received_ms >= $2 AND received_ms < $3",
        READER,
        day * DAY_MS,
        (day + 1) * DAY_MS,
    )
    await connection.execute(
        "DELETE FROM audit_session_key WHERE stream = $1 AND day = $2", stream, day
    )
    await connection.execute(
        # As in content_keys: from what waits to when it came, not the other way round.
        "DELETE FROM audit_pending WHERE EXISTS (SELECT 1 FROM audit_seen"
        " JOIN audit_segment ON audit_segment.stream = audit_seen.stream"
        " AND seq BETWEEN first_seq AND last_seq WHERE kind = 'event' AND sub_key = ''"
        " AND audit_seen.event_id = audit_pending.event_id"
        " AND audit_segment.stream = $1 AND day = $2)",
        stream,
        day,
    )
    await connection.execute(
        "DELETE FROM audit_media WHERE stream = $1 AND EXISTS (SELECT 1 FROM audit_segment"
        " WHERE audit_segment.stream = audit_media.stream AND day = $2"
        " AND audit_media.seq BETWEEN first_seq AND last_seq)",
        stream,
        day,
    )
