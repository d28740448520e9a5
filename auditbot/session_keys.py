"""Room keys that the archive keeps, so that somebody else can decrypt its messages again.

Of a day they open what was read on that day and what comes later, never an earlier message: a
session is exported from the first message on that was read with it that day. In our own database
they wait sealed, and are gone once they are in an object that only the officers open.

Where content is sealed, a session is kept for each sender and retention class of a day, and again
once the key is to be destroyed that it was sealed to: see ``sealed_sessions``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from auditbot.pipeline.hostile import key as database_key
from auditbot.pipeline.line import Record
from auditbot.pipeline.sealing import DEFAULT_CLASS, Scope, said_seq, scope_name
from auditbot.pipeline.segment import DAY_MS
from auditbot.spool import Spool
from auditbot.writing import Writing
from common.crypto.port import Decrypted, Reading, SessionCopy
from common.database.pool import Connection

MEGOLM = "m.megolm.v1.aes-sha2"
_ASKED = 500
"""Sessions asked for at a time."""
_NEVER = 2**32
"""Beyond the last message of a session."""


class SessionLine(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is stored: the members of Matrix's key exports, and where it was needed.

    Source: Matrix specification v1.18, client-server API, "Key export format".
    """

    v: int = 1
    stream: str
    seq: int
    """The first record that was read with it."""
    algorithm: str = MEGOLM
    room_id: str
    session_id: str
    sender: str
    sender_key: str
    sender_claimed_keys: dict[str, str]
    forwarding_curve25519_key_chain: tuple[str, ...] = ()
    source: str
    first_known_index: int
    """From where on Steward had it."""
    first_index: int
    """From where on this key opens."""
    session_key: str


class _Place(NamedTuple):
    """The name of a row."""

    stream: str
    day: int
    session: str
    first_index: int

    @property
    def seal_name(self) -> str:
        """Return under which name what the row holds is sealed."""
        return "audit session key {} {} {} {}".format(*self)


@dataclass(frozen=True, slots=True)
class Use:
    """A session with which a record was read."""

    day: int
    seq: int
    index: int
    room_id: str
    session_id: str
    source: str
    copy: SessionCopy
    sender: str
    label: str
    said_seq: int
    """The record by which the key of a person is chosen."""

    def name(self, *, scoped: bool) -> str:
        """Return what stands for the session, this copy of it, and how it came.

        Args:
            scoped: whether also for whose key, or which class's, it is sealed to
        """
        parts = [self.room_id, self.session_id, self.copy.sender_key, self.source]
        if scoped:
            parts += [self.sender, self.label]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session that a segment carries, and by what its key is chosen where content is sealed."""

    day: int
    seq: int
    line: bytes
    sender: str | None
    label: str | None
    said_seq: int


def use_of(record: Record, room_id: str | None, reading: Reading | None) -> Use | None:
    """Return with which session a record was read, ``None`` if with none."""
    if not isinstance(reading, Decrypted) or reading.session is None or room_id is None:
        return None
    return Use(
        day=record.ts_received // DAY_MS,
        seq=record.seq,
        index=reading.index,
        room_id=room_id,
        session_id=reading.session_id,
        source=reading.key_source.value,
        copy=reading.session,
        sender=database_key(record.sender or ""),
        label=record.retention_class or DEFAULT_CLASS,
        said_seq=said_seq(record),
    )


async def keep_sessions(connection: Connection, writing: Writing, uses: Sequence[Use]) -> None:
    """Store what is not stored of these sessions, in the transaction that writes their records.

    Where nothing encrypts the archive, nothing is kept: no key may lie there in clear.
    """
    if writing.spool is None:
        return
    rows = []
    scoped = writing.seals_content
    ended = await _ended(connection, writing.stream, uses) if scoped else {}
    for day, wanted in _earliest(uses, scoped=scoped).items():
        since = {name: _since(use, ended) for name, use in wanted.items()}
        stored = await _stored(connection, writing.stream, day, since)
        for name, use in wanted.items():
            line = _line(writing.stream, use) if use.index < stored.get(name, _NEVER) else None
            if line is not None:
                place = _Place(writing.stream, day, name, use.index)
                sealed = writing.spool.sealer.seal(line, name=place.seal_name)
                scope = (use.sender, use.label, use.said_seq) if scoped else (None, None, None)
                rows.append((*place, use.seq, sealed, *scope))
    if rows:
        await connection.executemany(
            "INSERT INTO audit_session_key (stream, day, session, first_index, seq, sealed,"
            " sender, label, said_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            # Only the same message once more, sealed to a key that goes, can be in its place.
            " ON CONFLICT (stream, day, session, first_index) DO NOTHING",
            rows,
        )


async def sessions_to_keep(
    connection: Connection, spool: Spool, stream: str, first_seq: int, last_seq: int
) -> list[KeptSession]:
    """Return the sessions that a segment carries, in the same order each time."""
    rows = await connection.fetch(
        "SELECT * FROM audit_session_key WHERE stream = $1 AND seq BETWEEN $2 AND $3 AND sealed IS NOT NULL ORDER BY seq, session, first_index",
        stream,
        first_seq,
        last_seq,
    )
    return [
        KeptSession(
            row["day"],
            row["seq"],
            spool.sealer.open(
                bytes(row["sealed"]),
                name=_Place(stream, row["day"], row["session"], row["first_index"]).seal_name,
            ),
            row["sender"],
            row["label"],
            row["seq"] if row["said_seq"] is None else row["said_seq"],
        )
        for row in rows
    ]


async def forget_sealed(
    connection: Connection, stream: str, first_seq: int, last_seq: int
) -> None:
    """Forget the sessions of a segment that was built, but for their having been kept."""
    await connection.execute(
        "UPDATE audit_session_key SET sealed = NULL WHERE stream = $1 AND seq BETWEEN $2 AND $3"
        " AND sealed IS NOT NULL",
        stream,
        first_seq,
        last_seq,
    )


def _earliest(uses: Sequence[Use], *, scoped: bool) -> dict[int, dict[str, Use]]:
    """Return of each session the use of its earliest message, by day and name."""
    found: dict[int, dict[str, Use]] = {}
    for use in uses:
        of_day = found.setdefault(use.day, {})
        name = use.name(scoped=scoped)
        known = of_day.get(name)
        if known is None or use.index < known.index:
            of_day[name] = use
    return found


async def _ended(connection: Connection, stream: str, uses: Sequence[Use]) -> dict[str, int]:
    """Return of scopes of these sessions up to where their keys are, or are to be, destroyed."""
    names = sorted({scope_name(scope) for use in uses for scope in _scopes(use)})
    found: dict[str, int] = {}
    for start in range(0, len(names), _ASKED):
        some = names[start : start + _ASKED]
        marks = ", ".join(f"${number}" for number in range(2, len(some) + 2))
        rows = await connection.fetch(
            "SELECT scope, max(until_seq) AS until_seq FROM audit_content_key"  # noqa: S608  # placeholders only
            f" WHERE stream = $1 AND scope IN ({marks}) AND until_seq IS NOT NULL GROUP BY scope",
            stream,
            *some,
        )
        found.update((str(row["scope"]), int(row["until_seq"])) for row in rows)
    return found


def _since(use: Use, ended: Mapping[str, int]) -> int:
    """Return from which record on what is kept of a session serves a use: not of erased ones."""
    return max(ended.get(scope_name(scope), 0) for scope in _scopes(use))


def _scopes(use: Use) -> tuple[Scope, Scope]:
    """Return whose key may open a session: a stream has those of people or those of days."""
    return Scope(None, None, use.sender), Scope(use.day, use.label, None)


async def _stored(
    connection: Connection, stream: str, day: int, since: Mapping[str, int]
) -> dict[str, int]:
    """Return from which message on each session is kept already for a day.

    Args:
        connection: the transaction
        stream: the stream
        day: the day
        since: the sessions' names, each with the first record that counts
    """
    found: dict[str, int] = {}
    names = list(since)
    for start in range(0, len(names), _ASKED):
        some = names[start : start + _ASKED]
        places = ", ".join(
            f"(${2 * number + 3}, CAST(${2 * number + 4} AS BIGINT))"
            for number in range(len(some))
        )
        rows = await connection.fetch(
            f"WITH names (name, since) AS (VALUES {places})"  # noqa: S608  # placeholders only
            " SELECT name, (SELECT min(first_index) FROM audit_session_key WHERE stream = $1"
            " AND day = $2 AND session = name AND coalesce(said_seq, seq) >= since)"
            " AS first_index FROM names",
            stream,
            day,
            *(value for name in some for value in (name, since[name])),
        )
        found.update(
            (str(row["name"]), int(row["first_index"]))
            for row in rows
            if row["first_index"] is not None
        )
    return found


def _line(stream: str, use: Use) -> bytes | None:
    key = use.copy.export_at(use.index)
    if key is None:
        return None
    return (
        msgspec.json.encode(
            SessionLine(
                stream=stream,
                seq=use.seq,
                room_id=use.room_id,
                session_id=use.session_id,
                sender=use.copy.sender,
                sender_key=use.copy.sender_key,
                sender_claimed_keys={"ed25519": use.copy.signing_key},
                source=use.source,
                first_known_index=use.copy.first_index,
                first_index=use.index,
                session_key=key,
            )
        )
        + b"\n"
    )
