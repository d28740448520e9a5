"""What ``steward audit retention`` tells; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class ClassLine:
    """What becomes of the records of a class, in segments in which anything is over."""

    keeps: set[int | None] = field(default_factory=set)
    """For how many days it was to be kept when they were recorded, ``None`` for ever."""
    goes: int = 0
    longer: int = 0
    """Over, and kept by a longer class in the same segment."""
    held: int = 0
    """Over, and kept by a hold."""
    not_over: int = 0

    @property
    def kept_for(self) -> str:
        """Return for how long the class is kept."""
        days = sorted((one for one in self.keeps if one is not None), reverse=True)
        words = [f"{one:,} days" for one in days]
        return " or ".join([*(["for ever"] if None in self.keeps else []), *words])


_HEAD = ("class", "kept", "goes", "kept by a longer class", "kept by a hold", "not over")


def survey_text(days: Sequence[str], classes: Mapping[str, ClassLine]) -> str:
    """Return the days, then a table of the classes if there are others than the default one."""
    if set(classes) <= {"default"}:
        return "\n".join(days)
    rows = [_HEAD]
    for name, line in sorted(classes.items()):
        numbers = (line.goes, line.longer, line.held, line.not_over)
        goes, longer, held, not_over = (f"{number:,}" for number in numbers)
        rows.append((name, line.kept_for, goes, longer, held, not_over))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    table = [
        "  ".join(
            cell.ljust(width) if column < _WORDS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*days, "Records by class:", *table])


_WORDS = 2
"""Columns that hold words."""
