"""Read an archive: every record in the order in which it was written, and what is missing.

Nothing here shares code with what writes archives: a mistake on one side cannot hide itself on
the other. An object is fetched whole (tens of megabytes at most) and unpacked piece by piece.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any, Protocol, cast

from auditbot.reader.day_keys import DayKeys
from auditbot.reader.layout import NEWER, VERSION, is_otherwise_packed
from auditbot.reader.open_sealed import unseal
from auditbot.reader.parse import parse
from auditbot.reader.sealed import Contents, Wrapped, key_name
from auditbot.reader.unpack import DamagedArchiveError, lines
from auditbot.storage.reading import Item

_DAY_MS = 86_400_000

_KEY = re.compile(
    r"v1/(?P<server>[^/]+)/events/dt=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/"
    r"(?P<stream>[^/]+)-(?P<seq>[0-9]{12,18})\.jsonl\.(?:zst|gz)(?:\.age)?"
)


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time by when records were received; either end may be open."""

    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """Return the first moment in it and the first after it, for a database to compare."""
        return (
            self.start_ms if self.start_ms is not None else -(2**63),
            self.end_ms if self.end_ms is not None else 2**63 - 1,
        )

    def holds(self, moment_ms: object) -> bool:
        """Return whether a moment lies in it; the end itself does not."""
        if not isinstance(moment_ms, int):
            return self.start_ms is None and self.end_ms is None
        return (self.start_ms is None or moment_ms >= self.start_ms) and (
            self.end_ms is None or moment_ms < self.end_ms
        )

    def meets(self, first: date, last: date) -> bool:
        """Return whether any moment from one UTC day to another, both included, lies in it."""
        return (self.start_ms is None or _begin_ms(last) + _DAY_MS > self.start_ms) and (
            self.end_ms is None or _begin_ms(first) < self.end_ms
        )


ALWAYS = Period()


class Readable(Protocol):
    """Whatever can list and get."""

    def list(self, prefix: str) -> AsyncIterator[str] | AsyncIterator[Item]:
        """Yield what begins with ``prefix``, by its key or with more."""
        ...

    async def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A record as far as it can be read, and its exact line without the newline."""

    record: dict[str, Any]
    line: bytes
    content: bytes | None = None
    """The exact bytes of what was sealed of it, if that was opened."""


@dataclass(frozen=True, slots=True)
class _Object:
    """An object as far as its key tells; the fields are in the order of reading."""

    server: str
    day: date
    stream: str
    first_seq: int
    key: str

    @property
    def place(self) -> tuple[str, str, int]:
        """Return where it stands in its stream."""
        return self.server, self.stream, self.first_seq


async def object_keys(store: Readable, period: Period = ALWAYS) -> list[str]:
    """Return the keys of the objects with records, in the order of their records."""
    return [found.key for found in await _objects(store) if period.meets(found.day, found.day)]


async def read(
    store: Readable,
    period: Period = ALWAYS,
    *,
    missing: list[str] | None = None,
    identities: Sequence[str] = (),
) -> AsyncIterator[Found]:
    """Yield every record received in a period.

    Args:
        store: where the archive is
        period: which records are wanted
        missing: is given a sentence for each place where records are missing that may be of the
            period: the numbers of a stream have no gaps, within objects and from one to the next
        identities: age identities, for what is encrypted

    Raises:
        DamagedArchiveError: an object cannot be read; the sentence names it and the place.
    """
    day_keys = DayKeys(store)
    opening = _Opening(day_keys, identities)
    gaps: list[str] = [] if missing is None else missing
    objects = await _objects(store, gaps)
    before, after = _neighbours(objects)
    for item in objects:
        wanted = period.meets(item.day, item.day)
        following = after.get(item)
        # A hole is between two objects: that of the last day before it says where it begins.
        checked = following is not None and period.meets(
            min(item.day, following.day), max(item.day, following.day)
        )
        if item not in before and item.first_seq and period.meets(date.min, item.day):
            gaps.append(_hole(item.stream, 0, item.first_seq))
        if not wanted and not checked:
            continue
        expected = item.first_seq
        body = await _clear(store, day_keys, item.key, identities)
        for number, line in enumerate(lines(item.key, body), start=1):
            record = _record(item.key, number, line)
            seq = record.get("seq")
            if seq != expected:
                gaps.append(
                    f"“{item.key}”, line {number}: record {seq} is where {expected} belongs."
                )
            expected = seq + 1 if isinstance(seq, int) else expected + 1
            if wanted and period.holds(record.get("ts_received")):
                yield await opening.found(record, line)
        if following is not None and following.first_seq != expected:
            gaps.append(_hole(item.stream, expected, following.first_seq))


class _Opening:
    """Opens the content of records, with keys that are fetched as they are needed."""

    def __init__(self, day_keys: DayKeys, identities: Sequence[str]) -> None:
        self._day_keys = day_keys
        self._wrapped: dict[str, Wrapped] = {}
        self._contents = Contents(identities, self._wrapped.__getitem__)

    async def found(self, record: dict[str, Any], line: bytes) -> Found:
        """Return a record as far as it can be read."""
        if isinstance(record.get("sealed"), str):
            name = key_name(record)
            if name not in self._wrapped:
                has_identity = bool(self._contents.identities)
                wrapped = await self._day_keys.wrapped(name) if has_identity else None
                self._wrapped[name] = Wrapped(wrapped)
        opened = self._contents.open(record)
        return Found(opened.record, line, opened.content)


async def _clear(store: Readable, day_keys: DayKeys, key: str, identities: Sequence[str]) -> bytes:
    body = await store.get(key)
    if not key.endswith(".age"):
        return body
    return unseal(key, body, identities, await day_keys.get(key))


async def _objects(store: Readable, unread: list[str] | None = None) -> list[_Object]:
    """Return the objects with records in the order of reading: by day, then by number.

    Args:
        store: where the archive is
        unread: is given a sentence for each object that only a newer version can read
    """
    found = []
    async for listed in store.list("v1/"):
        key = listed if isinstance(listed, str) else listed.key
        if is_otherwise_packed(key) and unread is not None:
            unread.append(NEWER.format(what=f"“{key}”"))
        parts = _KEY.fullmatch(key)
        day = _day(parts["day"]) if parts is not None else None
        if parts is not None and day is not None:
            # Numbers grow beyond 12 digits one day; as text they would be out of order.
            found.append(_Object(parts["server"], day, parts["stream"], int(parts["seq"]), key))
    return sorted(found, key=lambda item: (item.server, item.day, item.stream, item.first_seq))


def _neighbours(
    objects: Sequence[_Object],
) -> tuple[dict[_Object, _Object], dict[_Object, _Object]]:
    """Return which object of its stream comes before each, and which after."""
    ordered = sorted(objects, key=lambda item: item.place)
    pairs = [
        (one, other)
        for one, other in pairwise(ordered)
        if (one.server, one.stream) == (other.server, other.stream)
    ]
    return {other: one for one, other in pairs}, dict(pairs)


def _hole(stream: str, expected: int, found: int) -> str:
    if found < expected:
        return f"Stream {stream}: records {found} to {expected - 1} are there twice."
    return f"Stream {stream}: records {expected} to {found - 1} are missing."


def _record(key: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        record: Any = parse(line)
    except ValueError as error:
        raise DamagedArchiveError(f"“{key}”, line {number}, is no JSON.") from error
    if not isinstance(record, dict):
        raise DamagedArchiveError(f"“{key}”, line {number}, is no record.")
    if isinstance(record.get("v"), int) and record["v"] > VERSION:
        raise DamagedArchiveError(NEWER.format(what=f"“{key}”, line {number},"))
    return cast(dict[str, Any], record)


def _day(text: str) -> date | None:
    """Return the day that a key names, ``None`` for one that no calendar has."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _begin_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
