"""Objects in clear on this machine → a table of their records for DuckDB, however compressed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from auditbot.reader.index.literals import literal


class ClearFile(NamedTuple):
    """Where an object can be read in clear; its name here does not tell how it is compressed."""

    path: str
    gzipped: bool


def table_of(files: Sequence[ClearFile], columns: Mapping[str, str], longest_line: int) -> str:
    """Return the SQL of a query for all records of at least one file.

    Args:
        files: where they are
        columns: the columns, each with its type
        longest_line: of how many bytes a line may be
    """
    parts = []
    for compression, gzipped in (("zstd", False), ("gzip", True)):
        paths = [file.path for file in files if file.gzipped is gzipped]
        if paths:
            parts.append(
                f"SELECT * FROM read_json({literal(paths)}, columns = {literal(dict(columns))},"  # noqa: S608  # quoted, and ours
                f" format = 'newline_delimited', compression = '{compression}',"
                f" maximum_object_size = {longest_line})"
            )
    return " UNION ALL ".join(parts)
