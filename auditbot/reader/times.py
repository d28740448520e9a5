"""Moments, spans of time and numbers of things for people."""

from datetime import UTC, datetime, timedelta, tzinfo

MOST_INTERVALS = 1.5
SLACK_MS = 60_000
"""After so many of its intervals and so much more a stream without a new manifest was silent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS


def moment(moment_ms: object, zone: tzinfo = UTC) -> str:
    """Return a moment to the second, or that there is none."""
    when = local(moment_ms, zone)
    return when.strftime("%Y-%m-%d %H:%M:%S") if when else "(no time)"


def local(moment_ms: object, zone: tzinfo = UTC) -> datetime | None:
    """Return a moment in a time zone, ``None`` where no calendar has it."""
    if not isinstance(moment_ms, int):
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone)
    except (OverflowError, ValueError):
        return None


def counted(number: int, one: str, several: str = "") -> str:
    """Return how many of something, in words; ``several`` where it is not ``one`` and an “s”."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def span(length_ms: int) -> str:
    """Return how long something took, in the unit that fits."""
    for unit, name in ((_DAY_MS, "days"), (_HOUR_MS, "hours"), (_MINUTE_MS, "minutes")):
        if length_ms >= 2 * unit:
            return f"{length_ms // unit} {name}"
    return f"{max(length_ms, 0) // 1000} seconds"
