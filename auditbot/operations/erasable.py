"""What ``steward audit erase`` finds: the keys that would be destroyed, and the holds against it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from auditbot.operations.desk import Desk, Place, day_text
from auditbot.operations.holds import Hold, active
from auditbot.operations.retention import names, rooms_of
from auditbot.pipeline.hostile import key as database_key
from auditbot.pipeline.seal import lines_in
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Row
from common.errors import UserError


@dataclass(frozen=True, slots=True)
class KeyToErase:
    """A key of a stream: of a day, or of content of a day and class or of a person."""

    stream: str
    place: Place
    key: str
    version_id: str | None
    sha256: str
    size: int
    records: int
    """How many records are sealed to it at most."""
    is_content: bool = False
    day: int | None = None
    label: str | None = None
    person: str | None = None

    def entry(self) -> dict[str, Any]:
        """Return its entry in the document."""
        entry: dict[str, Any] = {
            "key": self.key,
            "version_id": self.version_id,
            "sha256": self.sha256,
            "size": self.size,
            "stream": self.stream,
        }
        if self.day is not None:
            entry["day"] = day_text(self.day)
        if self.label is not None:
            entry["class"] = self.label
        if self.person is not None:
            entry["person"] = self.person
        return entry

    def text(self) -> str:
        """Return it for people."""
        what = self.person if self.person is not None else day_text(self.day or 0)
        label = f"  {self.label}" if self.label is not None else ""
        return f"{what}  {self.stream}  {self.records:9,} records{label}"


@dataclass(frozen=True, slots=True)
class Found:
    """What would be destroyed, and what stands against it."""

    keys: Sequence[KeyToErase]
    held_by: Sequence[Hold]
    person: str | None = None
    label: str | None = None

    def text(self) -> str:
        """Return it for people."""
        lines = [key.text() for key in self.keys]
        lines += [f"HELD by {hold.text}" for hold in self.held_by]
        return "\n".join(lines)


async def of_days(desk: Desk, first_day: int, last_day: int, label: str | None) -> Found:
    """Find the keys of days, both ends included; with a label those of one retention class.

    Raises:
        UserError: there are none, or one is not yet ready.
    """
    whole: Sequence[Row] = ()
    if label is None:
        whole = await desk.database.fetch(
            "SELECT audit_day_key.*, destination, endpoint_url FROM audit_day_key"
            " JOIN audit_stream ON audit_stream.id = stream"
            " WHERE day BETWEEN $1 AND $2 AND state <> 'erased' ORDER BY day, stream",
            first_day,
            last_day,
        )
    content = await desk.database.fetch(
        f"{_CONTENT} AND day BETWEEN $1 AND $2 AND ($3 = '' OR label = $3)"
        " ORDER BY day, stream, label, number",
        first_day,
        last_day,
        label or "",
    )
    if not whole and not content:
        raise UserError(
            "There is no day's key to destroy then. Only what was archived with auditbot.erasable "
            "can be erased; “steward audit retention” deletes whole objects."
        )
    keys = [await _of_day(desk, row, is_content=False) for row in whole]
    keys += [await _of_day(desk, row, is_content=True) for row in content]
    begin, end = first_day * DAY_MS, (last_day + 1) * DAY_MS - 1
    # Nobody here can read what the days hold: whatever a hold may name of them is held.
    held = [hold for hold in await active(desk) if hold.meets(begin, end)]
    return Found(keys, held, label=label)


async def of_person(desk: Desk, person: str) -> Found:
    """Find the keys of a person, in all streams.

    Raises:
        UserError: there are none, or one is not yet ready.
    """
    rows = await desk.database.fetch(
        f"{_CONTENT} AND person = $1 ORDER BY stream, number", database_key(person)
    )
    if not rows:
        raise UserError(
            f"There is no key of {person} to destroy. Only what was archived with “erasable: "
            "person” can be erased by person, and a new key is there after some minutes."
        )
    for row in rows:
        if row["state"] != "stored" or row["manifest"] is None:
            raise UserError(
                f"A key of {person} is not stored and listed yet: try again in half an hour."
            )
    keys = [await _of_person(desk, row, person) for row in rows]
    held = [hold for hold in await active(desk) if await _keeps(desk, hold, person)]
    return Found(keys, held, person=person)


async def still_held(
    desk: Desk, items: Sequence[dict[str, Any]], holding: Sequence[Hold]
) -> list[str]:
    """Return a sentence for each of a document's keys of which something is held by now."""
    told: list[str] = []
    for text in sorted({str(item["day"]) for item in items if "day" in item}):
        begin = (date.fromisoformat(text) - date(1970, 1, 1)).days * DAY_MS
        told += _sentence(text, [one for one in holding if one.meets(begin, begin + DAY_MS - 1)])
    for person in sorted({str(item["person"]) for item in items if "person" in item}):
        keeping = [one for one in holding if await _keeps(desk, one, person)]
        told += _sentence(person, keeping)
    return told


def _sentence(what: str, keeping: Iterable[Hold]) -> list[str]:
    held = ", ".join(hold.id for hold in keeping)
    return [f"{what} is held since ({held}): it was to be erased, and waits."] if held else []


_CONTENT = (
    "SELECT audit_content_key.*, destination, endpoint_url FROM audit_content_key"
    " JOIN audit_stream ON audit_stream.id = stream WHERE state <> 'erased' AND erasable <> 0"
)


async def _of_day(desk: Desk, row: Row, *, is_content: bool) -> KeyToErase:
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
    label = str(row["label"]) if is_content else None
    return _key(row, int(records), is_content=is_content, day=day, label=label)


async def _of_person(desk: Desk, row: Row, person: str) -> KeyToErase:
    records = await desk.database.fetchval(
        "SELECT count(*) FROM audit_seen WHERE kind = 'event' AND stream = $1 AND sender = $2",
        row["stream"],
        row["person"],
    )
    return _key(row, int(records), is_content=True, person=person)


def _key(row: Row, records: int, **what: Any) -> KeyToErase:
    return KeyToErase(
        str(row["stream"]),
        Place(row["destination"], row["endpoint_url"], None),
        row["object_key"],
        row["version_id"],
        row["sha256"],
        row["size"],
        records,
        **what,
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
            (f"%-{stream}-{day_text(day)}%.age",),
        ),
    ):
        if await desk.database.fetchrow(f"{question} LIMIT 1", *arguments) is not None:
            return True
    return False


async def _keeps(desk: Desk, hold: Hold, person: str) -> bool:
    """Return whether a hold names anything that a person wrote.

    Who wrote where stays readable, so that can be looked up; where it need not be, it is not.
    """
    if (not hold.users and not hold.rooms) or person in hold.users:
        return True
    rooms = await rooms_of(desk, hold)
    theirs = await desk.database.fetch(
        "SELECT room_id FROM audit_member WHERE user_id = $1", database_key(person)
    )
    if {str(row["room_id"]) for row in theirs} & (rooms | hold.rooms):
        return True
    segments = await desk.database.fetch(
        "SELECT object_key, audit_segment.version_id, destination, endpoint_url FROM audit_segment"
        " JOIN audit_stream ON audit_stream.id = audit_segment.stream"
        " WHERE audit_segment.stream IN (SELECT stream FROM audit_content_key WHERE person = $1)"
        " AND state = 'uploaded' AND removed_ms IS NULL ORDER BY audit_segment.stream, first_seq",
        database_key(person),
    )
    by_place: dict[Place, list[Row]] = {}
    for row in segments:
        place = Place(row["destination"], row["endpoint_url"], None)
        by_place.setdefault(place, []).append(row)
    for place, rows in by_place.items():
        async with desk.store(place) as store:
            for row in rows:
                body = await store.get(row["object_key"], row["version_id"])
                records = (msgspec.json.decode(line) for line in lines_in(body))
                if any(one.get("sender") == person and names(hold, one, rooms) for one in records):
                    return True
    return False
