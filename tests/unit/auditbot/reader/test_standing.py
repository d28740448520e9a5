"""How an archive was found is shown by one colour, the same everywhere: that of what is worst."""

import re
import zipfile
from pathlib import Path

import pytest

from auditbot.reader.verify.report import overall, verdicts
from tests.support.archive_maker import Maker, fingerprint, key_number
from tests.support.archive_story import tell_story
from tests.unit.auditbot.reader.test_commands import Officer

KEYS = tuple(f"--key={fingerprint(key_number(number))}" for number in (1, 2))


@pytest.fixture
def officer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Officer:
    monkeypatch.chdir(tmp_path)
    return Officer(tell_story(tmp_path / "archive"), tmp_path, capsys)


def damage_another_server(officer: Officer) -> None:
    """Put another server's archive at the place, one object of which was changed."""
    maker = Maker(officer.maker.root, server_name="other.example", key=key_number(2))
    maker.stream = "20251124T160000Zbbbbbb"
    maker.publish_key()
    maker.message("there too")
    maker.segment()
    maker.manifest()
    assert officer.types("sync", *KEYS) == 0
    (maker.root / maker.segments[0]).write_bytes(b"x")


def badges(officer: Officer, *words: str) -> list[tuple[str, str]]:
    """Return class and words of the badge of a transcript, and of the page of a hand-over."""
    officer.types("transcript", "Trading desk", "--output=t.html", *words)
    officer.types("prove", "$2", "--output=p.zip", *words)
    with zipfile.ZipFile(officer.folder / "p.zip") as package:
        pages = [(officer.folder / "t.html").read_text("utf-8")] + [
            package.read(name).decode() for name in ("transcript.html", "verify.html")
        ]
    found = [re.findall(r'class="badge (\w*)">([^<]*)<', page) for page in pages]
    assert [len(one) for one in found] == [1, 1, 1]
    return [one[0] for one in found]


@pytest.mark.parametrize(
    ("how", "standing", "said"),
    [
        ("all", "right", "RIGHT: nothing was changed"),
        ("signatures", "partly", "were compared with them when"),
        ("no", "unknown", "Not verified as a whole"),
    ],
)
def test_the_badge_is_green_only_if_all_was_looked_into(
    how: str, standing: str, said: str, officer: Officer
) -> None:
    for state, words in badges(officer, f"--verify={how}", *KEYS[:1]):
        assert state == standing
        assert said in words


def test_the_badge_is_red_if_one_of_several_servers_is_wrong(officer: Officer) -> None:
    damage_another_server(officer)

    for state, words in badges(officer, "--verify=all"):
        assert state == "wrong"
        assert "example.org: RIGHT" in words
        assert "other.example: WRONG" in words


def test_of_nothing_nothing_is_known() -> None:
    assert overall([]) == "unknown"
    assert not verdicts([])


def test_each_standing_has_a_colour() -> None:
    look = Path("auditbot/reader/templates/look.css")
    text = (Path(__file__).parents[4] / look).read_text("utf-8")
    colours = dict(re.findall(r"^\.badge\.(\w+) \{ color: var\((--\w+)\)", text, re.MULTILINE))

    assert colours == {
        "right": "--right",
        "wrong": "--wrong",
        "partly": "--warn",
        "unknown": "--soft",
    }


def test_the_page_of_a_hand_over_does_not_claim_to_have_checked_anything(officer: Officer) -> None:
    officer.types("prove", "$2", "--output=p.zip", *KEYS[:1])

    with zipfile.ZipFile(officer.folder / "p.zip") as package:
        page = package.read("verify.html").decode()

    assert "This page only says how: it checks nothing" in page
