"""``steward audit erase``: destroy days of an erasable archive, and keep the proof of what was there.

What is destroyed is the key of a day, never an object: sizes, hashes, counts, order and tree stay
as they were signed. It is announced first by a signed document, and refused where a hold meets the
day; the refusal is recorded too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from auditbot.day_keys import forget_day
from auditbot.operations.desk import Desk, Place, as_listed, day_text
from auditbot.operations.holds import Hold, active
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Row
from common.errors import PermanentError, TransientError, UserError


@dataclass(frozen=True, slots=True)
class DayToErase:
    """The key of one stream's day."""

    stream: str
    day: int
    place: Place
    key: str
    version_id: str | None
    sha256: str
    size: int
    records: int

    def entry(self) -> dict[str, Any]:
        """Return its entry in the document."""
        return {
            "key": self.key,
            "version_id": self.version_id,
            "sha256": self.sha256,
            "size": self.size,
            "stream": self.stream,
            "day": day_text(self.day),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What would be destroyed, and what stands against it."""

    days: Sequence[DayToErase]
    held_by: Sequence[Hold]

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"{day_text(day.day)}  {day.stream}  {day.records:9,} records" for day in self.days
        ]
        lines += [f"HELD by {hold.text}" for hold in self.held_by]
        return "\n".join(lines)


async def survey(desk: Desk, *, first_day: int, last_day: int) -> Found:
    """Find the keys of days, both ends included.

    Raises:
        UserError: a day cannot be erased, and why.
    """
    if last_day >= desk.clock.now_ms() // DAY_MS:
        raise UserError("A day can be erased once it is over (UTC).")
    rows = await desk.database.fetch(
        "SELECT audit_day_key.*, destination, endpoint_url FROM audit_day_key"
        " JOIN audit_stream ON audit_stream.id = stream"
        " WHERE day BETWEEN $1 AND $2 AND state <> 'erased' ORDER BY day, stream",
        first_day,
        last_day,
    )
    if not rows:
        raise UserError(
            "There is no day's key to destroy then. Only what was archived with auditbot.erasable "
            "can be erased; “steward audit retention” deletes whole objects."
        )
    days = [await _day(desk, row) for row in rows]
    begin, end = first_day * DAY_MS, (last_day + 1) * DAY_MS - 1
    # Nobody here can read what the days hold: whatever a hold may name of them is held.
    held = [hold for hold in await active(desk) if hold.meets(begin, end)]
    return Found(days, held)


async def apply(desk: Desk, found: Found, *, reason: str) -> str:
    """Destroy the keys; return what to tell. Whatever interrupts it, it can be repeated.

    Raises:
        UserError: a hold keeps the days; that it was refused is recorded.
    """
    if found.held_by:
        await _refuse(desk, found, reason)
        held = ", ".join(hold.id for hold in found.held_by)
        raise UserError(f"Nothing was erased: the days are held ({held}). That is recorded.")
    by_place: dict[Place, list[DayToErase]] = {}
    for day in found.days:
        by_place.setdefault(day.place, []).append(day)
    for place, days in by_place.items():
        await _announce(desk, place, days, reason)
    return await carry_out(desk)


async def carry_out(desk: Desk) -> str:
    """Store the documents that were decided, and destroy the keys that they name.

    What was interrupted and is held since waits until that is released.
    """
    destroyed, refused, waiting = 0, [], list[str]()
    holding = await active(desk)
    for place, statement in await desk.unpublished("erasures/"):
        held = list(_held(statement.content, holding))
        waiting += held
        if held:
            continue
        async with desk.store(place) as store:
            await desk.publish(store, statement)
            for item in statement.content["day_keys"]:
                try:
                    await store.delete(item["key"], item["version_id"])
                except (PermanentError, TransientError) as error:
                    refused.append(f"{item['key']}: {error}")
                else:
                    destroyed += 1
                    await _forget(desk, item)
    told = f"{destroyed:,} keys were destroyed."
    if refused:
        told += (
            f"\n{len(refused):,} were not, because the store refused; they are tried again next "
            f"time. The first: {refused[0]}"
        )
    return "\n".join([told, *waiting])


def _held(document: dict[str, Any], holding: Sequence[Hold]) -> Iterator[str]:
    """Yield a sentence for each day of a document that is held."""
    for text in sorted({str(item["day"]) for item in document["day_keys"]}):
        begin = (date.fromisoformat(text) - date(1970, 1, 1)).days * DAY_MS
        names = [hold.id for hold in holding if hold.meets(begin, begin + DAY_MS - 1)]
        if names:
            yield f"{text} is held since ({', '.join(names)}): it was to be erased, and waits."


async def _day(desk: Desk, row: Row) -> DayToErase:
    stream, day = str(row["stream"]), int(row["day"])
    if row["state"] != "stored" or row["manifest"] is None or await _is_waiting(desk, row):
        raise UserError(
            f"Not all of {day_text(day)} is stored and listed yet: try again in half an hour."
        )
    records = await desk.database.fetchval(
        "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM audit_segment"
        " WHERE stream = $1 AND day = $2",
        stream,
        day,
    )
    return DayToErase(
        stream,
        day,
        Place(row["destination"], row["endpoint_url"], None),
        row["object_key"],
        row["version_id"],
        row["sha256"],
        row["size"],
        int(records),
    )


async def _is_waiting(desk: Desk, row: Row) -> bool:
    """Return whether something of a day is still to be encrypted to its key, or to be listed."""
    stream, day = str(row["stream"]), int(row["day"])
    for question, arguments in (
        (
            "SELECT 1 FROM audit_segment WHERE stream = $1 AND day = $2 AND manifest IS NULL",
            (stream, day),
        ),
        (
            "SELECT 1 FROM audit_lines WHERE stream = $1 AND last_ms >= $2 AND first_ms < $3",
            (stream, day * DAY_MS, (day + 1) * DAY_MS),
        ),
        (
            "SELECT 1 FROM audit_object WHERE manifest IS NULL AND object_key LIKE $1",
            (f"%-{stream}-{day_text(day)}.age",),
        ),
    ):
        if await desk.database.fetchrow(f"{question} LIMIT 1", *arguments) is not None:
            return True
    return False


async def _announce(desk: Desk, place: Place, days: Sequence[DayToErase], reason: str) -> None:
    document: dict[str, Any] = {
        "type": "steward.erasure",
        "id": desk.new_id(),
        "created_ms": desk.clock.now_ms(),
        "actor": desk.actor,
        "reason": reason,
        "day_keys": [day.entry() for day in days],
    }
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        there = place
        if writing is not None:
            there = await as_listed(connection, place, writing.stream)
        key = f"erasures/{document['id']}.json"
        statement = await desk.state(connection, there, key, document)
        if writing is not None:
            writing.control(
                actor=desk.actor,
                action="erasure",
                detail={
                    "document": statement.key,
                    "destination": place.destination,
                    "reason": reason,
                    "days": [day_text(day.day) for day in days],
                    "records": sum(day.records for day in days),
                },
            )
            await writing.write(connection)


async def _refuse(desk: Desk, found: Found, reason: str) -> None:
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        if writing is not None:
            writing.control(
                actor=desk.actor,
                action="erasure_refused",
                detail={
                    "reason": reason,
                    "days": sorted({day_text(day.day) for day in found.days}),
                    "holds": [hold.id for hold in found.held_by],
                },
            )
            await writing.write(connection)


async def _forget(desk: Desk, item: dict[str, Any]) -> None:
    async with desk.database.transaction() as connection:
        row = await connection.fetchrow(
            "SELECT stream, day FROM audit_day_key WHERE object_key = $1", item["key"]
        )
        if row is not None:
            await forget_day(connection, str(row["stream"]), int(row["day"]))
