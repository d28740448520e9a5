"""Attachments that are to be fetched, in the database; what is known of a file is sealed."""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditbot.content_keys import BY_PERSON, SEAL_CONTENT, ContentKey
from auditbot.encryption import SUFFIX, digest_of
from auditbot.pipeline.line import Record
from auditbot.pipeline.other_records import CARRIED
from auditbot.pipeline.retention import DEFAULT, Policy
from auditbot.pipeline.scan import Scan
from auditbot.pipeline.seal import day_of
from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.port import Found
from common.alarms import raise_alarm
from common.config.secret import Secret
from common.crypto.sealing import Sealer
from common.database.pool import Connection, Database, Row

_SHA256_DIGITS = 64
_MINUTE = 60_000
AGAIN_AFTER_MS = (
    *(minutes * _MINUTE for minutes in (1, 5, 30)),
    *(hours * 60 * _MINUTE for hours in (2, 12, 24)),
)
"""How long to wait before each further attempt that was answered; after the last one it is given up."""
_HOUR_MS = 60 * _MINUTE
AWAY_LIMIT_MS = 14 * 24 * _HOUR_MS
"""For how long a server that holds an attachment may be away before that is given up."""
_AWAY_WAITS_MS = (_MINUTE, 6 * _HOUR_MS)
"""The shortest and the longest wait then; in between it is as long as the server is away already."""
SCAN_LIMIT_MS = 3 * 24 * _HOUR_MS
"""For how long an attachment waits for a scanner that is away: longer than a weekend."""

TOLD_REFUSED, TOLD_NO_ROOM = 1, 2
"""Why an attachment waits that the admins were told of: the store, or this machine's own folder."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What the admins are told of an attachment that waits, once for all that wait for the same."""

    why: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An attachment to fetch. ``carrier`` is of the record that carries it."""

    stream: str
    seq: int
    name: str
    attempts: int
    day: int
    """The UTC day on which that record was received, counted since the epoch."""
    carrier: Json
    file: Json
    retention: tuple[str, int | None] = (DEFAULT, None)
    """The class of that record, and for how many days it was kept then."""
    away_since_ms: int | None = None
    """Since when a server is away that it is asked of."""
    scan_since_ms: int | None = None
    """Since when it waits for the scanner."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where attachments go at present: an open stream and the name of its place."""

    stream: str
    destination: str
    endpoint_url: str | None
    recipients: tuple[str, ...]
    day: int | None = None
    """The UTC day whose key it is encrypted to, in an erasable archive."""
    seal: str = "segments"
    per_person: bool = False
    content_key: ContentKey | None = None
    """The key that it is sealed to, where only content is."""

    @property
    def place(self) -> str:
        """Return what is the same wherever an attachment is stored once."""
        if not self.recipients:
            return f"clear {self.endpoint_url or ''} {self.destination}"
        return _sealed_place(self.endpoint_url, self.destination, self._sealed_to)

    @property
    def _sealed_to(self) -> str:
        if self.content_key is not None:
            return self.content_key.object_key
        if self.day is not None:
            # One that another day speaks of too must not go with this one's key.
            return _day_name(self.stream, self.day)
        # What other officers can open is another object, even of the same file.
        return digest_of(self.recipients)

    @property
    def suffix(self) -> str:
        """Return how the keys of attachments end."""
        if self.content_key is not None:
            return self.content_key.ending
        if not self.recipients:
            return ""
        if self.day is not None:
            return f"-{self.stream}-{day_of(self.day)}{SUFFIX}"
        return f"-{digest_of(self.recipients)}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An attachment that is stored."""

    id: str
    key: str
    clear_sha256: str
    clear_bytes: int
    mime: str | None
    cipher_sha256: str | None = None
    scan: Scan | None = None
    """What a scanner said of it; ``None`` if none was asked."""


class MediaQueue:
    """The tables of attachments."""

    def __init__(self, database: Database, pickle_key: Secret) -> None:
        self.database = database
        self._sealer = Sealer(pickle_key)
        self._id_key = self._sealer.derived(b"steward: media ids")

    async def add(
        self,
        connection: Connection,
        items: Sequence[tuple[Record, str, Json]],
        policy: Policy,
        *,
        now_ms: int,
    ) -> None:
        """Remember attachments, in the transaction that records the events that carry them."""
        if items:
            await connection.executemany(
                "INSERT INTO audit_media (stream, seq, event_id, sealed, since_ms, due_ms, label)"
                " VALUES ($1, $2, $3, $4, $5, $5, $6)",
                [
                    (
                        record.stream,
                        record.seq,
                        name,
                        self._sealed(record, file, policy),
                        now_ms,
                        record.retention_class,
                    )
                    for record, name, file in items
                ],
            )

    async def due(self, *, now_ms: int, limit: int) -> list[Wanted]:
        """Return the attachments whose time has come, oldest first."""
        rows = await self.database.fetch(
            "SELECT stream, seq, event_id, sealed, attempts, away_since_ms, scan_since_ms"
            " FROM audit_media"
            " WHERE due_ms <= $1 ORDER BY due_ms, stream, seq LIMIT $2",
            now_ms,
            limit,
        )
        return [self._wanted(row) for row in rows]

    async def clock_was_set_back(self, *, now_ms: int, noted_later_only: bool) -> None:
        """Have what waits by a clock that was ahead tried now, not when that time comes again.

        Args:
            now_ms: the present moment
            noted_later_only: only what was noted at a moment that is to come, which is all that is
                known after a start
        """
        which = "since_ms > $1" if noted_later_only else "due_ms > $1"
        async with self.database.transaction() as connection:
            await connection.execute(
                f"UPDATE audit_media SET due_ms = $1, since_ms = $1 WHERE {which}",  # noqa: S608  # words of ours
                now_ms,
            )

    async def next_due_ms(self) -> int | None:
        """Return when the next attachment's time comes."""
        found = await self.database.fetchval("SELECT min(due_ms) FROM audit_media")
        return None if found is None else int(found)

    async def put_off(self, wanted: Wanted, *, due_ms: int) -> None:
        """Try an attachment again later that a server refused."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_media SET attempts = attempts + 1, due_ms = $3,"
                " away_since_ms = NULL WHERE stream = $1 AND seq = $2",
                wanted.stream,
                wanted.seq,
                due_ms,
            )

    async def put_off_away(self, wanted: Wanted, *, now_ms: int) -> bool:
        """Try an attachment again later of which a server is away; that is no attempt.

        Returns:
            whether it is; after ``AWAY_LIMIT_MS`` it is not
        """
        waits = _away(wanted.away_since_ms, now_ms, limit_ms=AWAY_LIMIT_MS)
        if waits is None:
            return False
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_media SET away_since_ms = $3, due_ms = $4"
                " WHERE stream = $1 AND seq = $2",
                wanted.stream,
                wanted.seq,
                *waits,
            )
        return True

    async def put_off_scan(self, wanted: Wanted, *, now_ms: int) -> bool:
        """Try an attachment again later because the scanner is away; that is no attempt.

        Returns:
            whether it is; after ``SCAN_LIMIT_MS`` it is not
        """
        waits = _away(wanted.scan_since_ms, now_ms, limit_ms=SCAN_LIMIT_MS)
        if waits is None:
            return False
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_media SET scan_since_ms = $3, due_ms = $4"
                " WHERE stream = $1 AND seq = $2",
                wanted.stream,
                wanted.seq,
                *waits,
            )
        return True

    async def wait(
        self, wanted: Wanted, *, due_ms: int, now_ms: int, told: Told | None = None
    ) -> None:
        """Try an attachment again later that is not at fault.

        Args:
            wanted: which
            due_ms: when
            now_ms: the present moment
            told: what the admins are told, unless they know of another one
        """
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_media SET due_ms = $3 WHERE stream = $1 AND seq = $2",
                wanted.stream,
                wanted.seq,
                due_ms,
            )
            if told is None:
                return
            known = await connection.fetchval(
                "SELECT 1 FROM audit_media WHERE told = $1 LIMIT 1", told.why
            )
            await connection.execute(
                "UPDATE audit_media SET told = $3 WHERE stream = $1 AND seq = $2",
                wanted.stream,
                wanted.seq,
                told.why,
            )
            if not known:
                await raise_alarm(connection, told.sentence, now_ms=now_ms)

    async def target(self, *, now_ms: int) -> Target | None:
        """Return where attachments go now, ``None`` if nothing is exported."""
        row = await self.database.fetchrow(
            "SELECT audit_stream.id, audit_stream.destination, audit_stream.endpoint_url,"
            " recipients, erasable, seal FROM audit_head JOIN audit_stream ON audit_stream.id = stream"
        )
        if row is None:
            return None
        recipients = tuple(filter(None, str(row["recipients"]).split("\n")))
        place = (row["id"], row["destination"], row["endpoint_url"], recipients)
        if row["seal"] == SEAL_CONTENT:
            per_person = row["erasable"] == BY_PERSON
            return Target(*place, seal=SEAL_CONTENT, per_person=per_person)
        return Target(*place, now_ms // DAY_MS if row["erasable"] else None)

    async def known(self, target: Target, source: str) -> KeptObject | None:
        """Return the attachment that a file of the homeserver was found to be, if it is stored."""
        row = await self.database.fetchrow(
            "SELECT audit_object.place, audit_object.id, object_key, clear_sha256, clear_bytes, mime,"
            " scan FROM audit_media_source JOIN audit_object"
            " ON audit_object.place = audit_media_source.place"
            " AND audit_object.id = audit_media_source.id"
            " WHERE audit_media_source.place = $1 AND source = $2 AND removed_ms IS NULL"
            " AND clear_sha256 IS NOT NULL",
            target.place,
            source,
        )
        return None if row is None else self._kept(row)

    async def stored(
        self, target: Target, object_id: str, connection: Connection | None = None
    ) -> bool:
        """Return whether an attachment is stored."""
        found = await (connection or self.database).fetchval(
            "SELECT 1 FROM audit_object WHERE place = $1 AND id = $2 AND removed_ms IS NULL",
            target.place,
            object_id,
        )
        return bool(found)

    async def scan_of(self, target: Target, object_id: str) -> Scan | None:
        """Return what a scanner said of an attachment that is stored."""
        row = await self.database.fetchrow(
            "SELECT place, id, object_key, clear_sha256, clear_bytes, mime, scan FROM audit_object"
            " WHERE place = $1 AND id = $2 AND removed_ms IS NULL AND clear_sha256 IS NOT NULL",
            target.place,
            object_id,
        )
        return None if row is None else self._kept(row).scan

    async def is_going(
        self, target: Target, object_id: str, connection: Connection | None = None
    ) -> bool:
        """Return whether an attachment is being deleted at this moment, or half deleted."""
        found = await (connection or self.database).fetchval(
            "SELECT 1 FROM audit_object WHERE place = $1 AND id = $2 AND going = 1",
            target.place,
            object_id,
        )
        return bool(found)

    async def keep(
        self,
        connection: Connection,
        target: Target,
        kept: KeptObject,
        found: Found,
        *,
        now_ms: int,
        is_known: bool = True,
    ) -> None:
        """Remember an attachment that was stored.

        Args:
            connection: the transaction
            target: where
            kept: which
            found: what the store has
            now_ms: the present moment
            is_known: whether it is remembered what it is, so that it is known when it comes again
        """
        clear = self._clear(target, kept) if is_known else (None, 0, None, None)
        await connection.execute(
            "INSERT INTO audit_object (place, id, object_key, version_id, sha256, stored_bytes,"
            " clear_sha256, clear_bytes, mime, scan, stream, stored_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
            " ON CONFLICT (place, id) DO UPDATE SET version_id = excluded.version_id,"
            " sha256 = excluded.sha256, stored_bytes = excluded.stored_bytes,"
            " clear_sha256 = excluded.clear_sha256, clear_bytes = excluded.clear_bytes,"
            " mime = excluded.mime, scan = excluded.scan, stream = excluded.stream, stored_ms = excluded.stored_ms, manifest = NULL,"
            " removed_ms = NULL, going = 0",
            target.place,
            kept.id,
            kept.key,
            found.version_id,
            found.sha256,
            found.size,
            *clear,
            target.stream,
            now_ms,
        )

    async def scanned(self, connection: Connection, target: Target, kept: KeptObject) -> None:
        """Remember what the scanner said of an attachment that was stored before."""
        await connection.execute(
            "UPDATE audit_object SET clear_sha256 = $3, clear_bytes = $4, mime = $5, scan = $6"
            " WHERE place = $1 AND id = $2 AND clear_sha256 IS NOT NULL",
            target.place,
            kept.id,
            *self._clear(target, kept),
        )

    async def name(
        self, connection: Connection, target: Target, source: str, kept: KeptObject
    ) -> None:
        """Remember which attachment a file of the homeserver is."""
        await connection.execute(
            "INSERT INTO audit_media_source (place, source, id) VALUES ($1, $2, $3)"
            " ON CONFLICT (place, source) DO UPDATE SET id = excluded.id",
            target.place,
            source,
            kept.id,
        )

    async def mention(
        self,
        connection: Connection,
        target: Target,
        object_id: str,
        wanted: Wanted,
        retention: tuple[str, int | None],
        *,
        now_ms: int,
    ) -> None:
        """Remember which records speak of an attachment: the one that carries it, and one now.

        Their days and classes are remembered; ``retention`` is the class of the one now.
        """
        days = {(wanted.stream, wanted.day), (target.stream, now_ms // DAY_MS)}
        # Of a day from before there were classes the default one was not written down; beside
        # another it would be forgotten.
        await connection.executemany(
            "INSERT INTO audit_object_class (place, id, stream, day, class, keep_days)"
            " SELECT place, id, stream, day, CAST($5 AS TEXT), NULL FROM audit_object_day"
            " WHERE place = $1 AND id = $2 AND stream = $3 AND day = $4 AND NOT EXISTS"
            " (SELECT 1 FROM audit_object_class AS known WHERE known.place = $1"
            " AND known.id = $2 AND known.stream = $3 AND known.day = $4)",
            [(target.place, object_id, stream, day, DEFAULT) for stream, day in sorted(days)],
        )
        await connection.executemany(
            "INSERT INTO audit_object_day (place, id, stream, day) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (place, id, stream, day) DO NOTHING",
            [(target.place, object_id, stream, day) for stream, day in sorted(days)],
        )
        spoken = (
            (wanted.stream, wanted.day, *wanted.retention),
            (target.stream, now_ms // DAY_MS, *retention),
        )
        await connection.executemany(
            "INSERT INTO audit_object_class (place, id, stream, day, class, keep_days)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (place, id, stream, day, class)"
            " DO UPDATE SET keep_days = CASE WHEN audit_object_class.keep_days IS NULL"
            " OR excluded.keep_days < audit_object_class.keep_days"
            " THEN audit_object_class.keep_days ELSE excluded.keep_days END",
            [(target.place, object_id, *one) for one in spoken],
        )

    async def done(self, connection: Connection, wanted: Wanted) -> bool:
        """Forget an attachment; return whether it was still wanted."""
        found = await connection.fetchval(
            "DELETE FROM audit_media WHERE stream = $1 AND seq = $2 RETURNING seq",
            wanted.stream,
            wanted.seq,
        )
        return found is not None

    def id_of(self, sha256: str, target: Target) -> str:
        """Return the name of an attachment.

        In an encrypted archive whoever can list the bucket must not be able to ask whether it
        holds a file that they know.
        """
        if not target.recipients:
            return sha256
        return hmac.new(self._id_key, bytes.fromhex(sha256), hashlib.sha256).hexdigest()

    def _clear(self, target: Target, kept: KeptObject) -> tuple[str, int, str | None, str | None]:
        """Return what the columns about a file's clear text hold.

        Where only officers read the archive our database does not say which files it holds.
        """
        scan = None if kept.scan is None else kept.scan.entry()
        if not target.recipients:
            said = None if scan is None else json.dumps(scan)
            return kept.clear_sha256, kept.clear_bytes, kept.mime, said
        secret = json.dumps([kept.clear_sha256, kept.clear_bytes, kept.mime, scan]).encode()
        sealed = self._sealer.seal(secret, name=_object_name(target.place, kept.id))
        return b64encode(sealed).decode(), 0, None, None

    def _kept(self, row: Row) -> KeptObject:
        sha256, size, mime = row["clear_sha256"], row["clear_bytes"], row["mime"]
        scan = None if row["scan"] is None else json.loads(row["scan"])
        if len(sha256) > _SHA256_DIGITS:
            sealed = b64decode(sha256)
            name = _object_name(row["place"], row["id"])
            # Before there were scanners three things were sealed.
            said = [*json.loads(self._sealer.open(sealed, name=name)), None]
            sha256, size, mime, scan = said[:4]
        return KeptObject(
            row["id"],
            row["object_key"],
            sha256,
            size,
            mime,
            scan=None if scan is None else Scan.of(scan),
        )

    def _sealed(self, record: Record, file: Json, policy: Policy) -> bytes:
        known = {
            "carrier": {name: getattr(record, name) for name in (*CARRIED, "retention_class")},
            "day": record.ts_received // DAY_MS,
            "file": file,
            "retention": _kept_for(record.retention_class or DEFAULT, policy),
        }
        secret = json.dumps(known).encode()
        return self._sealer.seal(secret, name=_name(record.stream, record.seq))

    def _wanted(self, row: Row) -> Wanted:
        stream, seq = str(row["stream"]), int(row["seq"])
        secret = json.loads(self._sealer.open(bytes(row["sealed"]), name=_name(stream, seq)))
        carrier = {**secret["carrier"], "stream": stream, "seq": seq}
        return Wanted(
            stream,
            seq,
            row["event_id"],
            row["attempts"],
            secret["day"],
            carrier,
            secret["file"],
            tuple(secret.get("retention", (DEFAULT, None))),
            row["away_since_ms"],
            row["scan_since_ms"],
        )


def _away(since_ms: int | None, now_ms: int, *, limit_ms: int) -> tuple[int, int] | None:
    """Return since when something is away and when to try again; ``None`` after too long."""
    since = now_ms if since_ms is None else min(since_ms, now_ms)
    if now_ms - since >= limit_ms:
        return None
    shortest, longest = _AWAY_WAITS_MS
    return since, now_ms + min(max(now_ms - since, shortest), longest)


def _kept_for(name: str, policy: Policy) -> tuple[str, int | None]:
    return name, policy.keeps.get(name)


def source_of(file: Json) -> str:
    """Return what tells a file of the homeserver from others, with the key it is read with."""
    return hashlib.sha256(json.dumps(file, sort_keys=True).encode()).hexdigest()


async def forget_of_day(connection: Connection, stream: str, day: int) -> None:
    """Forget what attachments are that a destroyed key of a day opened."""
    await _forget(connection, stream, _day_name(stream, day))


async def forget_of_content(connection: Connection, stream: str, object_key: str) -> None:
    """Forget what attachments are that a destroyed key of content opened."""
    await _forget(connection, stream, object_key)


async def _forget(connection: Connection, stream: str, sealed_to: str) -> None:
    row = await connection.fetchrow(
        "SELECT destination, endpoint_url FROM audit_stream WHERE id = $1", stream
    )
    if row is None:
        return
    place = _sealed_place(row["endpoint_url"], row["destination"], sealed_to)
    await connection.execute(
        "UPDATE audit_object SET clear_sha256 = NULL, clear_bytes = 0, mime = NULL"
        " WHERE place = $1",
        place,
    )
    await connection.execute("DELETE FROM audit_media_source WHERE place = $1", place)


def _sealed_place(endpoint_url: str | None, destination: str, sealed_to: str) -> str:
    return f"age {endpoint_url or ''} {destination} {sealed_to}"


def _day_name(stream: str, day: int) -> str:
    return f"{stream} {day}"


def _object_name(place: str, object_id: str) -> str:
    return f"stored attachment {place} {object_id}"


def _name(stream: str, seq: int) -> str:
    return f"attachment {stream} {seq}"
