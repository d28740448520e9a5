"""Rows → CSV, JSON Lines and Parquet. ``context`` are the roots that are only around others."""

import csv
import json
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, TextIO

import duckdb

from auditbot.reader.conversation import Message
from auditbot.reader.render.audiences import NOT_COUNTED, Audiences
from auditbot.reader.render.rows import COLUMNS, NUMBERS, Row, as_json, row_of
from auditbot.reader.render.words import shown_line, spelled
from common.errors import PermanentError

_FORMULA = frozenset("=+-@\t\r|%＝＋－＠")
"""What begins a formula, or a command of an old spreadsheet, in some program."""


def guarded(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe stands before it."""
    if not isinstance(value, str):
        return value
    text = value.replace("\x00", "⟨U+0000⟩")
    return f"'{text}" if text.lstrip()[:1] in _FORMULA and text.strip() else text


def _told(value: object) -> object:
    """Return a cell in which nothing turns the direction of the text and nothing is invisible."""
    return spelled(value) if isinstance(value, str) else value


def write_csv(
    messages: Iterable[Message],
    file: TextIO,
    zone: tzinfo = UTC,
    context: Collection[int] = (),
    *,
    readers: Audiences | None = None,
    is_seen: bool = False,
) -> int:
    """Write comma-separated values (RFC 4180); return how many messages.

    Args:
        messages: what is written
        file: where
        zone: in which times are
        context: the roots of those that are only around others
        readers: who could read what; without it nobody is counted
        is_seen: whether it goes to a terminal, which would obey what is in texts
    """
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    count = 0
    for message in messages:
        row = asdict(_row(message, zone, context, readers))
        cells = [guarded(_told(row[name])) for name in COLUMNS]
        if is_seen:
            cells = [shown_line(cell) if isinstance(cell, str) else cell for cell in cells]
        writer.writerow(cells)
        count += 1
    return count


def write_jsonl(
    messages: Iterable[Message],
    file: TextIO,
    zone: tzinfo = UTC,
    context: Collection[int] = (),
    *,
    readers: Audiences | None = None,
) -> int:
    """Write one JSON object a line, in ASCII; return how many messages."""
    count = 0
    for message in messages:
        is_context = message.root in context
        counts = NOT_COUNTED if readers is None else readers.counts(message)
        found = as_json(message, zone, is_context=is_context, readers=counts)
        file.write(json.dumps(found) + "\n")
        count += 1
    return count


def write_parquet(
    messages: Iterable[Message],
    path: Path,
    zone: tzinfo = UTC,
    context: Collection[int] = (),
    *,
    readers: Audiences | None = None,
) -> int:
    """Write a Parquet file that only its owner may read; return how many messages.

    Raises:
        PermanentError: the file cannot be written.
    """
    try:
        # DuckDB makes its file as the umask says: in a folder that nobody else may enter, and on
        # the same disk, so that it can be moved.
        with tempfile.TemporaryDirectory(prefix=".steward-rows-", dir=path.parent) as name:
            folder = Path(name)
            made = folder / "rows.parquet"
            rows = (_row(message, zone, context, readers) for message in messages)
            count = _write_rows(rows, made, folder / "rows.jsonl")
            made.chmod(0o600)
            made.replace(path)
    except OSError as error:
        raise PermanentError(f"“{path}” cannot be written: {error.strerror}.") from error
    except duckdb.Error as error:
        raise PermanentError(f"“{path}” cannot be written: {error}.") from error
    return count


def _row(
    message: Message, zone: tzinfo, context: Collection[int], readers: Audiences | None
) -> Row:
    counts = NOT_COUNTED if readers is None else readers.counts(message)
    return row_of(message, zone, is_context=message.root in context, readers=counts)


def _write_rows(found: Iterable[Row], path: Path, lines: Path) -> int:
    count = 0
    with lines.open("w", encoding="utf-8") as file:
        for one in found:
            row: dict[str, Any] = asdict(one)
            # DuckDB refuses lone surrogates, which a hostile text may hold.
            file.write(json.dumps(_sound(row), ensure_ascii=False) + "\n")
            count += 1
    columns = {name: "BIGINT" if name in NUMBERS else "VARCHAR" for name in COLUMNS}
    with duckdb.connect(":memory:") as database:
        database.execute("SET enable_progress_bar = false")
        rows = database.read_json(str(lines), columns=columns, format="newline_delimited")
        rows.write_parquet(str(path), compression="zstd")
    return count


def _sound(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
