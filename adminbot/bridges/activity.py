"""Counting active remote users as Element's bridges do; pure.

A ghost counts when it sent on at least N distinct UTC days of the last 31
(matrix-appservice-bridge, ``UserActivityTracker``: ``minUserActiveDays``,
``inactiveAfterDays``). What is counted is what a remote person sends: messages, stickers,
reactions, votes, in clear or encrypted; joining, renaming and other state is the bridge's doing.
"""

from collections.abc import Mapping

WINDOW_DAYS = 31
_DAY_MS = 86_400_000

COUNTED = frozenset(
    {
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.reaction",
        "m.poll.start",
        "m.poll.response",
        "org.matrix.msc3381.poll.start",
        "org.matrix.msc3381.poll.response",
    }
)


def day_of(origin_ms: int) -> int:
    """Return the UTC day of a moment, as a number of days since 1970."""
    return origin_ms // _DAY_MS


def counted_day(
    event_type: object, state_key: object, origin_ms: object, now_ms: int
) -> int | None:
    """Return the day for which an event counts, or ``None`` if it does not count.

    An event dated into the future counts for today: a bridge may not open days beforehand.
    """
    if state_key is not None or event_type not in COUNTED:
        return None
    if not isinstance(origin_ms, int) or isinstance(origin_ms, bool) or origin_ms < 0:
        return None
    return min(day_of(origin_ms), day_of(now_ms))


def first_day(today: int) -> int:
    """Return the first day that still counts."""
    return today - WINDOW_DAYS + 1


def active(days: Mapping[str, Mapping[int, int]], *, today: int, at_least: int) -> list[str]:
    """Return the ghosts that count, in order of the moment in which each became active.

    Who became active last is last, so that a limit falls on them.

    Args:
        days: of each ghost the days on which it sent, and when first on each (milliseconds)
        today: the last day that counts
        at_least: on how many days
    """
    since = first_day(today)
    found: list[tuple[int, str]] = []
    for ghost, sent_on in days.items():
        within = sorted(day for day in sent_on if since <= day <= today)
        if len(within) >= at_least:
            found.append((sent_on[within[at_least - 1]], ghost))
    return [ghost for _, ghost in sorted(found)]
