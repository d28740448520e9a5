"""Which retention class a record belongs to: decided by its room when it is recorded; pure.

EXPORT_FORMAT sections 2 and 11: the record holds a label, not a date. What a label means is written
down with the segment, so that a later change of the policy counts for later records only.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

DEFAULT = "default"
"""The class of whatever no rule names; ``auditbot.keep_days`` is for it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule may ask of a room; ``None`` is not known, and no rule that asks for it fits."""

    room_id: str | None
    alias: str | None
    type: str | None
    is_direct: bool | None
    encrypted: bool | None


@dataclass(frozen=True)
class Rule:
    """A class: for how many whole days (``None``: for ever), and which rooms belong to it.

    All conditions that are set must hold; of ``rooms`` and ``room_types`` one is enough.
    """

    name: str
    keep_days: int | None
    rooms: tuple[str, ...] = ()
    room_types: tuple[str, ...] = ()
    direct: bool | None = None
    encrypted: bool | None = None

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        if not self.rooms:
            return None
        return re.compile("|".join(f"(?:{_glob(pattern)})" for pattern in self.rooms), re.DOTALL)

    def fits(self, room: Facts) -> bool:
        """Return whether a room belongs to the class."""
        if self.direct is not None and room.is_direct is not self.direct:
            return False
        if self.encrypted is not None and room.encrypted is not self.encrypted:
            return False
        if self.room_types and room.type not in self.room_types:
            return False
        pattern = self._pattern
        return pattern is None or any(
            name is not None and pattern.fullmatch(name) for name in (room.room_id, room.alias)
        )

    def entry(self) -> dict[str, Any]:
        """Return the rule as a record says it."""
        return {
            "name": self.name,
            "keep_days": self.keep_days,
            "rooms": list(self.rooms),
            "room_types": list(self.room_types),
            "direct": self.direct,
            "encrypted": self.encrypted,
        }


@dataclass(frozen=True)
class Policy:
    """All classes in order; the first that fits wins."""

    keep_days: int | None = None
    rules: tuple[Rule, ...] = ()

    def class_of(self, room: Facts) -> str:
        """Return the class that a room's records belong to."""
        for rule in self.rules:
            if rule.fits(room):
                return rule.name
        return DEFAULT

    @cached_property
    def keeps(self) -> Mapping[str, int | None]:
        """Return for how many days each class is kept, the default one not among them."""
        return {rule.name: rule.keep_days for rule in self.rules}

    def entry(self) -> dict[str, Any]:
        """Return the policy as a record says it."""
        return {"keep_days": self.keep_days, "classes": [rule.entry() for rule in self.rules]}


NO_CLASSES = Policy()


@dataclass
class Tally:
    """The classes of a segment's records: how many of each, and how long it is kept."""

    _counts: dict[str, int] = field(default_factory=dict)
    _keeps: dict[str, int | None] = field(default_factory=dict)

    def add(self, name: str, keeps: Mapping[str, int | None]) -> None:
        """Add a record: its class, and what the classes meant when it was recorded."""
        self._counts[name] = self._counts.get(name, 0) + 1
        if name != DEFAULT:
            keep = keeps.get(name)
            known = name in self._keeps
            self._keeps[name] = _longer(self._keeps[name], keep) if known else keep

    def entry(self) -> dict[str, dict[str, int | None]] | None:
        """Return it for a manifest, ``None`` if all belong to the default class.

        The default class has no length of its own: the operator says it when they act.
        """
        if set(self._counts) <= {DEFAULT}:
            return None
        found: dict[str, dict[str, int | None]] = {}
        for name, count in sorted(self._counts.items()):
            found[name] = {"records": count}
            if name != DEFAULT:
                found[name]["keep_days"] = self._keeps[name]
        return found


def lock_days(classes: Mapping[str, Mapping[str, int | None]] | None, otherwise: int) -> int:
    """Return how long an object is to be locked: for as long as the longest class in it.

    Args:
        classes: the classes of its records, ``None`` if they are all of the default one
        otherwise: how long one is locked that holds records of the default class, or of one that
            is kept for ever: a lock needs a date
    """
    if classes is None:
        return otherwise
    days = [said.get("keep_days") for said in classes.values()]
    finite = [one for one in days if one is not None]
    return max([*finite, *([otherwise] if len(finite) < len(days) else [])])


def is_over(keep_days: int | None, day: int, today: int) -> bool:
    """Return whether what was received on a day was kept for so many whole days."""
    return keep_days is not None and day < today - keep_days


def kept_until(keep_days: Iterable[int | None], day: int) -> int | None:
    """Return the first day on which the longest of several may go, ``None`` for never."""
    longest = 0
    for days in keep_days:
        if days is None:
            return None
        longest = max(longest, days)
    return day + longest + 1


def _longer(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _glob(pattern: str) -> str:
    """Return a pattern as a regular expression; “[” is a character, as IPv6 servers have it.

    What stands between two “*” is matched where it comes first and never tried again: an alias,
    which anybody may choose, cannot make it slow.
    """
    first, *rest = (
        "".join("." if sign == "?" else re.escape(sign) for sign in part)
        for part in pattern.split("*")
    )
    if not rest:
        return first
    *middle, last = rest
    return f"{first}{''.join(f'(?>.*?{part})' for part in middle)}.*{last}"
