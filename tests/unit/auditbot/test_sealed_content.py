"""An archive whose content is sealed: all that is not content is read without a key, and counts."""

import argparse
import asyncio
import base64
import hashlib
import json
import shutil
import sqlite3
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyrage
import pytest
import zstandard

from auditbot.content_keys import Officers, end_keys, forget_content, keys_for
from auditbot.operations import destination, erasure, holds
from auditbot.operations.cli import _parser
from auditbot.operations.desk import Desk, Statement
from auditbot.pipeline.sealing import Scope
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.conversation import load
from auditbot.reader.handover import verify as handed
from auditbot.reader.index.coverage import count_coverage
from auditbot.reader.index.library import Library, Stored
from auditbot.reader.index.parts import want_parts
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sql import ask
from auditbot.reader.index.sync import complete_parts, sync
from auditbot.reader.layout import is_content_key
from auditbot.reader.media import fetch_file
from auditbot.reader.memory import Remembered
from auditbot.reader.read import read
from auditbot.reader.render.rows import row_of, table
from auditbot.reader.render.words import media_state
from auditbot.reader.show import show
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import as_json, as_text
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.config.bot_settings import RetentionClass
from common.crypto.port import SessionRef
from common.database.pool import Database
from common.errors import TransientError, UserError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import (
    ALICE,
    NOON,
    ROOM,
    encrypted,
    event,
    message,
    new_room,
    state,
)
from tests.unit.auditbot.test_media import PNG, ScriptedFiles, image
from tests.unit.auditbot.test_operations import Office

BOB = "@bob:example.org"
DAY = NOON // DAY_MS
IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]
SAID = (b"alice says", b"bob says", b"a.png", b"thumbs", b"shocking", b"no use for a topic")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def reaction(event_id: str, sender: str) -> bytes:
    said = {"rel_type": "m.annotation", "event_id": "$a1", "key": "thumbs"}
    return event(event_id, {"m.relates_to": said}, type="m.reaction", sender=sender)


def picture(event_id: str, sender: str) -> bytes:
    content = {"msgtype": "m.image", "body": "a.png", "url": "mxc://example.org/a"}
    return event(event_id, content, sender=sender)


async def fill(office: Office) -> Office:
    """Three days, on the first two of which alice and bob write and send the same picture."""
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.seal = "content"
    office.files.held["mxc://example.org/a"] = PNG
    office.start()
    await office.say(
        *new_room(BOB),
        event("$topic", {"topic": "no use for a topic"}, type="m.room.topic", state_key=""),
        message("$a1", "alice says one"),
        message("$b1", "bob says one", sender=BOB),
        reaction("$b2", BOB),
        image("$image-a"),
        picture("$image-b", BOB),
        encrypted("$late-b", "late", sender=BOB),
        encrypted("$late-a", "late"),
    )
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(
        message("$a2", "alice says two"),
        message("$b3", "bob says three", sender=BOB),
        event("$gone", {"reason": "shocking"}, type="m.room.redaction", redacts="$a1"),
    )
    await office.store()
    office.at(NOON + 2 * DAY_MS)
    await office.say(message("$a3", "alice says three"))
    await office.store()
    return office


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    """By day."""
    office = Office(database, tmp_path)
    office.world.erasable = "day"
    return await fill(office)


@pytest.fixture
async def by_person(database: Database, tmp_path: Path) -> Office:
    """By person."""
    office = Office(database, tmp_path)
    office.world.erasable = "person"
    return await fill(office)


def root(office: Office) -> Path:
    return office.world.directory / "archive"


async def verified(office: Office, *, identities: bool = True) -> Verified:
    options = Options(
        now_ms=office.world.clock.now_ms(),
        destination=f"file:{root(office)}",
        identities=(str(IDENTITIES[1]),) if identities else (),
    )
    (result,) = await verify(DirectoryPlace(root(office)), options)
    return result


def wrong(result: Verified) -> list[tuple[str, str]]:
    return [(one.code, one.key) for one in result.findings.of(Severity.WRONG)]


async def opened(office: Office, cache: Path, *, identity: int | None = 0) -> Library:
    library = Library(cache, () if identity is None else (str(IDENTITIES[identity]),))
    done = await sync(DirectoryPlace(root(office)), library, lambda _: Remembered())
    assert done.faults == []
    return library


async def texts(office: Office, cache: Path, *, identity: int | None = 0) -> set[str | None]:
    library = await opened(office, cache, identity=identity)
    found = {one.text for one in load(library, search(library, Query(rooms=(ROOM,))))}
    library.close()
    return found


async def hits(office: Office, cache: Path, word: str, *, identity: int | None = 0) -> int:
    library = await opened(office, cache, identity=identity)
    found = len(search(library, Query(text=word)))
    library.close()
    return found


async def lines(office: Office, cache: Path, *, identity: int | None = 0) -> str:
    library = await opened(office, cache, identity=identity)
    found = "\n".join(table(load(library, search(library, Query(rooms=(ROOM,))))))
    library.close()
    return found


def keys(office: Office) -> list[str]:
    return [key for key in office.objects() if "/keys/content-" in key]


def clear_bytes(office: Office) -> bytes:
    """Return everything that lies in the archive, unpacked."""
    found = b""
    for key, body in office.objects().items():
        found += body
        if key.endswith(".zst"):
            reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
            found += reader.read()
    return found


async def test_nothing_that_was_said_lies_in_the_archive_in_clear(office: Office) -> None:
    there = clear_bytes(office)
    for said in (*SAID, PNG, b"mxc://", hashlib.sha256(PNG).hexdigest().encode()):
        assert said not in there, said
    records = office.check().records
    assert {one["sender"] for one in records if one["event_id"] == "$b1"} == {BOB}
    assert [one["redacts"] for one in records if one["event_id"] == "$gone"] == ["$a1"]
    for one in records:
        assert (one["sealed"] is None) == (one["sealed_to"] is None), one["kind"]
    kinds = {one["kind"] for one in records if one["sealed"] is None}
    assert {"audience", "control"} <= kinds


@pytest.mark.parametrize("number", [0, 1])
async def test_each_officer_reads_all_of_it(office: Office, tmp_path: Path, number: int) -> None:
    found = await texts(office, tmp_path / "cache", identity=number)
    assert {"alice says one", "bob says one", "alice says three"} <= found
    assert await hits(office, tmp_path / "cache", "says") == 5
    shown = await lines(office, tmp_path / "cache")
    assert "thumbs @bob" in shown
    assert "because “shocking”" in shown
    place = DirectoryPlace(root(office))
    read_all = [one async for one in read(place, identities=[str(IDENTITIES[number])])]
    assert "alice says one" in {one.record.get("body") for one in read_all}


async def test_without_a_key_everything_but_the_content_is_found(
    office: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    library = await opened(office, cache, identity=None)
    assert search(library, Query(text="says")) == []
    messages = load(library, search(library, Query(people=(BOB,))))
    rows = [row_of(one) for one in messages]
    assert {row.text for row in rows} == {None}
    assert {row.not_readable_because for row in rows} >= {"content sealed"}
    coverage = count_coverage(library).as_json()
    assert coverage["undecryptable"] == {"before_join": 2}
    answer = ask(library, "SELECT sender, count(*), count(body) FROM records WHERE kind = 'event'"
                 " AND event_type = 'm.room.message' GROUP BY sender ORDER BY sender")  # fmt: skip
    assert list(answer.rows) == [(ALICE, 4, 0), (BOB, 3, 0)]
    media = next(one for one in messages if media_state(one) is not None)
    with pytest.raises(DamagedArchiveError, match="--identity"):
        await fetch_file(DirectoryPlace(root(office)), library, media_state(media)["key"])  # type: ignore[index]  # it is there
    library.close()
    assert "(m.text: content sealed)" in await lines(office, cache, identity=None)
    place = DirectoryPlace(root(office))
    told = [show(one.record) or "" async for one in read(place)]
    assert any("content sealed" in line and BOB in line for line in told)
    assert "bob says" not in "".join(told)


async def test_what_an_edit_says_is_sealed_too(office: Office, tmp_path: Path) -> None:
    relation = {"rel_type": "m.replace", "event_id": "$a1"}
    new = {"msgtype": "m.text", "body": "alice corrects it"}
    edit = {**new, "body": "* alice corrects it", "m.new_content": new, "m.relates_to": relation}
    await office.say(event("$edit", edit))
    await office.store()

    assert b"corrects" not in clear_bytes(office)
    shut = await lines(office, tmp_path / "cache", identity=None)
    assert "edited 2025-11-24 16:00:00: (not readable: content sealed)" in shut
    assert "alice corrects it" in await lines(office, tmp_path / "cache")


async def test_an_index_made_without_a_key_is_completed_with_one(
    office: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert await hits(office, cache, "says", identity=None) == 0
    assert await hits(office, cache, "says", identity=0) == 5
    assert await hits(office, cache, "says", identity=0) == 5, "not twice"
    library = await opened(office, cache)
    answer = ask(library, "SELECT body FROM records WHERE event_id = '$a1' AND kind = 'event'")
    assert list(answer.rows) == [("alice says one",)]
    library.close()


async def parts(office: Office, cache: Path, part: str, *, identity: int | None = 0) -> int:
    """Return how many messages contain a part, in an index that is to know parts of words."""
    library = Library(cache, () if identity is None else (str(IDENTITIES[identity]),))
    want_parts(library.connection)
    library.close()
    library = await opened(office, cache, identity=identity)
    complete_parts(library)
    found = len(search(library, Query(containing=(part,))))
    library.close()
    return found


async def test_parts_of_words_are_completed_with_a_key_too(office: Office, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert await parts(office, cache, "ce sa", identity=None) == 0
    assert await parts(office, cache, "ce sa") == 3
    assert await parts(office, cache, "ce sa") == 3, "not twice"


async def test_parts_of_words_that_no_identity_opens_are_not_left_out_in_silence(
    office: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    (await opened(office, cache)).close()
    with pytest.raises(DamagedArchiveError, match="--identity"):
        await parts(office, cache, "ce sa", identity=None)
    assert await parts(office, cache, "ce sa") == 3


async def test_parts_of_what_was_erased_are_gone(by_person: Office, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert await parts(by_person, cache, "ob sa") == 2
    await erase_bob(by_person)

    assert await parts(by_person, cache, "ob sa") == 0
    assert await parts(by_person, cache, "ce sa") == 3
    library = await opened(by_person, cache)
    left = library.connection.execute("SELECT count(*) FROM part_terms WHERE term = 'bob'")
    assert left.fetchone() == (0,)
    library.close()


async def test_it_is_counted_per_room_where_it_lies_without_a_key(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root(office) / "v1/example.org")
    with duckdb.connect() as database:
        database.execute(office.objects()["v1/example.org/sql/duckdb.sql"].decode())
        found = database.execute(
            "SELECT room_id, count(*), count(body) FROM messages"
            " WHERE event_type = 'm.room.message' GROUP BY room_id"
        ).fetchall()
    assert found == [(ROOM, 7, 0)]


@pytest.mark.parametrize("identities", [True, False])
async def test_it_verifies_with_and_without_a_key(office: Office, identities: bool) -> None:
    result = await verified(office, identities=identities)
    assert wrong(result) == []
    assert result.outside_only == 0
    assert result.records == result.listed_records
    assert result.sealed_records > 10
    assert result.opened_records == (result.sealed_records if identities else 0)
    assert result.parents or result.records
    said = as_text(result, "file:archive")
    assert ("content sealed of" in said) == (not identities)
    assert ("RIGHT: nothing was changed" if identities else "content sealed, not opened") in said
    assert as_json(result)["records_opened"] == result.opened_records


async def test_what_opens_content_is_with_the_officers_alone(
    office: Office, database: Database, tmp_path: Path
) -> None:
    rows = await database.fetch("SELECT state, wrapped FROM audit_content_key")
    assert {(row["state"], row["wrapped"]) for row in rows} == {("stored", None)}
    assert len(rows) == len(keys(office)) == 3, "one for each day"
    secrets = [
        bytes(pyrage.decrypt(office.objects()[key], [IDENTITIES[0]])).strip()
        for key in keys(office)
    ]
    paths = [tmp_path / "steward.db", *root(office).rglob("*")]
    for path in (path for path in paths if path.is_file()):
        body = path.read_bytes()
        assert not any(secret in body for secret in secrets), path
    manifests = [
        json.loads(body)
        for key, body in office.objects().items()
        if "/manifests/" in key and key.endswith(".json")
    ]
    assert {one["encryption"]["content_keys"] for one in manifests} == {"day"}
    listed = [item["key"] for one in manifests for item in one["content_keys"]]
    assert sorted(listed) == sorted(keys(office))


async def test_the_same_picture_of_two_people_is_two_objects(
    by_person: Office, tmp_path: Path
) -> None:
    media = [key for key in by_person.objects() if "/media/" in key]
    assert len(media) == 2
    assert len({key.rpartition("/")[2][:64] for key in media}) == 1
    library = await opened(by_person, tmp_path / "cache")
    place = DirectoryPlace(root(by_person))
    for key in media:
        assert (await fetch_file(place, library, key)).read_bytes() == PNG
    library.close()


async def erase_bob(office: Office, person: str = BOB) -> str:
    found = await erasure.survey_person(office.desk, person)
    told = await erasure.apply(office.desk, found, reason="he asked for it")
    await office.store()
    return told


async def rest(office: Office, tmp_path: Path) -> list[Stored]:
    library = await opened(office, tmp_path / "rest")
    rows = library.connection.execute("SELECT id FROM record ORDER BY id").fetchall()
    found = list(library.stored(row[0] for row in rows))
    library.close()
    return found


async def test_nothing_here_says_which_files_an_erased_person_sent(
    by_person: Office, database: Database
) -> None:
    await erase_bob(by_person)

    rows = await database.fetch("SELECT clear_sha256 FROM audit_object")
    assert sorted(row["clear_sha256"] is None for row in rows) == [False, True]
    assert await database.fetchval("SELECT count(*) FROM audit_media_source") == 1


async def test_what_a_person_wrote_is_erased_and_all_else_stays(
    by_person: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert await hits(by_person, cache, "says") == 5
    library = await opened(by_person, cache)
    pictures = [key for key in by_person.objects() if "/media/" in key]
    for key in pictures:
        await fetch_file(DirectoryPlace(root(by_person)), library, key)
    library.close()
    events = {key: body for key, body in by_person.objects().items() if "/events/" in key}

    assert await erase_bob(by_person) == "1 keys were destroyed."

    assert events.items() <= by_person.objects().items(), "no object was touched"
    for folder in (cache, tmp_path / "another"):
        assert await hits(by_person, folder, "says") == 3
        assert {one for one in await texts(by_person, folder) if one and "says" in one} == {
            "alice says one", "alice says two", "alice says three",
        }  # fmt: skip
        assert "(m.text: content erased)" in await lines(by_person, folder)
        assert await hits(by_person, folder, "says", identity=None) in {0, 3}
    for path in (path for path in cache.rglob("*") if path.is_file()):
        assert b"bob says" not in path.read_bytes(), path
    result = await verified(by_person)
    assert wrong(result) == []
    assert result.erased_records > 3
    assert result.opened_records == result.sealed_records - result.erased_records
    assert "1 keys of content on purpose" in as_text(result, "x")
    assert wrong(await verified(by_person, identities=False)) == []
    (act,) = [one.record for one in await rest(by_person, tmp_path)
              if one.record.get("action") == "erasure"]  # fmt: skip
    detail = json.loads(act["detail_json"])
    assert (detail["person"], detail["reason"]) == (BOB, "he asked for it")
    document = json.loads(by_person.objects()[detail["document"]])
    (named,) = document["content_keys"]
    assert (named["person"], document["day_keys"]) == (BOB, [])
    assert named["key"] not in by_person.objects()


async def test_the_picture_of_who_was_erased_is_gone_and_the_others_stays(
    by_person: Office, tmp_path: Path
) -> None:
    await erase_bob(by_person)
    library = await opened(by_person, tmp_path / "cache")
    place = DirectoryPlace(root(by_person))
    got, gone = 0, 0
    for key in (key for key in by_person.objects() if "/media/" in key):
        try:
            assert (await fetch_file(place, library, key)).read_bytes() == PNG
            got += 1
        except DamagedArchiveError as error:
            assert "erased on purpose" in str(error)  # noqa: PT017  # one of two
            gone += 1
    library.close()
    assert (got, gone) == (1, 1)


async def test_the_files_of_who_was_erased_are_gone_whatever_interrupts_their_deletion(
    by_person: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    library = await opened(by_person, cache)
    place = DirectoryPlace(root(by_person))
    for key in (key for key in by_person.objects() if "/media/" in key):
        await fetch_file(place, library, key)
    library.close()
    fetched = {path for path in (cache / "media").rglob("*") if path.is_file()}
    assert len(fetched) == 2
    await erase_bob(by_person)
    whole = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path in fetched:
            raise KeyboardInterrupt
        whole(path, missing_ok=missing_ok)

    library = Library(cache, (str(IDENTITIES[0]),))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            await sync(place, library, lambda _: Remembered())
    library.close()
    assert fetched == {path for path in fetched if path.exists()}

    (await opened(by_person, cache)).close()

    assert len([path for path in fetched if path.exists()]) == 1, "alice's"


async def test_who_was_erased_and_writes_on_gets_another_key(
    by_person: Office, tmp_path: Path
) -> None:
    await by_person.say(message("$b8", "bob says before", sender=BOB))
    found = await erasure.survey_person(by_person.desk, BOB)
    await erasure.apply(by_person.desk, found, reason="x")
    await by_person.say(message("$b9", "bob says after", sender=BOB), picture("$b10", BOB))
    await by_person.store()

    assert wrong(await verified(by_person)) == []
    found_texts = await texts(by_person, tmp_path / "cache")
    assert "bob says after" in found_texts
    assert "bob says before" not in found_texts, "it was not stored yet when he was erased"
    library = await opened(by_person, tmp_path / "cache")
    place = DirectoryPlace(root(by_person))
    (sent,) = [key for key in by_person.objects() if "/media/" in key and key.endswith("-2.age")]
    assert (await fetch_file(place, library, sent)).read_bytes() == PNG
    library.close()
    assert await erase_bob(by_person) == "1 keys were destroyed."
    assert "bob says after" not in await texts(by_person, tmp_path / "cache")
    assert wrong(await verified(by_person)) == []


async def test_a_key_that_comes_later_says_nothing_of_who_was_erased(
    by_person: Office, database: Database, tmp_path: Path
) -> None:
    await erase_bob(by_person)
    assert [row["event_id"] for row in await database.fetch("SELECT * FROM audit_pending")] == [
        "$late-a"
    ]
    by_person.world.crypto.sessions.add("late")

    await by_person.bot.keys_arrived([SessionRef(ROOM, "late")])
    await by_person.store()

    found = await texts(by_person, tmp_path / "cache")
    assert "clear text of $late-b" not in found
    assert "clear text of $late-a" in found


@pytest.mark.parametrize(
    ("rooms", "users", "held"),
    [
        ([], [], True),
        ([], [BOB], True),
        ([], [ALICE], True),
        ([ROOM], [], True),
        (["!elsewhere"], [], False),
        ([], ["@carol:example.org"], False),
        (["!elsewhere"], [BOB], True),
    ],
)
async def test_a_hold_refuses_and_the_refusal_is_recorded(
    by_person: Office, tmp_path: Path, rooms: list[str], users: list[str], held: bool
) -> None:
    await holds.add(
        by_person.desk, reason="a case", rooms=rooms, users=users, from_ms=None, to_ms=None
    )
    (hold,) = await holds.active(by_person.desk)
    before = set(keys(by_person))
    if not held:
        assert await erase_bob(by_person) == "1 keys were destroyed."
        return
    with pytest.raises(UserError, match="what they wrote is held"):
        await erase_bob(by_person)
    await by_person.store()

    assert set(keys(by_person)) >= before
    assert not [key for key in by_person.objects() if "/erasures/" in key]
    refused = [
        json.loads(one.record["detail_json"])
        for one in await rest(by_person, tmp_path)
        if one.record.get("action") == "erasure_refused"
    ]
    assert refused == [{"reason": "he asked for it", "person": BOB, "holds": [hold.id]}]


async def test_a_hold_on_who_shared_a_room_refuses_after_the_export_began_anew(
    by_person: Office,
) -> None:
    desk, carol = by_person.desk, "@carol:example.org"
    # What he sent does not name her: she could only read it.
    await by_person.say(state("m.room.member", {"membership": "join"}, key=carol))
    await holds.add(desk, reason="a case", rooms=[], users=[carol], from_ms=None, to_ms=None)
    await destination.clear(desk)
    await by_person.store()
    await destination.change(desk, f"file:{root(by_person)}", None, check=True)
    await by_person.store()

    with pytest.raises(UserError, match="what they wrote is held"):
        await erase_bob(by_person)


async def test_a_hold_on_a_room_that_nobody_remembers_is_looked_up_in_the_archive(
    by_person: Office, database: Database
) -> None:
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM audit_member")
    desk = by_person.desk
    await holds.add(desk, reason="a case", rooms=[ROOM], users=[], from_ms=None, to_ms=None)
    with pytest.raises(UserError, match="held"):
        await erase_bob(by_person)


async def test_what_was_interrupted_is_not_gone_on_with_once_it_is_held(
    by_person: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await erasure.survey_person(by_person.desk, BOB)

    async def crash(*_: object) -> None:
        raise TransientError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(type(by_person.desk), "publish", crash)
        with pytest.raises(TransientError):
            await erasure.apply(by_person.desk, found, reason="x")
    desk = by_person.desk
    await holds.add(desk, reason="a case", rooms=[], users=[BOB], from_ms=None, to_ms=None)
    (hold,) = await holds.active(desk)

    assert f"{BOB} is held since ({hold.id})" in (await erasure.carry_out(desk)).text

    await holds.remove(desk, hold.id, reason="over")
    assert (await erasure.carry_out(desk)).text == "1 keys were destroyed."
    await by_person.store()
    assert wrong(await verified(by_person)) == []


def elsewhere(office: Office) -> None:
    """Let another stream begin, in another place."""
    office.world.destination = f"file:{office.world.directory / 'elsewhere'}"
    office.at(office.world.clock.now_ms() + 1000)
    office.start()


async def interrupted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide to erase bob, and do nothing of it."""
    found = await erasure.survey_person(office.desk, BOB)

    async def crash(*_: object) -> None:
        raise TransientError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(type(office.desk), "publish", crash)
        with pytest.raises(TransientError):
            await erasure.apply(office.desk, found, reason="x")


async def test_what_was_killed_before_the_persons_key_was_gone_is_finished_by_itself(
    by_person: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await interrupted(by_person, monkeypatch)
    by_person.at(by_person.world.clock.now_ms() + 16 * 60_000)
    by_person.start()
    await by_person.bot.daily.look()
    await by_person.store()

    assert "bob says one" not in await texts(by_person, tmp_path / "cache")
    assert len(keys(by_person)) == 1
    assert len(by_person.controls("erasure")) == 1
    assert wrong(await verified(by_person)) == []
    assert len(await by_person.world.database.fetch("SELECT * FROM audit_pending")) == 1


async def test_a_key_that_comes_while_a_person_is_erased_says_nothing_in_another_stream(
    by_person: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await interrupted(by_person, monkeypatch)
    elsewhere(by_person)
    await by_person.say(message("$new", "hello"))
    by_person.world.crypto.sessions.add("late")

    await by_person.bot.keys_arrived([SessionRef(ROOM, "late")])
    await by_person.store()

    late = by_person.check("elsewhere").of_kind("decryption")
    assert [one["event_id"] for one in late] == ["$late-a"]
    await erasure.carry_out(by_person.desk)
    await by_person.bot.late_keys.retry_all()
    assert await by_person.world.database.fetchval("SELECT count(*) FROM audit_pending") == 0
    await by_person.store()
    assert len(by_person.check("elsewhere").of_kind("decryption")) == 1


async def test_a_file_that_comes_while_a_person_is_erased_is_not_stored_in_another_stream(
    by_person: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = by_person.files.held.pop("mxc://example.org/a")
    by_person.files.troubles.append(TransientError("away"))
    content = {"msgtype": "m.image", "body": "b.png", "url": "mxc://example.org/b"}
    await by_person.say(event("$image-late", content, sender=BOB))
    await by_person.store()
    await interrupted(by_person, monkeypatch)
    elsewhere(by_person)
    by_person.files.held["mxc://example.org/b"] = held
    by_person.at(by_person.world.clock.now_ms() + 120_000)
    await by_person.say(message("$new", "hello"))
    await by_person.store()

    assert not [key for key in by_person.objects("elsewhere") if "/media/" in key]
    assert await database.fetchval("SELECT count(*) FROM audit_media") == 1
    await erasure.carry_out(by_person.desk)
    assert await database.fetchval("SELECT count(*) FROM audit_media") == 0


async def test_recording_goes_on_while_what_a_person_wrote_is_counted(
    by_person: Office, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command has a connection of its own, and counts in no transaction that could lock."""
    whole, counted = Database.count, list[int]()

    async def count(reader: Database, query: str, *arguments: Any) -> int:
        if reader is not own or "CROSS JOIN audit_seen" not in query:
            return await whole(reader, query, *arguments)
        with closing(sqlite3.connect(tmp_path / "steward.db")) as counting:
            # As long as the command reads what was there when it began.
            counting.execute("BEGIN")
            counting.execute("SELECT count(*) FROM audit_seen").fetchone()
            await by_person.say(message("$b9", "bob says more", sender=BOB))
        counted.append(await whole(reader, query, *arguments))
        return counted[-1]

    async with open_database(sqlite_url(tmp_path)) as own:
        monkeypatch.setattr(Database, "count", count)
        desk = Desk(by_person.world.config, own, by_person.world.clock)
        found = await erasure.survey_person(desk, BOB)

    assert counted == [found.keys[0].records]
    said = "SELECT count(*) FROM audit_seen WHERE event_id = '$b9' AND sub_key = ''"
    assert await database.fetchval(said) == 1


async def test_an_erasure_at_two_places_is_announced_at_both_or_at_none(
    by_person: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(by_person)
    await by_person.say(message("$b9", "bob says elsewhere", sender=BOB))
    await by_person.store()
    found = await erasure.survey_person(by_person.desk, BOB)
    whole, made = Desk.state, list[str]()

    async def killed(desk: Desk, *arguments: Any, **options: Any) -> Statement:
        if made:
            raise KeyboardInterrupt
        made.append("one")
        return await whole(desk, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Desk, "state", killed)
        with pytest.raises(KeyboardInterrupt):
            await erasure.apply(by_person.desk, found, reason="x")
    assert [one async for one in by_person.desk.unfinished("erasures/")] == []

    assert await erasure.apply(by_person.desk, found, reason="x") == "2 keys were destroyed."


async def test_what_is_forgotten_of_a_person_is_not_looked_for_in_all_that_they_ever_sent(
    by_person: Office, database: Database
) -> None:
    stream = await database.fetchval("SELECT stream FROM audit_head")
    (key,) = (await erasure.survey_person(by_person.desk, BOB)).keys
    steps = list[None]()
    async with database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO audit_seen (kind, event_id, sub_key, stream, seq, sender)"
            " VALUES ('event', $1, '', $2, $3, $4)",
            [(f"$more{number}", stream, 1_000_000 + number, BOB) for number in range(20_000)],
        )
    await database.run(
        lambda connection: connection.set_progress_handler(lambda: steps.append(None), 1000)
    )

    async with database.transaction() as connection:
        await end_keys(connection, [key.key])
        await forget_content(connection, key.key)

    # Thousands of SQLite's steps: as long as it takes, nobody else can write.
    assert len(steps) < 20
    assert await database.fetchval("SELECT count(*) FROM audit_pending") == 1, "alice's"


@pytest.mark.parametrize("erased_before", [False, True])
async def test_who_has_written_where_no_key_of_theirs_is_yet_is_erased_once_there_is_one(
    by_person: Office, tmp_path: Path, *, erased_before: bool
) -> None:
    elsewhere(by_person)
    if erased_before:
        await by_person.say(message("$b7", "bob says this", sender=BOB))
        await by_person.store()
        await erase_bob(by_person)
        # Another key, so that there is something to be erased.
        by_person.world.destination = f"file:{root(by_person)}"
        by_person.at(by_person.world.clock.now_ms() + 1000)
        by_person.start()
        await by_person.say(message("$b8", "bob says that", sender=BOB))
        await by_person.store()
        elsewhere(by_person)
    await by_person.say(message("$b9", "bob says elsewhere", sender=BOB))
    with pytest.raises(UserError, match="not all stored and listed yet"):
        await erasure.survey_person(by_person.desk, BOB)

    await by_person.store()
    await erase_bob(by_person)

    assert "bob says one" not in await texts(by_person, tmp_path / "cache")
    there = DirectoryPlace(tmp_path / "elsewhere")
    library = Library(tmp_path / "other", (str(IDENTITIES[0]),))
    await sync(there, library, lambda _: Remembered())
    found = {one.text for one in load(library, search(library, Query(rooms=(ROOM,))))}
    library.close()
    assert "bob says elsewhere" not in found


@pytest.mark.parametrize("stored", [False, True])
async def test_what_was_recorded_between_finding_and_ending_the_keys_is_not_left_out(
    by_person: Office, *, stored: bool
) -> None:
    elsewhere(by_person)
    await by_person.say(message("$new", "hello"))
    await by_person.store()
    found = await erasure.survey_person(by_person.desk, BOB)
    await by_person.say(message("$b9", "bob says elsewhere", sender=BOB))
    if stored:
        await by_person.store()

    with pytest.raises(UserError, match="not all stored and listed yet"):
        await erasure.apply(by_person.desk, found, reason="x")

    assert not [key for key in by_person.objects() if "/erasures/" in key]


@pytest.mark.parametrize("on_its_way", ["waiting", "built", "stored"])
async def test_a_hold_is_looked_up_wherever_a_record_is_on_its_way(
    by_person: Office, database: Database, on_its_way: str
) -> None:
    await by_person.say(message("$b9", "bob says elsewhere", sender=BOB, room_id="!other"))
    archive = by_person.bot.archive
    if on_its_way != "waiting":
        await archive.seal(flush=True)
    if on_its_way == "stored":
        await archive.upload()
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM audit_member")
    await holds.add(
        by_person.desk, reason="a case", rooms=["!other"], users=[], from_ms=None, to_ms=None
    )

    found = await erasure.survey_person(by_person.desk, BOB)

    assert len(found.held_by) == 1


@dataclass
class MeanwhileFiles(ScriptedFiles):
    """A homeserver while whose file is on its way something else happens."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def download(self, content_uri: object) -> AsyncIterator[bytes]:
        async for portion in super().download(content_uri):
            if self.meanwhile is not None:
                act, self.meanwhile = self.meanwhile, None
                await act()
            yield portion


async def test_a_file_that_is_on_its_way_while_its_sender_is_erased_is_listed_and_shut(
    by_person: Office, database: Database
) -> None:
    before = {key for key in by_person.objects() if "/media/" in key}
    found = await erasure.survey_person(by_person.desk, BOB)
    by_person.media.files = MeanwhileFiles(
        {"mxc://example.org/b": PNG + b"another"},
        meanwhile=lambda: erasure.apply(by_person.desk, found, reason="x"),
    )
    content = {"msgtype": "m.image", "body": "b.png", "url": "mxc://example.org/b"}
    await by_person.say(event("$image-late", content, sender=BOB))

    await by_person.store()

    (new,) = {key for key in by_person.objects() if "/media/" in key} - before
    assert new.endswith(found.keys[0].key.rpartition("/content-")[2])
    manifests = [one for found in by_person.check().manifests.values() for one in found]
    assert new in [item["key"] for one in manifests for item in one["media"]]
    assert not [
        one for one in by_person.check().of_kind("media") if one["event_id"] == "$image-late"
    ]
    result = await verified(by_person)
    assert [one.key for one in result.findings.of(Severity.NOTICE) if one.key == new] == []
    assert wrong(result) == []
    assert await database.fetchval(
        "SELECT count(*) FROM audit_object WHERE object_key = $1 AND clear_sha256 IS NULL", new
    )
    # So that retention deletes it when its days are over.
    assert await database.fetchval(
        "SELECT count(*) FROM audit_object JOIN audit_object_day ON audit_object_day.id ="
        " audit_object.id AND audit_object_day.place = audit_object.place WHERE object_key = $1",
        new,
    )


async def test_a_file_on_its_way_to_another_stream_says_nothing_once_its_sender_is_being_erased(
    by_person: Office, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_person.files.troubles.append(TransientError("away"))
    content = {"msgtype": "m.image", "body": "b.png", "url": "mxc://example.org/b"}
    await by_person.say(event("$image-late", content, sender=BOB))
    await by_person.store()
    elsewhere(by_person)
    # So that they have a key there, which the erasure ends too.
    await by_person.say(message("$b9", "bob says elsewhere", sender=BOB))
    await by_person.store()
    by_person.media.files = MeanwhileFiles(
        {"mxc://example.org/b": PNG + b"another"},
        meanwhile=lambda: interrupted(by_person, monkeypatch),
    )
    by_person.at(by_person.world.clock.now_ms() + 120_000)

    await by_person.store()

    said = by_person.check("elsewhere").of_kind("media")
    assert [one for one in said if one["event_id"] == "$image-late"] == []
    listed = [one for found in by_person.check("elsewhere").manifests.values() for one in found]
    (new,) = [key for key in by_person.objects("elsewhere") if "/media/" in key]
    assert new in [item["key"] for one in listed for item in one["media"]]
    await erasure.carry_out(by_person.desk)
    assert await database.fetchval("SELECT count(*) FROM audit_media") == 0


async def test_a_file_that_comes_on_an_erased_day_because_the_clock_went_back_can_be_opened(
    office: Office, tmp_path: Path
) -> None:
    office.files.troubles.append(TransientError("away"))
    content = {"msgtype": "m.image", "body": "b.png", "url": "mxc://example.org/b"}
    await office.say(event("$image-late", content))
    await office.store()
    found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    await erasure.apply(office.desk, found, reason="x")
    office.files.held["mxc://example.org/b"] = PNG + b"another"
    office.at(NOON + 1000)
    await office.store()

    (key,) = [key for key in office.objects() if "/media/" in key and "2025-11-24" in key
              and key.endswith("-2.age")]  # fmt: skip
    library = await opened(office, tmp_path / "cache")
    assert (await fetch_file(DirectoryPlace(root(office)), library, key)).read_bytes() == (
        PNG + b"another"
    )
    library.close()


async def test_of_a_day_each_class_is_counted_for_itself(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.world.erasable = "day"
    office.world.classes = (RetentionClass(name="other", keep_days=30, rooms=("!other",)),)
    await fill(office)
    office.at(NOON + 2 * DAY_MS)
    await office.say(message("$o1", "one", room_id="!other"), message("$a9", "two"))
    await office.store()
    office.at(NOON + 3 * DAY_MS)
    await office.store()
    day = DAY + 2
    records = [one for one in office.check().records if one["ts_received"] // DAY_MS == day]

    found = await erasure.survey(office.desk, first_day=day, last_day=day)

    counted = {key.label: key.records for key in found.keys}
    assert counted == {
        name: sum(one["retention_class"] == name for one in records)
        for name in ("default", "other")
    }
    assert counted["other"] > 0
    (alone,) = (await erasure.survey(office.desk, first_day=day, last_day=day, label="other")).keys
    assert alone.records == counted["other"]


async def test_of_a_person_is_counted_what_goes_with_the_key(by_person: Office) -> None:
    def sealed_to(name: str) -> int:
        return sum(one["sealed_to"] == name for one in by_person.check().records)

    by_person.world.crypto.sessions.add("late")
    await by_person.bot.keys_arrived([SessionRef(ROOM, "late")])
    await by_person.store()
    (key,) = (await erasure.survey_person(by_person.desk, BOB)).keys
    assert key.records == sealed_to(key.key) > 5

    await erase_bob(by_person)
    await by_person.say(message("$b9", "bob says after", sender=BOB))
    await by_person.store()

    (key,) = (await erasure.survey_person(by_person.desk, BOB)).keys
    assert key.records == sealed_to(key.key) == 1


async def test_a_day_erases_of_what_people_have_keys_for_only_what_nobody_sent(
    by_person: Office, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is erased with --person"):
        await erasure.survey(by_person.desk, first_day=DAY, last_day=DAY)
    async with database.transaction() as connection:
        writing = await by_person.desk.writing(connection)
        assert writing is not None
        detail = {"command": "kick", "reason": "a secret word"}
        writing.control(actor=ALICE, action="admin_action", detail=detail)
        await writing.write(connection)
    await by_person.store()
    by_person.at(NOON + 3 * DAY_MS)
    await by_person.store()

    wanted = typed("--from=2025-11-26", "--apply")
    told = await wanted.act(by_person.desk, wanted)
    await by_person.store()

    assert "          1 records  default" in told
    assert "only what nobody sent goes with a day" in told
    (act,) = by_person.controls("erasure")
    assert (act["records"], act["days"]) == (1, ["2025-11-26"])
    assert "alice says three" in await texts(by_person, tmp_path / "cache")
    assert wrong(await verified(by_person)) == []


async def test_a_day_of_one_class_is_erased_alone(office: Office, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no day's key"):
        await erasure.survey(office.desk, first_day=DAY, last_day=DAY, label="legal")
    found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY, label="default")
    told = await erasure.apply(office.desk, found, reason="a court said so")
    await office.store()

    assert told == "1 keys were destroyed."
    assert {one for one in await texts(office, tmp_path / "cache") if one and "says" in one} == {
        "alice says two", "alice says three", "bob says three",
    }  # fmt: skip
    result = await verified(office)
    assert wrong(result) == []
    assert result.erased_records > 5
    (act,) = office.controls("erasure")
    assert (act["days"], act["class"]) == (["2025-11-24"], "default")
    office.at(NOON + 1000)
    await office.say(message("$back", "said when the clock went back"))
    await office.store()
    office.at(NOON + 2 * DAY_MS)
    await office.store()
    assert "said when the clock went back" in await texts(office, tmp_path / "cache")
    assert wrong(await verified(office)) == []


async def test_what_waits_of_another_class_is_not_forgotten_with_a_day(
    office: Office, database: Database
) -> None:
    async with database.transaction() as connection:
        for row in await connection.fetch("SELECT event_id, line FROM audit_pending"):
            if row["event_id"] == "$late-a":
                line = bytes(row["line"]).replace(
                    b'"retention_class":"default"', b'"retention_class":"legal"'
                )
                await connection.execute(
                    "UPDATE audit_pending SET line = $2 WHERE event_id = $1", "$late-a", line
                )
    found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    await erasure.apply(office.desk, found, reason="x")

    left = await database.fetch("SELECT event_id FROM audit_pending")
    assert [row["event_id"] for row in left] == ["$late-a"]


async def test_what_cannot_be_erased_is_said(by_person: Office, database: Database) -> None:
    with pytest.raises(UserError, match="no key of @carol"):
        await erasure.survey_person(by_person.desk, "@carol:example.org")
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_content_key SET manifest = NULL WHERE person = $1", BOB
        )
    with pytest.raises(UserError, match="not stored and listed yet"):
        await erasure.survey_person(by_person.desk, BOB)
    await erase_bob(by_person, ALICE)
    with pytest.raises(UserError, match="no key"):
        await erase_bob(by_person, ALICE)


async def test_where_nothing_is_to_be_erased_nothing_can_be(
    database: Database, tmp_path: Path
) -> None:
    office = await fill(Office(database, tmp_path))
    assert "alice says one" in await texts(office, tmp_path / "cache")
    with pytest.raises(UserError, match="no day's key"):
        await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    with pytest.raises(UserError, match="no key"):
        await erasure.survey_person(office.desk, ALICE)


async def test_another_way_of_sealing_begins_another_stream_and_all_is_read(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.erasable = True
    office.start()
    await office.say(*new_room(BOB), message("$whole", "alice says in a whole segment"))
    await office.store()
    office.at(NOON + 1000)
    await fill(office)
    office.world.seal = "segments"
    office.at(NOON + 2 * DAY_MS + 1000)
    office.start()
    await office.say(message("$again", "alice says in a whole segment again"))
    await office.store()

    found = await texts(office, tmp_path / "cache")
    assert {
        "alice says in a whole segment", "alice says one", "alice says in a whole segment again",
    } <= found  # fmt: skip
    result = await verified(office)
    assert wrong(result) == []
    assert result.opened_records == result.sealed_records > 5
    assert {one["reason"] for one in office.controls("export_stopped")} == {"encryption changed"}
    told = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    assert [key.is_content for key in told.keys] == [False, True]
    await erasure.apply(office.desk, told, reason="x")
    await office.store()
    assert wrong(await verified(office)) == []
    assert "alice says one" not in await texts(office, tmp_path / "cache")


async def test_keys_are_made_once_for_whatever_people_and_classes_are_called(
    database: Database,
) -> None:
    officers = Officers(
        "example.org:8448", "20251124T160000Zabcdef", tuple(str(i.to_public()) for i in IDENTITIES)
    )
    scopes = [Scope(None, None, f"@user{number}:example.org") for number in range(600)]
    scopes += [Scope(DAY, label, None) for label in ("default", "Legal hold!", "../..", "a-1")]
    scopes.append(Scope(None, None, "@ä'); DROP TABLE audit_content_key; --:example.org"))
    wanted = dict.fromkeys(scopes, 7)

    one, other = await asyncio.gather(  # noqa: TID251  # two at the same time is the point
        keys_for(database, officers, wanted), keys_for(database, officers, wanted)
    )

    assert one == other
    assert set(one) == set(scopes)
    names = [key.object_key for found in one.values() for key in found]
    assert len(set(names)) == len(scopes)
    assert all(map(is_content_key, names))
    assert await database.fetchval("SELECT count(*) FROM audit_content_key") == len(scopes)


def typed(*words: str) -> argparse.Namespace:
    return _parser().parse_args(["erase", *words, "--reason=he asked"])


async def test_what_is_typed_is_a_dry_run_unless_it_says_otherwise(by_person: Office) -> None:
    wanted = typed("--person", BOB)
    dry = await wanted.act(by_person.desk, wanted)
    assert f"{BOB}  " in dry
    assert "Nothing was destroyed: this was a dry run." in dry
    assert len(keys(by_person)) == 2

    wanted = typed("--person", BOB, "--apply")
    assert (await wanted.act(by_person.desk, wanted)).endswith("1 keys were destroyed.")
    assert len(keys(by_person)) == 1
    both = typed("--person", BOB, "--class", "default")
    with pytest.raises(UserError, match="leave --to and --class out"):
        await both.act(by_person.desk, both)
    for words in (("--person", "bob"), ("--person", BOB, "--from=2025-11-24"), ()):
        with pytest.raises(SystemExit):
            typed(*words)


def segment(office: Office, day: str = "2025-11-24") -> tuple[str, list[dict[str, Any]]]:
    (key,) = [key for key in office.objects() if f"/events/dt={day}" in key]
    reader = zstandard.ZstdDecompressor().stream_reader(
        office.objects()[key], read_across_frames=True
    )
    return key, [json.loads(line) for line in reader.read().splitlines()]


def put(office: Office, key: str, records: list[dict[str, Any]]) -> None:
    body = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in records)
    (root(office) / key).write_bytes(zstandard.ZstdCompressor().compress(body))


def swapped(office: Office) -> str:
    key, records = segment(office)
    one, other = (next(r for r in records if r["event_id"] == name) for name in ("$a1", "$b1"))
    one["sealed"], other["sealed"] = other["sealed"], one["sealed"]
    put(office, key, records)
    return key


def swapped_with_commitments(office: Office) -> str:
    key, records = segment(office)
    one, other = (next(r for r in records if r["event_id"] == name) for name in ("$a1", "$b1"))
    for name in ("sealed", "sealed_sha256"):
        one[name], other[name] = other[name], one[name]
    put(office, key, records)
    return key


def other_commitment(office: Office) -> str:
    key, records = segment(office)
    one = next(r for r in records if r["event_id"] == "$a1")
    one["sealed_sha256"] = hashlib.sha256(b"another").hexdigest()
    put(office, key, records)
    return key


def sealed_anew(office: Office) -> str:
    """Somebody who may write, and knows the public key, says something else."""
    key, records = segment(office)
    one = next(r for r in records if r["event_id"] == "$a1")
    wrapped = office.objects()[one["sealed_to"]]
    secret = bytes(pyrage.decrypt(wrapped, [IDENTITIES[0]])).decode().strip()
    public = pyrage.x25519.Identity.from_str(secret).to_public()
    said = json.dumps({"stream": one["stream"], "seq": one["seq"], "body": "forged"}).encode()
    packed = zstandard.ZstdCompressor().compress(said)
    one["sealed"] = base64.b64encode(pyrage.encrypt(packed, [public])).decode()
    put(office, key, records)
    return key


@pytest.mark.parametrize("identities", [True, False])
@pytest.mark.parametrize(
    "tamper", [swapped, swapped_with_commitments, other_commitment, sealed_anew]
)
async def test_what_is_done_to_a_seal_is_found_and_named(
    office: Office, tmp_path: Path, tamper: Callable[[Office], str], identities: bool
) -> None:
    key = tamper(office)
    result = await verified(office, identities=identities)
    found = wrong(result)
    assert ("leaves", key) in found
    if identities:
        named = [one for one in result.findings.of(Severity.WRONG) if one.code == "sealed"]
        assert named
        assert all(one.line is not None for one in named)
        assert "of another record" in named[0].sentence or "not what the line" in named[0].sentence
    library = Library(tmp_path / "cache", (str(IDENTITIES[0]),))
    done = await sync(DirectoryPlace(root(office)), library, lambda _: Remembered())
    assert done.faults, "nothing of it is shown"
    library.close()


async def test_the_key_of_another_scope_in_its_place_is_found_and_named(office: Office) -> None:
    one, other, *_ = keys(office)
    shutil.copyfile(root(office) / other, root(office) / one)

    assert ("day_key", one) in wrong(await verified(office, identities=False))
    found = wrong(await verified(office))
    assert ("day_key", one) in found
    assert any(code == "sealed" for code, _ in found)


@pytest.mark.parametrize("forged", [False, True])
async def test_a_key_that_goes_without_an_erasure_is_a_loss(
    by_person: Office, tmp_path: Path, forged: bool
) -> None:
    alices = next(
        one["sealed_to"]
        for one in segment(by_person)[1]
        if one["sender"] == ALICE and one["sealed_to"]
    )
    if forged:
        await erase_bob(by_person)
        (document,) = root(by_person).rglob("erasures/*.json")
        body = json.loads(document.read_bytes())
        body["content_keys"][0]["key"] = alices
        document.write_bytes(json.dumps(body).encode())
    (root(by_person) / alices).unlink()

    assert ("missing", alices) in wrong(await verified(by_person, identities=False))
    library = Library(tmp_path / "cache", (str(IDENTITIES[0]),))
    await sync(DirectoryPlace(root(by_person)), library, lambda _: Remembered())
    found = load(library, search(library, Query(people=(ALICE,))))
    assert "content sealed, and its key is not here" in "\n".join(table(found))
    library.close()


async def test_a_key_that_no_manifest_lists_is_named(office: Office) -> None:
    key, records = segment(office)
    name = keys(office)[0].replace("-1.age", "-9.age")
    for one in records:
        if one["sealed_to"]:
            one["sealed_to"] = name
    put(office, key, records)

    assert ("sealed_key", key) in wrong(await verified(office, identities=False))


async def handed_over(office: Office, tmp_path: Path, *, identity: bool) -> tuple[int, Path]:
    key = tmp_path / "officer.key"
    key.write_text(f"{IDENTITIES[0]}\n")
    common = [f"--destination=file:{root(office)}", f"--home={tmp_path / f'home-{identity}'}"]
    if identity:
        common.append(f"--identity={key}")
    case = tmp_path / f"case-{identity}.zip"
    for words in (
        ["case", "create", "one"],
        ["case", "add", "one", "$a2", "$b3"],
        ["case", "export", "one", f"--output={case}"],
    ):
        status = await asyncio.to_thread(main, [*words, *common])
        if status:
            return status, case
    folder = tmp_path / f"handed-{identity}"
    with zipfile.ZipFile(case) as archive:
        archive.extractall(folder)  # ours
    return 0, folder


def checked(folder: Path) -> int:
    """Run what the receiver runs; return its exit status."""
    return int(handed.main([str(folder)]))  # type: ignore[no-untyped-call]  # it is for old Python


async def test_what_is_handed_over_is_proven_without_a_key(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, folder = await handed_over(office, tmp_path, identity=True)
    assert status == 0, capsys.readouterr()
    assert checked(folder) == 0
    said = capsys.readouterr().out
    assert "2 disclosed in opened.jsonl" in said
    assert "0 stay sealed" in said
    assert "alice says two" in (folder / "messages.jsonl").read_text()
    assert "alice says two" in (folder / "transcript.html").read_text()
    records = (folder / "records.jsonl").read_bytes()
    assert b"alice says" not in records
    reader = zstandard.ZstdDecompressor().stream_reader(
        office.objects()[segment(office, "2025-11-25")[0]], read_across_frames=True
    )
    assert all(line in reader.read() for line in records.splitlines()[-1:])


async def test_what_is_handed_over_without_a_key_stays_sealed_and_is_proven(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, folder = await handed_over(office, tmp_path, identity=False)
    assert status == 0, capsys.readouterr()
    assert checked(folder) == 0
    assert not (folder / "opened.jsonl").exists()
    assert "0 disclosed in opened.jsonl, each what its record says was sealed; 2 stay" in (
        capsys.readouterr().out
    )
    assert "2 could not be read: content sealed." in (folder / "README.txt").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"alice says two", b"alice says TWO"),
        (b'"seal_salt":"', b'"seal_salt":"A'),
        (b'"body":', b'"sender":"@eve:x","body":'),
    ],
)
async def test_a_disclosed_content_that_was_changed_is_found(
    office: Office,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: bytes,
    new: bytes,
) -> None:
    _, folder = await handed_over(office, tmp_path, identity=True)
    for name in ("opened.jsonl", "messages.jsonl"):
        path = folder / name
        path.write_bytes(path.read_bytes().replace(old, new))
        listed = json.loads((folder / "files.json").read_text())
        listed[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "files.json").write_text(json.dumps(listed))
    capsys.readouterr()

    assert checked(folder) == 1

    assert "not what its record says was sealed" in capsys.readouterr().out


async def test_a_drill_opens_content_with_each_key(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for number, identity in enumerate(IDENTITIES):
        files.append(tmp_path / f"officer{number}.key")
        files[-1].write_text(f"{identity}\n")
    words = ["drill", "--objects=50", *(f"--identity={file}" for file in files),
             f"--destination=file:{root(office)}", f"--home={tmp_path / 'home'}",
             f"--output={tmp_path / 'proof.txt'}"]  # fmt: skip

    assert await asyncio.to_thread(main, words) == 0, capsys.readouterr().out

    proof = (tmp_path / "proof.txt").read_text()
    count = sum("/events/" in key or "/media/" in key for key in office.objects())
    assert proof.count("opened with") >= 2 * count - 2
    stranger = tmp_path / "stranger.key"
    stranger.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    assert await asyncio.to_thread(main, [*words, "--force", f"--identity={stranger}"]) == 1
