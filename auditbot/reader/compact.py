"""Segments of a day → one Parquet file for query engines: the same records, sorted, typed.

It can be made again at any time, so nothing signs it and ``verify`` does not look at it: an answer
that matters is proved with the segments that the file names. What is read here was compared with
its signature and hashes when it was indexed, and its stored bytes once more now.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from auditbot.reader.columns import COLUMNS
from auditbot.reader.index.clear_files import ClearFile, table_of
from auditbot.reader.index.library import Library
from auditbot.reader.index.literals import literal
from auditbot.reader.layout import is_gzip, segment_key
from auditbot.reader.memory import write_private
from auditbot.reader.read import Period
from auditbot.reader.unpack import LONGEST_LINE_BYTES, DamagedArchiveError
from common.errors import PermanentError

FILE = "records.parquet"
_MEMORY = "512MB"
_ROWS_IN_GROUP = 20_480
"""Few, so that one is small in memory, and a question about a room reads little of a day."""
_USUAL_LINE_BYTES = 16 * 2**20
"""DuckDB takes twice as much for each thread, never less; a day with a longer line is read anew."""
_TOO_LONG = "maximum_object_size"


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that a day is made of."""

    key: str
    sha256: str
    records: int


@dataclass(frozen=True, slots=True)
class Day:
    """The segments of a server's archive that were received on a UTC day, in order."""

    server: str
    day: date
    parts: tuple[Part, ...]

    @property
    def records(self) -> int:
        """Return how many records the day has."""
        return sum(part.records for part in self.parts)

    @property
    def is_sealed(self) -> bool:
        """Return whether any of it is encrypted to officers."""
        return any(part.key.endswith(".age") for part in self.parts)

    @property
    def segments(self) -> str:
        """Return which segments it is made of, as JSON."""
        parts = [{"key": part.key, "sha256": part.sha256} for part in self.parts]
        return json.dumps(parts, separators=(",", ":"))

    @property
    def note(self) -> str:
        """Return the name of the note beside the file: another one if a segment is another one.

        Query engines leave out what begins with an underscore.
        """
        return f"_segments-{hashlib.sha256(self.segments.encode()).hexdigest()[:32]}.json"


def days_of(library: Library, period: Period) -> list[Day]:
    """Return the days of which anything is indexed, oldest first."""
    rows = library.connection.execute(
        "SELECT key, sha256, last_seq - first_seq + 1 FROM object WHERE state = 'indexed'"
        " ORDER BY stream, first_seq"
    )
    found: dict[tuple[str, date], list[Part]] = {}
    for key, sha256, records in rows:
        named = segment_key(key)
        if named is not None and period.meets(named.day, named.day):
            found.setdefault((named.server, named.day), []).append(Part(key, sha256, records))
    return [Day(*name, tuple(parts)) for name, parts in sorted(found.items())]


def servers_of(library: Library) -> list[str]:
    """Return the servers of which anything is or was indexed: a copy outlives its last segment."""
    keys = library.connection.execute("SELECT key FROM object")
    return sorted({named.server for (key,) in keys if (named := segment_key(key)) is not None})


def write_day(library: Library, day: Day, path: Path, scratch: Path) -> None:
    """Write a day's Parquet file; memory does not grow with the day.

    Args:
        library: the index and the objects
        day: what to write
        path: the file
        scratch: a private folder for what does not fit into memory, and for what is opened

    Raises:
        DamagedArchiveError: an object is not what was indexed, or cannot be opened.
        PermanentError: the file cannot be written, or is not whole.
    """
    files = list(_files(library, day.parts, scratch))
    try:
        try:
            written = _copy(files, day, path, scratch, _USUAL_LINE_BYTES)
        except duckdb.Error as error:
            if _TOO_LONG not in str(error):
                raise
            written = _copy(files, day, path, scratch, LONGEST_LINE_BYTES)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise PermanentError(f"“{path}” cannot be written ({day.day}): {reason}") from error
    if written != day.records:
        raise PermanentError(
            f"“{path}” would hold {written:,} of the {day.records:,} records of {day.day}: "
            "nothing is kept of it."
        )


def _files(library: Library, parts: Sequence[Part], scratch: Path) -> Iterator[ClearFile]:
    """Yield where each segment can be read in clear."""
    for number, part in enumerate(parts):
        cached = library.cached(part.sha256)
        try:
            with cached.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            raise DamagedArchiveError(
                f"“{part.key}” is not on this machine: run sync again."
            ) from None
        if digest != part.sha256:
            raise DamagedArchiveError(
                f"“{part.key}” was changed on this machine: delete “{cached}” and "
                f"“{library.folder / 'index.sqlite'}”, and run sync again."
            )
        if not part.key.endswith(".age"):
            yield ClearFile(str(cached), is_gzip(part.key))
            continue
        path = scratch / f"{number}.opened"
        write_private(path, library.object_body(part.key))
        yield ClearFile(str(path), is_gzip(part.key))


def _copy(
    files: Sequence[ClearFile], day: Day, path: Path, scratch: Path, longest_line: int
) -> int:
    with duckdb.connect(":memory:") as database:
        database.execute("SET enable_progress_bar = false")
        database.execute(f"SET memory_limit = '{_MEMORY}'")
        database.execute("SET threads = 2")
        database.execute(f"SET temp_directory = {literal(str(scratch / 'spill'))}")
        about = {"steward.version": "1", "steward.segments": day.segments}
        result = database.execute(
            f"COPY (SELECT * FROM ({table_of(files, COLUMNS, longest_line)})"  # noqa: S608  # quoted, and ours
            " ORDER BY room_id NULLS FIRST, ts_received, stream, seq)"
            f" TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd,"
            f" ROW_GROUP_SIZE {_ROWS_IN_GROUP}, KV_METADATA {literal(about)})"
        )
        row = result.fetchone()
    return int(row[0]) if row else 0
