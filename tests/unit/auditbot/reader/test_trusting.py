"""The key that an officer names counts everywhere, and is remembered; a forger's never is."""

import json
import shutil
from pathlib import Path

import pytest

from auditbot.reader.unpack import DamagedArchiveError
from tests.support.archive_maker import fingerprint, key_number
from tests.support.archive_story import tell_story
from tests.unit.auditbot.reader.test_commands import Officer

MINE, FORGERS = (fingerprint(key_number(number)) for number in (1, 9))


@pytest.fixture
def officer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Officer:
    monkeypatch.chdir(tmp_path)
    return Officer(tell_story(tmp_path / "archive"), tmp_path, capsys)


def trusted(officer: Officer) -> set[str]:
    path = officer.folder / "home" / "memory.json"
    known = json.loads(path.read_bytes())["archives"] if path.exists() else {}
    return {key for item in known.values() for key in item["fingerprints"]}


def forge(officer: Officer) -> None:
    """Put an archive in the place of the other, signed with a key of the forger's."""
    shutil.rmtree(officer.maker.root)
    tell_story(officer.maker.root, signer=key_number(9))


COMMANDS = [
    ("report", "--from=2025-11-24"),
    ("search", "price"),
    ("sync",),
    ("coverage",),
    ("read",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=[case[0] for case in COMMANDS])
def test_the_key_of_a_forger_is_neither_believed_nor_remembered(
    words: tuple[str, ...], officer: Officer
) -> None:
    forge(officer)

    assert officer.types(*words, f"--key={MINE}") == 1
    assert FORGERS not in trusted(officer)
    assert officer.types("verify") == 1
    assert "RIGHT" not in officer.said


def test_a_case_from_a_forged_archive_is_not_right(officer: Officer) -> None:
    officer.types("case", "create", "Desk")
    officer.types("case", "add", "Desk", "$4", f"--key={MINE}")
    forge(officer)

    transcript = ("transcript", "Trading desk", "--format=csv", f"--key={MINE}")
    assert officer.types(*transcript) == 1
    assert "WRONG" in officer.told
    assert "None of the keys that you trust" in officer.told
    again: list[tuple[str, ...]] = [("case", "export", "Desk"), ("prove", "$2", "--output=x.zip")]
    for words in again:
        with pytest.raises(DamagedArchiveError):
            officer.types(*words, f"--key={MINE}")
    assert trusted(officer) == {MINE}


@pytest.mark.parametrize("words", COMMANDS, ids=[case[0] for case in COMMANDS])
def test_a_key_that_was_given_once_is_remembered(words: tuple[str, ...], officer: Officer) -> None:
    assert officer.types(*words, f"--key={MINE}") == 0
    assert trusted(officer) == {MINE}
    forge(officer)
    assert officer.types("verify") == 1
    assert "is not in the archive" in officer.said


def test_a_key_trusted_at_first_sight_gives_way_to_the_one_that_is_named(
    officer: Officer,
) -> None:
    mine = officer.folder / "mine"
    shutil.copytree(officer.maker.root, mine)
    forge(officer)
    assert officer.types("search", "price") == 0
    assert trusted(officer) == {FORGERS}

    shutil.rmtree(officer.maker.root)
    mine.rename(officer.maker.root)
    assert officer.types("search", "price", f"--key={MINE}") == 1, "the index is the forger's"
    assert "do not believe what is shown" in officer.told
    assert officer.types("verify", f"--key={MINE}") == 0
    assert trusted(officer) == {MINE}


def test_a_key_that_was_typed_wrong_does_not_stay(officer: Officer) -> None:
    assert officer.types("verify", f"--key={MINE}") == 0
    assert officer.types("verify", f"--key={FORGERS}") == 1
    assert "give the right one with --key" in officer.said
    assert officer.types("verify") == 0
