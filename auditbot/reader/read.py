"""Read an archive: every record in the order in which it was written.

Nothing here shares code with what writes archives: a mistake on one side cannot hide itself on
the other. An object is fetched whole (tens of megabytes at most) and unpacked piece by piece.
"""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, cast

import msgspec
import zstandard

from auditbot.storage.port import ObjectStore
from common.errors import PermanentError

CHUNK_BYTES = 1024
"""Packed bytes unpacked at a time: at zstd's highest ratio they become some 30 MiB."""
LONGEST_LINE_BYTES = 64 * 2**20
"""No record is as long; a damaged or malicious object must not fill the memory."""

_KEY = re.compile(
    r"v1/(?P<server>[^/]+)/events/dt=(?P<day>\d{4}-\d{2}-\d{2})/"
    r"(?P<stream>[^/]+)-(?P<seq>\d{12,})\.jsonl\.zst"
)


class DamagedArchiveError(PermanentError):
    """An object of the archive is not what was written."""


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time by when records were received; either end may be open."""

    start_ms: int | None = None
    end_ms: int | None = None

    def holds(self, moment_ms: object) -> bool:
        """Return whether a moment lies in it; the end itself does not."""
        if not isinstance(moment_ms, int):
            return self.start_ms is None and self.end_ms is None
        return (self.start_ms is None or moment_ms >= self.start_ms) and (
            self.end_ms is None or moment_ms < self.end_ms
        )

    def meets(self, day: date) -> bool:
        """Return whether any moment of a UTC day lies in it."""
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
        return (self.start_ms is None or start + 86_400_000 > self.start_ms) and (
            self.end_ms is None or start < self.end_ms
        )


ALWAYS = Period()


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and its exact line without the newline."""

    record: dict[str, Any]
    line: bytes


async def object_keys(store: ObjectStore, period: Period = ALWAYS) -> list[str]:
    """Return the keys of the objects with records, in the order of their records."""
    found = []
    async for key in store.list("v1/"):
        parts = _KEY.fullmatch(key)
        if parts is not None and period.meets(date.fromisoformat(parts["day"])):
            # Numbers grow beyond 12 digits one day; as text they would be out of order.
            order = (parts["server"], parts["day"], parts["stream"], int(parts["seq"]))
            found.append((order, key))
    return [key for _, key in sorted(found)]


async def read(store: ObjectStore, period: Period = ALWAYS) -> AsyncIterator[Found]:
    """Yield every record received in a period.

    Raises:
        DamagedArchiveError: an object cannot be read; the sentence names it and the place.
    """
    for key in await object_keys(store, period):
        body = await store.get(key)
        for number, line in enumerate(lines(key, body), start=1):
            try:
                record = msgspec.json.decode(line)
            except ValueError as error:
                raise DamagedArchiveError(f"“{key}”, line {number}, is no JSON.") from error
            if not isinstance(record, dict):
                raise DamagedArchiveError(f"“{key}”, line {number}, is no record.")
            if period.holds(record.get("ts_received")):
                yield Found(cast(dict[str, Any], record), line)


def lines(key: str, body: bytes) -> Iterator[bytes]:
    """Yield the lines of an object of one or more zstd frames."""
    rest = b""
    for piece in _unpacked(key, body):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > LONGEST_LINE_BYTES:
            raise DamagedArchiveError(f"“{key}” holds a line that no record can be.")
    if rest:
        raise DamagedArchiveError(f"“{key}” ends in the middle of a line.")


def _unpacked(key: str, body: bytes) -> Iterator[bytes]:
    """Unpack frame by frame: the library's own reader takes a cut-off frame for the end."""
    unpacker = zstandard.ZstdDecompressor()
    frame = unpacker.decompressobj()
    try:
        for start in range(0, len(body), CHUNK_BYTES):
            chunk = body[start : start + CHUNK_BYTES]
            while chunk:
                if frame.eof:
                    frame = unpacker.decompressobj()
                yield frame.decompress(chunk)
                chunk = frame.unused_data
    except zstandard.ZstdError as error:
        raise DamagedArchiveError(f"“{key}” is damaged: {error}.") from error
    if not frame.eof:
        raise DamagedArchiveError(f"“{key}” is cut off.")
