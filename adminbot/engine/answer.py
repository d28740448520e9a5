"""What a command says: blocks of text, not yet formatted for anybody."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adminbot.engine.text import cut, visible

LONGEST_CSV_CELL = 255
# OWASP, "CSV Injection": what a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class Pill:
    """A person or room, by user ID, room ID or address; shown as a link, never a ping."""

    target: str


@dataclass(frozen=True)
class Mono:
    """Words somebody else chose, or a value to copy; shown in a typewriter face."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words to be seen first."""

    text: str


Span = str | Pill | Mono | Strong
Spans = tuple[Span, ...]


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    spans: Spans


@dataclass(frozen=True)
class Code:
    """Lines kept exactly as they are."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[Spans, ...]


@dataclass(frozen=True)
class Table:
    """Rows below a heading."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True)
class Facts:
    """A card: one named fact a line."""

    rows: tuple[tuple[str, Spans], ...]


Block = Paragraph | Code | Bullets | Table | Facts


@dataclass(frozen=True)
class Answer:
    """What is said in reply. A command that returns one has changed nothing."""

    blocks: tuple[Block, ...]

    def followed_by(self, *blocks: Block) -> "Answer":
        """Return the answer with more blocks at its end."""
        return Answer((*self.blocks, *blocks))


def say(*spans: Span) -> Paragraph:
    """Return one paragraph."""
    return Paragraph(spans)


def answer(*blocks: Block | str) -> Answer:
    """Return an answer; a plain string is a paragraph."""
    return Answer(tuple(Paragraph((b,)) if isinstance(b, str) else b for b in blocks))


def facts(rows: Iterable[tuple[str, Span | Spans | None]]) -> Facts:
    """Return a card without the facts that are not known (``None``)."""
    return Facts(
        tuple(
            (name, value if isinstance(value, tuple) else (value,))
            for name, value in rows
            if value is not None
        )
    )


def csv_block(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Code:
    """Return rows as comma-separated values."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return Code(out.getvalue().rstrip("\n"))


def _cell(value: object) -> str:
    text = cut("" if value is None else str(value), LONGEST_CSV_CELL)
    # A spreadsheet would run a name that begins like a formula, spaces before it or not; user
    # IDs, which remote servers choose, begin with one of these too.
    formula = text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA)
    # Spelt out, since a bare CR would begin a new row.
    shown = visible(text)
    return f"'{shown}" if formula else shown


def when(ms: int | None, now: datetime) -> str | None:
    """Return a moment as people read it, with how long ago it was; ``None`` if unknown."""
    if ms is None or ms <= 0:
        return None
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    except OverflowError:
        return f"{ms} ms"
    return f"{moment:%Y-%m-%d %H:%M} UTC ({ago(now - moment)})"


def ago(span: timedelta) -> str:
    """Return a span of time in its largest unit, as “3 days ago”."""
    seconds = int(span.total_seconds())
    if seconds < 60:  # noqa: PLR2004  # a minute
        return "just now"
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{count(seconds // size, unit)} ago"
    return "just now"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return “1 room” or “3 rooms”."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def yes_no(claim: object) -> str:
    """Return “yes” or “no”."""
    return "yes" if claim else "no"
