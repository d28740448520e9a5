"""Where nothing is found although something is there that nobody can read, that is said."""

from pathlib import Path

from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search, unread
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.transcript.provenance import removed
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import Maker
from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]

SENTENCE = "1 more message was not searched: nobody could read what it says to this day."


def test_a_search_tells_of_what_nobody_could_read(officer: Officer) -> None:
    assert officer.types("search", "nosuchword", "--person", "carol") == 0
    assert SENTENCE in officer.told
    assert officer.types("search", "nosuchword", "--type", "m.room.message") == 0
    assert SENTENCE in officer.told
    for words in (("--person", "bob"), ("--to", "2025-11-01"), ("--undecryptable",)):
        assert officer.types("search", "nosuchword", *words) == 0
        assert "not searched" not in officer.told
    assert officer.types("search", "--person", "carol") == 0
    assert "not searched" not in officer.told


def test_so_do_a_case_and_a_draw(officer: Officer) -> None:
    officer.types("case", "create", "Desk")
    assert officer.types("case", "add", "Desk", "--text", "nosuchword") == 0
    assert SENTENCE in officer.told
    (officer.folder / "words.txt").write_text("nosuchword\n")
    span = ("--from=2025-11-01", "--to=2025-11-30")
    assert officer.types("sample", "draw", "--lexicon=words.txt", *span) == 0
    assert SENTENCE in officer.told


async def test_what_was_read_later_is_searched(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    fields = {"enc_status": "undecryptable", "enc_error": "no_session", "body": None}
    first = maker.message("", event_type="m.room.encrypted", event_json=None, **fields)
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    place = DirectoryPlace(maker.root)
    await sync(place, library, lambda _: Remembered())
    assert unread(library, Query(text="word")) == 1
    maker.record("decryption", of_seq=first["seq"], event_id=first["event_id"], body="word")
    maker.segment()
    maker.manifest()
    await sync(place, library, lambda _: Remembered())
    assert unread(library, Query(text="word")) == 0
    assert len(search(library, Query(text="word"))) == 1
    library.close()


async def test_what_was_removed_in_one_go_is_one_sentence(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    segments = []
    for _ in range(5):
        maker.message("old")
        segments.append(maker.segment())
    maker.manifest()
    maker.remove(segments[0], segments[1], segments[3])
    maker.manifest()
    library = Library(tmp_path / "cache")
    await sync(DirectoryPlace(maker.root), library, lambda _: Remembered())
    told = list(removed(library, ALWAYS))
    assert [sentence.partition(" were")[0].partition(" was")[0] for sentence in told] == [
        "2 records of 2025-11-24 16:00:01 to 2025-11-24 16:00:02",
        "1 record of 2025-11-24 16:00:04 to 2025-11-24 16:00:04",
    ]
    assert not list(removed(library, Period(maker.now_ms, None)))
    library.close()


def test_a_search_tells_of_what_was_removed_and_the_log_of_which_time(officer: Officer) -> None:
    officer.maker.remove(officer.maker.segments[0])
    officer.maker.manifest()
    assert officer.types("search", "nosuchword", "--from", "2025-11-24") == 0
    assert "To know: " in officer.told
    assert "were deleted or erased on purpose; some may belong here." in officer.told
    assert officer.types("search", "nosuchword", "--to", "2025-11-20") == 0
    assert "To know" not in officer.told
    assert officer.types("report", "--from", "2025-11-24") == 0
    assert officer.types("log") == 0
    for what in ("search: archive: ", "report: archive: "):
        (line,) = [
            line
            for line in officer.said.splitlines()
            if what in line and "from: 2025-11-24" in line
        ]
        assert "None" not in line
