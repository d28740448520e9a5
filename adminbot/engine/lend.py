"""adminbot lends nobody more power than they have: what their own client could not do is refused.

The bots stand above everybody in a room, so what is done there through adminbot is judged first
by the asking person's own power: for the act, against whom it is done, and for each number that
changes. A server admin who asks in private acts by that right instead.

Source: Matrix specification v1.18, "Authorization rules" of room version 12 (and of 10 and 11,
which differ only by its creators).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from adminbot.engine.actor import Caller
from common.errors import UserError
from common.i18n import Msg, t
from common.ids import UserId
from common.matrix.power import DEFAULT_STATE_LEVEL, Power, RoomPowers, level_in

POWER_LEVELS = "m.room.power_levels"
_DEFAULTS = {
    "ban": 50,
    "kick": 50,
    "redact": 50,
    "invite": 0,
    "events_default": 0,
    "users_default": 0,
    "state_default": DEFAULT_STATE_LEVEL,
}
_AGAINST = ("kick", "ban", "unban")


def must_lend(refusal: Msg | None) -> None:
    """Raise a ``UserError`` where something is not lent."""
    if refusal is not None:
        raise UserError(refusal)


def lend_act(caller: Caller, *acts: str) -> Msg | None:
    """Return why somebody's own power does not suffice for an act; ``None`` where it does.

    ``acts`` are ``ban``, ``kick``, ``redact``, ``invite`` or types of state events.
    """
    power = _own(caller)
    if power is None:
        return None
    missing = next((act for act in acts if not power.may(act)), None)
    if missing is None:
        return None
    return t(
        "This room asks for power level {needed} for that (“{act}”); you have {level}.",
        needed=power.needed(missing),
        act=missing,
        level=power.level,
    )


def lend_against(caller: Caller, act: str, user: UserId, powers: RoomPowers) -> Msg | None:
    """Return why somebody may not ``kick``, ``ban`` or ``unban`` somebody else."""
    assert act in _AGAINST  # noqa: S101  # a slip of ours
    # Lifting a ban is a kick of who is banned: the rules ask for both.
    refusal = lend_act(caller, *(("ban", "kick") if act == "unban" else (act,)))
    return refusal or lend_above(caller, user, powers)


def lend_above(caller: Caller, user: UserId, powers: RoomPowers) -> Msg | None:
    """Return why somebody does not stand above somebody else."""
    power = _own(caller)
    if power is None or user == caller.actor.user:
        return None
    theirs = powers.of(user)
    if theirs.creator:
        return t("{user} created this room; nobody in it can do that to them.", user=user)
    if power.creator or power.level > theirs.level:
        return None
    return t(
        "{user} has power level {theirs} and you have {level}: you can only do that to people "
        "with less than you.",
        user=user,
        theirs=theirs.level,
        level=power.level,
    )


def lend_levels(caller: Caller, powers: RoomPowers, wanted: Mapping[str, Any]) -> Msg | None:
    """Return why somebody may not change the power levels to these."""
    refusal = lend_act(caller, POWER_LEVELS)
    power = _own(caller)
    if refusal is not None or power is None or power.creator:
        return refusal
    current = powers.levels or {}
    for name, before, after in _changes(current, wanted):
        highest = max(level for level in (before, after) if level is not None)
        if highest > power.level:
            return t(
                "You have power level {level}, so you cannot change “{name}” from {before} to "
                "{after}.",
                level=power.level,
                name=name,
                before=_written(before),
                after=_written(after),
            )
    return _people(caller, power, current, wanted)


def _people(
    caller: Caller, power: Power, current: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Msg | None:
    for user, before, after in _differences(current.get("users"), wanted.get("users")):
        if after is not None and after > power.level:
            return t(
                "You have power level {level} and cannot give {user} more than that.",
                level=power.level,
                user=user,
            )
        if user != caller.actor.user and before is not None and before >= power.level:
            return t(
                "{user} has power level {theirs} and you have {level}: only people with less "
                "than you can be given another one.",
                user=user,
                theirs=before,
                level=power.level,
            )
    return None


def _own(caller: Caller) -> Power | None:
    """Return by which power to judge; ``None`` for a server admin acting as such.

    Whoever is not in the room has none at all.
    """
    if caller.acts_as_server_admin:
        return None
    target = caller.target
    if target is None or target.power is None:
        return Power(-(2**53), creator=False, levels={})
    return target.power


def _changes(
    current: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield each number that is not one person's, before and after; ``None`` is not given."""
    for name, usual in _DEFAULTS.items():
        before, after = level_in(current, name), level_in(wanted, name)
        if before != after:
            # What is not given counts as what it stands for, which the rules do not ask:
            # taking a limit away is as much as setting it.
            yield name, usual if before is None else before, usual if after is None else after
    for part in ("events", "notifications"):
        for name, before, after in _differences(current.get(part), wanted.get(part)):
            yield name, before, after


def _differences(current: object, wanted: object) -> Iterator[tuple[str, int | None, int | None]]:
    old = current if isinstance(current, Mapping) else {}
    new = wanted if isinstance(wanted, Mapping) else {}
    for name in sorted({str(name) for name in (*old, *new)}):
        before, after = level_in(old, name), level_in(new, name)
        if before != after:
            yield name, before, after


def _written(level: int | None) -> str:
    return t("not given") if level is None else str(level)
