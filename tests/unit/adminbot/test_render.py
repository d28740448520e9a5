import csv
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Code,
    Facts,
    Mono,
    Paragraph,
    Pill,
    Strong,
    Table,
    answer,
    csv_file,
    lately,
    say,
)
from adminbot.engine.render import LONGEST_CELL, MOST_BYTES, notice, render
from adminbot.engine.text import visible
from common.crypto.canonical import canonical_json
from common.i18n import t

DAY_MS = 86_400_000
NOW_MS = 1_795_348_800_000
"""2026-11-22T12:00:00Z."""

# Signatures, hashes and what came before, as Synapse counts them.
ROOM_FOR_THE_HOMESERVER = 4096

spans = st.one_of(
    st.text(max_size=60),
    *(st.builds(kind, st.text(max_size=60)) for kind in (Pill, Mono, Strong)),
)
rows = st.tuples(spans, spans)
blocks: st.SearchStrategy[Block] = st.one_of(
    st.builds(Paragraph, st.tuples(spans, spans)),
    st.builds(Code, st.text(max_size=200)),
    st.builds(Bullets, st.lists(st.tuples(spans), max_size=4).map(tuple)),
    st.builds(Table, st.tuples(st.text(), st.text()), st.lists(rows, max_size=4).map(tuple)),
    st.builds(Facts, st.lists(st.tuples(st.text(), rows), max_size=4).map(tuple)),
)
TAGS = {"p", "pre", "code", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "a"}


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert [name for name, _ in attrs] == (["href"] if tag == "a" else [])
        self.links += [value or "" for _, value in attrs]

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(max_examples=60)
@given(st.lists(blocks, max_size=4).map(tuple))
def test_nothing_written_by_others_becomes_markup(given_blocks: tuple[Block, ...]) -> None:
    rendered = render(Answer(given_blocks))

    seen = Seen()
    seen.feed(rendered.html)
    seen.close()
    bare = re.sub(r"</?[a-z]+( href=\"[^\"<>]*\")?>", "", rendered.html)
    assert "<" not in bare
    assert ">" not in bare
    assert all(link.startswith("https://matrix.to/#/") for link in seen.links)
    assert visible(rendered.body.replace("\n", "")) == rendered.body.replace("\n", "")


def test_overrides_of_the_writing_direction_are_spelt_out() -> None:
    rendered = render(answer(say(Mono("evil\u202etxt.exe\x00"))))

    assert rendered.body == "evil{U+202E}txt.exe{U+0000}"
    assert "{U+202E}" in rendered.html


def test_naming_somebody_never_pings() -> None:
    content = notice(answer(say(Pill("@alice:example.org"), " @room")))

    assert content["m.mentions"] == {}
    assert content["msgtype"] == "m.notice"
    assert 'href="https://matrix.to/#/@alice:example.org"' in content["formatted_body"]


def test_a_hostile_identifier_stays_inside_its_link() -> None:
    rendered = render(answer(say(Pill('!x"><img src=x>'))))

    assert "<img" not in rendered.html
    assert 'href="https://matrix.to/#/!x%22%3E%3Cimg%20src%3Dx%3E"' in rendered.html


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0, max_value=1000), st.sampled_from(["ä<", "\x00", "x", "\n"]))
def test_no_answer_is_too_large_to_send(number: int, text: str) -> None:
    line = text * 40
    large = answer(
        "before",
        Table(("a", "b"), ((Mono(line), line),) * number),
        Code((line + "\n") * number),
        Bullets(((line,),) * number),
        "after",
    )

    rendered = render(large, most_bytes=MOST_BYTES // 4)

    assert len(canonical_json(rendered.content)) <= MOST_BYTES // 4
    if number < 100:
        assert "before" in rendered.body
    if number > 300:
        assert "--page" in rendered.body


def test_a_table_is_readable_as_plain_text() -> None:
    table = Table(("User", "State"), ((Pill("@a:b"), "active"), (Pill("@long:b"), "locked")))

    assert render(answer(table)).body == "User     State\n@a:b     active\n@long:b  locked"


@pytest.mark.parametrize(
    "name", ["=1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "@a:b"]
)
def test_a_name_like_a_formula_is_no_formula_in_a_spreadsheet(name: str) -> None:
    file = csv_file("names.csv", ("name",), [(name,), ("plain",), (None,)])

    ((first,), *rest) = list(csv.reader(io.StringIO(file.data.decode(), newline="")))[1:]
    assert first == f"'{visible(name)}"
    assert rest[0] == ["plain"]


def test_programs_get_values_as_they_are() -> None:
    rows = [("=1", 2, True, None), ("\ud800\n", 1.5, False, "x" * 9_000)]
    said = answer("found").with_file(csv_file("names.csv", ("a", "b", "c", "d"), rows))

    (file,) = replace(said, private=said).for_programs().files

    assert (file.name, file.content_type) == ("names.json", "application/json")
    assert json.loads(file.data) == [
        {"a": "=1", "b": 2, "c": True, "d": None},
        {"a": "?\n", "b": 1.5, "c": False, "d": "x" * 9_000},
    ]


def test_nothing_found_is_an_empty_list_for_programs() -> None:
    (file,) = answer().with_file(csv_file("names.csv", ("a",), ())).for_programs().files

    assert json.loads(file.data) == []


def test_one_long_name_does_not_widen_the_other_rows() -> None:
    rows = (
        (Pill("!a:b"), Mono("x" * 2000), "1"),
        (Pill("!" + "c" * 254), Mono("short"), "2"),
        (Pill("!d:e"), Mono("short"), "3"),
    )

    rendered = render(answer(Table(("Room", "Name", "Members"), rows)))

    lines = rendered.body.split("\n")
    assert "x" * (LONGEST_CELL - 1) + "…" in lines[1]
    assert "x" * LONGEST_CELL not in rendered.body + rendered.html
    assert "c" * 254 in lines[2]
    assert len(lines[3]) < 3 * LONGEST_CELL


@pytest.mark.parametrize("character", ["x", "\\", "'", '"', "<", "\x00", "\u202e", "ä", "😀"])
def test_hostile_names_hide_no_row_of_a_page(character: str) -> None:
    rows = tuple(
        (Pill(f"!{number:043}"), Mono(character * 2000), "100000", "100000", "yes", "12")
        for number in range(50)
    )
    people = tuple((Pill(f"@{number:03}{'y' * 240}:a.b"),) for number in range(50))

    table = notice(answer(Table(("Room", "Name", "M", "L", "E", "V"), rows), "end"))
    members = notice(answer(Bullets(people), "end"))

    for content in (table, members):
        assert "--page" not in content["body"]
        assert content["body"].endswith("end")
    assert all(f"!{number:043}" in table["body"] for number in range(50))
    assert all(f"@{number:03}" in members["body"] for number in range(50))


@pytest.mark.parametrize("character", ["x", "\\", "'", '"', "<", "\x00", "\u200d", "ä", "😀"])
def test_an_answer_fits_into_an_event_encrypted_or_not(character: str) -> None:
    line = character * 1500
    large = answer(*(Code(line + "\n") for _ in range(40)), Bullets(((line,),) * 40), line)
    relation = {"rel_type": "m.thread", "event_id": "$" + "e" * 254}
    relation["m.in_reply_to"] = {"event_id": "$" + "e" * 254}  # type: ignore[assignment]  # the wrong value that is tested

    content = notice(large, relation)

    plaintext = {"type": "m.room.message", "room_id": "!" + "r" * 254, "content": content}
    encrypted = len(canonical_json(plaintext)) * 4 / 3 + len(canonical_json(relation)) + 1000
    assert encrypted + ROOM_FOR_THE_HOMESERVER <= 65_536
    assert len(content["body"]) > 1000


def test_a_person_or_room_in_a_sentence_is_a_link_to_them() -> None:
    room = "!" + "x" * 43
    said = render(answer(t("Remove {user} from {room}", user="@a:example.org", room=room)))

    assert said.body == f"Remove @a:example.org from {room}"
    assert '<a href="https://matrix.to/#/@a:example.org">@a:example.org</a>' in said.html
    assert f'<a href="https://matrix.to/#/{room}">' in said.html


def test_what_only_begins_like_a_person_is_no_link() -> None:
    for text in ("@a:example.org and more", "say @a:example.org", "!boom", "#1", "<@a:b>"):
        assert "<a" not in render(answer(t("{text}", text=text))).html


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (None, None),
        (0, None),
        (NOW_MS, "just now"),
        (NOW_MS - 3 * DAY_MS, "3 days ago"),
        (NOW_MS + 7 * DAY_MS, "in 7 days"),
        (NOW_MS - 40 * DAY_MS, "2026-10-13"),
        (10**17, "100000000000000000 ms"),
    ],
)
def test_a_moment_in_a_column_is_short(moment: int | None, shown: str | None) -> None:
    now = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    found = lately(moment, now)

    assert (None if found is None else str(found)) == shown
