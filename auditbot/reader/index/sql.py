"""Questions in SQL over all fields of the records, answered by DuckDB from the cached objects."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import zstandard

from auditbot.reader.columns import COLUMNS
from auditbot.reader.index.clear_files import ClearFile, table_of
from auditbot.reader.index.library import Library
from auditbot.reader.index.literals import literal
from auditbot.reader.layout import is_gzip
from auditbot.reader.memory import write_private
from auditbot.reader.parse import parse
from auditbot.reader.unpack import LONGEST_LINE_BYTES, lines
from common.errors import UserError

_OPENED = {name: kind for name, kind in COLUMNS.items() if name != "sealed"}
"""Where content is sealed record by record, what it says stands in its columns, if it can be opened."""
_MEMORY = "2GB"
_TABLES = (
    "The one table is “records”, a row for each record: “SELECT * FROM records LIMIT 5” shows some, "
    "“DESCRIBE records” names its columns."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question brought."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


def ask(library: Library, question: str) -> Answer:
    """Answer a question; ``records`` is the table of all records.

    The question can read the objects of this archive on this machine and nothing else. Encrypted
    ones are opened into a private folder, which is gone when the answer was read.

    Raises:
        UserError: it is no question that DuckDB understands, or there is nothing to ask.
        DamagedArchiveError: the objects are encrypted, and no identity opens them.
    """
    with ExitStack() as stack:
        clear = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="steward-sql-")))
        columns, database = _asked(library, question, clear)
        stack.callback(database.close)
        return Answer(columns, _fetched(database, stack.pop_all()))


def _asked(
    library: Library, question: str, clear: Path
) -> tuple[tuple[str, ...], duckdb.DuckDBPyConnection]:
    files = list(_files(library, clear))
    if not files:
        raise UserError("Nothing of the archive is on this machine: run “steward audit sync”.")
    database = duckdb.connect(":memory:")
    try:
        # It would stand among the rows of the answer.
        database.execute("SET enable_progress_bar = false")
        database.execute(f"SET memory_limit = '{_MEMORY}'")
        columns = {**_OPENED, "sealed_state": "VARCHAR"}
        table = table_of(files, columns, LONGEST_LINE_BYTES)
        database.execute(f"CREATE VIEW records AS {table}")
        folders = [str(library.folder / "objects"), str(clear)]
        database.execute(f"SET allowed_directories = {literal(folders)}")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        result = database.execute(question)
    except duckdb.CatalogException as error:
        database.close()
        raise UserError(f"DuckDB cannot answer this: {error}\n{_TABLES}") from None
    except duckdb.Error as error:
        database.close()
        raise UserError(f"DuckDB cannot answer this: {error}") from None
    names = tuple(str(column[0]) for column in result.description or ())
    return names, database


def _files(library: Library, folder: Path) -> Iterator[ClearFile]:
    """Yield where each object can be read in clear."""
    rows = library.connection.execute(
        "SELECT key, sha256, content FROM object WHERE state = 'indexed' ORDER BY key"
    ).fetchall()
    for key, sha256, content in rows:
        if not str(key).endswith(".age") and not content:
            yield ClearFile(str(library.cached(sha256)), is_gzip(str(key)))
            continue
        path = folder / str(sha256)
        body = library.object_body(str(key))
        write_private(path, _with_content(library, str(key), body) if content else body)
        yield ClearFile(str(path), is_gzip(str(key)) and not content)


def _with_content(library: Library, key: str, body: bytes) -> bytes:
    """Return an object with the content of its records, as far as it can be opened."""
    records = (library.contents.open(parse(line)).record for line in lines(key, body))
    return zstandard.ZstdCompressor(level=1).compress(
        b"".join(msgspec.json.encode(record) + b"\n" for record in records)
    )


def _fetched(database: duckdb.DuckDBPyConnection, held: ExitStack) -> Iterator[Sequence[Any]]:
    with held:
        try:
            while rows := database.fetchmany(1000):
                yield from rows
        except duckdb.Error as error:
            raise UserError(f"DuckDB cannot answer this: {error}") from None
