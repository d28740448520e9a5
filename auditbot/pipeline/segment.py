"""Which records form a segment: a deterministic cut by size, age and date; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Limits:
    """When a segment is closed: before it would grow past one of these."""

    max_bytes: int
    max_age_ms: int


class Line(msgspec.Struct, frozen=True, gc=False):
    """A record as far as the cut needs it.

    ``received_ms`` decides the day it is filed under, ``written_ms``, when it came into the
    ledger, its age: a backlog that is worked off is old but must not fall into a thousand
    pieces.
    """

    seq: int
    size: int
    received_ms: int
    written_ms: int

    @property
    def day(self) -> int:
        """Return the number of the UTC day since the epoch."""
        return self.received_ms // DAY_MS


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of records without a gap, all received on one UTC day."""

    first_seq: int
    last_seq: int
    day: int
    size: int

    @property
    def count(self) -> int:
        """Return how many records it holds."""
        return self.last_seq - self.first_seq + 1


def cut(
    lines: Iterable[Line], limits: Limits, *, now_ms: int, flush: bool = False
) -> list[Segment]:
    """Return the segments that are closed; records after the last one go on waiting.

    Args:
        lines: the uncut records of one stream in order
        limits: when a segment is closed
        now_ms: the present moment
        flush: close the last one whatever its size and age
    """
    closed: list[Segment] = []
    first: Line | None = None
    last = size = 0
    for line in lines:
        if first is not None and _parts(first, size, line, limits):
            closed.append(Segment(first.seq, last, first.day, size))
            first = None
        if first is None:
            first, size = line, 0
        last = line.seq
        size += line.size
    if first is not None and (
        flush or size >= limits.max_bytes or is_old(first.written_ms, limits, now_ms)
    ):
        closed.append(Segment(first.seq, last, first.day, size))
    return closed


def is_old(written_ms: int, limits: Limits, now_ms: int) -> bool:
    """Return whether a segment that began at ``written_ms`` has to be closed now.

    A clock that was set back must not keep a segment open for as long as it was wrong.
    """
    return (
        abs(now_ms - written_ms) >= limits.max_age_ms or now_ms // DAY_MS != written_ms // DAY_MS
    )


def due_ms(written_ms: int, limits: Limits) -> int:
    """Return the moment from which a segment that began at ``written_ms`` is old."""
    midnight = (written_ms // DAY_MS + 1) * DAY_MS
    return min(written_ms + limits.max_age_ms, midnight)


def _parts(first: Line, size: int, line: Line, limits: Limits) -> bool:
    return (
        size + line.size > limits.max_bytes
        or line.day != first.day
        or abs(line.written_ms - first.written_ms) >= limits.max_age_ms
    )
