"""Segments on their way: decided (cut), built (sealed), stored (uploaded), each written down."""

import asyncio
import hashlib
from dataclasses import dataclass

from auditbot.ledger import lock
from auditbot.pipeline.seal import FRAME_BYTES, compress, object_key
from auditbot.pipeline.segment import Limits, Line, Segment, cut, due_ms, is_old
from common.database.pool import Connection, Database, Row
from common.telemetry.log import Log

log = Log("audit.segments")

_PAGE = 256
_MOST_LINES = 200_000
"""Records looked at in one cut; a longer backlog is cut in several steps."""


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A segment whose every byte is decided; uploading it may be repeated without harm."""

    stream: str
    first_seq: int
    key: str
    sha256: str
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream's objects go."""

    stream: str
    destination: str
    endpoint_url: str | None


class Segments:
    """The segments of all streams."""

    def __init__(self, database: Database, server_name: str, limits: Limits) -> None:
        self._database = database
        self._server_name = server_name
        self._limits = limits
        self._stopped: set[str] = set()
        """Streams with a segment that cannot be built, until the next start."""

    async def cut_due(self, *, now_ms: int, flush: bool = False) -> int | None:
        """Write down which segments are closed; return when to look again, if ever."""
        async with self._database.transaction() as connection:
            # The lock waits for whoever is adding records, so that they are seen here.
            current = await lock(connection)
            rows = await connection.fetch(
                "SELECT * FROM audit_stream WHERE cut_seq < next_seq ORDER BY started_ms, id"
            )
            for row in rows:
                # A stream that was stopped gets no more records.
                last_call = flush or row["id"] != current
                if last_call or self._is_due(row, now_ms):
                    await self._cut(connection, row, now_ms=now_ms, flush=last_call)
            since = await connection.fetchval(
                "SELECT open_since_ms FROM audit_stream WHERE id = $1", current
            )
        return None if since is None else due_ms(since, self._limits)

    async def build_next(self, *, now_ms: int) -> bool:
        """Build the body of one segment that was cut; the same bytes however often tried."""
        row = await self._next_cut()
        if row is None:
            return False
        stream, first, last = row["stream"], row["first_seq"], row["last_seq"]
        body, count = await self._body(stream, first, last)
        if count != last - first + 1:
            # The lines are all there is of these events: without them being in the body whole,
            # they stay, and so does all that comes after them in the stream.
            self._stopped.add(stream)
            log.error(
                "records are missing in the database: this stream is not stored any further",
                stream=stream,
                first_seq=first,
                last_seq=last,
                found=count,
            )
            return True
        digest = hashlib.sha256(body).hexdigest()
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_segment SET state = 'sealed', body = $3, sha256 = $4,"
                " stored_bytes = $5, sealed_ms = $6"
                " WHERE stream = $1 AND first_seq = $2 AND state = 'cut'",
                stream,
                first,
                body,
                digest,
                len(body),
                now_ms,
            )
            await connection.execute(
                "DELETE FROM audit_record WHERE stream = $1 AND seq BETWEEN $2 AND $3",
                stream,
                first,
                last,
            )
        return True

    async def oldest_sealed(self, stream: str) -> SealedSegment | None:
        """Return the segment of a stream that is to be uploaded next."""
        row = await self._database.fetchrow(
            "SELECT first_seq, object_key, sha256, body FROM audit_segment"
            " WHERE state = 'sealed' AND stream = $1 ORDER BY first_seq LIMIT 1",
            stream,
        )
        if row is None:
            return None
        return SealedSegment(
            stream, row["first_seq"], row["object_key"], row["sha256"], bytes(row["body"])
        )

    async def mark_uploaded(self, segment: SealedSegment, *, now_ms: int) -> None:
        """Forget the body of a segment that is stored; its name and digest stay for ever."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_segment SET state = 'uploaded', body = NULL, uploaded_ms = $3"
                " WHERE stream = $1 AND first_seq = $2",
                segment.stream,
                segment.first_seq,
                now_ms,
            )

    async def streams_waiting(self) -> list[StreamPlace]:
        """Return the streams that still have something to be stored, oldest first."""
        rows = await self._database.fetch(
            "SELECT id, destination, endpoint_url FROM audit_stream WHERE EXISTS (SELECT 1 FROM"
            " audit_segment WHERE audit_segment.stream = audit_stream.id AND state = 'sealed')"
            " ORDER BY started_ms, id"
        )
        return [StreamPlace(row["id"], row["destination"], row["endpoint_url"]) for row in rows]

    def _is_due(self, row: Row, now_ms: int) -> bool:
        since = row["open_since_ms"]
        return bool(row["open_bytes"] >= self._limits.max_bytes) or (
            since is not None and is_old(since, self._limits, now_ms)
        )

    async def _cut(self, connection: Connection, row: Row, *, now_ms: int, flush: bool) -> None:
        stream = row["id"]
        lines = [
            Line(line["seq"], line["size"], line["received_ms"], line["written_ms"])
            for line in await connection.fetch(
                "SELECT seq, size, received_ms, written_ms FROM audit_record"
                " WHERE stream = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
                stream,
                row["cut_seq"],
                _MOST_LINES,
            )
        ]
        segments = cut(lines, self._limits, now_ms=now_ms, flush=flush)
        if not segments:
            return
        await connection.executemany(
            "INSERT INTO audit_segment"
            " (stream, first_seq, last_seq, day, raw_bytes, object_key, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, 'cut')",
            [self._row(stream, segment) for segment in segments],
        )
        cut_seq = segments[-1].last_seq + 1
        since = next((line.written_ms for line in lines if line.seq >= cut_seq), None)
        if since is None and cut_seq < row["next_seq"]:
            since = row["open_since_ms"]
        await connection.execute(
            "UPDATE audit_stream SET cut_seq = $2, open_bytes = open_bytes - $3,"
            " open_since_ms = $4 WHERE id = $1",
            stream,
            cut_seq,
            sum(segment.size for segment in segments),
            since,
        )

    def _row(self, stream: str, segment: Segment) -> tuple[object, ...]:
        return (
            stream,
            segment.first_seq,
            segment.last_seq,
            segment.day,
            segment.size,
            object_key(self._server_name, stream, segment),
        )

    async def _next_cut(self) -> Row | None:
        rows = await self._database.fetch(
            "SELECT stream, first_seq, last_seq FROM audit_segment WHERE state = 'cut'"
            " ORDER BY stream, first_seq"
        )
        return next((row for row in rows if row["stream"] not in self._stopped), None)

    async def _body(self, stream: str, first: int, last: int) -> tuple[bytes, int]:
        """Return the body and how many records are in it.

        It is read and compressed page by page: memory holds one frame and the compressed rest.
        """
        frames: list[bytes] = []
        count = 0
        waiting: list[bytes] = []
        for start in range(first, last + 1, _PAGE):
            rows = await self._database.fetch(
                "SELECT line FROM audit_record WHERE stream = $1 AND seq BETWEEN $2 AND $3"
                " ORDER BY seq",
                stream,
                start,
                min(start + _PAGE - 1, last),
            )
            waiting.extend(bytes(row["line"]) for row in rows)
            count += len(rows)
            if sum(map(len, waiting)) >= FRAME_BYTES or start + _PAGE > last:
                # In a thread: it takes milliseconds, and the receiver is to answer meanwhile.
                frames.append(await asyncio.to_thread(compress, waiting))
                waiting = []
        return b"".join(frames), count
