"""Records on their way into the database, and the names of events for ever.

The promise kept: within a stream ``seq`` runs from 0 without a gap, and the same event never
gives a second record of the same kind, whatever is repeated, rolled back or killed.
"""

import asyncio
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from auditbot.lines import keep
from auditbot.pipeline.line import Arrival, Place, Record, to_line
from auditbot.pipeline.other_records import (
    Gap,
    control_record,
    gap_record,
    graph_record,
    receipt_record,
    receipts_in,
    told_room,
)
from auditbot.pipeline.retention import DEFAULT, NO_CLASSES, Facts, Policy
from auditbot.spool import Spool
from common.database.pool import Connection
from common.inbox.port import EntryKind

SALT_BYTES = 16
_SALTS = 64
_THREAD_BYTES = 64 * 1024
"""Below this a thread costs more than it frees."""


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
    spool: Spool | None = None
    """Seals the lines of an encrypted archive."""
    seals_content: bool = False
    """Whether of each record only what it says is encrypted, to keys of people or classes."""
    attachments: int = 0
    """How many of the events carry files that are to be fetched."""
    policy: Policy = NO_CLASSES
    """Which retention class records belong to."""
    _classes: dict[str, str] = field(default_factory=dict)
    """The class of rooms that were looked up."""
    _lines: list[tuple[int, bytes]] = field(default_factory=list)
    """Each with the moment in which it was received; the last one has the last number."""
    _seen: list[tuple[str, str, str, str, int, str | None]] = field(default_factory=list)
    _random: list[bytes] = field(default_factory=list, repr=False)

    def place(self) -> Place:
        """Take the next number. A record must be added for it."""
        seq = self.next_seq
        self.next_seq += 1
        return Place(self.stream, seq, self._salt(), self.server_name)

    def _salt(self) -> bytes:
        """Return bytes that are used once; asking the system for each alone is most of the cost."""
        if not self._random:
            block = secrets.token_bytes(SALT_BYTES * _SALTS)
            self._random = [block[at : at + SALT_BYTES] for at in range(0, len(block), SALT_BYTES)]
        return self._random.pop()

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

    def control(
        self,
        *,
        actor: str,
        action: str,
        detail: Mapping[str, object],
        name: str | None = None,
        sub_key: str = "",
    ) -> None:
        """Add a record of something that was done; with a name, once for ever."""
        record = control_record(
            self.place(), now_ms=self.now_ms, actor=actor, action=action, detail=detail
        )
        if name is None:
            self._line(record, to_line(record))
        else:
            self.add(record, name=name, sub_key=sub_key, sender=actor)

    async def aside(
        self, connection: Connection, kind: EntryKind, body: bytes, arrival: Arrival
    ) -> None:
        """Add the records of what an entry tells of events: their parents, who read them."""
        room_class = DEFAULT
        if self.policy.rules:
            room_class = await self.class_of_room(connection, told_room(body))
        if kind is EntryKind.GRAPH:
            record = graph_record(body, self.place(), arrival, room_class)
            self._line(record, to_line(record))
        elif kind is EntryKind.RECEIPT:
            for receipt in receipts_in(body):
                record = receipt_record(receipt, self.place(), arrival, room_class)
                self._line(record, to_line(record))

    async def gap(self, connection: Connection, gap: Gap) -> int:
        """Add a record of something missing, or of its end; return its number."""
        room_class = await self.class_of_room(connection, gap.room_id)
        record = gap_record(gap, self.place(), now_ms=self.now_ms, retention_class=room_class)
        self._line(record, to_line(record))
        return record.seq

    async def class_of_room(self, connection: Connection, room_id: str | None) -> str:
        """Return the retention class of what is recorded of a room, as far as it is known."""
        if not self.policy.rules or not room_id:
            return DEFAULT
        if room_id not in self._classes:
            self._classes[room_id] = self.policy.class_of(await _facts(connection, room_id))
        return self._classes[room_id]

    def _line(self, record: Record, line: bytes) -> None:
        if self.open_since_ms is None:
            self.open_since_ms = self.now_ms
            self.began = True
        self.open_bytes += len(line)
        self.held_bytes += len(line)
        self._lines.append((record.ts_received, line))

    async def write(self, connection: Connection) -> None:
        """Store what was added, in the transaction that ``open_stream`` was called in."""
        if not self._lines:
            return
        what = (self.stream, self.next_seq - len(self._lines), self._lines, self.spool)
        if self.held_bytes < _THREAD_BYTES:
            kept = keep(*what)
            await self._write_seen(connection)
        else:
            # Compressing lets go of Python's lock: the database works and the receiver answers
            # meanwhile.
            keeping = asyncio.get_running_loop().run_in_executor(None, keep, *what)
            try:
                await self._write_seen(connection)
            except BaseException:
                keeping.cancel()
                raise
            kept = await keeping
        await connection.execute(
            "INSERT INTO audit_lines"
            " (stream, first_seq, last_seq, first_ms, last_ms, written_ms, sizes, lines, keeps)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            self.stream,
            kept.first_seq,
            kept.last_seq,
            kept.first_ms,
            kept.last_ms,
            self.now_ms,
            kept.sizes,
            kept.lines,
            json.dumps(dict(self.policy.keeps)) if self.policy.rules else None,
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
        self.held_bytes = 0

    async def _write_seen(self, connection: Connection) -> None:
        if self._seen:
            await connection.executemany(
                "INSERT INTO audit_seen (kind, event_id, sub_key, stream, seq, sender)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                self._seen,
            )
            self._seen.clear()


async def _facts(connection: Connection, room_id: str) -> Facts:
    """Return what is known of a room, without reading who is in it."""
    row = await connection.fetchrow("SELECT context FROM audit_room WHERE room_id = $1", room_id)
    known = json.loads(bytes(row["context"])) if row is not None else {}
    return Facts(
        room_id,
        known.get("alias"),
        known.get("type"),
        known.get("is_direct"),
        known.get("encrypted"),
    )


async def seen(connection: Connection, kind: str, names: Collection[str]) -> dict[str, str | None]:
    """Return those of ``names`` that have a record of this kind, with the event's sender."""
    return await _by_names(connection, kind, "", names)


async def audiences_seen(connection: Connection, sub_key: str, ids: Collection[str]) -> set[str]:
    """Return those audiences that were listed already under ``sub_key`` (a stream's day)."""
    return set(await _by_names(connection, "audience", sub_key, ids))


async def place_of(connection: Connection, kind: str, sub_key: str, name: str) -> int | None:
    """Return the number of the one record of this kind about something."""
    found = await connection.fetchval(
        "SELECT seq FROM audit_seen WHERE kind = $1 AND sub_key = $2 AND event_id = $3",
        kind,
        sub_key,
        name,
    )
    return None if found is None else int(found)


async def _by_names(
    connection: Connection, kind: str, sub_key: str, names: Collection[str]
) -> dict[str, str | None]:
    if not names:
        return {}
    places = ", ".join(f"(${number})" for number in range(3, len(names) + 3))
    # One look into the index for each name. With “event_id IN (…)” PostgreSQL, as long as it has
    # not counted the rows, expects few of a kind, and reads all of them each time.
    rows = await connection.fetch(
        f"WITH names (name) AS (VALUES {places})"  # noqa: S608  # placeholders only
        " SELECT name, (SELECT coalesce('+' || sender, '-') FROM audit_seen"
        " WHERE kind = $1 AND sub_key = $2 AND event_id = name) AS found FROM names",
        kind,
        sub_key,
        *names,
    )
    found = {str(row["name"]): row["found"] for row in rows}
    return {
        name: None if sender == "-" else str(sender)[1:]
        for name, sender in found.items()
        if sender is not None
    }
