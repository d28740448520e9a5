"""Where time comes from, so that everything else can be given any time in a test."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The present moment."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def now_ms(self) -> int:
        """Return the wall-clock time in milliseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps; only differences mean anything."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251  # this is the clock that others inject

    def now_ms(self) -> int:
        """Return the wall-clock time in milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""
        return time.monotonic()
