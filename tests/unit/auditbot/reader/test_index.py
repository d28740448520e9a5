"""What is asked is found, whole: with edits, deletions, reactions and what was read later."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditbot.reader.conversation import Message, load
from auditbot.reader.coverage import WithoutBot, cover
from auditbot.reader.index.coverage import count_coverage
from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import want_parts
from auditbot.reader.index.query import Query, people, rooms, search
from auditbot.reader.index.sync import Synced, sync
from auditbot.reader.index.words import query_of
from auditbot.reader.media import fetch_file
from auditbot.reader.memory import Remembered
from auditbot.reader.read import Period
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.storage.reading import DirectoryPlace
from common.errors import UserError
from tests.support.archive_maker import Maker, key_number
from tests.support.archive_story import ALICE, BOB, CAROL, DESK, DIRECT, tell_story


def nothing_remembered(server: str) -> Remembered:
    return Remembered()


async def synced(maker: Maker, library: Library) -> Synced:
    return await sync(DirectoryPlace(maker.root), library, nothing_remembered)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = Library(tmp_path / "cache")
    yield opened
    opened.close()


@pytest.fixture
async def story(tmp_path: Path, library: Library) -> Maker:
    maker = tell_story(tmp_path / "archive")
    done = await synced(maker, library)
    assert not done.faults
    return maker


def found(library: Library, **query: object) -> list[Message]:
    return load(library, search(library, Query(**query)))  # type: ignore[arg-type]  # any option


def texts(messages: list[Message]) -> list[str | None]:
    return [message.latest_text for message in messages]


async def test_words_find_originals_edits_and_what_was_read_later(
    story: Maker, library: Library
) -> None:
    assert texts(found(library, text="price 120")) == ["The price is 120."]
    (edited,) = found(library, text='"price is 100"')
    assert edited.text == "The price is 100."
    assert edited.latest_text == "The price is 120."
    (late,) = found(library, text="research")
    assert late.text == "From the research team, sent from my laptop."
    assert late.record["enc_error"] == "no_session"
    assert [message.text for message in found(library, text="LAPT*")] == [late.text]
    assert texts(found(library, text="明天")) == ["我们明天见面吧"]


async def test_a_message_is_whole(story: Maker, library: Library) -> None:
    (message,) = found(library, text="client heard")
    assert not message.edits
    (called,) = found(library, text="ten")
    assert [(reaction.key, reaction.taken_back) for reaction in called.reactions] == [
        ("👍", None),
        ("👍", None),
        ("🎉", None),
    ]
    (deleted,) = found(library, text="afterwards")
    assert deleted.is_deleted
    assert deleted.text == "Delete this afterwards: buy before the news."
    assert deleted.deletions[0].record["redaction_reason"] == "typo"
    (picture,) = found(library, text="chart.png")
    assert picture.media[0].record["media_status"] == "stored"
    assert [stored.record["kind"] for stored in picture.records] == ["event", "media"]


async def test_what_clients_show_instead_of_the_text_is_found(
    story: Maker, library: Library
) -> None:
    (hidden,) = found(library, text="sell everything")
    assert hidden.text == "All fine here."
    (poll,) = found(library, text="lunch noon gladly")
    assert poll.record["event_type"] == "m.poll.start"


async def test_people_rooms_and_times(story: Maker, library: Library) -> None:
    assert {message.record["sender"] for message in found(library, people=("bob",))} == {BOB}
    assert texts(found(library, rooms=(DIRECT,), people=(ALICE,))) == [
        "Between us: the price was too low."
    ]
    assert len(found(library, rooms=("trading",), text="price")) == 1
    assert texts(found(library, undecryptable=True))[0] is not None
    first = found(library, text="morning")[0].time_ms
    assert texts(found(library, period=Period(first, first + 1))) == [
        "Good morning. Have we heard from the client?"
    ]
    with pytest.raises(UserError, match="No person"):
        found(library, people=("nobody",))
    with pytest.raises(UserError, match="no word"):
        found(library, text="…")


async def test_what_was_sent_in_the_period_counts_however_late_it_came(
    tmp_path: Path, library: Library
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message("late", ts_origin=maker.now_ms - 86_400_000)
    maker.segment()
    maker.manifest()
    await synced(maker, library)

    yesterday = Period(maker.started_ms - 90_000_000, maker.started_ms - 80_000_000)

    assert texts(found(library, period=yesterday)) == ["late"]
    assert found(library, period=Period(None, maker.started_ms - 90_000_000)) == []


async def test_rooms_and_people_are_known_by_name(story: Maker, library: Library) -> None:
    assert {(room.name, room.label) for room in rooms(library)} == {
        (DESK, "Trading desk"),
        (DIRECT, None),
    }
    assert [person.name for person in people(library, "carol")] == [CAROL]


async def test_only_what_is_new_is_fetched(story: Maker, library: Library) -> None:
    again = await synced(story, library)
    assert (again.segments, again.records) == (0, 0)
    story.message("brand new", event_id="$new")
    story.segment()
    story.manifest()

    done = await synced(story, library)

    assert (done.segments, done.records) == (1, 1)
    assert texts(found(library, text="brand")) == ["brand new"]


async def test_a_changed_archive_is_indexed_up_to_the_change(
    tmp_path: Path, library: Library
) -> None:
    maker = tell_story(tmp_path / "archive")
    path = maker.root / maker.segments[1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    done = await synced(maker, library)

    assert "was changed" in done.faults[0]
    assert found(library, text="morning")
    assert not found(library, text="research")


async def test_a_manifest_by_another_key_is_not_indexed(tmp_path: Path, library: Library) -> None:
    maker = tell_story(tmp_path / "archive")
    maker.message("forged", event_id="$forged")
    maker.segment()
    maker.key = key_number(9)
    maker.publish_key()
    maker.manifest()

    done = await synced(maker, library)

    assert "not trusted" in done.faults[0]
    assert not found(library, text="forged")


async def test_what_is_deleted_on_purpose_leaves_this_machine_too(
    story: Maker, library: Library
) -> None:
    cached = sum(1 for _ in (library.folder / "objects").rglob("*") if _.is_file())
    story.remove(story.segments[0])
    story.manifest()

    done = await synced(story, library)

    assert done.removed == 1
    assert not found(library, text="morning")
    assert found(library, text="research")
    assert sum(1 for _ in (library.folder / "objects").rglob("*") if _.is_file()) == cached - 1


def traces(library: Library, word: str) -> list[str]:
    """Return in which of the index's files a word lies, of which the first letter may be shared."""
    return [
        path.name
        for path in library.folder.glob("index.sqlite*")
        if word[1:].encode() in path.read_bytes()
    ]


async def erased_and_kept(tmp_path: Path, library: Library) -> Maker:
    """Index a segment with 400 words of a kind, and another one that stays."""
    want_parts(library.connection)
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    for number in range(400):
        maker.message(f"hello zebrasecret{number} 密谋者")
    maker.segment()
    maker.message("hello again, ostrich")
    maker.segment()
    maker.manifest()
    assert not (await synced(maker, library)).faults
    assert traces(library, "zebrasecret")
    assert traces(library, "密谋者")
    return maker


async def test_words_of_what_was_deleted_on_purpose_leave_the_index_s_file(
    tmp_path: Path, library: Library
) -> None:
    maker = await erased_and_kept(tmp_path, library)
    maker.remove(maker.segments[0])
    maker.manifest()

    await synced(maker, library)

    for word in ("zebrasecret", "密谋者"):
        assert traces(library, word) == []
    assert traces(library, "ostrich")
    assert len(found(library, text="ostrich")) == len(found(library, containing=("stric",))) == 1


async def test_words_that_somebody_s_reading_kept_in_the_file_leave_it_the_next_time(
    tmp_path: Path, library: Library
) -> None:
    maker = await erased_and_kept(tmp_path, library)
    maker.remove(maker.segments[0])
    maker.manifest()
    library.connection.execute("PRAGMA busy_timeout = 0")
    reading = sqlite3.connect(library.folder / "index.sqlite")
    reading.execute("BEGIN")
    reading.execute("SELECT * FROM meta").fetchall()

    await synced(maker, library)
    assert traces(library, "zebrasecret")
    reading.close()
    await synced(maker, library)

    assert traces(library, "zebrasecret") == []


async def test_an_attachment_that_was_deleted_on_purpose_leaves_this_machine_too(
    tmp_path: Path, library: Library
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    gone, _ = maker.file(b"to be deleted")
    kept, _ = maker.file(b"to be kept")
    maker.message("two files")
    maker.segment()
    maker.manifest()
    await synced(maker, library)
    paths = {
        key: await fetch_file(DirectoryPlace(maker.root), library, key) for key in (gone, kept)
    }
    maker.remove(media=[gone])
    maker.manifest()

    await synced(maker, library)

    assert not paths[gone].exists()
    with pytest.raises(DamagedArchiveError, match="deleted on purpose"):
        await fetch_file(None, library, gone)
    assert await fetch_file(None, library, kept) == paths[kept]


def test_what_a_person_types_is_no_query_language() -> None:
    assert query_of('a "b c" d*') == '"a" "b c" "d"*'
    assert query_of('NEAR(x) AND text:"y"') == '"NEAR(x)" "AND" "text:""y"""'
    assert query_of("* ' ( )") is None
    assert query_of("明天") == '"明  天"'


async def test_the_cache_is_for_its_owner_alone(story: Maker, library: Library) -> None:
    assert library.folder.stat().st_mode & 0o777 == 0o700
    for path in library.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.suffix in {".sqlite-wal", ".sqlite-shm"}


async def test_the_index_counts_what_the_objects_count(story: Maker, library: Library) -> None:
    straight = await cover(DirectoryPlace(story.root))
    counted = count_coverage(library)

    assert counted.without_bot.rooms[0]["room_id"] == "!board:example.org"
    counted.without_bot = WithoutBot()
    assert counted.as_json() == straight.as_json()
    assert (counted.total.later, counted.total.unread, counted.soon) == (1, 1, 1)
