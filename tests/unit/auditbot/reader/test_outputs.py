"""What a command wrote stays as it was, and nobody else can read it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from common.errors import UserError
from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    "words",
    [
        ("search", "price", "--output=it"),
        ("search", "price", "--format=csv", "--output=it"),
        ("search", "price", "--format=parquet", "--output=it"),
        ("transcript", "Trading desk", "--verify=no", "--output=it"),
        ("transcript", "Trading desk", "--verify=no", "--format=csv", "--output=it"),
        ("transcript", "Trading desk", "--verify=no", "--format=pdf", "--output=it"),
        ("prove", "$2", "--verify=no", "--output=it"),
        ("drill", "--objects=1", "--output=it"),
    ],
)
def test_nothing_is_written_over_what_is_there(officer: Officer, words: tuple[str, ...]) -> None:
    evidence = officer.folder / "it"
    evidence.write_bytes(b"evidence")

    with pytest.raises(UserError, match="“it” is there already"):
        officer.types(*words)
    assert evidence.read_bytes() == b"evidence"

    assert officer.types(*words, "--force") == 0
    assert evidence.read_bytes() != b"evidence"
    assert evidence.stat().st_mode & 0o777 == 0o600


def test_a_case_is_written_over_nothing_either(officer: Officer) -> None:
    officer.types("case", "create", "Desk")
    officer.types("case", "add", "Desk", "$4")
    assert officer.types("case", "export", "Desk") == 0
    before = (officer.folder / "case-Desk.zip").read_bytes()
    officer.types("case", "add", "Desk", "$2")

    with pytest.raises(UserError, match=r"“case-Desk\.zip” is there already"):
        officer.types("case", "export", "Desk")
    (officer.folder / "new.csv").write_bytes(b"evidence")
    with pytest.raises(UserError, match=r"“new\.csv” is there already"):
        officer.types("case", "export", "Desk", "--format=csv", "--output=new.zip")

    assert (officer.folder / "case-Desk.zip").read_bytes() == before
    assert not (officer.folder / "new.zip").exists(), "no new half beside an old one"
    assert officer.types("case", "export", "Desk", "--force") == 0
    assert (officer.folder / "case-Desk.zip").read_bytes() != before


@pytest.mark.usefixtures("_open_umask")
def test_a_parquet_file_is_its_owners_alone(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while it is written, however permissive the machine is."""
    seen: list[int] = []
    write = duckdb.DuckDBPyRelation.write_parquet

    def watched(rows: Any, name: str, **options: Any) -> None:
        write(rows, name, **options)
        path = Path(name)
        seen.append(path.stat().st_mode & path.parent.stat().st_mode & 0o077)

    monkeypatch.setattr(duckdb.DuckDBPyRelation, "write_parquet", watched)
    assert officer.types("search", "--format=parquet", "--output=x.parquet") == 0

    assert seen == [0]
    assert (officer.folder / "x.parquet").stat().st_mode & 0o777 == 0o600
    assert not list(officer.folder.glob(".steward-*"))
