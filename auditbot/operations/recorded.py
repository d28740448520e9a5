"""What was recorded in a stream, wherever it is on its way: waiting, built, or stored.

Only of a stream that Steward can read: a segment that is encrypted whole is passed over.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from auditbot.encryption import SUFFIX
from auditbot.ledger import Destinations
from auditbot.lines import opened
from auditbot.operations.desk import Desk, Place
from auditbot.operations.held import Segment
from auditbot.pipeline.seal import lines_in
from auditbot.pipeline.sealing import OF_STREAM
from common.database.pool import Connection, Database

_Record = dict[str, Any]


async def recorded(desk: Desk, stream: str) -> AsyncIterator[_Record]:
    """Yield all records of a stream that are left; some may come twice.

    In the order in which they go their way, so that what goes on meanwhile is not missed.
    """
    async for record in unsealed(desk, desk.database, stream):
        yield record
    async for record in _built(desk, stream):
        yield record
    async for record in _stored(desk, stream):
        yield record


async def unsealed(
    desk: Desk, reader: Connection | Database, stream: str
) -> AsyncIterator[_Record]:
    """Yield the records of a stream that wait for their segment to be built."""
    spool = Destinations(desk.config).spool
    rows = await reader.fetch(
        "SELECT last_seq FROM audit_lines WHERE stream = $1 ORDER BY last_seq", stream
    )
    for place in rows:
        row = await reader.fetchrow(
            "SELECT * FROM audit_lines WHERE stream = $1 AND last_seq = $2",
            stream,
            place["last_seq"],
        )
        for line in () if row is None else opened(row, spool):
            yield msgspec.json.decode(line)


def said_by(record: Mapping[str, Any]) -> int:
    """Return the number by which a person's record has its key; see ``content_sealing``."""
    if record["of_seq"] is None or OF_STREAM in (record["detail_json"] or ""):
        return int(record["seq"])
    return int(record["of_seq"])


async def _built(desk: Desk, stream: str) -> AsyncIterator[_Record]:
    rows = await desk.database.fetch(
        "SELECT first_seq, object_key FROM audit_segment WHERE stream = $1 AND state = 'sealed'"
        " ORDER BY first_seq",
        stream,
    )
    for row in rows:
        body = await desk.database.fetchval(
            "SELECT body FROM audit_body WHERE stream = $1 AND first_seq = $2",
            stream,
            row["first_seq"],
        )
        if body is not None and not row["object_key"].endswith(SUFFIX):
            for line in lines_in(bytes(body)):
                yield msgspec.json.decode(line)


async def _stored(desk: Desk, stream: str) -> AsyncIterator[_Record]:
    rows = await desk.database.fetch(
        "SELECT object_key, version_id, sha256, destination, endpoint_url FROM audit_segment"
        " JOIN audit_stream ON audit_stream.id = audit_segment.stream WHERE stream = $1"
        " AND state = 'uploaded' AND removed_ms IS NULL ORDER BY first_seq",
        stream,
    )
    if not rows:
        return
    place = Place(rows[0]["destination"], rows[0]["endpoint_url"], None)
    async with desk.store(place) as store:
        for row in rows:
            if not row["object_key"].endswith(SUFFIX):
                segment = Segment(row["object_key"], row["version_id"], row["sha256"])
                for line in await segment.lines(store):
                    yield msgspec.json.decode(line)
