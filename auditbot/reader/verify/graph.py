"""The room graph: is every event archived that another one names as its parent?

Millions of events do not fit into memory by their names, so 63 bits of each one's hash go to a
file of the system's temporary directory, and DuckDB joins them within a bound of memory.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import duckdb

from auditbot.reader.verify.contents import event_hash
from auditbot.reader.verify.findings import Findings

_MEMORY = "128MB"
_FETCHED = 1000
SETTLED_MS = 7 * 86_400_000
"""After so long the writer has fetched a missing parent, or recorded that it is a gap."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of an archive was looked into.

    Args:
        newest_ms: when the newest manifest was made
        is_whole: whether all of it was; otherwise nothing can be said of what is missing
        is_complete: whether all of it could be read, and nothing was removed on purpose
    """

    newest_ms: int
    is_whole: bool
    is_complete: bool


class GraphCheck:
    """Collects what segments say of the graph; a context that removes its files."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="steward-graph-")
        self._path = Path(self._folder.name) / "edges.csv"
        self._file: BinaryIO = self._path.open("wb")
        self._streams: list[str] = []
        self.parents = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def add(self, stream: str, graph: bytes, last_ms: int) -> None:
        """Add what a segment says, of which the last record was received at a moment."""
        if not graph:
            return
        if stream not in self._streams:
            self._streams.append(stream)
        number = self._streams.index(stream)
        self.parents += graph.count(b"p,")
        self._file.write(graph.replace(b"\n", b",%d,%d\n" % (number, last_ms)))

    def finish(self, findings: Findings, extent: Extent) -> None:
        """Tell which events are there twice and which parents are missing."""
        self._file.close()
        if not self._path.stat().st_size:
            return
        with duckdb.connect(":memory:") as database:
            database.execute(f"SET memory_limit = '{_MEMORY}'")
            database.execute("SET threads = 2")
            database.execute("SET preserve_insertion_order = false")
            database.execute("SET temp_directory = $path", {"path": self._folder.name})
            database.execute(
                "CREATE TABLE edge AS SELECT * FROM read_csv($path, header = false, columns ="
                " {'what': 'VARCHAR', 'id': 'BIGINT', 'room': 'BIGINT', 'child': 'BIGINT', 'depth': 'BIGINT',"
                " 'seq': 'BIGINT', 'place': 'BIGINT', 'stream': 'INTEGER', 'last_ms': 'BIGINT'})",
                {"path": str(self._path)},
            )
            self._twice(database, findings)
            if self.parents and extent.is_whole:
                self._holes(database, findings, extent)

    def _twice(self, database: duckdb.DuckDBPyConnection, findings: Findings) -> None:
        rows = database.execute(
            "SELECT min(stream), arg_min(seq, (stream, seq)), max(stream), arg_max(seq, (stream, seq))"
            " FROM edge WHERE what = 'e' GROUP BY id HAVING count(*) > 1 ORDER BY ALL"
        )
        for one, first, other, second in _all(rows):
            name = self._streams[other]
            earlier = f" of stream {self._streams[one]}" if one != other else ""
            findings.wrong(
                "event_twice",
                f"stream {name}",
                f"Records {first}{earlier} and {second}{f' of {name}' if earlier else ''} are of "
                "the same event.",
            )

    def _holes(
        self, database: duckdb.DuckDBPyConnection, findings: Findings, extent: Extent
    ) -> None:
        # What was archived first of a room, and what is no deeper in the graph, follows what
        # was there before the export. Each stream begins anew with the first parents it tells of;
        # where that cannot be told, or a gap of another kind may stand for the event, a hole may be
        # nobody's fault.
        rows = database.execute(
            "WITH first AS (SELECT room, arg_min(id, (stream, seq)) AS id FROM edge"
            " WHERE what = 'e' GROUP BY room),"
            " begun AS (SELECT first.room, first.id, max(edge.depth) AS depth FROM first"
            " LEFT JOIN edge ON edge.what = 'p' AND edge.child = first.id GROUP BY ALL),"
            " floor AS (SELECT room, stream, arg_min(depth, (seq, place)) AS depth FROM edge"
            " WHERE what = 'p' AND place >= 0 GROUP BY room, stream),"
            " missing AS (SELECT * FROM edge AS hole WHERE what = 'p'"
            " AND NOT EXISTS (SELECT 1 FROM edge AS known"
            " WHERE known.id = hole.id AND known.what IN ('e', 'g'))"
            " AND NOT EXISTS (SELECT 1 FROM edge AS told"
            " WHERE told.id = hole.child AND told.what = 'g'))"
            " SELECT missing.stream, missing.seq, coalesce(missing.last_ms <= $settled_ms"
            " AND missing.place >= 0 AND floor.depth >= 0 AND missing.depth > floor.depth AND NOT EXISTS (SELECT 1 FROM edge AS other"
            " WHERE other.what = 'x' AND other.room IN (missing.room, $anywhere)), false)"
            " FROM missing JOIN begun USING (room) LEFT JOIN floor ON floor.room = missing.room"
            " AND floor.stream = missing.stream"
            " WHERE missing.child <> begun.id"
            " AND (missing.depth < 0 OR begun.depth IS NULL OR missing.depth > begun.depth)"
            " AND (floor.depth < 0 OR floor.depth IS NULL OR missing.depth < 0"
            " OR missing.depth > floor.depth)"
            " ORDER BY ALL",
            {"settled_ms": extent.newest_ms - SETTLED_MS, "anywhere": event_hash("")},
        )
        for stream, seq, is_settled in _all(rows):
            place = f"stream {self._streams[stream]}"
            sentence = (
                f"As record {seq} says, an event follows one that is not archived, and no gap "
                "record says so"
            )
            if is_settled and extent.is_complete:
                findings.wrong(
                    "graph_hole",
                    place,
                    f"{sentence}, although a week has passed: an event was left out.",
                )
            else:
                findings.notice("graph_hole", place, f"{sentence}.")


def _all(rows: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, ...]]:
    """Yield all rows, a few of them in memory at a time."""
    while some := rows.fetchmany(_FETCHED):
        yield from cast(list[tuple[int, ...]], some)
