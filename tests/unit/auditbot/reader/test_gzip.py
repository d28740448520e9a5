"""Segments in gzip, beside those in zstd or alone, are read, proved and guarded like the others."""

import asyncio
import json
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import duckdb
import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.pipeline.seal import Compression, compress, lines_in
from auditbot.reader.cli import main
from auditbot.reader.unpack import DamagedArchiveError, lines, unpacked
from auditbot.reader.verify.findings import Severity
from common.database.pool import Database
from tests.support.archive_maker import Maker, fingerprint, key_number
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import message, new_room
from tests.unit.auditbot.reader.test_tampering import verified
from tests.unit.auditbot.test_operations import TODAY, Office

KEY = "v1/example.org/events/dt=2025-11-24/s-000000000000.jsonl.gz"
BODIES = [f"word{number}" for number in range(10)]


def packed(*frames: list[bytes]) -> bytes:
    return b"".join(compress(frame, Compression.GZIP) for frame in frames)


@given(
    frames=st.lists(
        st.lists(st.binary(max_size=50).map(lambda data: data.replace(b"\n", b"")), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_members_read_back_as_one_file_and_are_the_same_each_time(
    frames: list[list[bytes]],
) -> None:
    body = packed(*([line + b"\n" for line in frame] for frame in frames))

    assert list(lines(KEY, body)) == [line for frame in frames for line in frame]
    assert body == packed(*([line + b"\n" for line in frame] for frame in frames))
    assert body[3:8] == bytes(5), "neither a name nor a time"


@pytest.mark.skipif(shutil.which("zcat") is None, reason="zcat is not installed")
def test_the_plain_gzip_tool_reads_a_body_of_many_members(tmp_path: Path) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(packed([b"1\n", b"2\n"], [b"3\n"]))

    done = subprocess.run(["zcat", str(file)], capture_output=True, check=True)

    assert done.stdout == b"1\n2\n3\n"
    assert lines_in(file.read_bytes()) == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (packed([b"1\n"], [b"2\n"])[:-1], "cut off"),
        (packed([b"1\n"])[:9], "cut off"),
        (b"", "cut off"),
        (packed([b"1\n"]) + b"rest", "damaged"),
        (packed([b"1\n"])[:-8] + bytes(8), "damaged"),
        (compress([b"1\n"]), "damaged"),
        (packed([b"1\n2"]), "middle of a line"),
    ],
)
def test_what_is_no_whole_gzip_says_so(body: bytes, words: str) -> None:
    with pytest.raises(DamagedArchiveError, match=words):
        list(lines(KEY, body))


def test_a_bomb_fills_no_memory() -> None:
    bomb = packed([bytes(100 * 2**20)])

    tracemalloc.start()
    with pytest.raises(DamagedArchiveError, match="no record can be"):
        list(lines(KEY, bomb))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 95 * 2**20, "less than what was packed"
    pieces = unpacked(KEY, bomb)
    assert max(len(piece) for _, piece in pieces) < 20 * 2**20


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """An archive whose writer was set from zstd to gzip and back."""
    maker = Maker(tmp_path / "archive")
    fill(maker)
    return maker


def fill(maker: Maker, suffix: str = "") -> None:
    maker.publish_key()
    maker.describe()
    for gzipped in (False, True, False, True):
        maker.gzipped = gzipped
        for body in BODIES:
            maker.message(f"{body} of {len(maker.segments)}")
        maker.segment(suffix)
        maker.manifest()


def types(maker: Maker, *words: str) -> int:
    where = (f"--destination=file:{maker.root}", f"--home={maker.root.parent / 'home'}")
    return main([*words, *where])


async def test_a_stream_may_hold_both(maker: Maker) -> None:
    result = await verified(maker)

    assert not result.findings.of(Severity.WRONG)
    assert result.records == 4 * len(BODIES)
    assert [key.rpartition(".")[2] for key in maker.segments] == ["zst", "gz"] * 2


def test_an_officer_finds_reads_and_copies_both(
    maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert types(maker, "sync") == 0
    capsys.readouterr()

    assert types(maker, "search", "word7", "--format=jsonl") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(one["text"] for one in found) == [f"word7 of {number}" for number in range(4)]

    assert types(maker, "read") == 0
    assert capsys.readouterr().out.count("word3 of 1") == 1

    assert types(maker, "sql", "SELECT count(*), count(DISTINCT seq) FROM records") == 0
    assert "40" in capsys.readouterr().out

    assert types(maker, "parquet") == 0
    (copy,) = maker.root.rglob("*.parquet")
    with duckdb.connect(":memory:") as database:
        rows = database.execute(f"SELECT seq FROM read_parquet('{copy}') ORDER BY seq")
        assert [seq for (seq,) in rows.fetchall()] == list(range(40))


def test_a_message_of_each_is_proved_and_handed_over(
    maker: Maker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert types(maker, "case", "create", "Both") == 0
    assert types(maker, "case", "add", "Both", "$event3", "$event13") == 0
    assert types(maker, "case", "export", "Both", f"--output={tmp_path / 'case.zip'}") == 0
    with zipfile.ZipFile(tmp_path / "case.zip") as file:
        file.extractall(tmp_path / "case")
    done = subprocess.run(
        [
            sys.executable, "-I", "-S", "-B", str(tmp_path / "case" / "verify.py"),
            "--key", fingerprint(key_number(1)),
        ],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("RIGHT: 2 records")


def flipped(maker: Maker, key: str) -> str:
    path = maker.root / key
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    return "sha256"


def cut(maker: Maker, key: str) -> str:
    path = maker.root / key
    path.write_bytes(path.read_bytes()[:-20])
    return "size"


def swapped(maker: Maker, key: str) -> str:
    """Other records, packed soundly."""
    other = [line.replace(b"word3", b"wordX") for line in maker.lines[10:20]]
    (maker.root / key).write_bytes(packed([line + b"\n" for line in other]))
    return "leaves"


def renamed(maker: Maker, key: str) -> str:
    (maker.root / key).rename(maker.root / key.replace(".gz", ".zst"))
    return "missing"


def bombed(maker: Maker, key: str) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    (maker.root / key).write_bytes(packer.compress(bytes(100 * 2**20)) + packer.flush())
    return "size"


@pytest.mark.parametrize("tamper", [flipped, cut, swapped, renamed, bombed])
async def test_what_was_done_to_a_gzip_segment_is_named(
    maker: Maker, tamper: Callable[[Maker, str], str]
) -> None:
    code = tamper(maker, maker.segments[1])

    result = await verified(maker)

    found = {(one.code, one.key) for one in result.findings.of(Severity.WRONG)}
    assert (code, maker.segments[1]) in found


@pytest.mark.parametrize("ending", [".br", ".lz4.age"])
async def test_another_compression_is_said_to_need_a_newer_reader(
    maker: Maker, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    maker.message("from the future")
    name = maker.segment().replace(".jsonl.gz", f".jsonl{ending}")
    (maker.root / maker.segments[-1]).rename(maker.root / name)
    maker._objects[-1]["key"] = name
    maker.manifest()

    result = await verified(maker)

    found = result.findings.of(Severity.WRONG)
    assert [(one.code, one.key) for one in found] == [("newer", name)]
    assert "install the newest version" in found[0].sentence
    # What is not known is left out by no command in silence, and what is known is read.
    assert await asyncio.to_thread(types, maker, "read") == 1
    told = capsys.readouterr()
    assert "install the newest version" in told.err
    assert "word3 of 1" in told.out


class SealedMaker(Maker):
    """Makes an archive that is encrypted to an officer."""

    officer = pyrage.x25519.Identity.generate()

    def packed(self, lines: list[bytes]) -> bytes:
        return bytes(pyrage.encrypt(super().packed(lines), [self.officer.to_public()]))


def test_an_encrypted_archive_of_both_is_read_drilled_and_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = SealedMaker(tmp_path / "archive")
    fill(maker, ".age")
    mine = tmp_path / "officer.key"
    mine.write_text(f"{maker.officer}\n")
    own = tmp_path / "own"

    assert types(maker, "verify", f"--identity={mine}") == 0
    assert types(maker, "sync", f"--identity={mine}") == 0
    capsys.readouterr()
    asked = "SELECT count(DISTINCT seq) FROM records"
    assert types(maker, "sql", asked, f"--identity={mine}") == 0
    assert "40" in capsys.readouterr().out
    assert (
        types(maker, "drill", "--objects=1000", f"--identity={mine}", f"--output={tmp_path / 'p'}")
        == 0
    )
    assert types(maker, "parquet", f"--identity={mine}", f"--into={own}", "--opened") == 0
    (copy,) = own.rglob("*.parquet")
    with duckdb.connect(":memory:") as database:
        rows = database.execute(f"SELECT seq FROM read_parquet('{copy}') ORDER BY seq")
        assert [seq for (seq,) in rows.fetchall()] == list(range(40))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def test_a_change_counts_from_the_next_segment_that_is_closed(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    await office.say(*new_room(), message("$1"))
    await office.bot.archive.segments.cut_due(now_ms=office.world.clock.now_ms(), flush=True)

    office.world.compression = "gzip"
    office.start()
    await office.say(message("$2"))
    await office.store()
    office.at(TODAY)
    office.world.compression = "zstd"
    office.start()
    await office.say(message("$3"))
    await office.store()

    assert office.events() >= {"$1", "$2", "$3"}
    names = {record["event_id"]: key for key, record in _placed(office)}
    assert names["$1"].endswith(".jsonl.zst"), "it was closed before the change"
    assert names["$2"].endswith(".jsonl.gz")
    assert names["$3"].endswith(".jsonl.zst")
    changes = [one["changed"] for one in office.controls("settings_changed")]
    assert {"compression": {"before": None, "now": "gzip"}} in changes
    assert await asyncio.to_thread(types_in, tmp_path, "verify") == 0
    base = tmp_path / "archive/v1/example.org"
    junk = next(base.glob("events/*")) / "junk-000000000000.jsonl.gz.age"
    junk.write_bytes(b"encrypted")
    assert counted(base) == len(_placed(office))


def counted(base: Path) -> int:
    """Return how many records DuckDB finds with what explains the archive."""
    script = (base / "sql/duckdb.sql").read_text(encoding="utf-8")
    program = (
        "import duckdb, sys; duckdb.execute(sys.stdin.read());"
        " print(duckdb.execute('SELECT count(*) FROM records').fetchone()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=script, capture_output=True, text=True, check=True, cwd=base,
    )  # fmt: skip
    return int(done.stdout)


def _placed(office: Office) -> list[tuple[str, dict[str, str]]]:
    return [
        (key, json.loads(line))
        for key, body in office.objects().items()
        if "/events/" in key and not key.endswith(".age")
        for line in lines_in(body)
    ]


def types_in(folder: Path, *words: str) -> int:
    where = (f"--destination=file:{folder / 'archive'}", f"--home={folder / 'home'}")
    return main([*words, *where])
