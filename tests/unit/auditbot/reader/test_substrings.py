"""Any part of a text is found, in every script, and an index that lacks parts gets them by itself."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.reader.cli import main
from auditbot.reader.conversation import load
from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import drop_parts, has_parts, want_parts, without_parts
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import complete_parts, sync
from auditbot.reader.index.words import folded
from auditbot.reader.memory import Remembered
from auditbot.storage.reading import DirectoryPlace
from common.errors import UserError
from tests.support.archive_maker import Maker

TEXTS = {
    "thai": "พรุ่งนี้เราจะซื้อหุ้น",
    "chinese": "我们明天见面吧",
    "mail": "Write to Jane.Doe+fund@Example.ORG, not here",
    "part": "Any part of a word.",
    "street": "In der Hauptstraße 5",
    "cafe": "Café im Erdgeschoß",
    "split": "in\n\tsi\u200bder\u00ad trade\x00s",
    "wide": "ＡＣＭＥ ４２",
    "short": "k.",
    "quotes": 'he said "buy" AND (sell)*',
    "emoji": "done 👍🏽!",
    "russian": "мой договор",
}


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    made = Maker(tmp_path / "archive")
    made.publish_key()
    for name, text in TEXTS.items():
        made.message(text, event_id=f"${name}")
    made.segment()
    made.message("a plan", event_id="$file", msgtype="m.file", media_name="plan_2026-final.xlsx")
    made.segment()
    made.manifest()
    return made


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = Library(tmp_path / "cache")
    yield opened
    opened.close()


async def synced(maker: Maker, library: Library) -> None:
    done = await sync(DirectoryPlace(maker.root), library, lambda _server: Remembered())
    assert not done.faults


def found(library: Library, *parts: str, text: str = "") -> list[str]:
    roots = search(library, Query(containing=parts, text=text))
    return [str(message.record["event_id"]).removeprefix("$") for message in load(library, roots)]


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("art of a wor", ["part"]),
        ("ART  OF A\nWOR", ["part"]),
        ("ซื้อ", ["thai"]),
        ("หุ้น", ["thai"]),
        ("明天见", ["chinese"]),
        ("明天", ["chinese"]),
        ("吧", ["chinese"]),
        ("doe+fund@example.org,", ["mail"]),
        ("@", ["mail"]),
        ("HAUPTSTRASSE", ["street"]),
        ("ſtraß", ["street"]),
        ("cafe im", ["cafe"]),
        ("CAFÉ", ["cafe"]),
        ("insider", []),
        ("in sider trade s", ["split"]),
        ("acme 42", ["wide"]),
        ("acme", ["wide"]),
        ("k.", ["short"]),
        ('"buy" and (sell)*', ["quotes"]),
        ('"b', ["quotes"]),
        ("👍", ["emoji"]),
        ("мои", []),
        ("ДОГОВ", ["russian"]),
        ("_2026-", ["file"]),
        ("nowhere", []),
        ("zz", []),
        ("%", []),
        ("word.k", []),
        ("planplan", []),
    ],
)
async def test_any_part_is_found(
    maker: Maker, library: Library, part: str, names: list[str]
) -> None:
    want_parts(library.connection)
    await synced(maker, library)

    assert found(library, part) == names


async def test_parts_and_words_are_asked_for_together(maker: Maker, library: Library) -> None:
    want_parts(library.connection)
    await synced(maker, library)

    assert found(library, "doe+", "fund@", text="write") == ["mail"]
    assert found(library, "doe+", "nothing") == []
    with pytest.raises(UserError, match="nothing to search for"):
        found(library, " \u200b ")


async def test_an_index_of_before_gets_its_parts_from_this_machine(
    maker: Maker, library: Library
) -> None:
    await synced(maker, library)
    with pytest.raises(UserError, match="steward audit sync --substrings"):
        found(library, "art of")
    for path in maker.root.rglob("*.zst"):
        path.rename(path.with_suffix(".away"))

    want_parts(library.connection)
    assert len(without_parts(library.connection)) == 2
    assert complete_parts(library) == 2

    assert found(library, "art of") == ["part"]
    assert complete_parts(library) == 0


async def test_parts_of_another_folding_are_made_anew(maker: Maker, library: Library) -> None:
    want_parts(library.connection)
    await synced(maker, library)
    with library.connection:
        library.connection.execute("UPDATE meta SET value = '0' WHERE name = 'parts'")
        library.connection.execute("INSERT INTO parts (rowid, text) VALUES (1, 'of another')")

    assert not has_parts(library.connection)
    want_parts(library.connection)
    complete_parts(library)

    assert found(library, "art of") == ["part"]
    assert found(library, "f another") == []


async def test_parts_are_given_up_and_their_room_with_them(maker: Maker, library: Library) -> None:
    want_parts(library.connection)
    await synced(maker, library)
    (pages,) = library.connection.execute("PRAGMA page_count").fetchone()

    assert drop_parts(library.connection)

    assert library.connection.execute("PRAGMA page_count").fetchone()[0] < pages
    assert not drop_parts(library.connection)
    assert found(library, text="word") == ["part"]


async def test_what_was_deleted_on_purpose_is_not_found_by_its_parts(
    maker: Maker, library: Library
) -> None:
    want_parts(library.connection)
    await synced(maker, library)
    maker.remove(maker.segments[0])
    maker.manifest()

    await synced(maker, library)

    assert found(library, "art of a") == []
    left = library.connection.execute("SELECT DISTINCT doc FROM part_terms").fetchall()
    assert len(left) == 1, "of the file's name alone"


def test_search_adds_parts_by_itself_and_the_index_remembers(
    maker: Maker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = [f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}"]
    assert main(["search", "word", *where]) == 0
    capsys.readouterr()

    assert main(["search", "--containing=art of a wor", "--no-sync", *where]) == 0
    said, told = capsys.readouterr()
    assert "Any part of a word." in said
    assert "Parts of words are being indexed, once" in told

    maker.message("ownership", event_id="$new")
    maker.segment()
    maker.manifest()
    assert main(["search", "--containing", "wners", *where]) == 0
    said, told = capsys.readouterr()
    assert "ownership" in said
    assert "being indexed" not in told
    assert json.loads((tmp_path / "home" / "access.jsonl").read_text().splitlines()[-1])[
        "query"
    ] == ("containing “wners”")

    assert main(["sync", "--no-substrings", *where]) == 0
    assert main(["sync", "--substrings", *where]) == 0
    assert "Parts of words are being indexed" in capsys.readouterr().err
    assert main(["search", "--containing", "wners", *where]) == 0


def test_what_this_machine_lost_is_said(
    maker: Maker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = [f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}"]
    assert main(["sync", *where]) == 0
    for path in (tmp_path / "home").rglob("objects/*/*"):
        path.unlink()

    assert main(["search", "--containing=nowhere", *where]) == 1

    assert "NOT EVERYTHING IS INDEXED: parts of words: " in capsys.readouterr().err


@given(st.text(), st.text(), st.text())
def test_what_is_in_a_text_is_in_its_folded_form(before: str, part: str, after: str) -> None:
    """Whole words typed as they stand are found: folding a text folds what is in it."""
    words = [folded(text) for text in (before, part, after)]
    text = folded(f"{before} {part} {after}")

    assert folded(text) == text
    assert " ".join(filter(None, words)) == text


async def test_an_index_of_an_older_version_is_built_anew_from_this_machine(
    maker: Maker, library: Library
) -> None:
    want_parts(library.connection)
    await synced(maker, library)
    with library.connection:
        library.connection.execute("UPDATE meta SET value = '1' WHERE name = 'version'")
        library.connection.execute("ALTER TABLE record DROP COLUMN why")
    library.close()
    for path in maker.root.rglob("*.zst"):
        path.rename(path.with_suffix(".away"))

    again = Library(library.folder)
    assert has_parts(again.connection)
    await synced(maker, again)

    assert found(again, "art of") == ["part"]
    again.close()


async def test_what_was_changed_on_this_machine_is_fetched_again(
    maker: Maker, library: Library
) -> None:
    await synced(maker, library)
    (library.folder / "index.sqlite").unlink()
    library.close()
    for path in library.folder.rglob("objects/*/*"):
        path.write_bytes(b"something else")

    again = Library(library.folder)
    await synced(maker, again)

    assert found(again, text="word") == ["part"]
    again.close()
