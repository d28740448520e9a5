"""Which versions of objects our holds concern, asked of the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from auditbot.operations.desk import Desk, Place
from auditbot.operations.holds import FOR_EVER, Hold
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Row

_PLACE = "audit_stream.destination, coalesce(audit_stream.endpoint_url, '') AS endpoint_url"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an object."""

    place: Place
    key: str
    version_id: str

    @property
    def columns(self) -> tuple[str, str, str, str]:
        """Return what names it in the database."""
        place = self.place
        return place.destination, place.endpoint_url or "", self.key, self.version_id


def _days(hold: Hold) -> tuple[int, int]:
    """Return the first and the last day that a hold may concern."""
    last = (hold.to_ms or FOR_EVER) - 1
    return (hold.from_ms or 0) // DAY_MS, min(last // DAY_MS, 2**31 - 1)


async def unseen(desk: Desk, hold: Hold, rooms: str) -> Sequence[Row]:
    """Return the segments that were not looked through for a hold and these rooms, in order."""
    return await desk.database.fetch(
        f"SELECT audit_segment.stream, audit_segment.day, last_seq, first_ms, last_ms, object_key,"  # noqa: S608  # our words
        f" version_id, sha256, {_PLACE} FROM audit_segment"
        " JOIN audit_stream ON audit_stream.id = audit_segment.stream"
        " WHERE audit_segment.state = 'uploaded' AND removed_ms IS NULL"
        " AND version_id IS NOT NULL AND audit_segment.day BETWEEN $2 AND $3"
        " AND NOT EXISTS (SELECT 1 FROM audit_hold_day AS seen WHERE seen.hold_id = $1"
        " AND seen.stream = audit_segment.stream AND seen.day = audit_segment.day"
        " AND (seen.held = 1 OR (seen.rooms = $4 AND seen.seen_seq >= last_seq)))"
        " ORDER BY audit_segment.stream, audit_segment.day, first_seq",
        hold.id,
        *_days(hold),
        rooms,
    )


async def segments(desk: Desk, hold: Hold) -> Sequence[Row]:
    """Return the segments of held days that are not set yet."""
    return await desk.database.fetch(
        f"SELECT object_key, version_id, {_PLACE} FROM audit_segment"  # noqa: S608  # our words
        " JOIN audit_stream ON audit_stream.id = audit_segment.stream"
        " JOIN audit_hold_day ON audit_hold_day.stream = audit_segment.stream"
        " AND audit_hold_day.day = audit_segment.day"
        " WHERE hold_id = $1 AND held = 1 AND audit_segment.state = 'uploaded'"
        f" AND removed_ms IS NULL AND version_id IS NOT NULL AND {_not_set('audit_segment')}"
        " ORDER BY object_key",
        hold.id,
    )


async def sessions(desk: Desk, hold: Hold) -> Sequence[Row]:
    """Return the room keys of held days that are not set yet."""
    return await desk.database.fetch(
        f"SELECT object_key, version_id, {_PLACE} FROM (SELECT stream, day, sessions_key AS"  # noqa: S608  # our words
        " object_key, sessions_version AS version_id FROM audit_segment WHERE state = 'uploaded'"
        # Those of a segment that is gone stay for the others of its day.
        " AND sessions_key IS NOT NULL AND sessions_version IS NOT NULL) AS kept"
        " JOIN audit_stream ON audit_stream.id = kept.stream"
        " JOIN audit_hold_day ON audit_hold_day.stream = kept.stream"
        " AND audit_hold_day.day = kept.day"
        f" WHERE hold_id = $1 AND held = 1 AND {_not_set('kept')} ORDER BY object_key",
        hold.id,
    )


async def media(desk: Desk, hold: Hold) -> Sequence[Row]:
    """Return the attachments that held days speak of and that are not set yet."""
    return await desk.database.fetch(
        f"SELECT DISTINCT object_key, version_id, {_PLACE} FROM audit_object"  # noqa: S608  # our words
        " JOIN audit_stream ON audit_stream.id = audit_object.stream"
        " JOIN audit_object_day ON audit_object_day.place = audit_object.place"
        " AND audit_object_day.id = audit_object.id"
        " JOIN audit_hold_day ON audit_hold_day.stream = audit_object_day.stream"
        " AND audit_hold_day.day = audit_object_day.day"
        " WHERE hold_id = $1 AND held = 1 AND (removed_ms IS NULL OR going = 1)"
        f" AND version_id IS NOT NULL AND {_not_set('audit_object')} ORDER BY object_key",
        hold.id,
    )


def _not_set(table: str) -> str:
    return (
        "NOT EXISTS (SELECT 1 FROM audit_hold_object AS known WHERE known.hold_id = $1"  # noqa: S608  # one of two words of our own
        " AND known.set_ms IS NOT NULL AND known.destination = audit_stream.destination"
        " AND known.endpoint_url = coalesce(audit_stream.endpoint_url, '')"
        f" AND known.object_key = {table}.object_key AND known.version_id = {table}.version_id)"
    )


def version_of(row: Row) -> Version:
    """Return the version that a row names."""
    place = Place(row["destination"], row["endpoint_url"] or None, None)
    return Version(place, row["object_key"], row["version_id"])
