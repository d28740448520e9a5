"""Nobody's name or text passes for another person, for nothing at all, or for what Steward says."""

import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from auditbot.reader.conversation import load
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.render.view import Viewer
from auditbot.reader.render.words import spelled
from auditbot.reader.show import visible
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import Maker
from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]
MALLORY = "@mallory:example.org"


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


@pytest.mark.parametrize("form", ["html", "pdf"])
def test_a_name_adds_nobody_to_those_who_could_read(officer: Officer, form: str) -> None:
    members = [{"user_id": MALLORY, "name": "Mal); @ceo:example.org (CEO", "membership": "join"}]
    detail = json.dumps({"members": members})
    officer.maker.record(
        "audience", room_id="!lobby:example.org", audience_id="f", detail_json=detail
    )
    officer.maker.message("hello", MALLORY, audience_id="f", audience_count=1)
    officer.maker.segment()
    officer.maker.manifest()
    output = officer.folder / f"t.{form}"
    assert (
        officer.types(
            "transcript",
            "!lobby:example.org",
            f"--output={output}",
            f"--format={form}",
            "--verify=no",
        )
        == 0
    )
    if form == "html":
        quoted = "@mallory:example.org &#34;Mal); @ceo:example.org (CEO&#34;"
        assert quoted in output.read_text()


@pytest.mark.parametrize("blank", ["\u3164", "\u115f", "\u2800", "\ufe00", "\u034f", "\U000e0100"])
def test_what_nobody_sees_is_spelled_out(blank: str) -> None:
    assert spelled(f"a{blank}") == f"a⟨U+{ord(blank):04X}⟩"
    assert blank not in visible(f"a{blank}")
    assert spelled("❤\ufe0f 👩\u200d🔬 \u0e33 가") == "❤\ufe0f 👩\u200d🔬 \u0e33 가"


async def test_an_answer_quotes_what_was_readable_only_later(
    tmp_path: Path, library: Library
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    closed = {
        "event_type": "m.room.encrypted",
        "enc_status": "undecryptable",
        "body": None,
        "event_json": None,
    }
    late = maker.message("", event_id="$late", **closed)
    maker.message("", event_id="$never", **closed)
    maker.message("yes", event_id="$1", reply_to="$late")
    maker.message("no", event_id="$2", reply_to="$never")
    maker.message("what", event_id="$3", reply_to="$unknown")
    known = {"room_id": late["room_id"], "event_id": "$late", "enc_status": "late"}
    maker.record("decryption", of_seq=late["seq"], body="at last", **known)
    await indexed(maker, library)
    messages = load(library, search(library, Query(text="yes")))
    messages += load(library, search(library, Query(text="no")))
    messages += load(library, search(library, Query(text="what")))
    views = [Viewer(library, UTC).view(message) for message in messages]
    assert [view["reply_to"]["text"] for view in views] == [
        "at last",
        "(not readable)",
        "a message that is not archived",
    ]


def test_a_sheet_turns_no_text_around(officer: Officer) -> None:
    officer.maker.message("pay \u202e001\u202c now\u200b", MALLORY, sender_name="\ufeff=1+1")
    officer.maker.segment()
    officer.maker.manifest()
    assert officer.types("search", "pay", "--output=t.csv", "--format=csv") == 0
    text = (officer.folder / "t.csv").read_text()
    assert "pay ⟨U+202E⟩001⟨U+202C⟩ now⟨U+200B⟩" in text
    assert "⟨U+FEFF⟩=1+1" in text
    assert not {"\u202e", "\u202c", "\u200b", "\ufeff"} & set(text)
    assert officer.types("search", "pay", "--output=t.jsonl", "--format=jsonl") == 0
    assert "\\u202e" in (officer.folder / "t.jsonl").read_text(), "programs get it as it is"


def test_a_table_says_of_which_zone_its_times_are(officer: Officer) -> None:
    assert officer.types("search", "price", "--zone=Europe/Berlin") == 0
    assert "Times are those of Europe/Berlin." in officer.told
    assert officer.types("search", "price") == 0
    assert "Times are" not in officer.told
