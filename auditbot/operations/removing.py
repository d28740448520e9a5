"""The deletion of what a removal names: what is left of it, in an order that a crash may interrupt.

Copies for query engines go before the segments they are of, and the room keys of a day when no
segment of it is left: another segment may need the keys that the first one brought.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from auditbot.ledger import lock
from auditbot.operations.announced import Outcome
from auditbot.operations.desk import Desk, Place, Statement
from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.port import ArchiveStore
from common.database.pool import Connection, Database
from common.errors import PermanentError, TransientError

_MOST_NAMES = 500

_Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Left:
    """What is still to be deleted of what a removal names."""

    objects: Sequence[_Item]
    media: Sequence[_Item]
    sessions: Sequence[_Item]

    @property
    def is_nothing(self) -> bool:
        """Return whether all of it is gone."""
        return not (self.objects or self.media or self.sessions)


async def left_of(reader: Connection | Database, place: Place, content: Mapping[str, Any]) -> Left:
    """Return what of a removal at a place is still there, as far as our database knows.

    An attachment of which something was recorded since stays: it is another one's by now.

    Args:
        reader: where it is looked up
        place: where the removal is stored, and what it names
        content: what it says
    """
    objects, media = content["objects"], content["media"]
    sessions = content.get("sessions", ())
    gone = await _named(
        reader,
        "SELECT object_key FROM audit_segment WHERE removed_ms IS NOT NULL AND object_key IN ({})",
        objects,
    )
    kept = await _kept(reader, place, content, media)
    there = await _named(
        reader,
        "SELECT sessions_key AS object_key FROM audit_segment WHERE sessions_key IN ({})",
        sessions,
    )
    return Left(
        [item for item in objects if item["key"] not in gone],
        [item for item in media if item["key"] not in kept],
        [item for item in sessions if item["key"] in there],
    )


async def remove(
    desk: Desk,
    place: Place,
    statement: Statement,
    outcome: Outcome,
    *,
    left: Left,
    is_held: Callable[[], Awaitable[bool]],
) -> bool:
    """Store a removal and delete what is left of it; return whether all of it is gone.

    Args:
        desk: the tools
        place: where it is stored, and what it names
        statement: the removal
        outcome: what is told of it
        left: what of it is still there
        is_held: asked before each deletion; nothing is deleted any more once it says yes
    """
    before = outcome.troubles
    async with desk.store(place) as store:
        if not statement.is_stored:
            await desk.publish(store, statement)
        stayed = await _forget_copies(desk, store, left.objects, outcome)
        for item in left.objects:
            if await is_held():
                return False
            if _day_in(item["key"]) not in stayed and await _is_deleted(store, item, outcome):
                await _mark_gone(desk, place, item["key"])
        for item in left.media:
            if await is_held():
                return False
            await _delete_media(desk, store, place, statement, item, outcome=outcome)
        is_needed = await _delete_sessions(desk, store, left.sessions, outcome)
    return outcome.troubles == before and not is_needed


async def let_stay(desk: Desk, place: Place, left: Left) -> None:
    """Let those attachments stay that a deletion was interrupted of, and that are held since.

    While one is half deleted its file cannot be stored again, and the hold may last for years.
    """
    keys = [item["key"] for item in left.media]
    if not (going := await _going(desk, place, left.media)):
        return
    async with desk.store(place) as store:
        for key in (key for key in keys if key in going):
            await _unmark(desk, store, place, key)


async def _delete_media(
    desk: Desk,
    store: ArchiveStore,
    place: Place,
    statement: Statement,
    item: _Item,
    *,
    outcome: Outcome,
) -> None:
    """Delete an attachment, unless something was said of it since.

    It counts as gone from before the store is asked: that takes a while, and what comes with the
    same file meanwhile must not be said to be stored there already.
    """
    if not await _is_marked(desk, place, statement, item):
        return
    if await _is_deleted(store, item, outcome):
        await _mark_gone(desk, place, item["key"])
    else:
        await _unmark(desk, store, place, item["key"])


async def _is_marked(desk: Desk, place: Place, statement: Statement, item: _Item) -> bool:
    """Note that an attachment is being deleted; return whether it is, and is not another one's."""
    async with desk.database.transaction() as connection:
        # What is recorded of an attachment is recorded with the ledger locked: all of it is known.
        await lock(connection)
        if item["key"] in await _kept(connection, place, statement.content, [item]):
            return False
        await connection.execute(
            "UPDATE audit_object SET removed_ms = $2, going = 1"  # noqa: S608  # placeholders and constants only
            f" WHERE object_key = $1 AND {_at_place(3)}",
            item["key"],
            desk.clock.now_ms(),
            *_place(place),
        )
    return True


async def _unmark(desk: Desk, store: ArchiveStore, place: Place, key: str) -> None:
    """Note that an attachment was not deleted, if it is certain that it is still there.

    Otherwise it counts as half deleted until the removal is tried again.
    """
    try:
        await store.look(key)
    except (PermanentError, TransientError):
        return
    async with desk.database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_object SET removed_ms = NULL, going = 0"  # noqa: S608  # placeholders and constants only
            f" WHERE object_key = $1 AND going = 1 AND {_at_place(2)}",
            key,
            *_place(place),
        )


async def _going(desk: Desk, place: Place, media: Sequence[_Item]) -> set[str]:
    """Return which attachments are half deleted."""
    query = f"SELECT object_key FROM audit_object WHERE going = 1 AND {_at_place(1)}"  # noqa: S608  # placeholders and constants only
    return await _named(desk.database, query + " AND object_key IN ({})", media, *_place(place))


async def _delete_sessions(
    desk: Desk, store: ArchiveStore, sessions: Sequence[_Item], outcome: Outcome
) -> bool:
    """Delete room keys that no segment of their day needs; return whether one is needed."""
    is_needed = False
    for item in sessions:
        if await _is_needed(desk, item["key"]):
            is_needed = True
        elif await _is_deleted(store, item, outcome):
            await _mark_sessions_gone(desk, item["key"])
    return is_needed


async def is_unproved(desk: Desk, stream: str, day: int) -> bool:
    """Return whether records of a day wait for their segment."""
    found = await desk.database.fetchval(
        "SELECT 1 FROM audit_lines WHERE stream = $1"
        " AND first_ms / 86400000 <= $2 AND last_ms / 86400000 >= $2 LIMIT 1",
        stream,
        day,
    )
    return bool(found)


async def count_left(desk: Desk, stream: str, day: int) -> int:
    """Return how many segments of a day there are, also of those that are not stored yet."""
    return int(
        await desk.database.fetchval(
            "SELECT count(*) FROM audit_segment"
            " WHERE stream = $1 AND day = $2 AND removed_ms IS NULL",
            stream,
            day,
        )
    )


_KEPT = (
    "SELECT object_key FROM audit_object WHERE ((removed_ms IS NOT NULL AND going = 0)"
    # What was being deleted when something interrupted that is still to be deleted.
    " OR EXISTS (SELECT 1"
    " FROM audit_object_day WHERE audit_object_day.place = audit_object.place"
    # A day on which something was said of it that is not before the removal: that keeps it.
    " AND audit_object_day.id = audit_object.id AND day >= $1))"
    # Another object may have the same name at another place.
    " AND {place} AND object_key IN ({keys})"
)


async def _kept(
    reader: Connection | Database,
    place: Place,
    content: Mapping[str, Any],
    media: Sequence[_Item],
) -> set[str]:
    """Return those attachments of a removal that are gone, or another one's by now."""
    since = content["created_ms"] // DAY_MS
    query = _KEPT.format(place=_at_place(2), keys="{}")
    return await _named(reader, query, media, since, *_place(place))


def _at_place(number: int) -> str:
    """Return which attachments are at a place, whose columns are the arguments from a number on."""
    return (
        "stream IN (SELECT id FROM audit_stream"  # noqa: S608  # placeholders and constants only
        f" WHERE destination = ${number} AND coalesce(endpoint_url, '') = ${number + 1})"
    )


def _place(place: Place) -> tuple[str, str]:
    return place.destination, place.endpoint_url or ""


async def _is_needed(desk: Desk, sessions_key: str) -> bool:
    """Return whether a segment of the day of room keys is left, which may need them."""
    row = await desk.database.fetchrow(
        "SELECT stream, day FROM audit_segment WHERE sessions_key = $1", sessions_key
    )
    if row is None:
        return False
    day = (str(row["stream"]), int(row["day"]))
    return bool(await count_left(desk, *day)) or await is_unproved(desk, *day)


async def _named(
    reader: Connection | Database, query: str, items: Sequence[_Item], *first: object
) -> set[str]:
    """Return those of some objects that a query finds; its first arguments come before them."""
    found: set[str] = set()
    for at in range(0, len(items), _MOST_NAMES):
        some = [item["key"] for item in items[at : at + _MOST_NAMES]]
        marks = ", ".join(f"${len(first) + number}" for number in range(1, len(some) + 1))
        rows = await reader.fetch(query.format(marks), *first, *some)
        found.update(str(row["object_key"]) for row in rows)
    return found


async def _is_deleted(store: ArchiveStore, item: _Item, outcome: Outcome) -> bool:
    act = partial(store.delete_stored, item["key"], item["version_id"])
    if not await _delete(act, item["key"], outcome):
        return False
    outcome.done += 1
    return True


async def _delete(act: Callable[[], Awaitable[None]], key: str, outcome: Outcome) -> bool:
    """Delete an object; return whether it could be, and note it if not."""
    try:
        await act()
    except (PermanentError, TransientError) as error:
        outcome.could_not(key, error)
        return False
    return True


async def _forget_copies(
    desk: Desk, store: ArchiveStore, objects: Sequence[_Item], outcome: Outcome
) -> set[str]:
    """Delete the copies for query engines of the days of segments.

    Whoever makes them again makes them of what is left. Returns the days of which a copy stayed.
    """
    stayed = set[str]()
    for day in sorted({_day_in(item["key"]) for item in objects}):
        folder = f"{desk.root}derived/parquet/dt={day}/"
        try:
            keys = [key async for key in store.list(folder)]
        except (PermanentError, TransientError) as error:
            stayed.add(day)
            outcome.could_not(folder, error)
            continue
        for key in keys:
            # Copies are of no known version.
            if not await _delete(partial(store.delete, key), key, outcome):
                stayed.add(day)
    return stayed


def _day_in(key: str) -> str:
    """Return the day in the key of an object, nothing where it has none."""
    return key.partition("/dt=")[2][:10]


async def _mark_gone(desk: Desk, place: Place, key: str) -> None:
    now_ms = desk.clock.now_ms()
    async with desk.database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_segment SET removed_ms = $2 WHERE object_key = $1", key, now_ms
        )
        await connection.execute(
            "UPDATE audit_object SET removed_ms = $2, going = 0"  # noqa: S608  # placeholders and constants only
            f" WHERE object_key = $1 AND {_at_place(3)}",
            key,
            now_ms,
            *_place(place),
        )


async def _mark_sessions_gone(desk: Desk, key: str) -> None:
    async with desk.database.transaction() as connection:
        await connection.execute(
            "DELETE FROM audit_session_key WHERE EXISTS (SELECT 1 FROM audit_segment"
            " WHERE sessions_key = $1 AND audit_segment.stream = audit_session_key.stream"
            " AND seq BETWEEN first_seq AND last_seq)",
            key,
        )
        await connection.execute(
            "UPDATE audit_segment SET sessions_key = NULL WHERE sessions_key = $1", key
        )
