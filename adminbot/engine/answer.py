"""What a command says: blocks of text, not yet formatted for anybody."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from adminbot.engine.text import cut, visible
from common.i18n import Msg, n, t

LONGEST_CSV_CELL = 4_000
# OWASP, "CSV Injection": what a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class Pill:
    """A person or room, by user ID, room ID or address; shown as a link, never a ping."""

    target: str

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True)
class Mono:
    """Words somebody else chose, or a value to copy; shown in a typewriter face."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Strong:
    """Words to be seen first."""

    text: str

    def __str__(self) -> str:
        return self.text


Span = str | Pill | Mono | Strong
"""A piece of text. A ``Msg`` is translated; a value of it may be one of the others."""
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


Value = bool | int | float | str | None
Block = Paragraph | Code | Bullets | Table | Facts


@dataclass(frozen=True)
class Records:
    """Named columns of values as a program has them, not yet as a spreadsheet reads them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __repr__(self) -> str:
        return f"Records({self.columns!r}, {len(self.rows)} rows)"  # it may hold passwords


@dataclass(frozen=True)
class File:
    """Something to download, or a picture; sent after the words."""

    name: str
    content_type: str
    data: bytes
    table: "Records | None" = None
    """What it was made of, if it is comma-separated values."""

    def __repr__(self) -> str:
        return f"File({self.name!r}, {len(self.data)} bytes)"  # it may hold passwords


@dataclass(frozen=True)
class Button:
    """A reaction under an answer; who may, and reacts with it, has given the command."""

    key: str
    label: str
    command: str


@dataclass(frozen=True)
class Answer:
    """What is said in reply. A command that returns one has changed nothing.

    ``private`` is for the eyes of who asked alone (passwords, tokens): it goes into their direct
    chat, and is taken back after a while.
    """

    blocks: tuple[Block, ...]
    files: tuple[File, ...] = ()
    buttons: tuple[Button, ...] = ()
    private: "Answer | None" = None

    def followed_by(self, *blocks: Block) -> "Answer":
        """Return the answer with more blocks at its end."""
        return replace(self, blocks=(*self.blocks, *blocks))

    def with_file(self, *files: File) -> "Answer":
        """Return the answer with more files."""
        return replace(self, files=(*self.files, *files))

    def for_programs(self) -> "Answer":
        """Return the answer with its tables as JSON, not as comma-separated values."""
        return replace(
            self,
            files=tuple(map(_as_json, self.files)),
            private=None if self.private is None else self.private.for_programs(),
        )


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


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> File:
    """Return rows as comma-separated values (RFC 4180, UTF-8), safe to open in a spreadsheet."""
    records = Records(tuple(columns), tuple(tuple(map(_plain, row)) for row in rows))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in records.rows)
    return File(name, "text/csv", out.getvalue().encode("utf-8", "replace"), records)


def _as_json(file: File) -> File:
    """Return a table as a list of objects (RFC 8259), one a line; other files as they are.

    Values are what they are: numbers, ``true``, ``null``, and texts whole and without the guard
    against formulas, which no program runs.
    """
    if file.table is None:
        return file
    lines = (
        json.dumps(
            dict(zip(file.table.columns, map(_plain, row), strict=True)), ensure_ascii=False
        )
        for row in file.table.rows
    )
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    name = f"{file.name.removesuffix('.csv')}.json"
    return File(name, "application/json", text.encode("utf-8", "replace"), file.table)


def _plain(value: object) -> Value:
    # By its very type: a member of an enumeration is a text here.
    return value if value is None or type(value) in {bool, int, float, str} else str(value)  # type: ignore[return-value]  # mypy narrows no type() in a set


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
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
    moment = moment_of(ms)
    if moment is None:
        return f"{ms} ms"
    return t("{moment} ({ago})", moment=written(moment), ago=ago(now - moment))


def lately(ms: int | None, now: datetime) -> str | None:
    """Return a moment as short as a column wants it: how long ago or, after a month, its day."""
    moment = None if ms is None or ms <= 0 else moment_of(ms)
    if moment is None:
        return when(ms, now)
    near = abs(now - moment) < timedelta(days=30)
    return ago(now - moment) if near else f"{moment.astimezone(UTC):%Y-%m-%d}"


def moment_of(ms: int) -> datetime | None:
    """Return a moment from milliseconds since 1970; ``None`` for what no calendar has."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    except OverflowError:
        return None


def written(moment: datetime) -> str:
    """Return a moment as it is written: to the minute, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(span: timedelta) -> Msg:
    """Return how long ago, or until when, in its largest unit, as “3 days ago”."""
    seconds = int(span.total_seconds())
    if -60 < seconds < 60:  # noqa: PLR2004  # a minute
        return t("just now")
    # Whole sentences: in other languages the days in one look different from the days alone.
    return _ahead(-seconds) if seconds < 0 else _past(seconds)


def _ahead(seconds: int) -> Msg:
    if days := seconds // 86_400:
        return n("in {count} day", "in {count} days", days)
    if hours := seconds // 3_600:
        return n("in {count} hour", "in {count} hours", hours)
    return n("in {count} minute", "in {count} minutes", seconds // 60)


def _past(seconds: int) -> Msg:
    if days := seconds // 86_400:
        return n("{count} day ago", "{count} days ago", days)
    if hours := seconds // 3_600:
        return n("{count} hour ago", "{count} hours ago", hours)
    return n("{count} minute ago", "{count} minutes ago", seconds // 60)


def lasting(span: timedelta) -> Msg:
    """Return a span of time in its largest unit, as “3 days”."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, _days), (3_600, _hours), (60, _minutes)):
        if seconds >= size:
            return unit(seconds // size)
    return n("{count} second", "{count} seconds", seconds)


def _days(number: int) -> Msg:
    return n("{count} day", "{count} days", number)


def _hours(number: int) -> Msg:
    return n("{count} hour", "{count} hours", number)


def _minutes(number: int) -> Msg:
    return n("{count} minute", "{count} minutes", number)


_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def size(number: int) -> str:
    """Return a number of bytes as people read it, as “1.5 MiB”."""
    value, power = float(number), 0
    while abs(value) >= 1024 and power < len(_SIZES) - 1:  # noqa: PLR2004  # IEC 80000-13
        value, power = value / 1024, power + 1
    return f"{value:.0f} {_SIZES[power]}" if power == 0 else f"{value:.1f} {_SIZES[power]}"


def yes_no(claim: object) -> Msg:
    """Return “yes” or “no”."""
    return t("yes") if claim else t("no")
