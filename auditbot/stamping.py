"""A time stamp a day, by an authority that is not ours, for the newest signed tree head.

So nobody who steals the signing key can write a past: a tree head that was stamped existed then.
What the authority sees is a hash.

Source: RFC 3161; RFC 3161, section 3.4, for the way it is asked.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    decode_timestamp_response,
)

from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.port import ArchiveStore
from common.alarms import raise_alarm
from common.clock import Clock
from common.database.pool import Connection, Database, Row
from common.errors import PermanentError, TransientError
from common.matrix.client import MatrixClient
from common.telemetry.log import Log

LOOK_SECONDS = 900.0
_TASK = "time stamp"
_MOST_BYTES = 64 * 1024
_OK = 200

log = Log("audit.stamping")

Post = Callable[[bytes], Awaitable[bytes]]


@dataclass
class Stamping:
    """Has tree heads stamped. ``post`` asks the authority."""

    post: Post
    database: Database
    clock: Clock

    async def run(self) -> None:
        """Stamp once a day, until cancelled."""
        while True:
            try:
                await self.look()
            except (PermanentError, TransientError) as error:
                log.warning("will look again", wait=LOOK_SECONDS, reason=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Have the newest tree head stamped if none was today; return whether one was.

        Raises:
            TransientError: the database is away.
        """
        today = self.clock.now_ms() // DAY_MS
        row = await self.database.fetchrow("SELECT * FROM audit_daily WHERE task = $1", _TASK)
        # Where the clock was set back, a day that has not come yet is no reason to wait for it.
        if row is not None and row["day"] == today:
            return False
        newest = await self._newest()
        if newest is None:
            return False
        try:
            stamp = await self._stamped(bytes(newest["note"]))
        except (PermanentError, TransientError) as error:
            log.warning("no time stamp", reason=error)
            await self._fail(row, str(error))
            return False
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_stamp (object_key, stream, body, sha256, state)"
                " VALUES ($1, $2, $3, $4, 'made') ON CONFLICT (object_key) DO NOTHING",
                stamp_key(newest["note_key"]),
                newest["stream"],
                stamp,
                hashlib.sha256(stamp).hexdigest(),
            )
            await _did(connection, today, None)
        return True

    async def _newest(self) -> Row | None:
        """Return the newest tree head that is stored, unless it was stamped before."""
        row = await self.database.fetchrow(
            "SELECT audit_manifest.stream, note_key, note FROM audit_manifest"
            " JOIN audit_head ON audit_head.stream = audit_manifest.stream"
            " WHERE state = 'stored' AND tree_size > 0 ORDER BY number DESC LIMIT 1"
        )
        if row is None:
            return None
        known = await self.database.fetchval(
            "SELECT 1 FROM audit_stamp WHERE object_key = $1", stamp_key(row["note_key"])
        )
        return None if known else row

    async def _stamped(self, note: bytes) -> bytes:
        """Return the authority's answer for a tree head, once it is one.

        Raises:
            TransientError: the authority is away.
            PermanentError: it refuses, or answers something else.
        """
        request = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
        answer = await self.post(request.as_bytes())
        try:
            response = decode_timestamp_response(answer)
            granted = PKIStatus(response.status) == PKIStatus.GRANTED
            info = response.tst_info if granted else None
        except ValueError as error:
            raise PermanentError(
                "The time stamping authority's answer is no time stamp."
            ) from error
        if info is None:
            raise PermanentError(f"The time stamping authority refuses: status {response.status}.")
        if info.message_imprint.message != hashlib.sha256(note).digest() or (
            info.nonce != request.nonce
        ):
            raise PermanentError("The time stamping authority stamped something else.")
        return answer

    async def _fail(self, row: Row | None, trouble: str) -> None:
        """Remember why there was none; the admins are told once for each reason."""
        async with self.database.transaction() as connection:
            if row is None or row["trouble"] != trouble:
                sentence = (
                    f"The archive gets no time stamp: {trouble} It is tried again every quarter "
                    "of an hour."
                )
                await raise_alarm(connection, sentence, now_ms=self.clock.now_ms())
            await _did(connection, 0 if row is None else row["day"], trouble)


def stamp_key(note_key: str) -> str:
    """Return where the time stamp of a checkpoint is stored."""
    return f"{note_key.removesuffix('.note')}.tsr"


async def ask(client: MatrixClient, url: str, query: bytes) -> bytes:
    """Return an authority's answer.

    Raises:
        TransientError: it is away, or answers with a failure.
        PermanentError: its answer is too long.
    """
    name = _named(url)
    try:
        async with client.session.post(
            url,
            data=query,
            headers={"Content-Type": "application/timestamp-query"},
            timeout=aiohttp.ClientTimeout(total=60),
            allow_redirects=False,
        ) as response:
            if response.status != _OK:
                raise TransientError(
                    f"The time stamping authority {name} answered {response.status}."
                )
            answer = await response.content.read(_MOST_BYTES + 1)
            while len(answer) <= _MOST_BYTES and (
                more := await response.content.read(_MOST_BYTES)
            ):
                answer += more
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise TransientError(f"The time stamping authority {name} cannot be reached.") from error
    if len(answer) > _MOST_BYTES:
        raise PermanentError(f"The answer of the time stamping authority {name} is too long.")
    return answer


def _named(url: str) -> str:
    """Return an address without a name, a password or a key that may stand in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def publish_stamps(database: Database, store: ArchiveStore, stream: str) -> None:
    """Store the time stamps of a stream that are not stored yet; safe to repeat after a crash."""
    rows = await database.fetch(
        "SELECT object_key, body, sha256 FROM audit_stamp WHERE stream = $1 AND state = 'made'",
        stream,
    )
    for row in rows:
        stored = await store.put(row["object_key"], bytes(row["body"]), row["sha256"])
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_stamp SET state = 'stored', version_id = $2 WHERE object_key = $1",
                row["object_key"],
                stored.version_id if stored is not None else None,
            )


async def _did(connection: Connection, day: int, trouble: str | None) -> None:
    await connection.execute(
        "INSERT INTO audit_daily (task, day, trouble) VALUES ($1, $2, $3)"
        " ON CONFLICT (task) DO UPDATE SET day = excluded.day, trouble = excluded.trouble",
        _TASK,
        day,
        trouble,
    )
