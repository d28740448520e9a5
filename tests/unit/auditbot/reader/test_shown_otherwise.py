"""What clients show is what the officer is told, whatever else a sender put beside it."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from auditbot.reader.conversation import Message, load
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.render.rows import as_json, row_of, table
from auditbot.reader.render.view import Viewer
from auditbot.reader.said import edit_text, formatted_text, other_text
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import Json, Maker

MALLORY = "@mallory:example.org"
ROOM = "!room:example.org"


def event(**content: object) -> str:
    return json.dumps({"type": "m.room.message", "content": content})


def said(body: str, formatted: str, **fields: object) -> Json:
    return {"body": body, "event_json": event(body=body, formatted_body=formatted), **fields}


@pytest.mark.parametrize(
    ("body", "formatted", "told"),
    [
        ("The price is 1.00", "The price is 100", "The price is 100"),
        ("I agree 👍", "I agree 👎", "I agree 👎"),
        ("at least -5", "at least 5", "at least 5"),
        ("All fine", '<img src="mxc://a/b" alt="Sell">', "Sell"),
        ("All fine", '<img src="mxc://a/b">', "(a picture)"),
        ("Buy it", "<del>Buy it</del>", "~~Buy it~~"),
        ("103 shares", "10<sup>3</sup> shares", "10^3 shares"),
        ("All fine", "<mx-reply>Sell</mx-reply>", "Sell"),
        (
            "https://bank.example",
            '<a href="https://evil.example">https://bank.example</a>',
            "https://bank.example (leads to https://evil.example)",
        ),
    ],
)
def test_whatever_changes_the_meaning_is_told(body: str, formatted: str, told: str) -> None:
    assert formatted_text(said(body, formatted)) == told


@pytest.mark.parametrize(
    ("body", "formatted"),
    [
        ("**bold** and `code`", "<strong>bold</strong> and <code>code</code>"),
        ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"),
        ("# Head\n\ntext", "<h1>Head</h1>\n<p>text</p>"),
        ("> quoted\n\nmine", "<blockquote>\n<p>quoted</p>\n</blockquote>\n<p>mine</p>"),
        ("1 < 2 & 3", "1 &lt; 2 &amp; 3"),
        ("see [this](https://a.example/x)", 'see <a href="https://a.example/x">this</a>'),
        ("Alice: hi", '<a href="https://matrix.to/#/@a:b">Alice</a>: hi'),
        ("https://a.example/", '<a href="https://a.example/">https://a.example/</a>'),
        (r"2 \* 3", "2 * 3"),
        ("```\ncode\n```", "<pre><code>code\n</code></pre>"),
        ("~~gone~~", "<del>gone</del>"),
        (":smile: hello", '<img data-mx-emoticon alt=":smile:" src="mxc://a/b"> hello'),
    ],
)
def test_marks_of_formatting_alone_are_nothing_else(body: str, formatted: str) -> None:
    assert formatted_text(said(body, formatted)) is None


def test_what_an_answer_repeats_is_left_out_of_answers_only() -> None:
    html = "<mx-reply><blockquote>Before</blockquote></mx-reply>Now"
    assert formatted_text(said("> Before\n\nNow", html, reply_to="$before")) is None
    assert "Before" in str(formatted_text(said("Now", html)))


def test_no_key_hides_it() -> None:
    escaped = said("All fine", "Sell")
    escaped["event_json"] = escaped["event_json"].replace("formatted_body", "formatted\\u005fbody")
    assert formatted_text(escaped) == "Sell"
    new = {"body": "All fine", "formatted_body": "All fine"}
    decoy = event(body="All fine", formatted_body="Sell", **{"m.new_content": new})
    assert formatted_text({"body": "All fine", "event_json": decoy}) == "Sell"


def test_a_place_is_told_if_the_text_names_another() -> None:
    place = {"msgtype": "m.location", "geo_uri": "geo:51.5,-0.1"}
    assert (
        formatted_text({"event_json": event(body="Dinner", **place)}) == "a map of geo:51.5,-0.1"
    )
    body = "Location geo:51.5,-0.1 at noon"
    assert formatted_text({"event_json": event(body=body, **place)}) is None


def test_a_sum_is_no_identifier() -> None:
    answers = [{"m.id": "$100x", "m.text": [{"body": text}]} for text in ("$100", "@home", "!now")]
    poll = {"event_type": "m.poll.start", "event_json": event(**{"m.poll": {"answers": answers}})}
    assert other_text(poll) == "$100 · @home · !now"
    named = event(**{"m.poll": {"id": "$100"}, "free": "!room:example.org", "word": "$100"})
    assert other_text({"event_json": named}) == "$100"


def test_a_character_that_is_none_hides_nothing() -> None:
    content = '"body": "* \\ud800 fine", "formatted_body": "Sell\\ud800", "m.new_content":'
    text = '{"content": {%s {"body": "Sell \\udfff now"}}}' % content  # noqa: UP031  # braces
    raw = {"body": "* \ufffd fine", "raw_b64": base64.b64encode(text.encode()).decode()}
    assert formatted_text(raw) == "Sell\ufffd"
    assert edit_text(raw) == "Sell \ufffd now"
    assert formatted_text({"body": "fine", "event_json": text}) == "Sell\ufffd"
    assert formatted_text({**raw, "enc_status": "undecryptable"}) is None


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = Library(tmp_path / "cache")
    yield opened
    opened.close()


async def indexed(maker: Maker, library: Library) -> None:
    maker.segment()
    maker.manifest()
    done = await sync(DirectoryPlace(maker.root), library, lambda _: Remembered())
    assert not done.faults


async def test_a_hostile_text_does_not_end_the_reader_and_is_found(
    tmp_path: Path, library: Library
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message("fine", MALLORY, room_id=ROOM, event_json=event(formatted_body="sell \ud800"))
    raw = base64.b64encode(event(formatted_body="escape \ud800").encode()).decode()
    maker.message("fine", MALLORY, room_id=ROOM, event_json=None, raw_b64=raw)
    await indexed(maker, library)
    for word in ("sell", "escape"):
        (message,) = load(library, search(library, Query(text=word)))
        assert word in str(row_of(message).shown_as)


async def test_each_version_says_what_clients_show(tmp_path: Path, library: Library) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message("Hello", MALLORY, room_id=ROOM, event_id="$said")
    new = {"body": "Hello you", "formatted_body": "<b>Sell</b> everything"}
    maker.message(
        "* harmless",
        MALLORY,
        room_id=ROOM,
        event_id="$edit",
        edit_of="$said",
        event_json=event(body="* harmless", **{"m.new_content": new}),
    )
    maker.record(
        event_type="m.room.redaction",
        event_id="$back",
        room_id=ROOM,
        sender=MALLORY,
        redacts="$edit",
    )
    await indexed(maker, library)
    (found,) = search(library, Query(text="you"))
    assert search(library, Query(text="everything")) == [found]
    (message,) = load(library, [found])
    assert row_of(message).shown_as == "Sell everything"
    (version,) = as_json(message)["versions"]
    assert (version["text"], version["shown_as"]) == ("Hello you", "Sell everything")
    assert version["deleted_by"] == MALLORY
    lines = list(table([message]))
    assert any("edited" in line and "taken back" in line for line in lines)
    assert any("most clients show this instead: Sell everything" in line for line in lines)
    assert Viewer(library, UTC).view(message)["versions"][0]["deleted"]
    assert isinstance(message, Message)
