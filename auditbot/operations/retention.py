"""``steward audit retention``: delete what is older than the policy, and say so for ever.

Whole days of a stream are deleted or kept: records of one day explain each other. What goes is
announced first by a signed removal, its manifests stay, and their tree hashes stand for what is
gone. A hold that meets any record of a day keeps the day.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from auditbot.operations.desk import Desk, Place, Statement, as_listed, day_text
from auditbot.operations.holds import Hold, active
from auditbot.pipeline.seal import lines_in
from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.port import ArchiveStore
from common.database.pool import Row
from common.errors import PermanentError, TransientError

_MOST_OBJECTS = 5000
"""Objects in one removal; more make several."""


@dataclass(frozen=True, slots=True)
class Gone:
    """An object that is to be deleted."""

    key: str
    version_id: str | None
    sha256: str
    size: int
    stream: str
    first_seq: int | None = None
    last_seq: int | None = None

    def entry(self) -> dict[str, Any]:
        """Return its entry in a removal."""
        found: dict[str, Any] = {
            "key": self.key,
            "version_id": self.version_id,
            "sha256": self.sha256,
            "size": self.size,
        }
        if self.first_seq is not None:
            found |= {
                "stream": self.stream,
                "first_seq": self.first_seq,
                "last_seq": self.last_seq,
            }
        return found


@dataclass
class StreamDay:
    """The segments of one stream received on one UTC day."""

    stream: str
    day: int
    place: Place
    first_ms: int
    last_ms: int
    segments: list[Gone] = field(default_factory=list)
    held_by: str | None = None

    @property
    def records(self) -> int:
        """Return how many records it has."""
        return sum((gone.last_seq or 0) - (gone.first_seq or 0) + 1 for gone in self.segments)


@dataclass(frozen=True, slots=True)
class Survey:
    """What would be deleted, and what is kept although it is old."""

    days: Sequence[StreamDay]
    media: Sequence[tuple[Place, Gone]]

    @property
    def free(self) -> list[StreamDay]:
        """Return the days that nothing holds."""
        return [day for day in self.days if day.held_by is None]

    def text(self) -> str:
        """Return it for people."""
        lines = []
        for day in self.days:
            size = sum(gone.size for gone in day.segments) / 2**20
            held = f"  KEPT by hold {day.held_by}" if day.held_by is not None else ""
            lines.append(
                f"{day_text(day.day)}  {day.stream}  {len(day.segments):4} segments  "
                f"{day.records:9,} records  {size:8.1f} MiB{held}"
            )
        size = sum(gone.size for _, gone in self.media) / 2**20
        lines.append(f"{len(self.media):,} attachments, {size:.1f} MiB")
        return "\n".join(lines)


async def survey(desk: Desk, *, keep_days: int) -> Survey:
    """Find what is older than so many whole days."""
    before = desk.clock.now_ms() // DAY_MS - keep_days
    days = await _old_days(desk, before)
    holds = await active(desk)
    rooms = {hold.id: await rooms_of(desk, hold) for hold in holds}
    for day in days:
        for hold in holds:
            if hold.meets(day.first_ms, day.last_ms) and await _is_held(
                desk, day, hold, rooms[hold.id]
            ):
                day.held_by = hold.id
                break
    free = {(day.stream, day.day) for day in days if day.held_by is None}
    return Survey(days, await _media(desk, free))


async def apply(desk: Desk, found: Survey, *, keep_days: int) -> str:
    """Delete what was found; return what to tell. Whatever interrupts it, it can be repeated."""
    by_place: dict[Place, tuple[list[Gone], list[Gone]]] = {}
    for day in found.free:
        by_place.setdefault(day.place, ([], []))[0].extend(day.segments)
    for place, gone in found.media:
        by_place.setdefault(place, ([], []))[1].append(gone)
    for place, (segments, media) in by_place.items():
        for at in range(0, max(len(segments), len(media)), _MOST_OBJECTS):
            part = slice(at, at + _MOST_OBJECTS)
            await _announce(desk, place, segments[part], media[part], keep_days)
    return await carry_out(desk)


async def carry_out(desk: Desk) -> str:
    """Store the removals that were decided and delete what they name.

    What was interrupted and is held since waits until that is released.
    """
    deleted, refused, waiting = 0, [], 0
    for place, statement in await desk.unpublished("removals/"):
        content = statement.content
        if await _is_held_since(desk, content):
            waiting += 1
            continue
        async with desk.store(place) as store:
            await desk.publish(store, statement)
            for item in (*content["objects"], *content["media"]):
                trouble = await _delete(store, item)
                if trouble is None:
                    deleted += 1
                    await _mark_gone(desk, item["key"])
                else:
                    refused.append(f"{item['key']}: {trouble}")
    told = f"{deleted:,} objects were deleted."
    if refused:
        told += (
            f"\n{len(refused):,} were not, because the store refused; they are tried again next "
            f"time. The first: {refused[0]}"
        )
    if waiting:
        told += (
            f"\n{waiting:,} earlier removals that were interrupted wait: what they name is held "
            "since."
        )
    return told


async def _is_held_since(desk: Desk, content: dict[str, Any]) -> bool:
    """Say whether a hold came between a removal's decision and this moment."""
    if not await active(desk):
        return False
    now = await survey(desk, keep_days=content["policy"]["keep_days"])
    free = {gone.key for day in now.free for gone in day.segments}
    free |= {gone.key for _, gone in now.media}
    return any(item["key"] not in free for item in (*content["objects"], *content["media"]))


async def _announce(
    desk: Desk, place: Place, segments: Sequence[Gone], media: Sequence[Gone], keep_days: int
) -> Statement:
    document: dict[str, Any] = {
        "type": "steward.removal",
        "id": desk.new_id(),
        "created_ms": desk.clock.now_ms(),
        "actor": desk.actor,
        "reason": "retention",
        "policy": {"keep_days": keep_days},
        "objects": [gone.entry() for gone in segments],
        "media": [gone.entry() for gone in media],
    }
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        there = place
        if writing is not None:
            there = await as_listed(connection, place, writing.stream)
        key = f"removals/{document['id']}.json"
        statement = await desk.state(connection, there, key, document)
        if writing is not None:
            writing.control(
                actor=desk.actor,
                action="removal",
                detail={
                    "document": statement.key,
                    "destination": place.destination,
                    "policy": document["policy"],
                    "objects": len(segments),
                    "records": sum(
                        (gone.last_seq or 0) - (gone.first_seq or 0) + 1 for gone in segments
                    ),
                    "media": len(media),
                },
            )
            await writing.write(connection)
    return statement


async def _delete(store: ArchiveStore, item: dict[str, Any]) -> str | None:
    """Delete an object; return why it could not be."""
    try:
        await store.delete(item["key"], item["version_id"])
    except (PermanentError, TransientError) as error:
        return str(error)
    return None


async def _mark_gone(desk: Desk, key: str) -> None:
    async with desk.database.transaction() as connection:
        for table in ("audit_segment", "audit_object"):
            await connection.execute(
                f"UPDATE {table} SET removed_ms = $2 WHERE object_key = $1",  # noqa: S608  # placeholders and constants only
                key,  # one of two words of our own
                desk.clock.now_ms(),
            )


async def _old_days(desk: Desk, before: int) -> list[StreamDay]:
    rows = await desk.database.fetch(
        "SELECT audit_segment.*, destination, endpoint_url FROM audit_segment"
        " JOIN audit_stream ON audit_stream.id = audit_segment.stream"
        # Only what a manifest in the store lists: the others are not proved yet.
        " JOIN audit_manifest ON audit_manifest.stream = audit_segment.stream"
        " AND audit_manifest.number = manifest AND audit_manifest.state = 'stored'"
        " WHERE day < $1 AND removed_ms IS NULL ORDER BY day, audit_segment.stream, first_seq",
        before,
    )
    days: dict[tuple[str, int], StreamDay] = {}
    for row in rows:
        name = (str(row["stream"]), int(row["day"]))
        if name not in days:
            place = Place(row["destination"], row["endpoint_url"], None)
            days[name] = StreamDay(*name, place, row["first_ms"], row["last_ms"])
        day = days[name]
        day.first_ms = min(day.first_ms, row["first_ms"])
        day.last_ms = max(day.last_ms, row["last_ms"])
        day.segments.append(_segment(row))
    return list(days.values())


def _segment(row: Row) -> Gone:
    return Gone(
        row["object_key"],
        row["version_id"],
        row["sha256"],
        row["stored_bytes"],
        row["stream"],
        row["first_seq"],
        row["last_seq"],
    )


async def rooms_of(desk: Desk, hold: Hold) -> frozenset[str]:
    """Return the rooms in which a held person is or ever was: what they could read is held too."""
    found: set[str] = set()
    for user in hold.users:
        rows = await desk.database.fetch(
            "SELECT room_id FROM audit_member WHERE user_id = $1", user
        )
        found.update(str(row["room_id"]) for row in rows)
    return frozenset(found)


async def _is_held(desk: Desk, day: StreamDay, hold: Hold, rooms: frozenset[str]) -> bool:
    """Return whether a hold names any record of a day that it may name."""
    if not hold.rooms and not hold.users:
        return True
    if any(gone.key.endswith(".age") for gone in day.segments):
        return True  # we cannot read it, so it may be held
    async with desk.store(day.place) as store:
        for gone in day.segments:
            if await is_named(store, gone.key, gone.version_id, hold, rooms):
                return True
    return False


async def is_named(
    store: ArchiveStore, key: str, version_id: str | None, hold: Hold, rooms: frozenset[str]
) -> bool:
    """Return whether a hold names any record of a segment."""
    if not hold.rooms and not hold.users:
        return True
    if key.endswith(".age"):
        return True  # we cannot read it, so it may be held
    body = await store.get(key, version_id)
    return any(names(hold, msgspec.json.decode(line), rooms) for line in lines_in(body))


def names(hold: Hold, record: dict[str, Any], rooms: frozenset[str]) -> bool:
    """Return whether a hold names a record; ``rooms`` are those of the people it names."""
    if not (hold.from_ms or 0) <= record["ts_received"] < (hold.to_ms or 2**62):
        return False
    if hold.rooms and record.get("room_id") not in hold.rooms:
        return False
    if not hold.users:
        return True
    people = {record.get("sender"), record.get("state_key"), record.get("actor")}
    return bool(hold.users & people) or record.get("room_id") in rooms


async def _media(desk: Desk, free: set[tuple[str, int]]) -> list[tuple[Place, Gone]]:
    """Return the attachments that no remaining day speaks of."""
    rows = await desk.database.fetch(
        "SELECT audit_object.*, destination, endpoint_url FROM audit_object"
        " JOIN audit_stream ON audit_stream.id = audit_object.stream"
        " WHERE removed_ms IS NULL AND manifest IS NOT NULL ORDER BY object_key"
    )
    found = []
    for row in rows:
        days = await desk.database.fetch(
            "SELECT stream, day FROM audit_object_day WHERE place = $1 AND id = $2",
            row["place"],
            row["id"],
        )
        named = {(str(one["stream"]), int(one["day"])) for one in days}
        if named and all([await _is_gone(desk, one, free) for one in named]):
            place = Place(row["destination"], row["endpoint_url"], None)
            gone = Gone(
                row["object_key"],
                row["version_id"],
                row["sha256"],
                row["stored_bytes"],
                row["stream"],
            )
            found.append((place, gone))
    return found


async def _is_gone(desk: Desk, day: tuple[str, int], free: set[tuple[str, int]]) -> bool:
    if day in free:
        return True
    left = await desk.database.fetchval(
        "SELECT count(*) FROM audit_segment WHERE stream = $1 AND day = $2 AND removed_ms IS NULL",
        *day,
    )
    uncut = await desk.database.fetchval(
        "SELECT count(*) FROM audit_lines WHERE stream = $1"
        " AND first_ms / 86400000 <= $2 AND last_ms / 86400000 >= $2",
        *day,
    )
    return not left and not uncut
