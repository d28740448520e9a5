"""When to say that a bridge stopped answering, and that it is back; pure.

A single look may meet a restart: it is told at the second in a row that finds it away.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outage:
    """How it stands with one bridge: away since when, and whether that was told."""

    since_ms: int | None = None
    told: bool = False


@dataclass(frozen=True)
class Noticed:
    """What a look means: how it stands from now on, and what to tell."""

    after: Outage
    tell_down: bool = False
    tell_back: bool = False


def noticed(before: Outage, *, up: bool | None, expected: bool, now_ms: int) -> Noticed:
    """Return what a look at a bridge means.

    Args:
        before: how it stood
        up: whether it answered; ``None`` if that could not be asked, which means nothing
        expected: whether it is away because we stopped it
        now_ms: the moment
    """
    if up is None:
        return Noticed(before)
    if up:
        return Noticed(Outage(), tell_back=before.told)
    if before.since_ms is None:
        return Noticed(Outage(now_ms))
    if before.told or expected:
        return Noticed(before)
    return Noticed(Outage(before.since_ms, told=True), tell_down=True)
