"""A load file is read by its format's own few rules as what was said, whatever people wrote.

It is read here by a parser that shares nothing with what writes it, and that forgives nothing.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auditbot.reader.transcript.loadfile import cell, write_dat
from common.errors import ConfigError, UserError
from tests.unit.auditbot.reader.test_commands import Officer, officer
from tests.unit.auditbot.reader.test_mails import NAMES, Made

__all__ = ["officer"]

HOSTILE = (
    "þ",
    "þ\x14þ",
    "þ\r\nþSTW-FORGEDþ\x14þþ",
    "\x14",
    "a®b",
    "line one\nline two\r\nline three\rline four",
    "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e",
    "\ufeff",
    "\x00",
    "\u202egnp.exe",
    "; Mallory; ",
    "“”\"'",
    "../../etc/passwd",
    "x" * 70_000,
    "我们明天见面吧 👩\u200d💻",
    "þ" * 5000,
    *NAMES,
)


def parse(body: bytes) -> list[dict[str, str]]:
    """Read a load file as Concordance does: by position, one character after the other."""
    text = body.decode("utf-8")
    assert text[0] == "\ufeff", "the byte order mark says that it is UTF-8"
    at, rows, row = 1, [], []
    while at < len(text):
        assert text[at] == "\u00fe", (
            f"a field begins with a quote, not with {text[at : at + 20]!r}"
        )
        end = text.index("\u00fe", at + 1)
        value = text[at + 1 : end]
        assert not re.search("[\r\n\x14]", value)
        row.append(value.replace("\u00ae", "\n"))
        at = end + 1
        if text[at : at + 2] == "\r\n":
            rows.append(row)
            row, at = [], at + 2
        else:
            assert text[at] == "\x14", f"{text[at : at + 20]!r} stands between two fields"
            at += 1
    assert not row, "the last row ends, too"
    names = rows[0]
    assert len(set(names)) == len(names)
    assert all(len(one) == len(names) for one in rows)
    return [dict(zip(names, one, strict=True)) for one in rows[1:]]


def load(folder: Path) -> list[dict[str, str]]:
    """Read a load file with all that it names, as a platform takes it in."""
    rows = parse((folder / "loadfile.dat").read_bytes())
    numbers = [row["DOCID"] for row in rows]
    assert len({number.casefold() for number in numbers}) == len(numbers)
    named = [row[name] for row in rows for name in ("NATIVEPATH", "TEXTPATH") if row[name]]
    assert len({path.casefold() for path in named}) == len(named)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {*named, "loadfile.dat", "readers.csv", "README.txt"}
    for row in rows:
        assert re.fullmatch(r"STW-[A-Za-z0-9_-]+", row["DOCID"])
        assert row["BEGATTACH"] <= row["DOCID"] <= row["ENDATTACH"]
        assert (row["PARENTDOCID"] == "") == (row["BEGATTACH"] == row["DOCID"])
        for name in ("NATIVEPATH", "TEXTPATH"):
            assert re.fullmatch(r"((TEXT|NATIVES)/\d{4}/[A-Za-z0-9_.-]+)?", row[name])
        if row["NATIVEPATH"]:
            body = (folder / row["NATIVEPATH"]).read_bytes()
            assert row["SHA256"] == hashlib.sha256(body).hexdigest()
            assert row["MD5HASH"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
        assert row["TEXTPATH"] or row["RECORDTYPE"] == "attachment"
    return rows


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    opened = Made(tmp_path)
    yield opened
    opened.library.close()


async def test_no_text_and_no_name_breaks_a_row(made: Made, tmp_path: Path) -> None:
    for number, hostile in enumerate(HOSTILE):
        text = hostile.encode("utf-8", "replace").decode()  # as every line of an archive is
        fields = {"sender_name": text, "room_name": text, "redaction_reason": text}
        made.maker.message(
            text, f"@user{number}:example.org", event_id=f"${number}{text}", **fields
        )
        made.maker.message(
            f"* {text}",
            f"@user{number}:example.org",
            edit_of=f"${number}{text}",
            rel_type="m.replace",
            **fields,
        )
        made.maker.record(
            event_id=f"$gone{number}",
            event_type="m.room.redaction",
            room_id="!lobby:example.org",
            sender=f"@mod{text}:example.org",
            redacts=f"${number}{text}",
            redaction_reason=text,
        )
        made.maker.message(text, media_name=text, media_status="too_large")

    write_dat(await made.transcript(), tmp_path / "dat")

    rows = load(tmp_path / "dat")
    messages = [row for row in rows if row["RECORDTYPE"] == "message"]
    assert len(messages) == 2 * len(HOSTILE)
    assert len([row for row in rows if row["RECORDTYPE"] == "attachment"]) == len(HOSTILE)
    assert "STW-FORGED" not in {row["DOCID"] for row in rows}
    bodies = [row["BODYASSENT"] for row in messages]
    assert bodies[0] == "⟨U+00FE⟩"
    assert "a⟨U+00AE⟩b" in bodies
    assert "line one\nline two⟨U+000D⟩\nline three⟨U+000D⟩line four" in bodies
    assert "我们明天见面吧 👩\u200d💻" in bodies
    edited = messages[::2]
    assert [row["EDITCOUNT"] for row in edited] == ["1"] * len(HOSTILE)
    assert {row["DELETED"] for row in edited} == {"Y"}
    assert all(row["EDITHISTORY"].count("\n") == 1 for row in edited), "a text adds no version"


async def test_a_message_and_its_attachment_are_a_family(made: Made, tmp_path: Path) -> None:
    body = b"%PDF-1.7 the contract"
    key, digest = made.maker.file(body)
    for number in range(2):
        sent = made.maker.message(
            "see here", event_id=f"${number}", media_name="../con.pdf", media_status="pending"
        )
        made.maker.record(
            "media", of_seq=sent["seq"], media_status="stored", media_key=key, media_sha256=digest
        )
    made.maker.message("gone", media_name="late.zip", media_status="missing")

    write_dat(await made.transcript(), tmp_path / "dat")

    rows = load(tmp_path / "dat")
    assert [row["RECORDTYPE"] for row in rows] == ["report", *["message", "attachment"] * 3]
    for parent, child in zip(rows[1::2], rows[2::2], strict=True):
        assert child["PARENTDOCID"] == parent["DOCID"] == child["BEGATTACH"]
        assert parent["ENDATTACH"] == child["ENDATTACH"] == child["DOCID"]
        assert parent["SORTDATE"] == child["SORTDATE"] == parent["DATESENT"]
        assert parent["ATTACHCOUNT"] == "1"
    first, second, lost = rows[2::2]
    for child in (first, second):
        assert child["FILENAME"] == "../con.pdf"
        assert child["NATIVEPATH"].endswith(".pdf")
        assert (tmp_path / "dat" / child["NATIVEPATH"]).read_bytes() == body
    assert not lost["NATIVEPATH"]
    why = (tmp_path / "dat" / lost["TEXTPATH"]).read_text()
    assert "“late.zip” is not in this export: not stored: the homeserver no longer has it" in why


def test_an_officer_gets_edits_deletions_and_what_is_missing(officer: Officer) -> None:
    assert officer.types("transcript", "Trading desk", "--format=dat", "--verify=no") == 0

    rows = load(officer.folder / "transcript.dat")
    by_text = {row["BODYASSENT"]: row for row in rows if row["BODYASSENT"]}
    price = by_text["The price is 100."]
    assert price["BODY"] == "The price is 120."
    assert "as first sent: The price is 100.\n" in price["EDITHISTORY"]
    assert price["EDITHISTORY"].endswith("@alice:example.org: The price is 120.")
    assert price["DATESENT"] == "2025-11-24 16:00:08"
    assert price["PARTICIPANTS"] == "@alice:example.org; @bob:example.org; @carol:example.org"
    assert price["CUSTODIAN"] == "!desk:example.org"
    gone = by_text["Delete this afterwards: buy before the news."]
    assert (gone["DELETED"], gone["DELETEDBY"]) == ("Y", "@bob:example.org")
    assert gone["DELETIONREASON"] == "typo"
    text = (officer.folder / "transcript.dat" / gone["TEXTPATH"]).read_text()
    assert "[DELETED by @bob:example.org on 2025-11-24 16:00:11 UTC, reason given: typo]" in text
    unread = [row for row in rows if row["READABLE"] == "no"]
    assert [row["NOTREADABLEBECAUSE"] for row in unread] == [
        "the sender's client gives keys to verified devices only"
    ]
    assert "1 could not be read" in rows[0]["BODY"]
    native = json.loads((officer.folder / "transcript.dat" / price["NATIVEPATH"]).read_text())
    assert [record["event_id"] for record in native["records"]] == ["$3", "$3edit"]
    sets = list(
        csv.DictReader(
            io.StringIO((officer.folder / "transcript.dat/readers.csv").read_text("utf-8-sig"))
        )
    )
    in_set = [one["USERID"] for one in sets if one["READERSET"] == price["READERSET"]]
    assert in_set == ["@alice:example.org", "@bob:example.org", "@carol:example.org"]


def test_the_numbers_are_the_same_in_every_export(officer: Officer) -> None:
    assert officer.types("transcript", "Trading desk", "--format=dat", "--verify=no") == 0
    assert officer.types("search", "price", "--format=dat", "--output=found") == 0
    officer.types("case", "create", "Desk")
    officer.types("case", "add", "Desk", "$3")
    assert officer.types("case", "export", "Desk", "--verify=no", "--format=dat") == 0

    everything, found, case = (
        {row["DOCID"] for row in load(officer.folder / name) if row["RECORDTYPE"] != "report"}
        for name in ("transcript.dat", "found", "case-Desk.dat")
    )
    assert len(found) == 2
    assert len(found & everything) == 1, "one of them is of the direct chat"
    assert case < found

    with pytest.raises(UserError, match="There are files in “found” already"):
        officer.types("search", "price", "--format=dat", "--output=found", "--force")


def test_without_a_name_nothing_is_printed_that_no_terminal_shows(officer: Officer) -> None:
    for form in ("dat", "pdf", "parquet"):
        with pytest.raises(ConfigError, match="it needs a name"):
            officer.types("search", "price", f"--format={form}")


async def test_what_an_edit_brings_belongs_to_the_family(made: Made, tmp_path: Path) -> None:
    made.maker.message("one", event_id="$1", media_name="one.pdf", media_mxc="mxc://a/1")
    made.maker.message(
        "* two",
        event_id="$2",
        edit_of="$1",
        rel_type="m.replace",
        media_name="two.pdf",
        media_mxc="mxc://a/2",
    )

    write_dat(await made.transcript(), tmp_path / "dat")

    _, parent, *children = load(tmp_path / "dat")
    assert [child["FILENAME"] for child in children] == ["one.pdf", "two.pdf"]
    assert parent["ATTACHCOUNT"] == "2"
    assert {row["ENDATTACH"] for row in (parent, *children)} == {children[1]["DOCID"]}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_is_one_cell(text: str) -> None:
    found = cell(text)
    assert parse(f"\ufeffþAþ\r\nþ{found}þ\r\n".encode())[0]["A"] == found.replace("®", "\n")


async def test_a_person_is_the_custodian(made: Made, tmp_path: Path) -> None:
    made.maker.message("hello", "@dora:example.org")
    write_dat(await made.transcript("@dora:example.org"), tmp_path / "dat")

    assert {row["CUSTODIAN"] for row in load(tmp_path / "dat")} == {"@dora:example.org"}


def test_the_parser_is_strict() -> None:
    good = "\ufeffþAþ\x14þBþ\r\nþ1þ\x14þ2þ\r\n"
    assert parse(good.encode()) == [{"A": "1", "B": "2"}]
    for bad in (good[1:], good[:-2], good.replace("1", "1þ"), good.replace("1", "\x14")):
        with pytest.raises((AssertionError, ValueError, IndexError)):
            parse(bad.encode())
