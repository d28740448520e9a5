"""Segments on their way: decided (cut), built (sealed), stored (uploaded), each written down."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from auditbot.content_keys import BY_PERSON, SEAL_CONTENT, Officers
from auditbot.content_sealing import ContentSealing
from auditbot.day_keys import readers_of_day
from auditbot.encryption import SUFFIX, encrypt
from auditbot.ledger import lock
from auditbot.lines import opened, waiting
from auditbot.pipeline.line import NOT_KEPT
from auditbot.pipeline.merkle import CompactRange, join, pack, range_of
from auditbot.pipeline.retention import DEFAULT, Tally, lock_days
from auditbot.pipeline.seal import (
    FRAME_BYTES,
    Compression,
    class_in,
    compress,
    compression_of,
    kind_of,
    lacks_attachment,
    leaves_of,
    object_key,
    outcome_of,
    sessions_key,
)
from auditbot.pipeline.segment import Limits, Line, Segment, cut, due_ms, is_old
from auditbot.sealed_sessions import sealed_sessions
from auditbot.session_keys import KeptSession, forget_sealed, sessions_to_keep
from auditbot.spool import Spool
from auditbot.storage.port import Stored
from common.alarms import raise_alarm
from common.database.pool import Connection, Database, Row
from common.telemetry.log import Log

log = Log("audit.segments")

_ROWS = 4
"""Rows of lines read at a time; each may hold some megabytes."""
_ROWS_TO_CUT = 100
"""The same without their lines."""
_MOST_LINES = 200_000
"""Records looked at in one cut; a longer backlog is cut in several steps."""


@dataclass(frozen=True, slots=True)
class SealedObject:
    """An object whose every byte is decided."""

    key: str
    sha256: str
    body: bytes


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A segment whose every byte is decided; uploading it may be repeated without harm."""

    stream: str
    first_seq: int
    key: str
    sha256: str
    body: bytes
    lock_days: int | None = None
    """For how long it is locked, where that is not as configured for all."""
    sessions: SealedObject | None = None
    """The room keys that it was the first to use."""


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream's objects go."""

    stream: str
    destination: str
    endpoint_url: str | None


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """A record's line, when it was received, and what retention classes meant then."""

    received_ms: int
    line: bytes
    keeps: Mapping[str, int | None] | None


@dataclass
class _Body:
    """A body as it grows, and what the manifest will say of it.

    It is read and compressed piece by piece: memory holds one frame and the compressed rest.
    """

    how: Compression
    frames: list[bytes] = field(default_factory=list)
    tree: CompactRange | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    classes: Tally = field(default_factory=Tally)
    outcomes: Counter[str] = field(default_factory=Counter)
    first_ms: int = 0
    last_ms: int = 0
    count: int = 0
    raw_bytes: int = 0

    def add(self, first_seq: int, records: Sequence[_Waiting]) -> None:
        """Add a frame with these records."""
        lines = [record.line for record in records]
        self.frames.append(compress(lines, self.how))
        part = range_of(first_seq, leaves_of(lines))
        self.tree = part if self.tree is None else join(self.tree, part)
        self.kinds.update(map(kind_of, lines))
        self.outcomes.update(filter(None, map(outcome_of, lines)))
        without = sum(map(lacks_attachment, lines))
        if without:
            self.outcomes[NOT_KEPT] += without
        for record in records:
            name = DEFAULT if record.keeps is None else class_in(record.line)
            self.classes.add(name, record.keeps or {})
        moments = [record.received_ms for record in records]
        self.first_ms = min(moments) if not self.count else min(self.first_ms, *moments)
        self.last_ms = max(self.last_ms, *moments)
        self.count += len(lines)
        self.raw_bytes += sum(map(len, lines))


class Segments:
    """The segments of all streams."""

    def __init__(
        self,
        database: Database,
        server_name: str,
        limits: Limits,
        spool: Spool | None = None,
        *,
        lock_days: int = 0,
        compression: Compression = Compression.ZSTD,
    ) -> None:
        """Begin with nothing.

        Args:
            database: where the records wait
            server_name: whose archive it is
            limits: when a segment is closed
            spool: what seals the records that wait, if anything does
            lock_days: how long objects are locked without retention classes
            compression: of what is cut from now on; what was cut already keeps its name
        """
        self._spool = spool
        self._compression = compression
        self._lock_days = lock_days
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
        how = compression_of(row["object_key"])
        sealing = self._sealing(row)
        built = await self._body(stream, first, last, how, sealing)
        if built.count != last - first + 1 or built.tree is None:
            # The lines are all there is of these events: without them being in the body whole,
            # they stay, and so does all that comes after them in the stream.
            self._stopped.add(stream)
            log.error(
                "records are missing in the database: this stream is not stored any further",
                stream=stream,
                first_seq=first,
                last_seq=last,
                found=built.count,
            )
            sentence = (
                f"Records {first:,} to {last:,} of the archive's stream {stream} are damaged in "
                "Steward's database: the stream is not stored from there on, and what comes after "
                "waits. Restore the database from a backup; if there is none, set the archive's "
                "destination anew (steward audit destination), so that a new stream begins."
            )
            async with self._database.transaction() as connection:
                await raise_alarm(connection, sentence, now_ms=now_ms)
            return True
        body, classes = b"".join(built.frames), built.classes.entry()
        sessions = None
        if row["object_key"].endswith(SUFFIX):
            # Each time this gives other bytes: what is kept below is what is uploaded.
            readers = await self._readers(row)
            body = await asyncio.to_thread(encrypt, body, readers)
            sessions = await self._sessions(row, readers)
        elif sealing is not None:
            sessions = await self._sealed_sessions(row, sealing)
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_segment SET state = 'sealed', sha256 = $3,"
                " stored_bytes = $4, sealed_ms = $5, tree_hashes = $6, counts = $7,"
                " first_ms = $8, last_ms = $9, outcomes = $10, raw_bytes = $11, classes = $12"
                " WHERE stream = $1 AND first_seq = $2 AND state = 'cut'",
                stream,
                first,
                hashlib.sha256(body).hexdigest(),
                len(body),
                now_ms,
                pack(built.tree.hashes),
                json.dumps(dict(built.kinds), sort_keys=True),
                built.first_ms,
                built.last_ms,
                json.dumps(dict(built.outcomes), sort_keys=True),
                built.raw_bytes,
                None if classes is None else json.dumps(classes),
            )
            await connection.execute(
                "INSERT INTO audit_body (stream, first_seq, body, sessions)"
                " VALUES ($1, $2, $3, $4)",
                stream,
                first,
                body,
                sessions.body if sessions is not None else None,
            )
            if sessions is not None:
                await _note_sessions(connection, stream, first, sessions)
                await forget_sealed(connection, stream, first, last)
            # Segments are built in order. A row that goes on in the next one stays for that.
            await connection.execute(
                "DELETE FROM audit_lines WHERE stream = $1 AND last_seq <= $2", stream, last
            )
        return True

    async def oldest_sealed(self, stream: str) -> SealedSegment | None:
        """Return the segment of a stream that is to be uploaded next."""
        row = await self._database.fetchrow(
            "SELECT audit_segment.first_seq, object_key, sha256, body, classes,"
            " sessions_key, sessions_sha256, sessions FROM audit_segment"
            " JOIN audit_body ON audit_body.stream = audit_segment.stream"
            " AND audit_body.first_seq = audit_segment.first_seq"
            " WHERE state = 'sealed' AND audit_segment.stream = $1"
            " ORDER BY audit_segment.first_seq LIMIT 1",
            stream,
        )
        if row is None:
            return None
        classes = None if row["classes"] is None else json.loads(row["classes"])
        sessions = None
        if row["sessions_key"] is not None:
            sessions = SealedObject(
                row["sessions_key"], row["sessions_sha256"], bytes(row["sessions"])
            )
        return SealedSegment(
            stream,
            row["first_seq"],
            row["object_key"],
            row["sha256"],
            bytes(row["body"]),
            None if classes is None else lock_days(classes, self._lock_days),
            sessions,
        )

    async def mark_uploaded(
        self,
        segment: SealedSegment,
        stored: Stored | None,
        *,
        now_ms: int,
        sessions: Stored | None = None,
    ) -> None:
        """Remember that a segment is stored; its body stays until a manifest lists it."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_segment SET state = 'uploaded', uploaded_ms = $3, version_id = $4,"
                " sessions_version = $5 WHERE stream = $1 AND first_seq = $2",
                segment.stream,
                segment.first_seq,
                now_ms,
                stored.version_id if stored is not None else None,
                sessions.version_id if sessions is not None else None,
            )

    async def streams_waiting(self) -> list[StreamPlace]:
        """Return the streams that still have something to be stored, oldest first."""
        rows = await self._database.fetch(
            "SELECT id, destination, endpoint_url FROM audit_stream WHERE EXISTS (SELECT 1 FROM"
            " audit_segment WHERE audit_segment.stream = audit_stream.id AND state = 'sealed')"
            " OR EXISTS (SELECT 1 FROM audit_manifest WHERE audit_manifest.stream ="
            " audit_stream.id AND state = 'made') ORDER BY started_ms, id"
        )
        return [StreamPlace(row["id"], row["destination"], row["endpoint_url"]) for row in rows]

    async def streams_open(self) -> list[StreamPlace]:
        """Return the streams whose last manifest is not stored yet, oldest first."""
        rows = await self._database.fetch(
            "SELECT id, destination, endpoint_url FROM audit_stream WHERE closed = 0"
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
        lines = await _uncut(connection, stream, row["cut_seq"])
        segments = cut(lines, self._limits, now_ms=now_ms, flush=flush)
        if not segments:
            return
        await connection.executemany(
            "INSERT INTO audit_segment"
            " (stream, first_seq, last_seq, day, raw_bytes, object_key, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, 'cut')",
            [self._row(row, segment) for segment in segments],
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

    def _row(self, row: Row, segment: Segment) -> tuple[object, ...]:
        return (
            row["id"],
            segment.first_seq,
            segment.last_seq,
            segment.day,
            segment.size,
            object_key(
                self._server_name,
                row["id"],
                segment,
                encrypted=bool(row["recipients"]) and row["seal"] != SEAL_CONTENT,
                compression=self._compression,
            ),
        )

    async def _next_cut(self) -> Row | None:
        rows = await self._database.fetch(
            "SELECT stream, first_seq, last_seq, day, object_key, recipients, erasable, seal"
            " FROM audit_segment"
            " JOIN audit_stream ON audit_stream.id = stream WHERE state = 'cut'"
            " ORDER BY stream, first_seq"
        )
        return next((row for row in rows if row["stream"] not in self._stopped), None)

    async def _readers(self, row: Row) -> list[str]:
        """Return the public keys that a segment is encrypted to."""
        officers: list[str] = row["recipients"].split("\n")
        if not row["erasable"]:
            return officers
        day = (row["stream"], row["day"])
        return await readers_of_day(self._database, self._server_name, *day, officers)

    async def _sessions(self, row: Row, readers: Sequence[str]) -> SealedObject | None:
        """Return the object with the room keys that a segment was the first to use, if any."""
        kept = await self._kept_sessions(row)
        if not kept:
            return None
        how = compression_of(row["object_key"])
        packed = await asyncio.to_thread(compress, [one.line for one in kept], how)
        body = await asyncio.to_thread(encrypt, packed, readers)
        return _sessions_object(row, body)

    async def _sealed_sessions(self, row: Row, sealing: ContentSealing) -> SealedObject | None:
        """Return the same where content is sealed: each room key to the key of what it opened."""
        kept = await self._kept_sessions(row)
        if not kept:
            return None
        lines = await sealed_sessions(
            self._database, sealing.officers, kept, per_person=sealing.per_person
        )
        how = compression_of(row["object_key"])
        return _sessions_object(row, await asyncio.to_thread(compress, lines, how))

    async def _kept_sessions(self, row: Row) -> list[KeptSession]:
        if self._spool is None:
            return []
        async with self._database.transaction() as connection:
            return await sessions_to_keep(
                connection, self._spool, row["stream"], row["first_seq"], row["last_seq"]
            )

    async def _body(
        self,
        stream: str,
        first: int,
        last: int,
        how: Compression = Compression.ZSTD,
        sealing: ContentSealing | None = None,
    ) -> _Body:
        body = _Body(how)
        frame: list[_Waiting] = []
        size = 0
        async for record in self._records(stream, first, last):
            frame.append(record)
            size += len(record.line)
            if size >= FRAME_BYTES:
                await self._add(body, first, frame, sealing)
                frame, size = [], 0
        if frame:
            await self._add(body, first, frame, sealing)
        return body

    async def _add(
        self,
        body: _Body,
        first: int,
        frame: list[_Waiting],
        sealing: ContentSealing | None,
    ) -> None:
        if sealing is not None:
            lines = await sealing.sealed([(one.received_ms, one.line) for one in frame])
            frame = [
                _Waiting(received_ms, line, one.keeps)
                for one, (received_ms, line) in zip(frame, lines, strict=True)
            ]
        # In a thread: it takes milliseconds, and the receiver is to answer meanwhile.
        await asyncio.to_thread(body.add, first + body.count, frame)

    def _sealing(self, row: Row) -> ContentSealing | None:
        """Return what seals the content of a stream's records, if only that is encrypted."""
        if row["seal"] != SEAL_CONTENT or not row["recipients"]:
            return None
        officers = Officers(self._server_name, row["stream"], tuple(row["recipients"].split("\n")))
        return ContentSealing(self._database, officers, row["erasable"] == BY_PERSON)

    async def _records(self, stream: str, first: int, last: int) -> AsyncIterator[_Waiting]:
        """Yield the records of a segment up to the first one that is missing."""
        due = first
        while due <= last:
            rows = await self._database.fetch(
                "SELECT stream, first_seq, first_ms, written_ms, sizes, lines, keeps"
                " FROM audit_lines WHERE stream = $1 AND last_seq >= $2 AND first_seq <= $3"
                " ORDER BY last_seq LIMIT $4",
                stream,
                due,
                last,
                _ROWS,
            )
            before = due
            for row in rows:
                lines = await asyncio.to_thread(opened, row, self._spool)
                keeps = None if row["keeps"] is None else json.loads(row["keeps"])
                for fact, line in zip(waiting(row), lines, strict=False):
                    if fact.seq == due <= last:
                        yield _Waiting(fact.received_ms, line, keeps)
                        due += 1
            if due == before:
                return


def _sessions_object(row: Row, body: bytes) -> SealedObject:
    return SealedObject(sessions_key(row["object_key"]), hashlib.sha256(body).hexdigest(), body)


async def _note_sessions(
    connection: Connection, stream: str, first_seq: int, sessions: SealedObject
) -> None:
    await connection.execute(
        "UPDATE audit_segment SET sessions_key = $3, sessions_sha256 = $4, sessions_bytes = $5"
        " WHERE stream = $1 AND first_seq = $2",
        stream,
        first_seq,
        sessions.key,
        sessions.sha256,
        len(sessions.body),
    )


async def _uncut(connection: Connection, stream: str, cut_seq: int) -> list[Line]:
    """Return the next records to be cut, as many as are looked at in one go."""
    lines: list[Line] = []
    while len(lines) < _MOST_LINES:
        rows = await connection.fetch(
            "SELECT first_seq, first_ms, written_ms, sizes FROM audit_lines"
            " WHERE stream = $1 AND last_seq >= $2 ORDER BY last_seq LIMIT $3",
            stream,
            lines[-1].seq + 1 if lines else cut_seq,
            _ROWS_TO_CUT,
        )
        lines.extend(line for row in rows for line in waiting(row) if line.seq >= cut_seq)
        if len(rows) < _ROWS_TO_CUT:
            break
    return lines
