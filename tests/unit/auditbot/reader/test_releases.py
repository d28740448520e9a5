"""Promise 10: today's reader reads the archives of every release, and says so of what is newer."""

import csv
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.cli import main
from auditbot.reader.index.schema import KINDS
from common.errors import StewardError
from tests.support.archive_maker import Maker, make_archive
from tests.support.fixture_archive import FOLDER, FORMS

RELEASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
SENTENCE = "install the newest version of Steward on this machine"


class Officer:
    """Types commands about one archive, on a machine of its own."""

    def __init__(
        self, archive: Path, home: Path, capsys: pytest.CaptureFixture[str], *more: str
    ) -> None:
        self.where = [f"--destination=file:{archive}", f"--home={home}", *more]
        self.capsys = capsys
        self.said = self.told = ""

    def types(self, *words: str) -> int:
        status = main([*words, *self.where])
        self.said, self.told = self.capsys.readouterr()
        return status


def test_this_release_is_kept() -> None:
    """Run python -m tests.support.fixture_archive before a release is tagged."""
    assert version("matrix-steward") in RELEASES
    holds = json.loads((FOLDER / version("matrix-steward") / "holds.json").read_text())
    assert set(holds["kinds"]) == set(KINDS)


@pytest.fixture(params=[(release, form) for release in RELEASES for form in FORMS], ids="-".join)
def kept(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Officer, dict[str, Any]]:
    release, form = request.param
    monkeypatch.chdir(tmp_path)
    folder = FOLDER / release
    more = [f"--identity={folder / 'identities.txt'}"] if form != "plain" else []
    holds: dict[str, Any] = json.loads((folder / "holds.json").read_text())
    return Officer(folder / form, tmp_path / "home", capsys, *more), holds


def test_every_release_is_verified_searched_and_transcribed(
    kept: tuple[Officer, dict[str, Any]], tmp_path: Path
) -> None:
    officer, holds = kept

    assert officer.types("verify", "--json") == 0
    (result,) = json.loads(officer.said)
    assert result["right"]
    assert result["records"] == sum(holds["kinds"].values())
    assert {item["code"] for item in result["findings"]} <= {"silence", "old"}

    assert (
        officer.types("sql", "SELECT kind, count(*) FROM records GROUP BY 1", "--format=csv") == 0
    )
    kinds = {row[0]: int(row[1]) for row in list(csv.reader(officer.said.splitlines()))[1:]}
    assert kinds == holds["kinds"]

    assert officer.types("search", "--format=jsonl") == 0
    rows = [json.loads(line) for line in officer.said.splitlines()]
    events = {
        record["event_id"]
        for row in rows
        for record in row["records"]
        if record["kind"] == "event"
    }
    assert events == set(holds["events"])
    assert officer.types("search", "--containing", "E PRICE IS 12", "--context", "1d") == 0
    assert "* 2025-11-24 16:00:00 [Lobby] @alice:example.org: The price is 100." in officer.said
    assert "明天见" in officer.said
    assert "DELETED" in officer.said
    assert officer.types("search", "clear text of $late") == 0
    assert "clear text of $late" in officer.said

    assert officer.types("transcript", "Trading desk", "--output=desk.html") == 0
    assert "RIGHT" in officer.told
    page = (tmp_path / "desk.html").read_text()
    for text in ("The price is 100.", "The price is 120.", "👍", "明天见", "a.png", "typo"):
        assert text in page
    assert officer.types("coverage", "--json") == 0
    counted = json.loads(officer.said)
    assert (counted["late_decrypted"], counted["undecryptable"]) == (1, {"no_session": 1})
    assert officer.types("case", "create", "Kept") == 0
    assert officer.types("case", "add", "Kept", "$price") == 0
    assert officer.types("case", "export", "Kept", "--output=case.zip") == 0


@pytest.fixture
def newer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Officer, Maker]:
    monkeypatch.chdir(tmp_path)
    maker = make_archive(tmp_path / "archive")
    return Officer(maker.root, tmp_path / "home", capsys), maker


def test_what_a_newer_minor_version_adds_is_passed_over(newer: tuple[Officer, Maker]) -> None:
    officer, maker = newer
    maker.message("said with a new column", mood={"is": ["new"]}, event_id="$mood")
    maker.record("forecast", event_id="$forecast", of_seq=1, chance=0.5)
    maker.record("forecast", event_id="$forecast2")
    maker.segment()
    maker.manifest(weather={"tomorrow": "rain"}, rooms={
        "covered": 1, "not_covered": [], "not_covered_count": 0, "known": 7
    })  # fmt: skip

    assert officer.types("verify", "--json") == 0
    (result,) = json.loads(officer.said)
    notices = [item for item in result["findings"] if item["code"] == "kind"]
    assert [item["severity"] for item in notices] == ["notice"], "one for each kind"
    assert "“forecast”" in notices[0]["sentence"]
    assert officer.types("search", "column") == 0
    assert "said with a new column" in officer.said
    assert officer.types("search", "--format=jsonl") == 0
    assert '"kind": "forecast"' in officer.said
    assert officer.types("transcript", "Lobby", "--output=lobby.html") == 0
    assert officer.types("coverage") == 0


def test_a_manifest_of_a_newer_major_version_is_refused(newer: tuple[Officer, Maker]) -> None:
    officer, maker = newer
    maker.message("readable until here", event_id="$until")
    maker.segment()
    maker.manifest()
    maker.message("of another age", event_id="$another")
    maker.segment()
    maker.manifest(v=2, totals="counted in another way")

    assert officer.types("verify") == 1
    assert SENTENCE in officer.said
    assert officer.types("search", "age") == 1
    assert SENTENCE in officer.told
    assert "of another age" not in officer.said
    assert officer.types("search", "readable") == 1
    assert "readable until here" in officer.said


@pytest.mark.parametrize("changed", [{}, {"room_id": 7, "event_id": ["retyped"]}])
def test_a_record_of_a_newer_major_version_is_refused(
    newer: tuple[Officer, Maker], changed: dict[str, Any]
) -> None:
    officer, maker = newer
    maker.record(**{"v": 2, "event_id": "$new", **changed})
    maker.segment()
    maker.manifest()

    assert officer.types("verify") == 1
    assert SENTENCE in officer.said
    assert officer.types("search", "x") == 1
    assert SENTENCE in officer.told
    with pytest.raises(StewardError, match=SENTENCE):
        officer.types("read", "--unsigned")


@pytest.mark.parametrize("is_only", [True, False])
def test_what_lies_below_v2_is_told(newer: tuple[Officer, Maker], is_only: bool) -> None:
    officer, maker = newer
    there = maker.root / "v2/example.org/manifests/one.json"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"{}")
    if is_only:
        (maker.root / "v1").rename(maker.root.with_name("elsewhere"))

    assert officer.types("verify") == (2 if is_only else 1)
    assert SENTENCE in officer.said + officer.told
    assert officer.types("search") == 1
    assert SENTENCE in officer.told
    assert ("message 3" in officer.said) is not is_only
