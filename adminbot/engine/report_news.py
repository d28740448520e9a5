"""Which reports are news: told from what was told before, and nothing is lost on the way."""

import json
from dataclasses import dataclass, replace

from adminbot.engine.report import Report

LATE_MS = 600_000
"""A report may show up after a newer one: several processes of a homeserver write reports down,
and it lists one on a message only once it has the figures of its room."""

Known = tuple[int, int]
"""A report's number and when it was received. The number alone is not enough: if the newest
report is deleted, the homeserver gives its number to another one after its next start."""


@dataclass(frozen=True)
class News:
    """Up to when reports were told of (milliseconds), which of the time before that, and what is not.

    ``first``: nothing was looked at ever, so that whatever is there is no news. ``number``: up to
    which number reports were told of, as it was remembered once.
    """

    until_ms: int = 0
    told: frozenset[Known] = frozenset()
    first: bool = False
    number: int | None = None
    waiting: tuple[Report, ...] = ()

    @classmethod
    def remembered(cls, value: str | None) -> "News":
        """Return what was remembered; ``None`` is before the first look."""
        if value is None:
            return cls(first=True)
        if value.isdecimal():
            return cls(number=int(value))
        found = json.loads(value)
        return cls(found["until"], frozenset((number, ms) for number, ms in found["told"]))

    @property
    def written(self) -> str:
        """What to remember."""
        return json.dumps({"until": self.until_ms, "told": sorted(self.told)})

    @property
    def since_ms(self) -> int:
        """Before that everything was told."""
        return max(0, self.until_ms - LATE_MS)

    @property
    def untold(self) -> tuple[Report, ...]:
        """What is new, the oldest first."""
        return tuple(sorted(self.waiting, key=lambda one: (one.received_ms, one.ref.number)))

    def is_over(self, report: Report) -> bool:
        """Say whether a report, and with it all older ones, are no news."""
        return report.received_ms <= self.since_ms

    def heard(self, report: Report, now_ms: int) -> "News":
        """Return the same after one more report of the list, which goes from new to old."""
        if self.first or (self.number is not None and report.ref.number <= self.number):
            return self.told_of(report, now_ms)
        # A page may begin with what the page before ended with.
        if _known(report) in self.told or report in self.waiting:
            return self
        return replace(self, waiting=(*self.waiting, report))

    def told_of(self, report: Report, now_ms: int) -> "News":
        """Return the same after a report was told of."""
        # Where the homeserver's clock was ahead, what comes after it was put right is news too.
        until_ms = max(self.until_ms, min(report.received_ms, now_ms))
        told = {*self.told, _known(report)}
        recent = frozenset(each for each in told if each[1] > until_ms - LATE_MS)
        waiting = tuple(each for each in self.waiting if each != report)
        return replace(self, until_ms=until_ms, told=recent, waiting=waiting)


def _known(report: Report) -> Known:
    return report.ref.number, report.received_ms
