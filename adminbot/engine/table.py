"""Tables from files that people send: comma-separated values as spreadsheets write them.

The file is hostile: its size, its encoding and its shape are bounded, and every error names the
line. Source: RFC 4180; spreadsheets write semicolons or tabs too, and a byte order mark first.
"""

import codecs
import csv
import io
from dataclasses import dataclass

from common.errors import UserError
from common.i18n import t

LONGEST_CELL = 1_000
MOST_COLUMNS = 50
_DELIMITERS = (";", "\t", ",")
# What our own files put before a cell that a spreadsheet would run; see ``csv_file``.
_GUARDED = ("'=", "'+", "'-", "'@")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class TableRow:
    """One row, with the number of the line that it ends on."""

    line: int
    cells: tuple[str, ...]


def decoded(data: bytes) -> str:
    """Return a file's text: UTF-8, or what its byte order mark says."""
    encoding = "utf-8"
    for mark, name in _MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], name
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            t(
                "The file is not UTF-8 (line {line}); save it as “CSV UTF-8”.",
                line=line,
            )
        ) from None
    if "\x00" in text:
        raise UserError(t("The file is no text; save it as “CSV UTF-8”."))
    return text


def rows_of(text: str, *, most: int) -> tuple[TableRow, ...]:
    """Return the rows that are not empty, cells without spaces around them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    found: list[TableRow] = []
    try:
        for cells in reader:
            row = TableRow(reader.line_num, tuple(_plain(cell) for cell in cells))
            if any(row.cells):
                _check(row)
                found.append(row)
            if len(found) > most:
                raise UserError(t("The file has too many lines: at most {most}.", most=most))
    except csv.Error as error:
        raise UserError(t("Line {line}: {why}", line=reader.line_num, why=str(error))) from None
    return tuple(found)


def _check(row: TableRow) -> None:
    if len(row.cells) > MOST_COLUMNS:
        raise UserError(t("Line {line}: there are too many columns.", line=row.line))
    if any(len(cell) > LONGEST_CELL for cell in row.cells):
        raise UserError(t("Line {line}: a cell is too long.", line=row.line))


def _delimiter(text: str) -> str:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return max(_DELIMITERS, key=first.count)


def _plain(cell: str) -> str:
    cell = cell.strip()
    return cell[1:] if cell.startswith(_GUARDED) else cell
