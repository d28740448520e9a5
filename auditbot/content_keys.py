"""The keys of an archive whose content is sealed: one for each person, or day and retention class.

As with keys of days, the secret half is encrypted to the officers the moment it is made and kept
nowhere else: whoever writes the archive cannot read it back. Destroying a key destroys what was
sealed to it. What comes later gets the next key, under another name.
"""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyrage

from auditbot.encryption import SUFFIX, encrypt
from auditbot.pipeline.hostile import key as database_key
from auditbot.pipeline.line import from_line
from auditbot.pipeline.seal import day_of, root_of
from auditbot.pipeline.sealing import DEFAULT_CLASS, Scope, is_label, scope_name
from auditbot.storage.port import ArchiveStore
from auditbot.storage.read_back import put_and_read_back
from common.database.pool import Connection, Database, Row

SEAL_CONTENT = "content"
BY_DAY, BY_PERSON = 1, 2
"""What ``audit_stream.erasable`` holds besides 0."""
LAST_SEQ = 2**62
"""Stands for a record that is still to come."""
_MOST_NAMES = 500


@dataclass(frozen=True, slots=True)
class ContentKey:
    """A key's public half, and where its wrapped secret half is."""

    object_key: str
    public_key: str
    until_seq: int | None
    """The first record that it is not for, ``None`` as long as it was not destroyed."""

    def serves(self, seq: int) -> bool:
        """Return whether a record is sealed to it, if no earlier key of its scope serves it."""
        return self.until_seq is None or seq < self.until_seq

    @property
    def ending(self) -> str:
        """Return how the names of objects end that are sealed to it."""
        return f"-{self.object_key.rpartition('/content-')[2]}"


@dataclass(frozen=True, slots=True)
class Officers:
    """Whose archive it is, and for whom the secret halves are wrapped."""

    server_name: str
    stream: str
    recipients: tuple[str, ...]


async def keys_for(
    database: Database, officers: Officers, wanted: Mapping[Scope, int]
) -> dict[Scope, Sequence[ContentKey]]:
    """Return the keys of scopes, oldest first; the last one is made if there is none for it yet.

    Args:
        database: where they are
        officers: for whom
        wanted: each scope with the last record that is to be sealed
    """
    found = await _existing(database, officers.stream, wanted)
    missing = [
        scope
        for scope, seq in wanted.items()
        if not any(one.serves(seq) for one in found.get(scope, ()))
    ]
    if not missing:
        return found
    numbers = {scope: len(found.get(scope, ())) + 1 for scope in missing}
    # In a thread: each takes a good part of a millisecond, and a segment may begin many.
    made = await asyncio.to_thread(_make, officers, numbers)
    async with database.transaction() as connection:
        # Two may make one at the same time; the first one stays.
        await connection.executemany(
            "INSERT INTO audit_content_key (object_key, stream, scope, number, day, label, person,"
            " public_key, wrapped, sha256, size, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'made')"
            " ON CONFLICT (stream, scope, number) DO NOTHING",
            made,
        )
    return await _existing(database, officers.stream, wanted)


async def publish_content_keys(database: Database, store: ArchiveStore, stream: str) -> None:
    """Store the wrapped keys of a stream that are not stored yet; safe to repeat after a crash.

    They are locked as objects are only where nothing is to be erased.
    """
    rows = await database.fetch(
        "SELECT object_key, wrapped, audit_content_key.sha256, erasable FROM audit_content_key"
        " JOIN audit_stream ON audit_stream.id = stream"
        " WHERE stream = $1 AND state = 'made' ORDER BY object_key",
        stream,
    )
    for row in rows:
        wrapped = bytes(row["wrapped"])
        locked = not row["erasable"]
        stored = await put_and_read_back(
            store, row["object_key"], wrapped, row["sha256"], locked=locked
        )
        async with database.transaction() as connection:
            # From here on only the archive has it: a copy in our backups would outlive an erasure.
            await connection.execute(
                "UPDATE audit_content_key SET state = 'stored', wrapped = NULL, version_id = $2"
                " WHERE object_key = $1",
                row["object_key"],
                stored.version_id if stored is not None else None,
            )


async def end_keys(connection: Connection, object_keys: Collection[str]) -> None:
    """Let keys serve nothing that is recorded from now on; the ledger must be locked."""
    await connection.executemany(
        "UPDATE audit_content_key SET until_seq = (SELECT next_seq FROM audit_stream"
        " WHERE audit_stream.id = audit_content_key.stream)"
        " WHERE object_key = $1 AND until_seq IS NULL",
        [(name,) for name in object_keys],
    )


async def is_ended(reader: Connection | Database, stream: str, person: str, seq: int) -> bool:
    """Return whether what a person's record says has a key that is destroyed, or will be.

    Args:
        reader: where the keys are
        stream: the record's
        person: who sent it
        seq: the record's number
    """
    found = await reader.fetchval(
        "SELECT 1 FROM audit_content_key WHERE stream = $1 AND person = $2 AND until_seq > $3"
        " LIMIT 1",
        stream,
        database_key(person),
        seq,
    )
    return bool(found)


async def forget_content(connection: Connection, object_key: str) -> None:
    """Take out of our database what would say later what was sealed to a destroyed key."""
    row = await connection.fetchrow(
        "SELECT stream, day, label, person, until_seq FROM audit_content_key"
        " WHERE object_key = $1",
        object_key,
    )
    if row is None:
        return
    await connection.execute(
        "UPDATE audit_content_key SET state = 'erased', wrapped = NULL WHERE object_key = $1",
        object_key,
    )
    if row["person"] is not None:
        await _forget_person(connection, row)
    else:
        await _forget_day(connection, row)


async def _forget_person(connection: Connection, row: Row) -> None:
    for table in ("audit_pending", "audit_media"):
        # One look into the index for each that waits: a list of all that the person ever sent takes
        # longer than a database lets a statement take.
        await connection.execute(
            f"DELETE FROM {table} WHERE EXISTS (SELECT 1 FROM audit_seen"  # noqa: S608  # our own words
            f" WHERE kind = 'event' AND sub_key = '' AND audit_seen.event_id = {table}.event_id"
            " AND audit_seen.stream = $1 AND audit_seen.seq < $2 AND sender = $3)",
            row["stream"],
            row["until_seq"],
            row["person"],
        )
    await connection.execute(
        "DELETE FROM audit_session_key WHERE stream = $1 AND sender = $2 AND said_seq < $3",
        row["stream"],
        row["person"],
        row["until_seq"],
    )


async def _forget_day(connection: Connection, row: Row) -> None:
    """Forget what waits of a day and retention class; other classes have other keys."""
    stream, day, label = row["stream"], row["day"], row["label"]
    waiting = await connection.fetch(
        f"SELECT event_id, line FROM audit_pending WHERE {_received('audit_pending')}",  # noqa: S608  # our own words
        stream,
        day,
    )
    await connection.executemany(
        "DELETE FROM audit_pending WHERE event_id = $1",
        [
            (one["event_id"],)
            for one in waiting
            if (from_line(bytes(one["line"])).retention_class or DEFAULT_CLASS) == label
        ],
    )
    await connection.execute(
        f"DELETE FROM audit_media WHERE label = $3 AND {_received('audit_media')}",  # noqa: S608  # our own words
        stream,
        day,
        label,
    )
    await connection.execute(
        "DELETE FROM audit_session_key WHERE stream = $1 AND day = $2 AND label = $3 AND seq < $4"
        # Where each person has a key, that of a day is for what nobody sent.
        " AND (SELECT erasable FROM audit_stream WHERE id = $1) <> $5",
        stream,
        day,
        label,
        row["until_seq"],
        BY_PERSON,
    )


def _received(table: str) -> str:
    """Return which of what waits in a table came on a day of a stream."""
    return (
        "EXISTS (SELECT 1 FROM audit_seen JOIN audit_segment"  # noqa: S608  # our own words
        " ON audit_segment.stream = audit_seen.stream AND audit_seen.seq BETWEEN first_seq"
        f" AND last_seq WHERE kind = 'event' AND sub_key = '' AND audit_seen.event_id = {table}.event_id"
        " AND audit_segment.stream = $1 AND day = $2)"
    )


async def _existing(
    database: Database, stream: str, scopes: Collection[Scope]
) -> dict[Scope, Sequence[ContentKey]]:
    by_name = {scope_name(scope): scope for scope in scopes}
    found: dict[Scope, list[ContentKey]] = {}
    names = list(by_name)
    for at in range(0, len(names), _MOST_NAMES):
        some = names[at : at + _MOST_NAMES]
        marks = ", ".join(f"${number}" for number in range(2, len(some) + 2))
        rows = await database.fetch(
            "SELECT scope, object_key, public_key, until_seq FROM audit_content_key"  # noqa: S608  # placeholders only
            f" WHERE stream = $1 AND scope IN ({marks}) ORDER BY scope, number",
            stream,
            *some,
        )
        for row in rows:
            found.setdefault(by_name[row["scope"]], []).append(
                ContentKey(row["object_key"], row["public_key"], row["until_seq"])
            )
    return dict(found)


def _make(officers: Officers, numbers: Mapping[Scope, int]) -> list[tuple[object, ...]]:
    return [_made(officers, scope, number) for scope, number in numbers.items()]


def _made(officers: Officers, scope: Scope, number: int) -> tuple[object, ...]:
    identity = pyrage.x25519.Identity.generate()
    wrapped = encrypt(f"{identity}\n".encode(), officers.recipients)
    return (
        _object_key(officers, scope, number),
        officers.stream,
        scope_name(scope),
        number,
        scope.day,
        scope.label,
        None if scope.person is None else database_key(scope.person),
        str(identity.to_public()),
        wrapped,
        hashlib.sha256(wrapped).hexdigest(),
        len(wrapped),
    )


def _object_key(officers: Officers, scope: Scope, number: int) -> str:
    if scope.person is not None:
        named = hashlib.sha256(scope.person.encode()).hexdigest()[:32]
    else:
        label = scope.label or ""
        if not is_label(label):
            label = f"x{hashlib.sha256(label.encode()).hexdigest()[:16]}"
        named = f"{day_of(scope.day or 0)}-{label}"
    root = root_of(officers.server_name)
    return f"{root}keys/content-{officers.stream}-{named}-{number}{SUFFIX}"
