"""Conversations are drawn by chance, reproducibly, and it stays written down who reviewed them."""

import json
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.review.conversations import Conversation, draw
from auditbot.reader.review.lexicon import read_lexicon
from common.errors import UserError
from tests.support.archive_maker import Maker
from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]

PERIOD = ("--from=2025-11-01", "--to=2025-11-30")
ROOMS = 12


def with_rooms(officer: Officer) -> None:
    """Add a message a day in each of many rooms to the archive, and close it."""
    maker: Maker = officer.maker
    for number in range(ROOMS):
        maker.message(
            f"Nothing to see in room {number}.",
            "@bob:example.org",
            event_id=f"$quiet{number}",
            room_id=f"!quiet{number}:example.org",
            room_name=f"Quiet {number}",
        )
    maker.segment()
    maker.manifest()


def drawn(officer: Officer, *words: str) -> dict[str, Any]:
    assert officer.types("sample", "draw", *words, *PERIOD, "--json") == 0
    found: dict[str, Any] = json.loads(officer.said)
    return found


def test_the_seed_draws_the_same_again_and_another_one_does_not(officer: Officer) -> None:
    with_rooms(officer)
    first = drawn(officer, "3")
    again = drawn(officer, "3", f"--seed={first['seed']}")
    others = [drawn(officer, "3") for _ in range(4)]

    def ids(found: dict[str, Any]) -> list[str]:
        return [one["id"] for one in found["conversations"]]

    assert len(ids(first)) == 3
    assert ids(again) == ids(first)
    assert any(ids(other) != ids(first) for other in others)
    assert len({other["seed"] for other in others}) == 4
    everything = drawn(officer, "1000")
    assert everything["population"] == len(everything["conversations"])
    quiet = [one for one in everything["conversations"] if one["room_id"].startswith("!quiet")]
    assert [one["messages"] for one in quiet] == [1] * ROOMS


def test_each_conversation_is_as_likely_as_any_other() -> None:
    found = {f"{n:03}": Conversation(f"{n:03}", f"!{n}", f"{n}", "2026-03-01") for n in range(20)}
    times = dict.fromkeys(found, 0)

    for seed in range(2000):
        for one in draw(found, 5, str(seed)):
            times[one.id] += 1

    assert sum(times.values()) == 10_000
    assert min(times.values()) > 400
    assert max(times.values()) < 600


def test_what_came_later_pushes_out_at_most_one() -> None:
    found = {f"{n:03}": Conversation(f"{n:03}", f"!{n}", f"{n}", "2026-03-01") for n in range(50)}
    before = {one.id for one in draw(found, 10, "seed")}
    found["later"] = Conversation("later", "!later", "later", "2026-03-02")

    after = {one.id for one in draw(found, 10, "seed")}

    assert len(before - after) <= 1


def test_words_of_a_lexicon_are_counted_in_originals_and_edits(officer: Officer) -> None:
    with_rooms(officer)
    lexicon = officer.folder / "words.txt"
    lexicon.write_text(
        "# what we look for\n\nprice\n120\nbefore the news\nnews the before\nquarz*\n"
    )

    assert officer.types("sample", "draw", "0", f"--lexicon={lexicon}", *PERIOD) == 0

    assert "2 messages: price" in officer.said
    assert "1 message: 120" in officer.said
    assert "1 message: before the news" in officer.said
    assert "news the before" not in officer.said
    assert "Others in which they occur, 2 of 2:" in officer.said
    assert "Trading desk (!desk:example.org): " in officer.said
    assert "Quiet" not in officer.said
    found = drawn(officer, "0", f"--lexicon={lexicon}", "--room=Trading desk")
    (one,) = found["conversations"]
    assert one["words"] == {"price": 1, "120": 1, "before the news": 1}
    assert one["messages"] == 14, "as a transcript counts: edits and reactions begin none"
    assert not one["by_chance"]


def test_a_conversation_is_marked_as_reviewed_and_the_next_draw_says_so(officer: Officer) -> None:
    with_rooms(officer)
    found = drawn(officer, "2", "--seed=x")
    first, second = (one["id"] for one in found["conversations"])

    note = "fine, \x1b[31mred"
    assert officer.types("sample", "mark", first, "--result=concern", f"--note={note}") == 0
    assert "Reviewed: 2025-11-2" in officer.said

    assert officer.types("sample", "draw", "2", "--seed=x", *PERIOD) == 0
    assert officer.said.count("reviewed ") == 1
    assert "concern: fine, ⟨U+001B⟩[31mred" in officer.said
    with pytest.raises(UserError, match="never drawn"):
        officer.types("sample", "mark", "0123456789abcdef")
    assert officer.types("sample", "log") == 0
    assert f"reviewed {first}" in officer.said
    assert f"1 of them are not reviewed: {second}" in officer.said
    assert "The log is unbroken; it ends with " in officer.said
    assert (officer.folder / "home" / "reviews.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_was_said_after_the_review_is_told(officer: Officer) -> None:
    with_rooms(officer)
    (one,) = drawn(officer, "1", "--seed=x", "--room=Quiet 3")["conversations"]
    officer.types("sample", "mark", one["id"])
    officer.maker.message(
        "One thing more.",
        "@bob:example.org",
        event_id="$more",
        room_id="!quiet3:example.org",
        room_name="Quiet 3",
    )
    officer.maker.segment()
    officer.maker.manifest()

    officer.types("sample", "draw", "1", "--seed=x", "--room=Quiet 3", *PERIOD)

    assert "clear; 1 MESSAGES MORE SINCE" in officer.said


def test_a_changed_review_log_is_seen(officer: Officer) -> None:
    (one,) = drawn(officer, "1", "--room=Trading desk")["conversations"]
    officer.types("sample", "mark", one["id"], "--result=concern")
    path = officer.folder / "home" / "reviews.jsonl"
    officer.types("sample", "draw", "1", *PERIOD)
    path.write_bytes(path.read_bytes().replace(b'"concern"', b'"clear"'))

    assert officer.types("sample", "log") == 1
    assert "THE LOG IS BROKEN" in officer.said
    assert officer.types("sample", "draw", "1", *PERIOD) == 1
    assert "THE REVIEW LOG IS BROKEN" in officer.told


def test_a_draw_needs_a_period_and_a_sound_lexicon(officer: Officer) -> None:
    with pytest.raises(UserError, match="Of which time"):
        officer.types("sample", "draw")
    lexicon = officer.folder / "words.txt"
    for content, sentence in ((b"price\n...\n", "Line 2"), (b"\xff\xfe", "cannot be read")):
        lexicon.write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            read_lexicon(lexicon)
    with pytest.raises(UserError, match="cannot be read"):
        read_lexicon(Path("nowhere.txt"))
