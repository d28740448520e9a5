"""What the commands say is true, in words, and says what was not done."""

import json

import pytest

from common.errors import UserError
from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]


def test_a_list_of_nothing_says_so(officer: Officer) -> None:
    assert officer.types("rooms", "Nowhere") == 0
    assert "No room of the archive fits “Nowhere”." in officer.told
    assert officer.types("people", "zed") == 0
    assert "No person of the archive fits “zed”." in officer.told


def test_a_name_that_rooms_and_people_have_is_asked_back(officer: Officer) -> None:
    with pytest.raises(UserError, match="fits more than one") as caught:
        officer.types("transcript", "e", "--verify=no")
    assert "!desk:example.org" in str(caught.value)
    assert "@alice:example.org" in str(caught.value)
    assert officer.types("transcript", "trading desk", "--verify=no") == 0


def test_what_a_limit_cut_off_is_said(officer: Officer) -> None:
    assert officer.types("search", "--limit=2", "--output=x.txt") == 0
    assert "messages fit; 2 shown." in officer.told
    assert "They are in “x.txt”." in officer.told
    assert officer.types("search", "price", "--limit=50") == 0
    assert "shown" not in officer.told
    with pytest.raises(SystemExit):
        officer.types("search", "--limit=0")


def test_a_draw_is_of_a_period_that_is_over(officer: Officer) -> None:
    for words in (
        ("--from=2999-01-01",),
        ("--to=2025-11-30",),
        ("--from=2025-11-01", "--to=2999-01-01"),
    ):
        with pytest.raises(UserError, match="over"):
            officer.types("sample", "draw", *words)
    assert officer.types("sample", "draw", "--from=2025-11-01", "--to=2025-11-30") == 0
    reviews = officer.folder / "home" / "reviews.jsonl"
    entry = json.loads(reviews.read_text())
    reviews.write_text(json.dumps({**entry, "to": None}) + "\n")
    assert officer.types("sample", "log") == 0
    assert "from 2025-11-01 00:00:00 UTC on, " in officer.said
    assert "None" not in officer.said


def test_the_log_is_in_words_and_tells_what_was_refused(officer: Officer) -> None:
    officer.types("transcript", "Trading desk", "--from=2025-11-24", "--verify=no", "--format=csv")
    officer.types("rooms")
    officer.types("case", "create", "Desk")
    with pytest.raises(UserError, match="already"):
        officer.types("case", "create", "Desk")

    assert officer.types("log") == 0
    assert "from: 2025-11-24 00:00:00" in officer.said
    assert "_ms" not in officer.said
    assert "None" not in officer.said
    assert ": ," not in officer.said
    assert officer.said.count("case created: ") == 1
    assert "case: outcome: refused, asked: case create Desk" in officer.said


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", "a\\b"])
def test_a_case_has_a_name_that_is_no_path(officer: Officer, name: str) -> None:
    with pytest.raises(UserError, match="no name for a case"):
        officer.types("case", "create", name)
    assert officer.types("case", "list") == 0
    assert officer.said == ""


def test_one_is_no_plural(officer: Officer) -> None:
    officer.types("case", "create", "Desk")
    assert officer.types("case", "add", "Desk", "$4") == 0
    assert officer.said == "1 message was added; the case has 1.\n"
    officer.types("case", "list")
    assert officer.said == "Desk: 1 message\n"
    assert officer.types("verify") == 0
    assert "1 message without a key, 1 known gap, 1 room not covered" in officer.said
    assert officer.types("prove", "$2", "--verify=no") == 0
    assert "1 message, " in officer.said


def test_coverage_of_nothing_has_no_headings(officer: Officer) -> None:
    assert officer.types("coverage", "--from=2027-01-01") == 0
    assert "By room" not in officer.said
    assert "By day" not in officer.said
    assert "By sending device" not in officer.said
    assert "The index reaches 2025-11-24" in officer.told


def test_a_table_that_is_none_is_told_with_the_one_there_is(officer: Officer) -> None:
    with pytest.raises(UserError, match="The one table is “records”"):
        officer.types("sql", "SELECT * FROM messages")


def test_a_copy_does_not_get_among_the_archives_objects(officer: Officer) -> None:
    before = sorted(officer.maker.root.rglob("*"))
    for into in ("archive", "archive/copy", "archive/../archive/v1"):
        with pytest.raises(UserError, match="in the archive's own directory"):
            officer.types("parquet", f"--into={into}")
    assert sorted(officer.maker.root.rglob("*")) == before


def test_a_message_without_its_own_time_says_whose_time_it_has(officer: Officer) -> None:
    maker = officer.maker
    maker.message("no time at all", event_id="$timeless", ts_origin=None)
    maker.message("long ago", event_id="$skewed", ts_skew=-7_200_000)
    maker.segment()
    maker.manifest()
    assert officer.types("search", "time at all") == 0
    assert "note: the time is that of receipt: it has no time of sending" in officer.said
    assert "(no time)" not in officer.said
    assert officer.types("search", "long ago") == 0
    assert "differ by more than an hour: received 2025-11-2" in officer.said
    assert officer.types("transcript", "!lobby:example.org", "--verify=no", "--output=t.html") == 0
    assert "the time is that of receipt" in (officer.folder / "t.html").read_text()
