"""What ``steward audit erase`` finds: the keys that would be destroyed, and the holds against it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from auditbot.content_keys import BY_PERSON, LAST_SEQ, SEAL_CONTENT
from auditbot.gaps import READER
from auditbot.operations.desk import Desk, Place, day_text
from auditbot.operations.held import Segment, names, rooms_of, rooms_of_person
from auditbot.operations.holds import Hold, active
from auditbot.operations.recorded import recorded, said_by, unsealed
from auditbot.pipeline.hostile import key as database_key
from auditbot.pipeline.retention import DEFAULT
from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Connection, Database, Row
from common.errors import UserError
from common.inbox.backlog import waits_of


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
    """How many records are sealed to it; of a day or class those that say nothing count too."""
    is_content: bool = False
    of_nobody: bool = False
    """Whether people have keys of their own there, and this one is for what nobody sent."""
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
        if any(key.of_nobody for key in self.keys):
            lines.append(
                "Where each person has a key of their own, only what nobody sent goes with a day, "
                "and only that is counted. What people sent stays: “--person” destroys their keys."
            )
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
            "can be erased; “steward audit retention” deletes whole objects. What people sent where "
            "each person has a key of their own (“erasable: person”) is erased with --person."
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
    await check_whole(desk, desk.database, person, keys)
    held = [hold for hold in await active(desk) if await _keeps(desk, hold, person)]
    return Found(keys, held, person=person)


async def check_whole(
    desk: Desk, reader: Connection | Database, person: str, keys: Sequence[KeyToErase]
) -> None:
    """Refuse if something that a person sent until now is, or will be, sealed to another key.

    Args:
        desk: the tools
        reader: where it is looked up
        person: whose keys are to be destroyed
        keys: all that were found

    Raises:
        UserError: it is; it can be repeated when that is stored.
    """
    rows = await reader.fetch(
        "SELECT object_key FROM audit_content_key JOIN audit_stream ON audit_stream.id = stream"
        " WHERE person = $1 AND until_seq IS NULL AND erasable <> 0",
        database_key(person),
    )
    is_new = {row["object_key"] for row in rows} - {key.key for key in keys}
    if is_new or await _is_unsealed(desk, reader, person):
        raise UserError(
            f"What {person} sent lately is not all stored and listed yet: try again in half an hour."
        )


async def _is_unsealed(desk: Desk, reader: Connection | Database, person: str) -> bool:
    """Return whether what a person sent waits for a key that is not made yet."""
    streams = await reader.fetch(
        "SELECT id, (SELECT max(coalesce(until_seq, $3)) FROM audit_content_key"
        " WHERE stream = audit_stream.id AND person = $1) AS until_seq FROM audit_stream"
        " WHERE erasable = $2 AND seal = $4 AND EXISTS (SELECT 1 FROM audit_lines"
        " WHERE audit_lines.stream = audit_stream.id)",
        database_key(person),
        BY_PERSON,
        LAST_SEQ,
        SEAL_CONTENT,
    )
    for row in streams:
        until_seq = row["until_seq"] or 0
        if until_seq >= LAST_SEQ:
            continue
        async for record in unsealed(desk, reader, str(row["id"])):
            if record["sender"] == person and said_by(record) >= until_seq:
                return True
    return False


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


_NOT_YET = "Not all of {} is stored and listed yet: try again in half an hour."
_CONTENT = (
    "SELECT audit_content_key.*, destination, endpoint_url, erasable FROM audit_content_key"
    " JOIN audit_stream ON audit_stream.id = stream WHERE state <> 'erased' AND erasable <> 0"
)


async def _of_day(desk: Desk, row: Row, *, is_content: bool) -> KeyToErase:
    day = int(row["day"])
    if row["state"] != "stored" or row["manifest"] is None:
        raise UserError(_NOT_YET.format(day_text(day)))
    await check_day(desk, desk.database, str(row["stream"]), day)
    if not is_content:
        records = await _count_day(desk, row, None)
        return _key(row, records, day=day)
    label = str(row["label"])
    what: dict[str, Any] = {"is_content": True, "day": day, "label": label}
    if row["erasable"] == BY_PERSON:
        return _key(row, await _count_sealed(desk, row), of_nobody=True, **what)
    return _key(row, await _count_day(desk, row, label), **what)


async def _count_day(desk: Desk, row: Row, label: str | None) -> int:
    """Return how many records of a day a key is for; with a label those of that class."""
    begin, end = (0, LAST_SEQ) if label is None else await _numbers(desk, row)
    segments = await desk.database.fetch(
        "SELECT last_seq - first_seq + 1 AS records, classes FROM audit_segment WHERE stream = $1"
        " AND day = $2 AND removed_ms IS NULL AND last_seq >= $3 AND first_seq < $4",
        row["stream"],
        row["day"],
        begin,
        end,
    )
    return sum(_in_class(segment, label) for segment in segments)


def _in_class(segment: Row, label: str | None) -> int:
    if label is None:
        return int(segment["records"])
    if segment["classes"] is None:
        return int(segment["records"]) if label == DEFAULT else 0
    said = json.loads(segment["classes"]).get(label)
    return 0 if said is None else int(said["records"])


async def _count_sealed(desk: Desk, row: Row) -> int:
    """Return how many records of a day are sealed to its key, as they say it where they lie."""
    segments = await desk.database.fetch(
        "SELECT object_key, version_id, sha256 FROM audit_segment WHERE stream = $1 AND day = $2"
        " AND removed_ms IS NULL ORDER BY first_seq",
        row["stream"],
        row["day"],
    )
    found = 0
    async with desk.store(Place(row["destination"], row["endpoint_url"], None)) as store:
        for segment in segments:
            there = Segment(segment["object_key"], segment["version_id"], segment["sha256"])
            lines = [_sealed.decode(line) for line in await there.lines(store)]
            found += sum(line.sealed_to == row["object_key"] for line in lines)
    return found


class _Sealed(msgspec.Struct, frozen=True):
    """What of a line tells which key opens it."""

    sealed_to: str | None = None


_sealed = msgspec.json.Decoder(_Sealed)


async def _numbers(desk: Desk, row: Row) -> tuple[int, int]:
    """Return the numbers of the records that a key is for, the second one exclusive."""
    begin = await desk.database.fetchval(
        "SELECT max(until_seq) FROM audit_content_key WHERE stream = $1 AND scope = $2"
        " AND number < $3",
        row["stream"],
        row["scope"],
        row["number"],
    )
    return begin or 0, LAST_SEQ if row["until_seq"] is None else row["until_seq"]


async def _of_person(desk: Desk, row: Row, person: str) -> KeyToErase:
    # What was learnt later of what they sent counts too; it has the key of that in its stream.
    # No index knows who sent what: the table is read once, in its own order, which the index on
    # "kind" would only hinder.
    records = await desk.database.count(
        "SELECT count(*) FROM audit_seen AS said CROSS JOIN audit_seen AS one"
        " WHERE said.kind || '' = 'event' AND said.sub_key = '' AND said.sender = $2"
        " AND one.kind IN ('event', 'decryption', 'media')"
        " AND one.event_id = said.event_id AND one.stream = $1"
        " AND ((said.stream = $1 AND said.seq >= $3 AND said.seq < $4)"
        " OR (said.stream <> $1 AND one.seq >= $3 AND one.seq < $4))",
        row["stream"],
        row["person"],
        *await _numbers(desk, row),
    )
    return _key(row, records, is_content=True, person=person)


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


async def check_day(desk: Desk, reader: Connection | Database, stream: str, day: int) -> None:
    """Refuse if something of a day is still to be recorded, sealed to its key, or listed.

    What is recorded only once the key is destroyed would come back for all officers.

    Args:
        desk: the tools
        reader: where it is looked up
        stream: the key's
        day: counted since the epoch

    Raises:
        UserError: it is; and what to do.
        TransientError: the inbox cannot be read.
    """
    begin_ms, end_ms = day * DAY_MS, (day + 1) * DAY_MS
    if await waits_of(
        reader,
        desk.config.database.url.reveal(),
        READER,
        desk.auditbot,
        begin_ms=begin_ms,
        end_ms=end_ms,
    ):
        raise UserError(
            f"Not all that came on {day_text(day)} is recorded yet, and it would be readable in the "
            "archive afterwards. Nothing was erased: let Steward run, and try again in half an hour."
        )
    if await reader.fetchrow(
        "SELECT 1 FROM inbox_set_aside WHERE reader = $1 AND received_ms >= $2"
        " AND received_ms < $3 LIMIT 1",
        READER,
        begin_ms,
        end_ms,
    ):
        raise UserError(
            f"Something that came on {day_text(day)} could not be recorded and was set aside; it would "
            "be readable in the archive once it is. Nothing was erased: “steward inbox list” shows "
            "it, “steward inbox retry” has it tried again; then erase."
        )
    if await _is_waiting(reader, stream, day):
        raise UserError(_NOT_YET.format(day_text(day)))


async def _is_waiting(reader: Connection | Database, stream: str, day: int) -> bool:
    """Return whether something of a day is still to be encrypted to its key, or to be listed."""
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
        if await reader.fetchrow(f"{question} LIMIT 1", *arguments) is not None:
            return True
    return False


async def _keeps(desk: Desk, hold: Hold, person: str) -> bool:
    """Return whether a hold names anything that a person wrote.

    Who wrote where stays readable, so that can be looked up; where it need not be, it is not.
    """
    if (not hold.users and not hold.rooms) or person in hold.users:
        return True
    rooms = await rooms_of(desk, hold)
    if await rooms_of_person(desk, person) & (rooms | hold.rooms):
        return True
    streams = await desk.database.fetch(
        "SELECT DISTINCT stream FROM audit_content_key WHERE person = $1 ORDER BY stream",
        database_key(person),
    )
    for row in streams:
        async for record in recorded(desk, str(row["stream"])):
            if record["sender"] == person and names(hold, record, rooms):
                return True
    return False
