"""What an officer types does what it says, and the exit status tells how it went."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from auditbot.reader.cli import main
from auditbot.reader.commands.options import Archive
from auditbot.reader.memory import Memory, Remembered, private_directory
from auditbot.storage.reading import DirectoryPlace
from common.errors import ConfigError, UserError
from tests.support.archive_maker import Maker, fingerprint, key_number
from tests.support.archive_story import tell_story

Run = Callable[..., int]


@dataclass
class Officer:
    """Types commands on a machine of its own."""

    maker: Maker
    folder: Path
    capsys: pytest.CaptureFixture[str]
    said: str = ""
    told: str = ""

    def types(self, *words: str) -> int:
        status = main(
            [*words, f"--destination=file:{self.maker.root}", f"--home={self.folder / 'home'}"]
        )
        self.said, self.told = self.capsys.readouterr()
        return status


@pytest.fixture
def officer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Officer:
    monkeypatch.chdir(tmp_path)
    return Officer(tell_story(tmp_path / "archive"), tmp_path, capsys)


def test_verify_tells_right_wrong_and_unreadable_apart(officer: Officer) -> None:
    assert officer.types("verify", "--key", fingerprint(key_number(1))) == 0
    assert "RIGHT: nothing was changed, added or removed." in officer.said
    assert "Trusted because" not in officer.said

    path = officer.maker.root / officer.maker.segments[0]
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    assert officer.types("verify", "--json") == 1
    (found,) = json.loads(officer.said)
    assert not found["right"]
    assert found["findings"][0]["object"] == officer.maker.segments[0]
    # What was wrong is not forgotten by looking elsewhere.
    assert officer.types("verify", "--since", "last") == 1
    path.write_bytes(body)
    assert officer.types("verify", "--since", "last") == 0
    assert "RIGHT: nothing was changed" in officer.said, "all of it was looked into again"
    assert officer.types("verify", "--since", "last") == 0
    assert "new contents; older contents were right on" in officer.said
    path.write_bytes(body + b"x")
    assert officer.types("verify", "--since", "last") == 1
    assert "its manifest says" in officer.said
    path.write_bytes(body)
    assert officer.types("verify", "--key", fingerprint(key_number(2))) == 1

    officer.maker.root.rename(officer.folder / "moved")
    assert officer.types("verify") == 2
    assert "There is no archive" in officer.told


def test_an_archive_is_known_however_its_place_is_spelled(officer: Officer) -> None:
    """Trust, cases and index do not begin anew with another word for the same place."""
    assert officer.types("sync", "--key", fingerprint(key_number(1))) == 0
    assert officer.types("case", "create", "Desk") == 0
    home = f"--home={officer.folder / 'home'}"
    for spelled in ("file:archive", "file:./archive/", f"file://{officer.maker.root}/../archive"):
        assert main(["case", "list", home, f"--destination={spelled}"]) == 0
        assert main(["sync", home, f"--destination={spelled}"]) == 0
        said, told = officer.capsys.readouterr()
        assert said.startswith("Desk: 0 messages\n0 segments with 0 records are new")
        assert "Trusted from now on" not in told


def test_what_an_older_version_kept_by_the_spelling_is_found(officer: Officer) -> None:
    home = officer.folder / "home"
    spelled = "file:archive"
    memory = Memory(home / "memory.json")
    older = Remembered(fingerprints=("f" * 64,))
    body = {"v": 1, "archives": {f"{spelled} example.org": {"fingerprints": ["f" * 64]}}}
    private_directory(home)
    memory.path.write_text(json.dumps(body))
    folder = home / "archives" / hashlib.sha256(spelled.encode()).hexdigest()[:16]
    private_directory(folder)

    assert memory.recall(f"{spelled} example.org") == older
    assert Archive(spelled, DirectoryPlace(officer.maker.root), home, ()).cache == folder
    memory.keep(f"{spelled} example.org", older)
    assert len(json.loads(memory.path.read_text())["archives"]) == 1
    assert memory.recall(f"file:{officer.folder}/archive example.org") == older


def test_a_place_that_cannot_be_read_is_no_wrong_archive(officer: Officer) -> None:
    assert (
        main(["verify", "--destination=s3://archive/x", f"--home={officer.folder / 'home'}"]) == 2
    )
    assert "cannot be verified" in officer.capsys.readouterr().err
    with pytest.raises(ConfigError):
        main(["verify", "--destination=ftp://x"])


def test_search_and_lists(officer: Officer) -> None:
    assert officer.types("search", "price", "--zone=Europe/Berlin") == 0
    assert (
        "2025-11-24 17:00:08 [Trading desk] @alice:example.org: The price is 100." in officer.said
    )
    assert "    edited 2025-11-24 17:00:09: The price is 120." in officer.said
    assert "Trusted from now on" in officer.told
    assert officer.types("search", "--format=jsonl", "--person=bob") == 0
    assert all(json.loads(line)["records"] for line in officer.said.splitlines())
    assert officer.types("search", "--format=csv", "--output=x.csv") == 0
    assert (officer.folder / "x.csv").stat().st_mode & 0o777 == 0o600
    assert officer.types("search", "--format=parquet", "--output=x.parquet") == 0
    with pytest.raises(ConfigError, match="--output"):
        officer.types("search", "--format=parquet")
    with pytest.raises(UserError, match="No room"):
        officer.types("search", "--room=nowhere")
    assert officer.types("rooms") == 0
    assert "“Trading desk”: 22 events" in officer.said
    assert officer.types("people", "mallory") == 0
    assert officer.types("sync") == 0
    assert officer.said.startswith("0 segments with 0 records are new")


@pytest.mark.parametrize("form", ["html", "csv", "jsonl", "eml", "pdf", "rsmf"])
def test_transcripts(form: str, officer: Officer) -> None:
    assert officer.types("transcript", "Trading desk", f"--format={form}", "--verify=all") == 0
    assert "RIGHT: nothing was changed, added or removed." in officer.told
    assert "missing: 1 could not be read" in officer.told
    assert (officer.folder / f"transcript.{form}").exists()


def test_a_case_is_handed_over_and_a_message_proven(officer: Officer) -> None:
    assert officer.types("case", "create", "Desk") == 0
    assert officer.types("case", "add", "Desk", "$4", "--why", "deleted") == 0
    assert officer.types("case", "add", "Desk", "--text", "price") == 0
    assert "2 messages were added; the case has 3." in officer.said
    assert officer.types("case", "list") == 0
    assert officer.said == "Desk: 3 messages\n"
    assert officer.types("case", "show", "Desk") == 0
    assert officer.said.count("DELETED") == 1
    assert officer.types("case", "export", "Desk") == 0
    assert (officer.folder / "case-Desk.zip").exists()
    forms = ("html", "pdf", "csv", "jsonl", "eml", "rsmf")
    words = ("case", "export", "Desk", *(f"--format={form}" for form in forms))
    assert officer.types(*words, "--force") == 0
    for form in forms:
        assert (officer.folder / f"case-Desk.{form}").exists()
    parts = [path.read_bytes() for path in (officer.folder / "case-Desk.rsmf").iterdir()]
    assert all(b"X-RSMF-Case: Desk" in part for part in parts)
    counts = sorted(part.partition(b"EventCount: ")[2][:1] for part in parts)
    assert counts == [b"1", b"2"], "two messages of one room, one of another"
    assert officer.types("prove", "$2", "--output=proof.zip") == 0
    assert (officer.folder / "proof.zip").exists()
    with pytest.raises(UserError, match="not in the archive"):
        officer.types("prove", "$unknown")


def test_a_report_says_what_is_missing(officer: Officer) -> None:
    assert officer.types("report", "--from=2025-11-24") == 0
    assert "1: the sender's client gives keys to verified devices only" in officer.said
    assert "!board:example.org: no local administrator" in officer.said
    assert "Known gaps            1" in officer.said
    assert "export started by steward" in officer.said
    assert officer.types("coverage") == 0
    assert "Rooms without the bot: 1\n    !board:example.org" in officer.said
    assert "By day (UTC):\n    2025-11-24: 15 read, 1 read later, 1 not read" in officer.said
    unverified = "the sender's client gives keys to verified devices only [withheld_unverified]"
    assert f"1 not read (1: {unverified})" in officer.said


def test_sql_reads_the_archive_and_nothing_else(officer: Officer) -> None:
    assert officer.types("sql", "SELECT count(*) AS n FROM records WHERE kind = 'event'") == 0
    assert officer.said.split() == ["n", "24"]
    assert officer.types("sql", "SELECT sender, body FROM records", "--format=jsonl") == 0
    assert len(officer.said.splitlines()) == 29
    for question in (
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY records TO '/tmp/x.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "no question",
    ):
        with pytest.raises(UserError, match="DuckDB cannot answer"):
            officer.types("sql", question)


def test_every_look_is_in_the_log_and_a_changed_log_is_seen(officer: Officer) -> None:
    officer.types("search", "price")
    officer.types("transcript", "bob", "--format=csv", "--verify=no")
    officer.types("sql", "SELECT 1")
    for words in (
        ("rooms",),
        ("people", "bob"),
        ("case", "list"),
        ("verify",),
        ("read",),
        ("coverage",),
    ):
        officer.types(*words)
    assert officer.types("log") == 0
    for act in ("rooms listed", "people listed", "cases listed", "verified", "read", "coverage"):
        assert f"{act}: " in officer.said
    assert "search: " in officer.said
    assert "query: text “price”" in officer.said
    assert "The log is unbroken." in officer.said

    path = officer.folder / "home" / "access.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], *lines[2:]]))
    assert officer.types("log") == 1
    assert "DOES NOT FOLLOW" in officer.said


def test_what_two_people_wrote_to_each_other(officer: Officer) -> None:
    def found(*words: str) -> tuple[set[str], set[str]]:
        assert officer.types("search", *words, "--format=jsonl") == 0
        messages = [json.loads(line) for line in officer.said.splitlines()]
        return {one["sender"] for one in messages}, {one["room_id"] for one in messages}

    senders, _ = found("--with=alice", "--with=bob")
    assert senders == {"@alice:example.org", "@bob:example.org"}
    _, rooms = found("--person=alice")
    assert rooms == {"!desk:example.org", "!direct:example.org"}
    _, rooms = found("--with=alice", "--with=carol")
    assert rooms == {"!desk:example.org"}, "carol is not in the direct chat"
    with pytest.raises(UserError, match="two people"):
        officer.types("search", "--with=alice")
    with pytest.raises(UserError, match="No person"):
        officer.types("search", "--with=alice", "--with=nobody")


def test_a_type_that_is_misspelt_is_told_with_those_there_are(officer: Officer) -> None:
    assert officer.types("search", "--type=m.room.message") == 0
    for name in ("m.room.mesage", "@alice:example.org"):
        with pytest.raises(UserError, match=r"of the type “.*m\.room\.message"):
            officer.types("search", f"--type={name}")


def test_what_is_not_indexed_is_no_success(officer: Officer) -> None:
    officer.types("case", "create", "Desk")
    assert officer.types("case", "add", "Desk", "$4") == 0
    officer.maker.message("not to be read")
    path = officer.maker.root / officer.maker.segment()
    officer.maker.manifest()
    path.write_bytes(path.read_bytes()[::-1])

    for words in (
        ("search", "price"),
        ("report", "--verify=no"),
        ("transcript", "Trading desk", "--verify=no", "--format=csv"),
        ("case", "export", "Desk", "--verify=no"),
        ("prove", "$2", "--verify=no", "--output=x.zip"),
        ("coverage",),
        ("read",),
    ):
        assert officer.types(*words) == 1, words
        assert "NOT EVERYTHING IS INDEXED" in officer.told
    assert officer.types("case", "export", "Desk", "--verify=no", "--output=y.zip") == 1
    assert "missing: The index ends before the archive" in officer.said


def test_what_is_typed_wrong_is_said(officer: Officer) -> None:
    for words in (
        ("verify", "--key", "abc"),
        ("search", "--from", "yesterday"),
        ("search", "--zone", "Atlantis"),
        ("search", "--to", "9999-12-31"),
        ("read", "--from", "0001-01-01"),
        ("verify", "--sample=-1"),
        ("search", "--limit=-1"),
        ("report", "--days=99999999999999999999"),
        ("transcript", "bob", "--context=inf"),
    ):
        with pytest.raises(SystemExit) as ended:
            officer.types(*words)
        assert ended.value.code == 2


@pytest.mark.parametrize("form", ["eml", "rsmf"])
def test_an_export_of_many_files_wants_a_folder_of_its_own(officer: Officer, form: str) -> None:
    assert officer.types("transcript", "Trading desk", f"--format={form}", "--output=out") == 0
    before = sorted(Path("out").iterdir())
    with pytest.raises(UserError, match="There are files in “out” already"):
        officer.types("transcript", "Trading desk", f"--format={form}", "--output=out")
    assert sorted(Path("out").iterdir()) == before

    officer.types("case", "create", "2026-017")
    officer.types("case", "add", "2026-017", "$4")
    words = ("case", "export", "2026-017", f"--format={form}", "--output=case.zip")
    assert officer.types(*words) == 0
    made = Path("case.zip").stat().st_mtime_ns
    with pytest.raises(UserError, match=f"There are files in “case.{form}” already"):
        officer.types(*words, "--force")
    # Said before the work, so that there is no new half of it beside the old one.
    assert Path("case.zip").stat().st_mtime_ns == made
