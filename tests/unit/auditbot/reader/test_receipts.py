"""Who read what is said where a receipt that was recorded names it, and nowhere else."""

import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.cli import main
from tests.support.archive_maker import Json, Maker, fingerprint, key_number
from tests.support.archive_story import ALICE, BOB, CAROL, DESK, tell_story
from tests.unit.auditbot.reader.test_handover import checked
from tests.unit.auditbot.reader.test_refusals import home, page

__all__ = ["home", "page"]

Type = Callable[..., int]


def read(maker: Maker, event_id: str, user: str, at: int, /, **fields: Any) -> None:
    """Record that somebody's client reported to have read up to an event."""
    known: Json = {
        "event_id": event_id,
        "sender": user,
        "room_id": DESK,
        "ts_origin": maker.started_ms + at * 1000,
        "detail_json": '{"receipt_type":"m.read"}',
    }
    maker.record("receipt", **{**known, **fields})


@pytest.fixture
def story(tmp_path: Path) -> Maker:
    maker = tell_story(tmp_path / "archive")
    read(maker, "$1", BOB, 61)
    read(maker, "$1", BOB, 99, detail_json='{"receipt_type":"m.read","thread_id":"main"}')
    read(maker, "$3", CAROL, 62)
    read(maker, "$3edit", BOB, 63)
    read(maker, "$4gone", CAROL, 64)
    read(maker, "$2", '@x"y:example.org', 65)
    read(maker, "$7", CAROL, 66, detail_json='{"receipt_type":"m.read.private"}')
    read(maker, "$6", CAROL, 67, room_id="!other:example.org")
    maker.segment()
    maker.manifest(receipts=True)
    return maker


@pytest.fixture
def maker(story: Maker) -> Maker:
    """What the page reads."""
    return story


@pytest.fixture
def types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    def types(*words: str) -> int:
        where = (f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}")
        return main([*words, *where])

    return types


def shown(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def test_a_transcript_marks_the_message_that_a_receipt_names(
    story: Maker, types: Type, tmp_path: Path
) -> None:
    assert types("transcript", "Trading desk", f"--output={tmp_path / 't.html'}") == 0

    text = shown(tmp_path / "t.html")
    marks = [part.partition("</div>")[0] for part in text.split('class="small read"')[1:]]
    assert [mark.partition(">")[2] for mark in marks] == [
        "read by @bob:example.org &#34;Bob&#34; on 2025-11-24 16:01:01 UTC",
        "read by &#34;@x⟨U+0022⟩y:example.org&#34; on 2025-11-24 16:01:05 UTC",
        (
            "read by @carol:example.org &#34;Carol&#34; on 2025-11-24 16:01:02 UTC; read up to the "
            "edit by @bob:example.org &#34;Bob&#34; on 2025-11-24 16:01:03 UTC"
        ),
        "read up to the deletion by @carol:example.org &#34;Carol&#34; on 2025-11-24 16:01:04 UTC",
    ]


def test_nothing_is_said_of_readers_where_no_receipts_were_recorded(
    types: Type, tmp_path: Path
) -> None:
    tell_story(tmp_path / "archive")

    types("transcript", "Trading desk", f"--output={tmp_path / 't.html'}")

    text = shown(tmp_path / "t.html")
    assert "read by" not in text
    assert "receipts" not in text


def test_json_lines_say_who_read_what_and_hold_the_records(
    story: Maker, types: Type, tmp_path: Path
) -> None:
    words = ["transcript", "Trading desk", "--format=jsonl", f"--output={tmp_path / 't.jsonl'}"]
    assert types(*words) == 0

    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    by_event = {line["event_id"]: line for line in lines}
    assert by_event["$3"]["read_by"] == [
        {"user_id": CAROL, "time_utc": "2025-11-24T16:01:02.000Z", "event_id": "$3"},
        {"user_id": BOB, "time_utc": "2025-11-24T16:01:03.000Z", "event_id": "$3edit"},
    ]
    kinds = [record["kind"] for record in by_event["$3"]["records"]]
    assert kinds == ["event", "event", "receipt", "receipt"]
    assert by_event["$6"]["read_by"] == by_event["$7"]["read_by"] == []


def test_what_is_handed_over_proves_the_receipts_too(
    story: Maker, types: Type, tmp_path: Path
) -> None:
    assert types("prove", "$3", f"--output={tmp_path / 'p.zip'}") == 0
    with zipfile.ZipFile(tmp_path / "p.zip") as packed:
        packed.extractall(tmp_path / "p")

    result = checked(tmp_path / "p", "--key", fingerprint(key_number(1)))

    assert result.returncode == 0, result.stdout
    assert "read by @carol:example.org" in shown(tmp_path / "p/transcript.html")
    records = [json.loads(line) for line in (tmp_path / "p/records.jsonl").open()]
    assert {(one["event_id"], one["sender"]) for one in records if one["kind"] == "receipt"} == {
        ("$3", CAROL), ("$3edit", BOB),
    }  # fmt: skip


async def test_the_page_of_a_message_says_who_read_it(story: Maker, page: Any) -> None:
    seqs = {record["event_id"]: record["seq"] for record in map(json.loads, story.lines)
            if record["kind"] == "event"}  # fmt: skip

    read_one, unread_one = [
        await (await page.get(f"/message?stream={story.stream}&seq={seqs[name]}")).text()
        for name in ("$1", "$7")
    ]

    assert "read by @bob:example.org" in read_one
    assert "read by" not in unread_one


def test_the_report_says_whether_receipts_were_recorded(
    story: Maker, types: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    period = ["--from", "2025-11-24", "--to", "2025-11-25"]
    assert types("report", *period) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("Read receipts")]
    assert line.startswith("Read receipts         8, recorded only 2025-11-24 16:00:")

    since = datetime.fromtimestamp(story.now_ms / 1000, UTC)
    read(story, "$1", ALICE, 90)
    story.segment()
    story.manifest(receipts=True)
    assert types("report", "--from", f"{since:%Y-%m-%dT%H:%M:%S}", "--to", "2025-11-25") == 0
    assert "Read receipts         1, recorded all the time" in capsys.readouterr().out


def test_the_report_says_if_none_were_recorded(
    types: Type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_story(tmp_path / "archive")

    types("report", "--from", "2025-11-24", "--to", "2025-11-25")

    assert "Read receipts         not recorded: of who read what nothing is known" in (
        capsys.readouterr().out
    )
