"""A limit of active remote users: when to warn, when to stop, and by what means; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

WARN_PERCENT = 80


class Stage(StrEnum):
    """How a bridge stands against its limit."""

    UNLIMITED = "unlimited"
    BELOW = "below"
    NEAR = "near"
    ABOVE = "above"


class Means(StrEnum):
    """How a bridge is kept from sending."""

    OWN = "own limit"
    SUSPEND = "suspending ghosts"
    HOOK = "operator's hook"


@dataclass(frozen=True)
class Standing:
    """What is known at one moment.

    ``active`` are the active ghosts, the newest last; ``suspended`` those that we suspended.
    ``by_hand`` is a pause that a person asked for.
    """

    limit: int | None
    active: Sequence[str]
    paused: bool
    warned: bool
    by_hand: bool = False


@dataclass(frozen=True)
class Decision:
    """What follows: tell of it, pause or resume."""

    stage: Stage
    warn: bool = False
    pause: bool = False
    resume: bool = False
    forget_warning: bool = False


def stage_of(limit: int | None, active: int) -> Stage:
    """Return where a count stands; above begins after the limit, as in Element's bridges."""
    if limit is None:
        return Stage.UNLIMITED
    if active > limit:
        return Stage.ABOVE
    return Stage.NEAR if active * 100 >= limit * WARN_PERCENT else Stage.BELOW


def decide(standing: Standing) -> Decision:
    """Return what a count means for a bridge now."""
    stage = stage_of(standing.limit, len(standing.active))
    held = standing.by_hand
    return Decision(
        stage=stage,
        warn=stage is Stage.NEAR and not standing.warned,
        pause=not standing.paused and (held or stage is Stage.ABOVE),
        resume=standing.paused and not held and stage is not Stage.ABOVE,
        forget_warning=standing.warned and stage in {Stage.BELOW, Stage.UNLIMITED},
    )


def ladder(*, own: bool, ghosts: bool, hook: bool, by_hand: bool = False) -> tuple[Means, ...]:
    """Return by what a bridge is stopped, best first.

    Its own limit needs nothing of us; suspending stops what comes from the remote side; a hook
    of the operator's stops both directions. A pause asked for by hand is no matter of the
    bridge's own limit.
    """
    if own and not by_hand:
        return (Means.OWN,)
    means = [Means.SUSPEND] if ghosts else []
    if hook:
        means.append(Means.HOOK)
    return tuple(means)


def beyond(standing: Standing, ghosts: Sequence[str]) -> list[str]:
    """Return the ghosts that may not send: all while paused by hand, else those over the limit.

    The first ``limit`` active ones go on; everybody who is not active yet stays out, or the
    count would grow while it is paused.
    """
    if standing.by_hand or standing.limit is None:
        return list(ghosts)
    kept = set(standing.active[: standing.limit])
    return [ghost for ghost in ghosts if ghost not in kept]
