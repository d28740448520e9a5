"""The copy for query engines holds every record, is made of what is signed, and proves nothing."""

import errno
import json
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyrage
import pytest

from auditbot.reader.cli import main
from auditbot.reader.columns import COLUMNS
from auditbot.reader.compact import Day, write_day
from auditbot.reader.index.library import Library
from auditbot.storage.derived import DirectoryDerived, derived_key
from common.errors import ConfigError, PermanentError, UserError
from tests.support.archive_maker import Json, Maker, compress

ROOT = Path(__file__).parents[4]
BASE = "v1/example.org/derived/parquet"
DAY_MS = 86_400_000
HOSTILE = (
    "He said \"x\", \\ and 'y'; DROP TABLE records; --",
    "a\x00b\x01\x1f\x7f",
    "\u202egnp.exe \ufffd \ufeff \U0001f600 e\u0301",
    "",
    "NULL",
    "line\nbreak\r\n\ttab",
    '{"retention_class":"x"}',
    "x" * 70_000,
)


@dataclass
class Archive:
    """An archive, and an officer who types."""

    maker: Maker
    home: Path
    more: tuple[str, ...] = ()
    said: str = ""

    def types(self, *words: str) -> int:
        where = (f"--destination=file:{self.maker.root}", f"--home={self.home}")
        return main(["parquet", *words, *where, *self.more])

    def verify(self) -> int:
        return main(
            ["verify", f"--destination=file:{self.maker.root}", f"--home={self.home}", *self.more]
        )

    def records(self) -> list[Json]:
        return [
            {name: record.get(name) for name in COLUMNS}
            for record in map(json.loads, self.maker.lines)
        ]


@dataclass
class SealedMaker(Maker):
    """Makes an archive that is encrypted to an officer."""

    officer: Any = field(default_factory=pyrage.x25519.Identity.generate)

    def packed(self, lines: list[bytes]) -> bytes:
        return bytes(pyrage.encrypt(compress(lines), [self.officer.to_public()]))


def fill(maker: Maker, suffix: str = "") -> None:
    """Write two days, the first in two segments, with everything that is hard to carry."""
    maker.publish_key()
    maker.describe()
    for number, text in enumerate(HOSTILE):
        maker.message(text, room_id=f"!room{number % 3}:example.org", state_key=None)
    maker.segment(suffix)
    maker.record("control", actor="config", action="export_started", detail_json='{"a":"\\u0000"}')
    maker.record(
        ts_origin=-(2**63), ts_skew=2**63 - 1, depth=2**53 + 1, is_direct=True, edit_valid=False
    )
    maker.segment(suffix)
    maker.manifest()
    maker.now_ms += DAY_MS
    maker.message("the next day", room_id="!a:example.org")
    maker.message("the next day", room_id="!Z:example.org")
    maker.segment(suffix)
    maker.manifest()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    maker = Maker(tmp_path / "archive")
    fill(maker)
    return Archive(maker, tmp_path / "home")


def read(folder: Path, order: str = "stream, seq") -> list[Json]:
    with duckdb.connect(":memory:") as database:
        found = database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM read_parquet('{folder}/**/*.parquet')"
            + (f" ORDER BY {order}" if order else "")
        )
        return [dict(zip(COLUMNS, row, strict=True)) for row in found.fetchall()]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_record_is_in_the_copy_as_it_is_in_the_segments(archive: Archive) -> None:
    assert archive.types() == 0

    assert read(archive.maker.root / BASE) == archive.records()


def test_the_columns_are_those_of_the_schema() -> None:
    schema = json.loads((ROOT / "auditbot/description/schema/record-1.json").read_bytes())
    kinds = {"integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}

    def kind(told: Json) -> str:
        types = [one["type"] for one in told.get("anyOf", [told])]
        (found,) = [one for one in types if one != "null"]
        return kinds[found]

    assert {name: kind(told) for name, told in schema["properties"].items()} == dict(COLUMNS)
    assert list(schema["properties"]) == list(COLUMNS)


def test_a_file_says_of_which_segments_it_is_and_is_sorted_and_typed(archive: Archive) -> None:
    archive.types()

    (path, _) = sorted((archive.maker.root / BASE).rglob("*.parquet"))
    with duckdb.connect(":memory:") as database:
        told = dict(
            database.execute(f"SELECT key, value FROM parquet_kv_metadata('{path}')").fetchall()
        )
        described = database.execute(
            f"DESCRIBE SELECT * FROM read_parquet('{path}', hive_partitioning = false)"
        ).fetchall()
        (codec,) = database.execute(
            f"SELECT DISTINCT compression FROM parquet_metadata('{path}')"
        ).fetchone() or ("",)
        rows = database.execute(f"SELECT room_id, ts_received, seq FROM '{path}'").fetchall()
    listed = {item["key"]: item["sha256"] for item in archive.maker.all_objects()}
    assert json.loads(told[b"steward.segments"]) == [
        {"key": key, "sha256": listed[key]} for key in archive.maker.segments[:2]
    ]
    assert {name: kind for name, kind, *_ in described} == dict(COLUMNS)
    assert codec == "ZSTD"
    assert rows == sorted(rows, key=lambda row: (row[0] is not None, row[0] or "", *row[1:]))


def test_a_day_is_written_again_only_where_its_segments_changed(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.types()
    before = files(archive.maker.root / BASE)
    inode = {path: path.stat().st_ino for path in (archive.maker.root / BASE).rglob("*.parquet")}
    archive.types()
    assert "0 days were written, 2 are as they were" in capsys.readouterr().out
    assert files(archive.maker.root / BASE) == before
    assert all(path.stat().st_ino == number for path, number in inode.items())

    archive.maker.message("one more", room_id="!b:example.org")
    archive.maker.segment()
    archive.maker.manifest()
    assert archive.types() == 0

    assert "1 day was written, 1 are as they were" in capsys.readouterr().out
    assert read(archive.maker.root / BASE) == archive.records()
    names = [name for name in files(archive.maker.root / BASE) if "dt=2025-11-25" in name]
    assert len(names) == 2, "what said of which segments it was is gone too"


def test_a_copy_that_was_interrupted_is_made_again(archive: Archive) -> None:
    archive.types()
    whole = files(archive.maker.root / BASE)
    for name in whole:
        if name.endswith(".json"):
            (archive.maker.root / BASE / name).unlink()
            break

    archive.types()

    assert set(files(archive.maker.root / BASE)) == set(whole)


def test_only_the_days_of_the_period_are_written(archive: Archive) -> None:
    archive.types("--from=2025-11-25", "--to=2025-11-25")

    days = {name.split("/")[0] for name in files(archive.maker.root / BASE)}
    assert days == {"dt=2025-11-25"}


def test_which_days_were_copied_is_written_down(archive: Archive) -> None:
    first, second = sorted({path.name[3:] for path in (archive.maker.root).rglob("events/dt=*")})
    begin_ms = int(datetime.fromisoformat(f"{second}T00:00Z").timestamp() * 1000)
    archive.types("--from", second)
    archive.types()
    archive.types("--from", "2099-01-01")

    log = [json.loads(line) for line in (archive.home / "access.jsonl").open()]
    period = ("start_ms", "end_ms", "days", "first_day", "last_day")
    assert [[one[name] for name in period] for one in log if one["what"] == "parquet"] == [
        [begin_ms, None, 1, second, second],
        [None, None, 2, first, second],
        [4_070_908_800_000, None, 0, None, None],
    ]


def test_what_was_deleted_from_the_archive_goes_from_the_copy_too(archive: Archive) -> None:
    archive.types()
    archive.maker.remove(*archive.maker.segments[1:])
    archive.maker.manifest()

    assert archive.types() == 0

    assert read(archive.maker.root / BASE) == archive.records()[: len(HOSTILE)]
    assert not (archive.maker.root / BASE / "dt=2025-11-25").exists()


def test_what_this_machine_has_not_seen_yet_is_not_taken_for_deleted(
    archive: Archive, tmp_path: Path
) -> None:
    assert (
        main(["sync", f"--destination=file:{archive.maker.root}", f"--home={tmp_path / 'old'}"])
        == 0
    )
    archive.maker.now_ms += DAY_MS
    archive.maker.message("after the other machine looked")
    archive.maker.segment()
    archive.maker.manifest()
    archive.types()
    before = files(archive.maker.root / BASE)

    assert Archive(archive.maker, tmp_path / "old").types("--no-sync") == 0

    assert files(archive.maker.root / BASE) == before


@pytest.mark.parametrize("into", [False, True])
def test_nothing_stays_of_a_server_of_which_nothing_is_left(
    archive: Archive, tmp_path: Path, into: bool
) -> None:
    where = (f"--into={tmp_path / 'own'}",) if into else ()
    archive.types(*where)
    strangers = (tmp_path / "own" if into else archive.maker.root) / "v1/b.org/derived/parquet/x"
    strangers.parent.mkdir(parents=True)
    strangers.write_bytes(b"of another archive")
    archive.maker.remove(*archive.maker.segments)
    archive.maker.manifest()

    assert archive.types(*where) == 0

    base = tmp_path / "own" / BASE if into else archive.maker.root / BASE
    assert files(base) == {}
    assert strangers.exists()


@pytest.mark.parametrize("into", [False, True])
def test_a_second_run_is_told_of_the_first_and_touches_nothing_of_it(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: bool
) -> None:
    words = (f"--into={tmp_path / 'own'}",) if into else ()
    second: list[str] = []

    def meanwhile(library: Library, day: Day, path: Path, scratch: Path) -> None:
        monkeypatch.undo()
        # In a thread, because there each run has an event loop of its own.
        with ThreadPoolExecutor(1) as other, pytest.raises(UserError) as refused:
            other.submit(archive.types, "--no-sync", *words).result()
        second.append(str(refused.value))
        assert scratch.is_dir()
        write_day(library, day, path, scratch)

    monkeypatch.setattr("auditbot.reader.commands.compacting.write_day", meanwhile)

    assert archive.types(*words) == 0

    (told,) = second
    assert "Another “steward audit parquet” is at work" in told
    assert (str(tmp_path / "own") in told) == into
    assert read(tmp_path / "own" if into else archive.maker.root / BASE) == archive.records()
    assert archive.types(*words) == 0, "the lock ends with the run"


def test_verify_neither_looks_at_copies_nor_calls_them_foreign(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.types()
    assert archive.verify() == 0
    for path in (archive.maker.root / BASE).rglob("*.parquet"):
        path.write_bytes(b"not a copy")

    assert archive.verify() == 0

    assert "foreign" not in capsys.readouterr().out
    archive.maker.put("v1/example.org/derive/x", b"x")
    assert archive.verify() == 1


def test_a_directory_of_ones_own_is_for_its_owner_alone(archive: Archive, tmp_path: Path) -> None:
    own = tmp_path / "own"
    before = files(archive.maker.root)

    archive.types(f"--into={own}")

    assert read(own) == archive.records()
    assert files(archive.maker.root) == before
    for path in (own, *own.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def sealed(tmp_path: Path) -> Archive:
    maker = SealedMaker(tmp_path / "archive")
    fill(maker, ".age")
    identity = tmp_path / "officer.key"
    identity.write_text(f"{maker.officer}\n")
    identity.chmod(0o600)
    return Archive(maker, tmp_path / "home", (f"--identity={identity}",))


@pytest.mark.parametrize(
    ("words", "told"),
    [((), "not written back"), (("--into=own",), "add --opened")],
)
def test_what_was_opened_is_written_nowhere_unless_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = sealed(tmp_path)
    before = files(archive.maker.root)

    with pytest.raises(UserError, match=told):
        archive.types(*words)

    assert files(archive.maker.root) == before
    assert not list(tmp_path.rglob("*.parquet"))


def test_opened_never_means_the_archive_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory of your own"):
        sealed(tmp_path).types("--opened")


def test_a_sealed_archive_is_opened_into_a_private_directory(tmp_path: Path) -> None:
    archive = sealed(tmp_path)
    own = tmp_path / "own"
    own.mkdir(mode=0o755)
    left = own / ".steward-parquet-killed"
    left.mkdir()
    (left / "0.zst").write_bytes(b"opened")

    assert archive.types(f"--into={own}", "--opened") == 0

    assert read(own) == archive.records()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert {path.suffix for path in (own / "v1").rglob("*") if path.is_file()} == {
        ".parquet", ".json",
    }  # fmt: skip
    assert not left.exists()


def test_a_line_of_many_megabytes_is_carried(archive: Archive) -> None:
    archive.maker.record(raw_b64="A" * (33 * 2**20), room_id="!big:example.org")
    archive.maker.segment()
    archive.maker.manifest()

    assert archive.types() == 0

    assert read(archive.maker.root / BASE) == archive.records()


def test_an_object_that_was_changed_on_this_machine_is_not_copied(archive: Archive) -> None:
    archive.types()
    cached = [path for path in archive.home.rglob("objects/*/*") if path.is_file()]
    for path in cached:
        path.write_bytes(path.read_bytes() + b"\0")
    archive.maker.message("new")
    archive.maker.segment()
    archive.maker.manifest()

    with pytest.raises(PermanentError, match="was changed on this machine"):
        archive.types()


def test_the_views_in_the_archive_know_the_copy(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Steward writes them, with every field.
    made = archive.maker.record("receipt")
    every = {name: None for name in COLUMNS if name not in made}
    archive.maker.record("receipt", **every)
    archive.maker.segment()
    archive.maker.manifest()
    monkeypatch.chdir(archive.maker.root / "v1/example.org")
    script = (ROOT / "auditbot/description/sql/duckdb.sql").read_text()
    with duckdb.connect(":memory:") as database:
        database.execute(script)  # before there is any copy
        archive.types()
        counted = database.execute(
            "SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM records_parquet('*')),"
            " (SELECT count(*) FROM records_parquet('2025-11-25'))"
        ).fetchone()
    assert counted == (len(archive.maker.lines), len(archive.maker.lines), 4)


def test_athena_has_the_same_columns_in_both_tables() -> None:
    script = (ROOT / "auditbot/description/sql/athena.sql").read_text()
    kinds = {"BIGINT": "bigint", "BOOLEAN": "boolean", "VARCHAR": "string"}
    _, first, second = script.split("CREATE EXTERNAL TABLE")
    for table in (first, second):
        rows = [line.split() for line in table.splitlines() if line.startswith("    `")]
        assert [(name.strip("`"), kind.rstrip(",")) for name, kind in rows] == [
            (name, kinds[kind]) for name, kind in COLUMNS.items()
        ]
    assert "STORED AS PARQUET" in second


@pytest.mark.parametrize(
    "key",
    [
        "v1/example.org/events/dt=2026-01-01/a.jsonl.zst",
        "v1/example.org/derived/../events/a",
        "v1/example.org/derived/./a",
        "v1/example.org/derivedx/a",
        "derived/a",
        "/v1/example.org/derived/a",
        "v1/example.org/derived/a\nb",
    ],
)
def test_a_reader_writes_nothing_but_copies(key: str) -> None:
    with pytest.raises(PermanentError, match="writes nothing else"):
        derived_key(key)


async def test_each_copy_is_written_under_a_name_of_its_own_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"what is written")
    key = f"{BASE}/dt=2025-11-24/records.parquet"
    names: list[str] = []
    store = DirectoryDerived(tmp_path / "copies", private=True)
    copy = shutil.copyfileobj

    def full(source: BinaryIO, target: BinaryIO, length: int) -> None:
        names.extend(path.name for path in tmp_path.rglob(".writing-*"))
        copy(source, target, length)
        if len(names) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    await store.put(key, file)
    for _ in range(2):
        with pytest.raises(PermanentError, match="cannot be written: No space left"):
            await store.put(key, file)

    assert files(tmp_path / "copies") == {key: b"what is written"}
    assert stat.S_IMODE((tmp_path / "copies" / key).stat().st_mode) == 0o600
    assert len(names) == len(set(names)) == 3


def test_nothing_unfinished_of_a_killed_run_stays_in_a_directory_of_ones_own(
    archive: Archive, tmp_path: Path
) -> None:
    folder = tmp_path / "own" / BASE / "dt=2025-11-24"
    folder.mkdir(parents=True)
    (folder / ".writing-0123").write_bytes(b"half of what was opened")
    (tmp_path / "own" / ".writing-mine").write_bytes(b"somebody's")

    assert archive.types(f"--into={tmp_path / 'own'}") == 0

    assert not (folder / ".writing-0123").exists()
    assert (tmp_path / "own" / ".writing-mine").exists()


def test_a_link_in_the_archive_leads_nowhere(archive: Archive, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (archive.maker.root / "v1/example.org/derived").symlink_to(outside)

    with pytest.raises(PermanentError, match="is no folder"):
        archive.types()

    assert not list(outside.iterdir())
