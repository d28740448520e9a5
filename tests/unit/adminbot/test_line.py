from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.line import LineError, parse_line, quote, without_reply_fallback
from adminbot.engine.link import Link, parse_link
from adminbot.engine.text import is_control
from common.errors import UserError

typeable = st.text(
    st.characters(exclude_categories=["Cs"]).filter(
        lambda character: not is_control(character) and not character.isspace()
    )
    | st.just(" "),
    max_size=40,
)


def words(body: str, formatted: str | None = None) -> list[str]:
    return [word.text for word in parse_line(body, formatted).words]


@given(st.text(), st.none() | st.text())
def test_any_text_gives_words_or_a_user_error(body: str, formatted: str | None) -> None:
    try:
        line = parse_line(body, formatted)
    except UserError:
        return

    for word in line.words:
        assert 0 <= word.start <= word.end <= len(line.text)


@given(
    st.text(alphabet="'\"`“”„«\\ ab=-—[]()<>#@!:/", max_size=30),
    st.text(alphabet='<a href="matrix:u/b:c">x</a> ab', max_size=60),
)
def test_any_punctuation_gives_words_or_a_user_error(body: str, formatted: str) -> None:
    with suppress(UserError):
        parse_line(body, formatted)


@given(st.lists(typeable, min_size=1, max_size=6))
def test_what_is_quoted_is_read_back(typed: list[str]) -> None:
    assert words(" ".join(quote(word) for word in typed)) == typed


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("user show alice", ["user", "show", "alice"]),
        ("  user\tshow   alice ", ["user", "show", "alice"]),
        (
            "say 'two words' `three of them` “and four”",
            ["say", "two words", "three of them", "and four"],
        ),
        ("--name='Ann Other'", ["--name=Ann Other"]),
        ("don't worry", ["don't", "worry"]),
        (r"a\ b \"c", ["a b", '"c']),
        ("user list —sort seen", ["user", "list", "--sort", "seen"]),
        ('""', [""]),
        (
            "show [Alice](https://matrix.to/#/@alice:example.org)",
            ["show", "https://matrix.to/#/@alice:example.org"],
        ),
    ],
)
def test_quotes_and_dashes(body: str, expected: list[str]) -> None:
    assert words(body) == expected


def test_a_pill_in_the_formatted_body_names_whom_the_body_mentions() -> None:
    html = 'user show <a href="https://matrix.to/#/%40al%3Aexample.org">Alice de la Mer</a>: now'

    found = words("user show Alice de la Mer: now", html)

    assert found == ["user", "show", "https://matrix.to/#/%40al%3Aexample.org", "now"]


def test_the_formatted_body_cannot_add_what_the_body_does_not_say() -> None:
    html = '<a href="https://matrix.to/#/@victim:example.org">ali</a> user deactivate'

    assert words("user show alice", html) == ["user", "show", "alice"]


def test_a_pill_inside_the_quoted_reply_counts_for_nothing() -> None:
    html = '<mx-reply><a href="https://matrix.to/#/@victim:example.org">alice</a></mx-reply>alice'

    assert words("alice", html) == ["alice"]


def test_a_quoted_dash_is_no_option() -> None:
    (word,) = parse_line('"--erase"').words

    assert word.quoted


@pytest.mark.parametrize(
    "body", ["help\nuser deactivate bob", "help\rhelp", "help \u202eevil", "help \x00", "a\u2028b"]
)
def test_line_breaks_and_invisible_characters_are_refused(body: str) -> None:
    with pytest.raises(LineError):
        parse_line(body)


def test_the_caret_stands_under_the_open_quotation() -> None:
    with pytest.raises(LineError) as raised:
        parse_line("say 'never closed")

    assert raised.value.caret == "say 'never closed\n    ^"


def test_the_quoted_text_of_a_reply_is_left_out() -> None:
    body = "> <@bob:example.org> !user deactivate alice\n> really\n\n!help"

    assert without_reply_fallback(body) == "!help"
    assert without_reply_fallback("!help") == "!help"
    assert without_reply_fallback("> only quoted") == "> only quoted"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://matrix.to/#/@a:b", Link("@a:b")),
        ("https://matrix.to/#/%23lobby%3Ab?via=c", Link("#lobby:b")),
        ("https://matrix.to/#/!v12room/$event", Link("!v12room", "$event")),
        ("matrix:u/a:b", Link("@a:b")),
        ("matrix:roomid/v12room/e/event?via=b", Link("!v12room", "$event")),
        ("matrix:r/lobby:b?action=join", Link("#lobby:b")),
        ("https://matrix.to.evil.org/#/@a:b", None),
        ("https://example.org/#/@a:b", None),
        ("matrix:x/a:b", None),
        ("matrix:u", None),
    ],
)
def test_links(url: str, expected: Link | None) -> None:
    assert parse_link(url) == expected


@given(st.text())
def test_no_text_breaks_the_link_parser(text: str) -> None:
    for prefix in ("", "matrix:", "https://matrix.to/#/"):
        parse_link(prefix + text)


@pytest.mark.timeout(30)
def test_hostile_markup_costs_no_time() -> None:
    for html in ("<" * 60_000, "<a " * 20_000, '<a href="' * 7_000, "<a href=" + "'x" * 30_000):
        parse_line("user show alice", html)
    parse_line("[" * 3_900, '<a href="matrix:u/b:c">[</a>' * 2_000)
    with pytest.raises(LineError):
        parse_line("a" * 60_000)
