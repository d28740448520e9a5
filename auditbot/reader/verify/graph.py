"""The room graph: is every event archived that another one names as its parent?

Millions of events do not fit into memory by their names, so 63 bits of each one's hash go to a
file of the system's temporary directory, and DuckDB joins them within a bound of memory.
"""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import duckdb

from auditbot.reader.verify.findings import Findings

_MEMORY = "128MB"
_SHOWN = 20


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

    def add(self, stream: str, graph: bytes) -> None:
        """Add what a segment says."""
        if not graph:
            return
        if stream not in self._streams:
            self._streams.append(stream)
        number = self._streams.index(stream)
        self.parents += graph.count(b"p,")
        self._file.write(graph.replace(b"\n", b",%d\n" % number))

    def finish(self, findings: Findings) -> None:
        """Tell which records are there twice and which parents are missing."""
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
                " 'seq': 'BIGINT', 'stream': 'INTEGER'})",
                {"path": str(self._path)},
            )
            self._twice(database, findings)
            if self.parents:
                self._holes(database, findings)

    def _twice(self, database: duckdb.DuckDBPyConnection, findings: Findings) -> None:
        rows = database.execute(
            "SELECT stream, min(seq), max(seq) FROM edge WHERE what = 'e' GROUP BY id, stream"
            " HAVING count(*) > 1 ORDER BY stream, max(seq)"
        ).fetchmany(_SHOWN)
        for stream, first, second in cast(list[tuple[int, int, int]], rows):
            findings.wrong(
                "event_twice",
                f"stream {self._streams[stream]}",
                f"Records {first} and {second} are of the same event.",
            )

    def _holes(self, database: duckdb.DuckDBPyConnection, findings: Findings) -> None:
        # What was archived first of a room, and what is no deeper in the graph, follows what
        # was there before the export.
        rows = database.execute(
            "WITH first AS (SELECT room, arg_min(id, (stream, seq)) AS id FROM edge"
            " WHERE what = 'e' GROUP BY room),"
            " begun AS (SELECT first.room, first.id, max(edge.depth) AS depth FROM first"
            " LEFT JOIN edge ON edge.what = 'p' AND edge.child = first.id GROUP BY ALL),"
            " missing AS (SELECT * FROM edge AS hole WHERE what = 'p'"
            " AND NOT EXISTS (SELECT 1 FROM edge AS known"
            " WHERE known.id = hole.id AND known.what IN ('e', 'g'))"
            " AND NOT EXISTS (SELECT 1 FROM edge AS told"
            " WHERE told.id = hole.child AND told.what = 'g'))"
            " SELECT missing.stream, missing.seq FROM missing JOIN begun USING (room)"
            " WHERE missing.child <> begun.id"
            " AND (missing.depth < 0 OR begun.depth IS NULL OR missing.depth > begun.depth)"
            " ORDER BY ALL"
        ).fetchmany(_SHOWN)
        for stream, seq in cast(list[tuple[int, int]], rows):
            findings.notice(
                "graph_hole",
                f"stream {self._streams[stream]}",
                f"As record {seq} says, an event follows one that is not archived, and no gap "
                "record says so.",
            )
