"""Counts by day → the bars of a chart; pure."""

from dataclasses import dataclass

from auditbot.reader.coverage import Coverage

WIDTH, HEIGHT = 760, 150
_MOST = 90
_WIDEST = 26.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a day's bar; the origin is at the top left."""

    part: str
    x: float
    y: float
    width: float
    height: float
    title: str


def bars(coverage: Coverage) -> list[Bar]:
    """Return the newest days' bars: read at once, read later, not read."""
    days = sorted(coverage.days.items())[-_MOST:]
    highest = max((tally.all for _, tally in days), default=0)
    if not highest:
        return []
    step = min(WIDTH / len(days), _WIDEST + 6)
    found = []
    for number, (day, tally) in enumerate(days):
        below = 0.0
        title = f"{day}: {tally.text()}"
        for part, count in (
            ("read", tally.at_once),
            ("later", tally.later),
            ("unread", tally.unread),
        ):
            # What could not be read must be seen, however little of a day it is.
            height = max(count / highest * (HEIGHT - 4), 2.0) if count else 0.0
            if height:
                found.append(
                    Bar(
                        part,
                        round(number * step, 1),
                        round(HEIGHT - below - height, 1),
                        round(step * 0.8, 1),
                        round(height, 1),
                        title,
                    )
                )
            below += height
    return found
