"""What was recorded: export periods, their numbered records, and the names of events for ever.

The promise kept: within a stream ``seq`` runs from 0 without a gap, and the same event never
gives a second record of the same kind, whatever is repeated, rolled back or killed.
"""

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from auditbot.pipeline.record import Place, Record, control_record, to_line
from common.config.schema import Config
from common.database.pool import Connection, Row

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Export:
    """Where records go, as configured. Another place is another stream."""

    destination: str
    endpoint_url: str | None
    config_hash: str


@dataclass(slots=True)
class Writing:
    """The records of one transaction; ``open_stream`` begins it, ``write`` stores them."""

    stream: str
    server_name: str
    now_ms: int
    next_seq: int
    open_bytes: int
    open_since_ms: int | None
    began: bool = False
    """Whether a segment begins with one of the records added here."""
    held_bytes: int = 0
    """How much was added and not stored yet."""
    _lines: list[tuple[str, int, int, int, int, bytes]] = field(default_factory=list)
    _seen: list[tuple[str, str, str, str, int, str | None]] = field(default_factory=list)

    def place(self) -> Place:
        """Take the next number. A record must be added for it."""
        seq = self.next_seq
        self.next_seq += 1
        return Place(self.stream, seq, secrets.token_bytes(SALT_BYTES), self.server_name)

    def add(
        self, record: Record, *, name: str, sub_key: str = "", sender: str | None = None
    ) -> bytes:
        """Add the record for the number taken last; return its line.

        Args:
            record: the record
            name: which event it is about; with the record's kind and ``sub_key`` once for ever
            sub_key: tells records of the same kind about the same thing apart
            sender: who wrote the event, for judging later edits
        """
        line = to_line(record)
        self._line(record, line)
        self._seen.append((record.kind, name, sub_key, self.stream, record.seq, sender))
        return line

    def control(self, *, actor: str, action: str, detail: Mapping[str, object]) -> None:
        """Add a record of something that was done to the export itself."""
        record = control_record(
            self.place(), now_ms=self.now_ms, actor=actor, action=action, detail=detail
        )
        self._line(record, to_line(record))

    def _line(self, record: Record, line: bytes) -> None:
        if self.open_since_ms is None:
            self.open_since_ms = self.now_ms
            self.began = True
        self.open_bytes += len(line)
        self.held_bytes += len(line)
        self._lines.append(
            (self.stream, record.seq, len(line), record.ts_received, self.now_ms, line)
        )

    async def write(self, connection: Connection) -> None:
        """Store what was added, in the transaction that ``open_stream`` was called in."""
        if not self._lines:
            return
        await connection.executemany(
            "INSERT INTO audit_record (stream, seq, size, received_ms, written_ms, line)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            self._lines,
        )
        if self._seen:
            await connection.executemany(
                "INSERT INTO audit_seen (kind, event_id, sub_key, stream, seq, sender)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                self._seen,
            )
        await connection.execute(
            "UPDATE audit_stream SET next_seq = $2, open_bytes = $3, open_since_ms = $4"
            " WHERE id = $1",
            self.stream,
            self.next_seq,
            self.open_bytes,
            self.open_since_ms,
        )
        self._lines.clear()
        self._seen.clear()
        self.held_bytes = 0


async def lock(connection: Connection) -> str | None:
    """Make every other writer of the ledger wait; return the open stream.

    In PostgreSQL this also orders room keys and messages: whoever holds the lock sees all
    pending events that were committed, so a key and its message cannot miss each other.
    """
    stream = await connection.fetchval(
        "UPDATE audit_head SET stream = stream WHERE id = 1 RETURNING stream"
    )
    return None if stream is None else str(stream)


async def open_stream(
    connection: Connection, wanted: Export | None, *, server_name: str, now_ms: int
) -> Writing | None:
    """Lock the ledger and return the stream that records go to, ``None`` if there is none.

    Where the configuration names another place than before, the old stream gets its last record
    and a new one its first, in the same transaction: no event falls between.
    """
    current = await lock(connection)
    row = None
    if current is not None:
        row = await connection.fetchrow("SELECT * FROM audit_stream WHERE id = $1", current)
    if row is not None and wanted is not None and _same_place(row, wanted):
        return _writing(row, server_name, now_ms)
    if row is not None:
        await _stop(connection, _writing(row, server_name, now_ms), wanted)
    if wanted is None:
        return None
    return await _start(connection, wanted, row, server_name=server_name, now_ms=now_ms)


async def seen(connection: Connection, kind: str, names: Collection[str]) -> dict[str, str | None]:
    """Return those of ``names`` that have a record of this kind, with the event's sender."""
    found = await _by_names(connection, kind, "", names)
    return {str(row["event_id"]): row["sender"] for row in found}


async def audiences_seen(connection: Connection, sub_key: str, ids: Collection[str]) -> set[str]:
    """Return those audiences that were listed already under ``sub_key`` (a stream's day)."""
    return {str(row["event_id"]) for row in await _by_names(connection, "audience", sub_key, ids)}


def export_of(config: Config) -> Export | None:
    """Return where the configuration wants records to go."""
    settings = config.auditbot
    if settings.destination is None:
        return None
    meaningful = {
        "destination": settings.destination,
        "endpoint_url": settings.s3.endpoint_url,
        "region": settings.s3.region,
        "path_style": settings.s3.path_style,
        "segment_max_bytes": settings.segment_max_bytes,
        "segment_max_age_seconds": settings.segment_max_age_seconds,
        "server_name": config.homeserver.server_name,
    }
    digest = hashlib.sha256(json.dumps(meaningful, sort_keys=True).encode()).hexdigest()
    # The address of the store only matters to a bucket.
    endpoint = settings.s3.endpoint_url if settings.destination.startswith("s3:") else None
    return Export(settings.destination, endpoint, digest)


async def _by_names(
    connection: Connection, kind: str, sub_key: str, names: Collection[str]
) -> list[Row]:
    if not names:
        return []
    places = ", ".join(f"${number}" for number in range(3, len(names) + 3))
    return list(
        await connection.fetch(
            "SELECT event_id, sender FROM audit_seen"  # noqa: S608  # placeholders only
            f" WHERE kind = $1 AND sub_key = $2 AND event_id IN ({places})",
            kind,
            sub_key,
            *names,
        )
    )


def _same_place(row: Row, wanted: Export) -> bool:
    return (row["destination"], row["endpoint_url"]) == (wanted.destination, wanted.endpoint_url)


def _writing(row: Row, server_name: str, now_ms: int) -> Writing:
    return Writing(
        stream=row["id"],
        server_name=server_name,
        now_ms=now_ms,
        next_seq=row["next_seq"],
        open_bytes=row["open_bytes"],
        open_since_ms=row["open_since_ms"],
    )


async def _stop(connection: Connection, writing: Writing, wanted: Export | None) -> None:
    writing.control(
        actor="config",
        action="export_stopped",
        detail={"reason": "destination cleared" if wanted is None else "destination changed"},
    )
    await writing.write(connection)
    await connection.execute(
        "UPDATE audit_stream SET stopped_ms = $2 WHERE id = $1", writing.stream, writing.now_ms
    )
    await connection.execute("UPDATE audit_head SET stream = NULL WHERE id = 1")


async def _start(
    connection: Connection, wanted: Export, replaced: Row | None, *, server_name: str, now_ms: int
) -> Writing:
    previous = await connection.fetchrow(
        "SELECT id, destination, stopped_ms FROM audit_stream ORDER BY started_ms DESC, id DESC"
        " LIMIT 1"
    )
    if replaced is None:
        # Nobody followed the rooms while nothing was exported: what is remembered is stale.
        await connection.execute("DELETE FROM audit_member")
        await connection.execute("DELETE FROM audit_room")
    stream = _new_stream_id(now_ms)
    await connection.execute(
        "INSERT INTO audit_stream (id, destination, endpoint_url, config_hash, started_ms,"
        " next_seq, cut_seq, open_bytes) VALUES ($1, $2, $3, $4, $5, 0, 0, 0)",
        stream,
        wanted.destination,
        wanted.endpoint_url,
        wanted.config_hash,
        now_ms,
    )
    await connection.execute("UPDATE audit_head SET stream = $1 WHERE id = 1", stream)
    writing = Writing(stream, server_name, now_ms, next_seq=0, open_bytes=0, open_since_ms=None)
    writing.control(
        actor="config",
        action="export_started",
        detail={
            "config_sha256": wanted.config_hash,
            "destination": wanted.destination,
            "previous_stream": previous["id"] if previous is not None else None,
            "previous_stopped_ms": previous["stopped_ms"] if previous is not None else None,
        },
    )
    await writing.write(connection)
    return _writing_on(writing)


def _writing_on(writing: Writing) -> Writing:
    """Return the same place in the stream with nothing left to write."""
    return Writing(
        writing.stream,
        writing.server_name,
        writing.now_ms,
        writing.next_seq,
        writing.open_bytes,
        writing.open_since_ms,
    )


def _new_stream_id(now_ms: int) -> str:
    """Return a name that sorts by time, so that objects of a day are read in order."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms)
    return f"{moment:%Y%m%dT%H%M%S}Z{secrets.token_hex(3)}"
