"""What was said around what was found: the usual window, another one, threads; bounded, each once."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from auditbot.reader.cli import main
from auditbot.reader.conversation import load
from auditbot.reader.index import context
from auditbot.reader.index.context import Surroundings, Window, around
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import Maker

MINUTE = 60_000
HOUR = 60 * MINUTE
DIRECT = {"room_id": "!direct:example.org", "is_direct": True}
DESK = {"room_id": "!desk:example.org", "room_name": "Desk"}


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Make a direct chat over two days, and a room with a thread, at the same time."""
    made = Maker(tmp_path / "archive")
    made.publish_key()
    start = made.now_ms

    def say(at_ms: int, text: str, event_id: str, **more: object) -> None:
        made.message(text, event_id=event_id, ts_received=start + at_ms, **more)

    say(0, "first thing", "$d1", **DIRECT)
    say(1 * HOUR, "the thread begins", "$t", **DESK)
    say(2 * HOUR, "unrelated", "$r1", **DESK)
    say(12 * HOUR, "ten hours before", "$d2", **DIRECT)
    say(13 * HOUR, "in the thread", "$t1", thread_root="$t", rel_type="m.thread", **DESK)
    say(22 * HOUR - 10 * MINUTE, "just before", "$d3", **DIRECT)
    say(22 * HOUR, "buy needle now", "$hit", **DIRECT)
    say(22 * HOUR, "needle in the thread", "$t2", thread_root="$t", rel_type="m.thread", **DESK)
    say(22 * HOUR + MINUTE, "right after", "$r2", **DESK)
    say(33 * HOUR, "needle again", "$hit2", **DIRECT)
    say(44 * HOUR, "eleven hours after", "$d4", **DIRECT)
    say(46 * HOUR, "thirteen hours after", "$d5", **DIRECT)
    say(90 * HOUR, "end of the thread", "$t3", thread_root="$t", rel_type="m.thread", **DESK)
    made.segment()
    made.manifest()
    return made


@pytest.fixture
async def library(maker: Maker, tmp_path: Path) -> AsyncIterator[Library]:
    opened = Library(tmp_path / "cache")
    done = await sync(DirectoryPlace(maker.root), opened, lambda _server: Remembered())
    assert not done.faults
    yield opened
    opened.close()


def ids(library: Library, roots: "tuple[int, ...] | frozenset[int]") -> list[str]:
    return [str(message.record["event_id"])[1:] for message in load(library, list(roots))]


def needles(library: Library, window: Window, **more: bool) -> Surroundings:
    return around(library, search(library, Query(text="needle")), window, **more)  # type: ignore[arg-type]  # options


async def test_the_usual_is_twelve_hours_in_direct_chats_and_threads_in_rooms(
    library: Library,
) -> None:
    shown = needles(library, Window())

    # d1 is 22 hours before, d5 13 after; r1 and r2 are in no thread.
    assert ids(library, shown.roots) == [
        "t", "d2", "t1", "d3", "hit", "t2", "hit2", "d4", "t3"
    ]  # fmt: skip
    assert set(ids(library, shown.context)) == {"t", "d2", "t1", "d3", "d4", "t3"}
    assert not shown.is_cut


async def test_another_window_counts_in_every_room(library: Library) -> None:
    shown = needles(library, Window(30 * MINUTE), newest_first=True)

    assert ids(library, shown.roots) == ["t3", "hit2", "r2", "t2", "hit", "d3", "t1", "t"]
    assert set(ids(library, shown.context)) == {"d3", "t", "t1", "r2", "t3"}
    exactly = needles(library, Window(10 * MINUTE - 1))
    assert "d3" not in ids(library, exactly.roots)


async def test_what_was_found_elsewhere_is_not_marked_as_context(library: Library) -> None:
    first, *others = search(library, Query(text="needle"))

    shown = around(library, [first], Window(), found=[first, *others])

    assert ids(library, shown.roots) == ["d2", "d3", "hit", "hit2"]
    assert set(ids(library, shown.context)) == {"d2", "d3"}


async def test_it_is_bounded_and_says_so(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "MOST_BESIDE", 1)
    shown = needles(library, Window())
    assert shown.is_cut
    # The nearest stay.
    assert {"d3", "d4"} <= set(ids(library, shown.roots))
    assert "d2" not in ids(library, shown.roots)
    monkeypatch.setattr(context, "MOST_BESIDE", 200)
    monkeypatch.setattr(context, "MOST_OF_THREAD", 2)
    assert needles(library, Window()).is_cut
    monkeypatch.setattr(context, "MOST_OF_THREAD", 1000)
    monkeypatch.setattr(context, "MOST_CONTEXT", 2)
    assert needles(library, Window()).is_cut


def test_every_form_marks_what_was_found(
    maker: Maker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def types(*words: str) -> str:
        where = [f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}"]
        assert main(["search", "needle", *words, *where]) == 0
        return capsys.readouterr().out

    lines = types("--context", "30m").splitlines()
    assert [line[:2] for line in lines] == ["  ", "  ", "  ", "* ", "* ", "  ", "* ", "  "]
    assert lines[3].endswith("@alice:example.org: buy needle now")
    assert not types().startswith(("*", " "))
    rows = list(csv.DictReader(io.StringIO(types("--context", "--format=csv"))))
    found = [row["event_id"] for row in rows if row["responsive"] == "yes"]
    assert found == ["$hit", "$t2", "$hit2"]
    assert len(rows) == len({row["event_id"] for row in rows}) == 9
    records = [json.loads(line) for line in types("--context", "--format=jsonl").splitlines()]
    assert [record["responsive"] for record in records] == [row["responsive"] for row in rows]
    types("--context", "--format=parquet", "--output=x.parquet")
    with duckdb.connect() as database:
        counted = database.execute(
            "SELECT responsive, count(*) FROM 'x.parquet' GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert counted == [("no", 6), ("yes", 3)]

    # Only the first is shown, but the other one beside it was found, too.
    lines = types("--limit=1", "--context").splitlines()
    assert [line[:2] for line in lines] == ["  ", "  ", "* ", "* "]
    last = json.loads((tmp_path / "home" / "access.jsonl").read_text().splitlines()[-1])
    assert (last["found"], last["shown"]) == (1, 4)
    assert last["context"] == "12 hours in direct chats, whole threads"


@pytest.mark.parametrize("wrong", ["soon", "0", "-1h", "1y", "400d", "1e3", "٣h"])
def test_no_length_of_time(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", f"--context={wrong}", "word"])

    assert "is no length of time: write it like 30m" in capsys.readouterr().err
