"""The report counts and names every attachment that is not in the archive."""

from collections.abc import Callable
from pathlib import Path

import pytest

from auditbot.reader.cli import main
from tests.support.archive_maker import NOON, Maker

Report = Callable[..., str]


@pytest.fixture
def report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    def run(*words: str) -> str:
        where = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
        main(["report", "--from=2025-11-24", *words, *where])
        return capsys.readouterr().out

    return run


def attach(maker: Maker, name: str, status: str | None = None, /, **fields: object) -> int:
    """Add a message with a file, and what became of it; return its number."""
    known: dict[str, object] = {"media_mxc": f"mxc://example.org/{name}", "media_name": name}
    sent = maker.message("", event_id=f"${name}", **{**known, "media_status": "pending", **fields})
    if status is not None:
        maker.record("media", of_seq=sent["seq"], media_status=status)
    return int(sent["seq"])


def test_attachments_of_streams_with_the_same_numbers_are_told_apart(
    tmp_path: Path, report: Report
) -> None:
    first = Maker(tmp_path / "archive")
    first.publish_key()
    second = Maker(
        tmp_path / "archive",
        stream="20251124T180000Zbbbbbb",
        started_ms=NOON + 7_200_000,
        now_ms=NOON + 7_200_000,
    )
    assert attach(first, "large", "too_large") == attach(second, "whole", "stored")
    assert attach(first, "gone", "missing") == attach(second, "awaited")
    # What became of it may be recorded in the next stream.
    late = attach(first, "late")
    detail = f'{{"of_stream":"{first.stream}"}}'
    second.record("media", of_seq=late, media_status="gave_up", detail_json=detail)
    retried = attach(second, "retried", "gave_up")
    second.record("media", of_seq=retried, media_status="stored")
    for maker in (first, second):
        maker.segment()
        maker.manifest()

    said = report()

    (line,) = [line for line in said.splitlines() if line.startswith("Attachments missing")]
    for words in (
        "1 not stored: larger than the limit",
        "1 not stored: the homeserver no longer has it",
        "1 not stored: all attempts failed",
        "1 not stored yet",
    ):
        assert words in line, words
    for name in ("large", "gone", "late", "awaited"):
        assert f"    !lobby:example.org ${name} {name}\n" in said
    for name in ("whole", "retried"):
        assert f"${name}" not in said
    assert "Attachments missing   none" in report("--to=2025-11-24T16:00")


def test_what_was_never_to_be_archived_is_missing_too(tmp_path: Path, report: Report) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    for number in range(60):
        # The first ones as an older writer left them.
        status = None if number < 30 else "not_kept"
        attach(maker, f"file{number}", media_status=status)
    maker.segment()
    maker.manifest()

    said = report()

    sentence = "60 attachments were not archived (auditbot.media is off)"
    assert f"Attachments missing   {sentence}\n    !lobby:example.org $file0 file0\n" in said
    assert "    … and 10 more\nKnown gaps" in said
