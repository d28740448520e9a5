"""Keys of one server at a place make no other one believed there, and none vanishes unseen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from auditbot.reader.unpack import DamagedArchiveError
from tests.support.archive_maker import Maker, fingerprint, key_number
from tests.support.archive_story import ALICE, DESK, tell_story
from tests.unit.auditbot.reader.test_commands import Officer

MINE, OTHERS, FORGERS = (fingerprint(key_number(number)) for number in (1, 2, 9))
LOOK_ALIKE = "examp1e.org"
OTHER = "other.example"


@pytest.fixture
def officer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Officer:
    monkeypatch.chdir(tmp_path)
    return Officer(tell_story(tmp_path / "archive"), tmp_path, capsys)


def add_server(
    officer: Officer, name: str, number: int, body: str = "I forged the prices"
) -> Maker:
    """Put the archive of another server beside the first one."""
    maker = Maker(officer.maker.root, server_name=name, key=key_number(number))
    maker.stream = f"20251124T160000Zbbbbb{number}"
    maker.publish_key()
    maker.message(body, ALICE, room_id=DESK, room_name="Trading desk")
    maker.segment()
    maker.manifest()
    return maker


def take_away(officer: Officer, name: str = "example.org") -> None:
    shutil.rmtree(officer.maker.root / "v1" / name)


def codes(officer: Officer, *words: str) -> dict[str, set[str]]:
    """Verify; return the codes of what is wrong by server."""
    status = officer.types("verify", "--json", *words)
    found = {
        result["server_name"]: {
            item["code"] for item in result["findings"] if item["severity"] == "wrong"
        }
        for result in json.loads(officer.said)
    }
    assert status == (1 if any(found.values()) else 0)
    return found


def trusted(officer: Officer) -> dict[str, set[str]]:
    known = json.loads((officer.folder / "home" / "memory.json").read_bytes())["archives"]
    return {name.rpartition(" ")[2]: set(item["fingerprints"]) for name, item in known.items()}


def instead(officer: Officer) -> None:
    take_away(officer)
    add_server(officer, LOOK_ALIKE, 9)


def beside(officer: Officer) -> None:
    add_server(officer, LOOK_ALIKE, 9)


LEARNT = [
    ("verify", f"--key={MINE}"),
    ("search", "price", f"--key={MINE}"),
    ("verify",),
    ("sync",),
]


@pytest.mark.parametrize("learnt", LEARNT, ids=["verified", "searched", "first-seen", "synced"])
@pytest.mark.parametrize("forge", [instead, beside])
def test_the_archive_of_a_look_alike_is_refused(
    forge: Callable[[Officer], None], learnt: tuple[str, ...], officer: Officer
) -> None:
    assert officer.types(*learnt) == 0

    forge(officer)

    # Whatever looks first: neither command teaches the other one to believe it.
    for _ in range(2):
        assert officer.types("search", "forged") == 1
        assert "I forged" not in officer.said
        assert f"Nothing vouches for the archive of {LOOK_ALIKE}" in officer.told
        assert codes(officer)[LOOK_ALIKE] == {"strange_server"}
    assert trusted(officer) == {"example.org": {MINE}}
    assert officer.types("verify") == 1
    assert "give it with --key" in officer.said


def test_an_archive_that_was_here_and_is_gone_is_told(officer: Officer) -> None:
    add_server(officer, OTHER, 2)
    keys = (f"--key={MINE}", f"--key={OTHERS}")
    assert codes(officer, *keys) == {"example.org": set(), OTHER: set()}
    kept = officer.folder / "kept"
    shutil.copytree(officer.maker.root / "v1/example.org", kept)

    take_away(officer)

    for words in (keys, (), keys[1:]):
        assert codes(officer, *words) == {"example.org": {"server_gone"}, OTHER: set()}
    assert officer.types("search", "price") == 1
    assert "The archive of example.org was here on 20" in officer.told
    assert "and is gone" in officer.told
    assert officer.types("verify") == 1
    assert f"take “file:{officer.maker.root} example.org” out of" in officer.said
    kept.rename(officer.maker.root / "v1/example.org")
    assert codes(officer) == {"example.org": set(), OTHER: set()}


def test_what_was_only_searched_is_missed_too(officer: Officer) -> None:
    add_server(officer, OTHER, 2)
    assert officer.types("sync", f"--key={MINE}", f"--key={OTHERS}") == 0

    take_away(officer, OTHER)

    assert codes(officer) == {"example.org": set(), OTHER: {"server_gone"}}


def test_an_empty_place_says_what_was_there(officer: Officer) -> None:
    assert officer.types("verify", f"--key={MINE}") == 0

    take_away(officer)

    assert officer.types("verify") == 2
    assert "There is no archive" in officer.told
    assert "The archive of example.org was here on" in officer.told


def test_two_servers_whose_keys_were_named_once_are_right_from_then_on(officer: Officer) -> None:
    add_server(officer, OTHER, 2, "They wrote this")
    both = {"example.org": set[str](), OTHER: set[str]()}

    assert officer.types("sync", f"--key={MINE}", f"--key={OTHERS}") == 0
    for words in ((), (f"--key={MINE}",), (f"--key={OTHERS}",)):
        assert codes(officer, *words) == both
        assert officer.types("search", "wrote", *words) == 0
        # Which archive says so is told, for rooms may be of both servers.
        assert f"in the archive of {OTHER}" in officer.said
    assert trusted(officer) == {"example.org": {MINE}, OTHER: {OTHERS}}


def test_a_server_is_not_named_where_there_is_only_one(officer: Officer) -> None:
    assert officer.types("search", "price", f"--key={MINE}") == 0
    assert "in the archive of" not in officer.said


def test_a_key_of_one_of_two_makes_the_other_one_no_better(officer: Officer) -> None:
    add_server(officer, OTHER, 2)
    one = {"example.org": set[str](), OTHER: {"strange_server"}}

    assert codes(officer, f"--key={MINE}") == one
    assert codes(officer) == one
    assert codes(officer, f"--key={MINE}", f"--key={OTHERS}") == {
        "example.org": set(),
        OTHER: set(),
    }
    assert codes(officer) == {"example.org": set(), OTHER: set()}


def test_several_servers_at_first_use_are_each_trusted_until_one_is_named(
    officer: Officer,
) -> None:
    add_server(officer, LOOK_ALIKE, 9)
    assert codes(officer) == {"example.org": set(), LOOK_ALIKE: set()}
    assert officer.types("search", "forged") == 0
    assert codes(officer) == {"example.org": set(), LOOK_ALIKE: set()}

    # It was only found here, while a person vouches for the other one.
    for words in ((f"--key={MINE}",), ()):
        assert codes(officer, *words) == {"example.org": set(), LOOK_ALIKE: {"strange_server"}}
    assert officer.types("search", "forged") == 1
    assert "which is shown: do not believe that" in officer.told
    add_server(officer, OTHER, 2)
    assert codes(officer)[OTHER] == {"strange_server"}


def test_a_key_confirms_what_was_found_although_something_else_is_wrong(officer: Officer) -> None:
    add_server(officer, LOOK_ALIKE, 9)
    assert officer.types("verify") == 0
    segment = officer.maker.root / officer.maker.segments[0]
    body = segment.read_bytes()
    segment.write_bytes(body + b"x")

    assert officer.types("verify", f"--key={MINE}") == 1

    segment.write_bytes(body)
    assert codes(officer) == {"example.org": set(), LOOK_ALIKE: {"strange_server"}}


def test_a_key_that_is_nowhere_is_not_taken_for_one_of_another_server(officer: Officer) -> None:
    add_server(officer, OTHER, 2)
    assert officer.types("sync", f"--key={MINE}", f"--key={OTHERS}") == 0

    found = codes(officer, f"--key={FORGERS}")

    assert all("key_missing" in wrong for wrong in found.values())
    assert not any(codes(officer).values())


def test_what_nothing_vouches_for_is_not_handed_over(officer: Officer) -> None:
    """It may be in the index from before a key was named."""
    forged = add_server(officer, LOOK_ALIKE, 9)
    event_id = json.loads(forged.lines[0])["event_id"]
    assert officer.types("prove", "--output=x.zip", event_id) == 0
    assert officer.types("verify", f"--key={MINE}") == 1
    ways: list[tuple[str, ...]] = [("--no-sync",), ("--verify=no",), ()]

    for _ in range(2):
        for words in ways:
            with pytest.raises(DamagedArchiveError, match="no key that is trusted"):
                officer.types("prove", "--output=y.zip", *words, event_id)
        shutil.rmtree(officer.maker.root / "v1/example.org", ignore_errors=True)
    assert not (officer.folder / "y.zip").exists()


def test_a_hand_over_without_a_look_at_the_archive_uses_the_keys_known_here(
    officer: Officer,
) -> None:
    assert officer.types("sync", f"--key={MINE}") == 0

    assert officer.types("prove", "--no-sync", "--output=x.zip", "$2") == 0

    assert "signing key" in officer.said
