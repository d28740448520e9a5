"""Which class a room belongs to, and what the classes of a segment mean for it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.pipeline.line import Place, to_line
from auditbot.pipeline.other_records import control_record
from auditbot.pipeline.retention import DEFAULT, Facts, Policy, Rule, Tally, kept_until, lock_days
from auditbot.pipeline.seal import class_in

LOBBY = Facts("!lobby:example.org", "#lobby:example.org", None, is_direct=False, encrypted=True)
NOTHING_KNOWN = Facts("!lobby:example.org", None, None, None, None)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({"rooms": ("!lobby:example.org",)}, True),
        ({"rooms": ("#lobby:example.org",)}, True),
        ({"rooms": ("#lob*",)}, True),
        ({"rooms": ("#l?bby:*.org",)}, True),
        ({"rooms": ("#board*", "!lobby:*")}, True),
        ({"rooms": ("lobby*",)}, False),
        ({"rooms": ("#LOBBY:example.org",)}, False),
        ({"rooms": ("#lobby:example.or",)}, False),
        ({"rooms": ("#lobby.example.org",)}, False),
        ({"room_types": ("m.space",)}, False),
        ({"direct": False}, True),
        ({"direct": True}, False),
        ({"encrypted": True}, True),
        ({"rooms": ("#lob*",), "encrypted": False}, False),
        ({"rooms": ("#lob*",), "encrypted": True, "direct": False}, True),
    ],
)
def test_a_rule_fits_where_all_that_it_asks_holds(rule: dict[str, object], *, fits: bool) -> None:
    policy = Policy(None, (Rule("some", 30, **rule),))  # type: ignore[arg-type]  # one option of several

    assert policy.class_of(LOBBY) == ("some" if fits else DEFAULT)


def test_the_first_rule_that_fits_wins() -> None:
    policy = Policy(
        None, (Rule("lobby", 1, rooms=("#lobby:*",)), Rule("encrypted", 2, encrypted=True))
    )

    assert policy.class_of(LOBBY) == "lobby"
    assert policy.class_of(Facts("!x", None, None, None, encrypted=True)) == "encrypted"


def test_what_is_not_known_of_a_room_fits_no_rule_that_asks_for_it() -> None:
    for value in (True, False):
        for name in ("direct", "encrypted"):
            policy = Policy(None, (Rule("some", 1, **{name: value}),))  # type: ignore[arg-type]  # one option of several
            assert policy.class_of(NOTHING_KNOWN) == DEFAULT


@given(
    st.text(st.sampled_from("ab*?[.]"), max_size=12), st.text(st.sampled_from("ab[.]"), max_size=8)
)
def test_patterns_mean_what_they_say(pattern: str, text: str) -> None:
    def means(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(means(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return bool(text) and pattern[0] in {"?", text[0]} and means(pattern[1:], text[1:])

    room = Facts(f"!{text}", None, None, None, None)

    found = Policy(None, (Rule("some", 1, rooms=(f"!{pattern}",)),)).class_of(room)

    assert (found == "some") == means(pattern, text)


def test_a_hostile_alias_cannot_make_a_pattern_slow() -> None:
    policy = Policy(None, (Rule("some", 1, rooms=(f"#{'*a' * 100}*b",)),))
    alias = "#" + "a" * 1023
    began = time.process_time()

    assert policy.class_of(Facts(None, alias, None, None, None)) == DEFAULT

    assert time.process_time() - began < 1


def test_the_longest_class_decides_how_long_a_segment_is_locked() -> None:
    said = {"chats": {"records": 1, "keep_days": 30}, "board": {"records": 1, "keep_days": 3650}}

    assert lock_days(None, 365) == 365
    assert lock_days({"chats": said["chats"]}, 365) == 30
    assert lock_days(said, 365) == 3650
    assert lock_days({**said, "default": {"records": 2}}, 365) == 3650
    assert lock_days({"chats": said["chats"], "default": {"records": 2}}, 365) == 365
    assert lock_days({"ever": {"records": 1, "keep_days": None}}, 365) == 365


def test_a_segment_is_kept_for_the_whole_days_of_its_longest_class() -> None:
    assert kept_until([30, 10], 100) == 131
    assert kept_until([30, None], 100) is None


def test_the_classes_of_a_segment_are_counted_with_the_longest_meaning_of_each() -> None:
    tally = Tally()
    for name, keeps in (
        ("default", {}),
        ("chats", {"chats": 30}),
        ("chats", {"chats": 10}),
        ("ever", {"ever": None}),
        ("ever", {"ever": 5}),
    ):
        tally.add(name, keeps)

    assert tally.entry() == {
        "chats": {"records": 2, "keep_days": 30},
        "default": {"records": 1},
        "ever": {"records": 2, "keep_days": None},
    }


def test_default_alone_is_not_said() -> None:
    tally = Tally()
    tally.add("default", {"chats": 30})

    assert tally.entry() is None


@pytest.mark.parametrize("text", ['"retention_class":"chats"', '","retention_class":"chats","'])
def test_no_text_can_pass_for_the_class_of_its_record(text: str) -> None:
    place = Place("stream", 0, bytes(16), "example.org")
    record = control_record(place, now_ms=0, actor=text, action=text, detail={text: text})

    assert class_in(to_line(record)) == DEFAULT
