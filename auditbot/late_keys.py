"""Events that could not be read yet: kept with their first record, read when a key comes.

The first record stays as it is; what the event says is appended as a record of its own.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from auditbot.content_keys import is_ended
from auditbot.ledger import Destinations, Writing, open_stream, seen
from auditbot.media_queue import MediaQueue
from auditbot.pipeline.content import relations
from auditbot.pipeline.hostile import key, mapping, read_envelope
from auditbot.pipeline.reading import attachment_of
from auditbot.pipeline.record import Record, decryption_record, from_line, wire_of
from auditbot.session_keys import Use, keep_sessions, use_of
from auditbot.silent_devices import Device, SilentDevices
from auditbot.unread import NO_KEY_HELPS, mark_read
from common.clock import Clock
from common.crypto.opening import Early
from common.crypto.port import (
    Decrypted,
    EncryptedEvent,
    Reading,
    SessionRef,
    Undecryptable,
)
from common.database.pool import Connection, Database, Row

_PAGE = 100

_MINUTE = 60_000
SET_BACK_MS = 60_000
"""How far back a clock goes when it is set; it may be put right by less at any time."""
RETRY_AFTER_MS = (
    *(minutes * _MINUTE for minutes in (1, 5, 30)),
    *(hours * 60 * _MINUTE for hours in (2, 12, 24, 72)),
)
"""How long after an event came it is tried again although no new key was reported."""


class Decryption(Protocol):
    """The part of the bot's encryption that the archive needs."""

    @property
    def has_helpers(self) -> bool:
        """Whether ``open_early`` leaves the work to other processes."""
        ...

    async def open_early(self, events: Sequence[EncryptedEvent]) -> Sequence[Early | None]:
        """Begin to read events, in memory only."""
        ...

    async def decrypt(
        self,
        connection: Connection,
        events: Sequence[EncryptedEvent],
        early: Sequence[Early | None] = (),
    ) -> list[Reading]:
        """Return for each event how it could be read."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """An event that waits for a key; ``line`` is its first record."""

    event_id: str
    room_id: str
    session_id: str
    line: bytes


def pending(record: Record, line: bytes, reading: Reading | None, name: str) -> Pending | None:
    """Return what to keep of an event that a key may still make readable."""
    if not isinstance(reading, Undecryptable) or reading.why in NO_KEY_HELPS:
        return None
    if record.enc_session_id is None or record.room_id is None:
        return None
    return Pending(name, key(record.room_id), key(record.enc_session_id), line)


async def keep_pending(connection: Connection, waiting: Sequence[Pending], now_ms: int) -> None:
    """Store events that wait for a key."""
    if waiting:
        await connection.executemany(
            "INSERT INTO audit_pending (event_id, room_id, session_id, since_ms, due_ms, line)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (event_id) DO NOTHING",
            [
                (
                    item.event_id,
                    item.room_id,
                    item.session_id,
                    now_ms,
                    now_ms + RETRY_AFTER_MS[0],
                    item.line,
                )
                for item in waiting
            ],
        )


@dataclass
class LateKeys:
    """Reads pending events again. ``written`` is told of every transaction that adds records."""

    database: Database
    crypto: Decryption
    destinations: Destinations
    server_name: str
    clock: Clock
    written: Callable[[Writing], None]
    silent: SilentDevices
    media: MediaQueue | None = None
    session_keys: bool = False
    """Whether the archive keeps the room keys that messages are read with."""
    _looked_ms: int | None = None

    async def retry(self, sessions: Collection[SessionRef]) -> int:
        """Read the events of these Megolm sessions; return how many became readable."""
        done = 0
        for session in sorted(sessions):
            done += await self._retry_pages(
                "room_id = $2 AND session_id = $3",
                key(session.room_id),
                key(session.session_id),
            )
        return done

    async def retry_all(self) -> int:
        """Read every pending event; return how many became readable."""
        return await self._retry_pages("1 = 1")

    async def retry_due(self) -> int:
        """Read the events whose time has come; return how many became readable."""
        now_ms = self.clock.now_ms()
        if self._looked_ms is None or now_ms < self._looked_ms - SET_BACK_MS:
            # By a clock that was ahead: their time would come only when it is that late again.
            which = "since_ms > $1" if self._looked_ms is None else "due_ms > $1"
            async with self.database.transaction() as connection:
                await connection.execute(
                    f"UPDATE audit_pending SET due_ms = $1, since_ms = $1 WHERE {which}",  # noqa: S608  # words of ours
                    now_ms,
                )
        self._looked_ms = now_ms
        due = await self.database.fetchval(
            "SELECT COUNT(*) FROM audit_pending WHERE due_ms <= $1", now_ms
        )
        if not due:
            return 0
        done = await self._retry_pages("due_ms <= $2", now_ms)
        # Afterwards: whoever is interrupted before this only tries once more.
        later = " ".join(
            f"WHEN since_ms + {ms} > $1 THEN since_ms + {ms}" for ms in RETRY_AFTER_MS
        )
        async with self.database.transaction() as connection:
            await connection.execute(
                f"UPDATE audit_pending SET due_ms = CASE {later} ELSE NULL END"  # noqa: S608  # placeholders and constants only
                " WHERE due_ms <= $1",  # our own numbers
                now_ms,
            )
        return done

    async def _retry_pages(self, condition: str, *arguments: object) -> int:
        after, done = "", 0
        while True:
            async with self.database.transaction() as connection:
                writing = await open_stream(
                    connection,
                    self.destinations,
                    server_name=self.server_name,
                    now_ms=self.clock.now_ms(),
                )
                rows = await connection.fetch(
                    "SELECT event_id, line FROM audit_pending"  # noqa: S608  # our own words
                    f" WHERE event_id > $1 AND {condition} ORDER BY event_id LIMIT {_PAGE}",
                    after,
                    *arguments,
                )
                if writing is None or not rows:
                    return done
                after = str(rows[-1]["event_id"])
                done += await self._read_again(connection, writing, rows)
                await writing.write(connection)
                self.written(writing)

    async def _read_again(
        self, connection: Connection, writing: Writing, rows: Sequence[Row]
    ) -> int:
        waiting = sorted(
            [
                (str(row["event_id"]), first)
                for row in rows
                if not await _is_being_erased(
                    connection, writing, first := from_line(bytes(row["line"]))
                )
            ],
            key=lambda pair: pair[1].seq,
        )
        await self.silent.ready(connection)
        events = [_event(first) for _, first in waiting]
        readings = await self.crypto.decrypt(connection, events)
        edits = [key(relations(event.content)["edit_of"] or "") for event in events]
        senders = await seen(connection, "event", {target for target in edits if target})
        read: list[tuple[str]] = []
        files: list[tuple[Record, str, Mapping[str, Any]]] = []
        uses: list[Use] = []
        heard: set[Device] = set()
        for (name, first), event, reading, target in zip(
            waiting, events, readings, edits, strict=True
        ):
            if not isinstance(reading, Decrypted):
                continue
            record = decryption_record(
                first,
                reading,
                writing.place(),
                ts_received=writing.now_ms,
                edited_sender=senders.get(target),
                media=self.media is not None,
                policy=writing.policy,
            )
            writing.add(record, name=name)
            use = use_of(record, event.room_id, reading) if self.session_keys else None
            if use is not None:
                uses.append(use)
            if self.media is not None and record.media_status is not None:
                file = attachment_of(read_envelope(wire_of(first)), reading)
                files.append((record, name, file or {}))
            read.append((name,))
            heard.update(self.silent.heard(event, reading))
        await keep_sessions(connection, writing, uses)
        await self.silent.note(connection, (), heard, now_ms=writing.now_ms)
        if read:
            await connection.executemany("DELETE FROM audit_pending WHERE event_id = $1", read)
            await mark_read(connection, [name for (name,) in read], now_ms=writing.now_ms)
        if self.media is not None:
            await self.media.add(connection, files, writing.policy, now_ms=writing.now_ms)
            writing.attachments += len(files)
        return len(read)


async def _is_being_erased(connection: Connection, writing: Writing, first: Record) -> bool:
    """Return whether what an event says is to be destroyed, and would not be in this stream.

    That of another stream would get a key of this one. It waits: once the erasure is carried out
    nobody waits for it any more.
    """
    if first.stream == writing.stream or not first.sender:
        return False
    return await is_ended(connection, first.stream, first.sender, first.seq)


def _event(first: Record) -> EncryptedEvent:
    envelope = read_envelope(wire_of(first))
    return EncryptedEvent(
        event_id=envelope.event_id or "",
        room_id=envelope.room_id or "",
        sender=envelope.sender or "",
        content=mapping(envelope.content),
    )
