"""What a command concludes is what was found: nobody is accused, or calmed, by a wrong word."""

import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pyrage
import pytest
from aiohttp.test_utils import TestClient, TestServer, unused_port

from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.options import Archive
from auditbot.reader.index.library import Library
from auditbot.reader.serve.app import make_app
from auditbot.reader.serve.desk import Desk
from auditbot.reader.serve.security import Door, Hosts
from auditbot.storage.reading import DirectoryPlace
from common.clock import SystemClock
from tests.support.fixture_archive import FOLDER
from tests.unit.auditbot.reader.test_releases import RELEASES, Officer

RELEASE = FOLDER / RELEASES[0]
IDENTITIES = f"--identity={RELEASE / 'identities.txt'}"
Of = Callable[[str], Officer]


@pytest.fixture
def of(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Of:
    """Return who types commands about a copy of an archive of a form."""
    monkeypatch.chdir(tmp_path)

    def copied(form: str) -> Officer:
        shutil.copytree(RELEASE / form, tmp_path / form)
        return Officer(tmp_path / form, tmp_path / "home", capsys)

    return copied


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """Return the option that names an identity of somebody else."""
    path = tmp_path / "stranger.txt"
    path.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    return f"--identity={path}"


@pytest.mark.parametrize(("form", "keys"), [("sealed", 2), ("content", 3)])
def test_somebody_else_s_identity_accuses_nobody(
    of: Of, stranger: str, form: str, keys: int
) -> None:
    officer = of(form)

    assert officer.types("verify", stranger) == 2
    assert "RIGHT from outside" in officer.said
    assert "none of the identities you named opens it (is it the right file?)" in officer.said
    assert "WRONG" not in officer.said
    assert officer.types("verify", "--json", stranger) == 2
    (result,) = json.loads(officer.said)
    told = [item["object"] for item in result["findings"] if item["code"] == "identity"]
    assert len(told) == len(set(told)) == keys, "each key once"
    assert all("/keys/" in key for key in told)

    assert officer.types("search", "price", stranger) == 1
    assert "is it the right file?" in officer.told
    assert "No matching keys" not in officer.told
    assert officer.types("drill", stranger) == 1
    assert "is it the right file?" in officer.said


def test_a_key_that_was_replaced_is_wrong_whoever_looks(of: Of, stranger: str) -> None:
    """To be told that one's own key does not fit must not hide that theirs was changed."""
    officer = of("content")
    other = pyrage.x25519.Identity.generate()
    for path in Path("content").rglob("content-*.age"):
        if path.parent.name == "keys":
            path.write_bytes(pyrage.encrypt(b"x", [other.to_public()]))

    for option in (stranger, IDENTITIES):
        assert officer.types("verify", option) == 1
        assert "WRONG" in officer.said


def test_words_that_are_sealed_are_not_said_to_be_absent(of: Of, tmp_path: Path) -> None:
    officer = of("content")
    sealed = "are sealed and were not searched: name your identity with --identity"

    for words in (("search", "price"), ("search", "--containing", "rice")):
        assert officer.types(*words) == 1
        assert sealed in officer.told
    assert officer.types("search", "--person=@alice:example.org") == 0, "no word was asked for"
    assert sealed not in officer.told
    officer.types("case", "create", "Prices")
    assert officer.types("case", "add", "Prices", "--containing", "price") == 1
    assert sealed in officer.told
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("price\n")
    draw = ("sample", "draw", "--from=2025-11-01", "--to=2025-12-01", f"--lexicon={lexicon}")
    assert officer.types(*draw) == 1
    assert sealed in officer.told

    assert officer.types("search", "price", IDENTITIES) == 0
    assert "The price is" in officer.said
    assert "sealed" not in officer.told


@pytest.mark.parametrize("longer", [False, True])
def test_an_attachment_that_was_replaced_makes_a_proof_wrong(of: Of, longer: bool) -> None:
    officer = of("plain")
    (path,) = (one for one in Path("plain").rglob("media/*/*") if one.is_file())
    body = path.read_bytes()
    path.write_bytes(body + b"x" if longer else body[:-1] + bytes([body[-1] ^ 1]))

    transcript = ("transcript", "Trading desk", "--verify=signatures", "--output=desk.html")
    assert officer.types(*transcript) == 1
    assert "WRONG" in officer.told
    assert "RIGHT" not in officer.told
    assert "its bytes are not those that were archived" in officer.told
    assert "cannot be shown" not in officer.told
    assert 'class="badge wrong"' in Path("desk.html").read_text()
    assert officer.types("prove", "$image", "--verify=signatures", "--output=proof.zip") == 1
    assert "WRONG" in officer.said
    assert "RIGHT" not in officer.said


def test_an_attachment_that_is_not_at_hand_makes_nothing_wrong(of: Of) -> None:
    officer = of("plain")
    assert officer.types("sync") == 0

    transcript = ("transcript", "Trading desk", "--no-sync", "--output=desk.html")
    assert officer.types(*transcript) == 0
    assert "cannot be shown" in officer.told


def test_a_report_over_a_part_of_the_archive_says_so_itself(of: Of) -> None:
    officer = of("plain")
    path = min(Path("plain").rglob("*.jsonl.zst"))
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))

    assert officer.types("report", "--from=2025-11-24", "--to=2025-11-30") == 1
    assert "NOT EVERYTHING IS INDEXED" in officer.said
    assert "RIGHT" not in officer.said
    assert "kept elsewhere" not in officer.said
    assert "not counted again: not everything could be indexed" in officer.said
    assert officer.types("coverage") == 1
    assert "NOT EVERYTHING IS INDEXED" in officer.said
    assert officer.types("coverage", "--json") == 1
    assert json.loads(officer.said)["not_indexed"]


def test_an_access_log_that_is_nowhere_is_not_whole(of: Of, tmp_path: Path) -> None:
    officer = of("plain")
    nowhere = f"--log=file:{tmp_path / 'nolog'}"

    assert officer.types("access", "verify", nowhere) == 2
    assert "There is no access log at" in officer.said
    assert "WHOLE" not in officer.said
    assert officer.types("access", "verify", nowhere, f"--key={'a' * 64}") == 1
    assert "NOT WHOLE" in officer.said


def test_a_mistyped_hash_does_not_break_the_log(of: Of) -> None:
    officer = of("plain")
    with pytest.raises(SystemExit) as refused:
        officer.types("log", "--since", "deadbeef")
    assert refused.value.code == 2
    assert "64 hexadecimal digits" in officer.capsys.readouterr().err

    assert officer.types("log", "--since", "d" * 64) == 1
    assert "this is another log or a mistyped hash" in officer.said
    assert "BROKEN" not in officer.said
    assert "follow each other unbroken" in officer.said


@pytest.mark.parametrize(
    "words",
    [
        ("verify",),
        ("search", "price"),
        ("report",),
        ("transcript", "Trading desk"),
        ("coverage",),
        ("sample", "draw"),
    ],
    ids=lambda words: words[0],
)
def test_a_time_that_ends_before_it_begins_is_refused(of: Of, words: tuple[str, ...]) -> None:
    officer = of("plain")
    with pytest.raises(SystemExit) as refused:
        officer.types(*words, "--from=2025-12-01", "--to=2025-11-01")
    assert refused.value.code == 2
    assert "ends before it begins" in officer.capsys.readouterr().err
    assert not Path("transcript.html").exists()


def test_verify_says_if_it_looked_into_nothing(of: Of) -> None:
    officer = of("plain")
    for words in (("--sample=0",), ("--from=2020-01-01", "--to=2020-01-02")):
        assert officer.types("verify", *words) == 0
        assert "no content was looked into" in officer.said


def test_a_mistyped_key_is_told_first_and_the_right_one_heals_it(of: Of) -> None:
    officer = of("plain")
    hint = "The key that you named is not this archive's: compare it"
    assert officer.types("verify", "--json") == 0
    (result,) = json.loads(officer.said)
    (right,) = result["fingerprints"]
    shutil.rmtree(officer.where[1].partition("=")[2])
    wrong = ("0" if right[0] != "0" else "1") + right[1:]

    assert officer.types("verify", f"--key={wrong}") == 1
    assert officer.said.startswith(hint)
    assert officer.types("search", "price", f"--key={wrong}") == 1
    assert hint in officer.told
    assert officer.types("search", "price", f"--key={right}") == 0
    assert "The price is" in officer.said
    assert officer.types("search", "price") == 0
    assert officer.types("verify") == 0
    assert hint not in officer.said


def test_content_that_stayed_sealed_is_said_in_the_verdict(of: Of) -> None:
    officer = of("content")

    assert officer.types("verify") == 0
    assert "RIGHT from outside: nothing was changed; content sealed, not opened" in officer.said
    assert officer.types("verify", IDENTITIES) == 0
    assert "RIGHT: nothing was changed, added or removed." in officer.said


async def test_the_page_says_that_sealed_words_were_not_searched(of: Of, tmp_path: Path) -> None:
    officer, home = of("content"), tmp_path / "home"
    assert await asyncio.to_thread(officer.types, "sync") == 0
    clock, port = SystemClock(), unused_port()
    root = tmp_path / "content"
    archive = Archive(f"file:{root}", DirectoryPlace(root), home, ())
    library = Library(archive.cache)
    log = AccessLog(home / "access.jsonl", clock)
    door = Door(clock)
    desk = Desk(archive, library, log, clock, UTC, "UTC", "olivia")
    app = make_app(desk, door, Hosts(frozenset({f"127.0.0.1:{port}"})))
    async with TestClient(TestServer(app, port=port)) as client:
        await client.get(f"/login?token={door.new_token()}")
        page = await (await client.get("/search?text=price")).text()
        assert "are sealed and were not searched" in page
        page = await (await client.get("/search?person=@alice:example.org")).text()
        assert "were not searched" not in page
    library.close()
