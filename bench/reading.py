"""``python -m bench.reading 1000000``: how fast an archive is verified, indexed and searched.

``1000000v`` only verifies; ``1000000p`` makes the copy for query engines and asks both the same.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditbot.reader.columns import COLUMNS
from auditbot.reader.index.literals import literal
from bench.synthetic_archive import NEEDLE, write_archive

_PROGRAM = """
import resource, sys
from auditbot.cli import main
status = main(sys.argv[1:])
own = resource.getrusage(resource.RUSAGE_SELF)
inner = resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stderr.write(f"\\nUSED {own.ru_utime + own.ru_stime + inner.ru_utime + inner.ru_stime} "
                 f"{own.ru_maxrss} {inner.ru_maxrss}\\n")
sys.exit(status)
"""
_ASK = """
import resource, sys, duckdb
with duckdb.connect() as database:
    database.execute("SET enable_progress_bar = false")
    database.execute("SET threads = 2")
    print(database.execute(sys.argv[1]).fetchall())
own = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(f"\\nUSED {own.ru_utime + own.ru_stime} {own.ru_maxrss} 0\\n")
"""
_ROOMS_DAY = (
    "SELECT count(*), sum(length(event_json)) FROM {} WHERE dt = '2026-01-05'"
    " AND room_id = '!room7:example.org'"
)
_QUESTIONS = (
    (
        "messages by sender",
        "SELECT sender, count(*) FROM {} GROUP BY sender ORDER BY 2 DESC, 1 LIMIT 5",
    ),
    ("a word in all texts", "SELECT count(*) FROM {} WHERE body LIKE '%zanzibar%'"),
    ("a room's day", _ROOMS_DAY),
    (
        "all fields of all records",
        "SELECT sum(length(COLUMNS(* EXCLUDE dt)::VARCHAR)) FROM {}",
    ),
)


@dataclass(frozen=True, slots=True)
class Used:
    """What a command took: seconds, seconds of CPU, MiB at most of it and of its largest worker."""

    wall: float
    cpu: float
    own_mib: float
    worker_mib: float


def main(words: Sequence[str]) -> None:
    """Measure for each number of records, and print a table."""
    print("| records | what | seconds | records/s | CPU s | largest memory (+ a worker's), MiB |")
    print("|---|---|---|---|---|---|")
    for word in words:
        if word.endswith("p"):
            _measure_copy(int(word.removesuffix("p")))
        else:
            _measure(int(word.removesuffix("v")), is_searched=not word.endswith("v"))


def _measure(records: int, *, is_searched: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="steward-bench-") as name:
        folder = Path(name)
        begun = time.monotonic()
        write_archive(folder / "archive", records)
        size = sum(path.stat().st_size for path in folder.rglob("*.zst")) / 2**20
        print(
            f"| {records:,} | made, {size:,.0f} MiB | {time.monotonic() - begun:,.0f} | | | |",
            flush=True,
        )
        where = [f"--destination=file:{folder / 'archive'}", f"--home={folder / 'home'}"]
        _row(records, "verify, everything", _run("verify", *where))
        _row(records, "verify, all signatures, 10 segments", _run("verify", "--sample=10", *where))
        if not is_searched:
            return
        _row(records, "sync (index everything)", _run("sync", *where))
        search = ["search", *where, "--no-sync", "--limit=50"]
        _row(None, f"search “{NEEDLE}” (1 in 100,000)", _run(*search, NEEDLE))
        _row(None, "search two frequent words", _run(*search, "ban", "bara"))
        _row(None, "search a person's day", _run(
            *search, "--person=@person7:example.org", "--from=2026-01-05", "--to=2026-01-05"
        ))  # fmt: skip
        _tell_index(records, folder, "the index takes")
        _row(records, "sync --substrings (added to the index)", _run(
            "sync", "--substrings", *where
        ))  # fmt: skip
        _row(None, f"search --containing “{NEEDLE[2:-2]}”", _run(
            *search, f"--containing={NEEDLE[2:-2]}"
        ))  # fmt: skip
        _row(None, "search --containing “an bara”", _run(*search, "--containing=an bara"))
        _row(None, "search --containing “ba”", _run(*search, "--containing=ba"))
        _tell_index(records, folder, "the index takes, with substrings,")
        shutil.rmtree(folder / "home")
        _row(records, "sync --substrings (everything)", _run("sync", "--substrings", *where))
        shutil.rmtree(folder / "archive")


def _measure_copy(records: int) -> None:
    with tempfile.TemporaryDirectory(prefix="steward-bench-") as name:
        folder = Path(name)
        write_archive(folder / "archive", records)
        where = [f"--destination=file:{folder / 'archive'}", f"--home={folder / 'home'}"]
        _row(records, "sync (index everything)", _run("sync", *where))
        copy = ["parquet", *where, "--no-sync", f"--into={folder / 'copy'}"]
        _row(records, "parquet, every day", _run(*copy))
        _row(records, "parquet, nothing new", _run(*copy))
        for what, pattern in (("segments", "*.zst"), ("Parquet files", "*.parquet")):
            parent = folder / ("archive" if what == "segments" else "copy")
            sizes = [path.stat().st_size for path in parent.rglob(pattern)]
            size = sum(sizes) / 2**20
            print(f"| {records:,} | {len(sizes)} {what}, {size:,.0f} MiB | | | | |", flush=True)
        segments = folder / "archive/v1/example.org/events/*/*.zst"
        copied = folder / "copy/v1/example.org/derived/parquet/*/*.parquet"
        json = (
            f"read_json('{segments}', columns = {literal(COLUMNS)}, compression = 'zstd',"
            " format = 'newline_delimited', hive_partitioning = true)"
        )
        parquet = f"read_parquet('{copied}', hive_partitioning = true)"
        for what, question in _QUESTIONS:
            one, said = _ask(question.format(json))
            other, told = _ask(question.format(parquet))
            if said != told:
                sys.exit(f"{what}: {said} from the segments, {told} from the copy")
            _row(None, f"DuckDB, segments: {what}", one)
            _row(None, f"DuckDB, Parquet: {what}", other)


def _ask(question: str) -> tuple[Used, str]:
    return _used([sys.executable, "-c", _ASK, question])


def _tell_index(records: int, folder: Path, what: str) -> None:
    index = sum(path.stat().st_size for path in (folder / "home").rglob("index.sqlite*"))
    print(f"| {records:,} | {what} {index / 2**20:,.0f} MiB | | | | |", flush=True)


def _run(*words: str) -> Used:
    return _used([sys.executable, "-c", _PROGRAM, *words])[0]


def _used(words: Sequence[str]) -> tuple[Used, str]:
    begun = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  # our own program
    wall = time.monotonic() - begun
    if done.returncode:
        sys.exit(f"{words}: {done.stdout}{done.stderr}")
    cpu, own, inner = done.stderr.rpartition("USED ")[2].split()
    return Used(wall, float(cpu), int(own) / 1024, int(inner) / 1024), done.stdout


def _row(records: int | None, what: str, used: Used) -> None:
    speed = f"{records / used.wall:,.0f}" if records else ""
    count = f"{records:,}" if records else ""
    print(
        f"| {count} | {what} | {used.wall:,.1f} | {speed} | {used.cpu:,.1f} | "
        f"{used.own_mib:,.0f} (+ {used.worker_mib:,.0f}) |",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["1000000"])
