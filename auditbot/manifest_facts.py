"""What a manifest says of the moment it is made in, asked of the database."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from auditbot.pipeline.manifest import MOST_ROOMS, Json, Listed
from auditbot.pipeline.merkle import CompactRange, unpack
from common.database.pool import Connection, Row

_STATEMENTS = (
    "manifest IS NULL AND state <> 'made' AND (stream = $1 OR EXISTS (SELECT 1 FROM audit_stream"
    " WHERE audit_stream.id = $1 AND audit_stream.destination = audit_statement.destination"
    " AND coalesce(audit_stream.endpoint_url, '') = coalesce(audit_statement.endpoint_url, '')"
    " AND (stream IS NULL OR stream IN (SELECT id FROM audit_stream WHERE closed = 1))))"
)
"""Those that no manifest lists: the stream's own, and what was said while none was open there."""


_MARKS = {
    "media": "UPDATE audit_object SET manifest = $2 WHERE stream = $1 AND manifest IS NULL",
    "stamps": "UPDATE audit_stamp SET manifest = $2 WHERE stream = $1 AND manifest IS NULL",
    "day_keys": "UPDATE audit_day_key SET manifest = $2 WHERE stream = $1 AND manifest IS NULL",
    "content_keys": (
        "UPDATE audit_content_key SET manifest = $2 WHERE stream = $1 AND manifest IS NULL"
    ),
    "statements": ("UPDATE audit_statement SET stream = $1, manifest = $2 WHERE manifest IS NULL"),
}
"""How what a list of a manifest names is marked, by the name of the list."""
_MOST_MARKED = 200


class Asked(Protocol):
    """A database, or a transaction in it, of which something is only asked."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]:
        """Return all rows."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row, or ``None``."""
        ...


async def is_drained(connection: Connection, row: Row) -> bool:
    """Return whether a stream was stopped and all of it is stored."""
    if row["stopped_ms"] is None or row["cut_seq"] < row["next_seq"]:
        return False
    waiting = await connection.fetchval(
        "SELECT count(*) FROM audit_segment WHERE stream = $1 AND state <> 'uploaded'", row["id"]
    )
    return not waiting


async def unlisted_count(connection: Connection, stream: str) -> int:
    """Return how many stored segments no manifest lists."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM audit_segment"
            " WHERE stream = $1 AND manifest IS NULL AND state = 'uploaded'",
            stream,
        )
    )


async def unlisted(connection: Connection, stream: str) -> list[Listed]:
    """Return the stored segments that no manifest lists, in order."""
    rows = await connection.fetch(
        "SELECT first_seq, last_seq, object_key, version_id, stored_bytes, sha256, raw_bytes,"
        " tree_hashes, first_ms, last_ms, counts, classes FROM audit_segment"
        " WHERE stream = $1 AND manifest IS NULL AND state = 'uploaded' ORDER BY first_seq",
        stream,
    )
    return [
        Listed(
            key=row["object_key"],
            version_id=row["version_id"],
            size=row["stored_bytes"],
            sha256=row["sha256"],
            raw_size=row["raw_bytes"],
            tree=CompactRange(
                row["first_seq"], row["last_seq"] + 1, unpack(bytes(row["tree_hashes"]))
            ),
            first_ms=row["first_ms"],
            last_ms=row["last_ms"],
            counts=json.loads(row["counts"]),
            classes=None if row["classes"] is None else json.loads(row["classes"]),
        )
        for row in rows
    ]


async def mark_listed(
    connection: Connection, stream: str, number: int, size: int, listed: Mapping[str, Any]
) -> None:
    """Remember which manifest lists what was not listed before.

    Only of what is in it: PostgreSQL shows each statement what others committed meanwhile, and what
    came since it was asked what there is belongs to the next manifest.

    Args:
        connection: the database
        stream: whose manifest it is
        number: of the manifest
        size: of the tree, so that the segments before it are listed
        listed: the lists of the manifest by their names
    """
    await connection.execute(
        "UPDATE audit_segment SET manifest = $2"
        " WHERE stream = $1 AND manifest IS NULL AND last_seq < $3",
        stream,
        number,
        size,
    )
    for name, update in _MARKS.items():
        entries = listed[name]
        for at in range(0, len(entries), _MOST_MARKED):
            some = entries[at : at + _MOST_MARKED]
            # An attachment that was stored anew meanwhile has its key, but is another object.
            marks = ", ".join(
                f"(${3 * n}, ${3 * n + 1}, ${3 * n + 2})" for n, _ in enumerate(some, 1)
            )
            values = [(one["key"], one["version_id"] or "", one["sha256"]) for one in some]
            await connection.execute(
                f"{update} AND (object_key, coalesce(version_id, ''), sha256) IN (VALUES {marks})",
                stream,
                number,
                *chain.from_iterable(values),
            )


async def media(connection: Connection, stream: str) -> list[Json]:
    """Return the attachments that no manifest lists."""
    rows = await connection.fetch(
        "SELECT object_key, version_id, stored_bytes, sha256 FROM audit_object"
        " WHERE stream = $1 AND manifest IS NULL ORDER BY object_key",
        stream,
    )
    return [_entry(row, row["stored_bytes"]) for row in rows]


async def sessions(connection: Connection, stream: str, segments: Sequence[Listed]) -> list[Json]:
    """Return the objects with room keys of the segments that a manifest is about to list."""
    if not segments:
        return []
    rows = await connection.fetch(
        "SELECT sessions_key AS object_key, sessions_version AS version_id,"
        " sessions_sha256 AS sha256, sessions_bytes FROM audit_segment WHERE stream = $1"
        " AND manifest IS NULL AND state = 'uploaded' AND sessions_key IS NOT NULL"
        # Another one may have been stored since it was asked which there are.
        " AND last_seq < $2 ORDER BY first_seq",
        stream,
        segments[-1].tree.end,
    )
    return [_entry(row, row["sessions_bytes"]) for row in rows]


async def day_keys(connection: Connection, stream: str) -> list[Json]:
    """Return the stored keys of days that no manifest lists."""
    rows = await connection.fetch(
        "SELECT object_key, version_id, size, sha256 FROM audit_day_key"
        " WHERE stream = $1 AND manifest IS NULL AND state <> 'made' ORDER BY day",
        stream,
    )
    return [_entry(row, row["size"]) for row in rows]


async def content_keys(connection: Connection, stream: str) -> list[Json]:
    """Return the stored keys of content that no manifest lists."""
    rows = await connection.fetch(
        "SELECT object_key, version_id, size, sha256 FROM audit_content_key"
        " WHERE stream = $1 AND manifest IS NULL AND state <> 'made' ORDER BY object_key",
        stream,
    )
    return [_entry(row, row["size"]) for row in rows]


async def stamps(connection: Connection, stream: str) -> list[Json]:
    """Return the stored time stamps that no manifest lists."""
    rows = await connection.fetch(
        "SELECT object_key, version_id, body, sha256 FROM audit_stamp"
        " WHERE stream = $1 AND manifest IS NULL AND state = 'stored' ORDER BY object_key",
        stream,
    )
    return [_entry(row, len(row["body"])) for row in rows]


async def statements(connection: Connection, stream: str) -> list[Json]:
    """Return the other signed documents that no manifest lists."""
    rows = await connection.fetch(
        f"SELECT object_key, version_id, body, sha256 FROM audit_statement WHERE {_STATEMENTS}"  # noqa: S608  # the condition is ours
        " ORDER BY object_key",
        stream,
    )
    return [_entry(row, len(row["body"])) for row in rows]


async def open_counts(connection: Asked) -> Json:
    """Return how much still waits for a key, for the homeserver, or for anything at all."""
    return {
        "undecryptable_open": int(await connection.fetchval("SELECT count(*) FROM audit_pending")),
        "gaps_open": int(
            await connection.fetchval("SELECT count(*) FROM audit_gap WHERE closed_ms IS NULL")
        ),
        "media_open": int(await connection.fetchval("SELECT count(*) FROM audit_media")),
    }


_NOT_COVERED = (
    " FROM (SELECT room_id, reason, since_ms FROM membership_left_out"
    " UNION ALL SELECT room_id, problem AS reason, since_ms FROM membership_problem"
    # Where only adminbot lacks power, auditbot reads all the same.
    " WHERE inside = 0 AND room_id NOT IN (SELECT room_id FROM membership_left_out)) AS out"
)


async def rooms(connection: Asked, auditbot: str | None = None) -> Json:
    """Return how many rooms are followed, and which are not, and why.

    Args:
        connection: the database
        auditbot: the account that has to be in a room that is followed; ``None``: any room counts
    """
    covered = await connection.fetchval(
        "SELECT count(*) FROM audit_room WHERE complete = 1 AND ($1 = '' OR EXISTS (SELECT 1"
        # What is known of a room stays when the bot has left it.
        " FROM audit_member WHERE audit_member.room_id = audit_room.room_id AND user_id = $1"
        " AND membership = 'join'))",
        auditbot or "",
    )
    count = await connection.fetchval(f"SELECT count(*){_NOT_COVERED}")
    problems = await connection.fetch(
        f"SELECT room_id, reason, since_ms{_NOT_COVERED} ORDER BY room_id LIMIT $1",
        MOST_ROOMS,
    )
    return {
        "covered": int(covered),
        "not_covered": [
            {"room_id": row["room_id"], "reason": row["reason"], "since_ms": row["since_ms"]}
            for row in problems
        ],
        "not_covered_count": int(count),
        "compared_ms": await connection.fetchval("SELECT compared_ms FROM membership_compared"),
    }


async def waiting(connection: Connection, stream: str) -> Json:
    """Return what of the stream is not stored yet."""
    row = await connection.fetchrow(
        "SELECT count(*) AS segments, coalesce(sum(raw_bytes), 0) AS raw_bytes"
        " FROM audit_segment WHERE stream = $1 AND state <> 'uploaded'",
        stream,
    )
    return {
        "segments": int(row["segments"]) if row is not None else 0,
        "raw_bytes": int(row["raw_bytes"]) if row is not None else 0,
    }


async def previous_stream(connection: Connection, row: Row) -> Json | None:
    """Return what came before a stream, as far as it is known by now."""
    if row["previous_stream"] is None:
        return None
    found = await connection.fetchrow(
        "SELECT destination, stopped_ms FROM audit_stream WHERE id = $1", row["previous_stream"]
    )
    final = await connection.fetchrow(
        "SELECT number, sha256 FROM audit_manifest WHERE stream = $1 AND closing = 1",
        row["previous_stream"],
    )
    return {
        "stream": row["previous_stream"],
        "destination": found["destination"] if found is not None else None,
        "stopped_ms": found["stopped_ms"] if found is not None else None,
        "final_manifest": final["number"] if final is not None else None,
        "final_sha256": final["sha256"] if final is not None else None,
    }


def closed(row: Row) -> Json:
    """Return how a stream ended."""
    return {
        "reason": row["stop_reason"] or "destination changed",
        "next_stream": row["next_stream"],
        "next_destination": row["next_destination"],
    }


def _entry(row: Row, size: int) -> Json:
    return {
        "key": row["object_key"],
        "version_id": row["version_id"],
        "size": size,
        "sha256": row["sha256"],
    }
