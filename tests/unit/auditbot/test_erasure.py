"""Destroying a day's key makes the day unreadable for everybody, and takes nothing of the proof."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyrage
import pytest

from auditbot.day_keys import forget_day
from auditbot.operations import erasure, holds
from auditbot.operations.cli import _parser
from auditbot.operations.desk import Desk, Statement
from auditbot.operations.erasable import Found
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.conversation import load
from auditbot.reader.day_keys import DayKeys
from auditbot.reader.index.library import Library, Stored
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.media import fetch_file
from auditbot.reader.memory import Remembered
from auditbot.reader.read import read
from auditbot.reader.render.words import media_state
from auditbot.reader.signatures import parse_note
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.directory import DirectoryStore
from auditbot.storage.port import ArchiveStore
from auditbot.storage.reading import DirectoryPlace
from common.crypto.port import SessionRef
from common.database.pool import Database
from common.errors import PermanentError, TransientError, UserError
from common.inbox.aside import dealt_with, set_aside
from common.inbox.file import open_inbox_file
from common.inbox.port import EntryKind, NewEntry, Source
from common.inbox.store import StoredInbox, move_cursor
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, ROOM, encrypted, entries, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

DAY = NOON // DAY_MS
IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    """Two days of an erasable archive, each with a message and the same picture; then a third."""
    office = Office(database, tmp_path)
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.erasable = True
    office.files.held["mxc://example.org/a"] = PNG
    office.start()
    await office.say(
        *new_room("@bob:example.org"),
        message("$1", "said first"),
        image("$image1"),
        encrypted("$unread", "late"),
    )
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(message("$2", "said next"), image("$image2"))
    await office.store()
    office.at(NOON + 2 * DAY_MS)
    await office.say(message("$3", "said last"))
    await office.store()
    return office


def root(office: Office) -> Path:
    return office.world.directory / "archive"


async def verified(
    office: Office, *, identities: bool = True, notes: tuple[bytes, ...] = ()
) -> Verified:
    options = Options(
        now_ms=office.world.clock.now_ms(),
        destination=f"file:{root(office)}",
        identities=(str(IDENTITIES[1]),) if identities else (),
        notes=tuple(parse_note(note) for note in notes),
    )
    (result,) = await verify(DirectoryPlace(root(office)), options)
    return result


def wrong(result: Verified) -> list[tuple[str, str]]:
    return [(one.code, one.key) for one in result.findings.of(Severity.WRONG)]


async def texts(office: Office, cache: Path, identity: int = 0) -> set[str | None]:
    library = Library(cache, (str(IDENTITIES[identity]),))
    done = await sync(DirectoryPlace(root(office)), library, lambda _: Remembered())
    assert done.faults == []
    found = {one.text for one in load(library, search(library, Query(rooms=(ROOM,))))}
    library.close()
    return found


async def erase(office: Office, first: int = DAY, last: int = DAY) -> str:
    found = await erasure.survey(office.desk, first_day=first, last_day=last)
    told = await erasure.apply(office.desk, found, reason="a court said so")
    await office.store()
    return told


def day_key(office: Office, day: str = "2025-11-24") -> Path:
    (key,) = [key for key in office.objects() if "/keys/day-" in key and day in key]
    return root(office) / key


async def test_each_officer_reads_each_day(office: Office, tmp_path: Path) -> None:
    for number in range(2):
        found = await texts(office, tmp_path / f"cache{number}", number)
        assert {"said first", "said next", "said last"} <= found
    result = await verified(office)
    assert wrong(result) == []
    assert result.outside_only == 0
    assert result.records == result.listed_records
    lines = [
        one async for one in read(DirectoryPlace(root(office)), identities=[str(IDENTITIES[0])])
    ]
    assert len(lines) == result.records
    manifests = [
        json.loads(body)
        for key, body in office.objects().items()
        if "/manifests/" in key and key.endswith(".json")
    ]
    listed = [item["key"] for one in manifests for item in one["day_keys"]]
    assert len(listed) == len(set(listed)) == 3
    assert all(one["encryption"]["day_keys"] for one in manifests)


async def test_what_opens_a_day_is_with_the_officers_alone(
    office: Office, database: Database, tmp_path: Path
) -> None:
    rows = await database.fetch("SELECT * FROM audit_day_key")
    assert {(row["state"], row["wrapped"]) for row in rows} == {("stored", None)}
    secret = bytes(pyrage.decrypt(day_key(office).read_bytes(), [IDENTITIES[0]])).strip()
    for path in (tmp_path / "steward.db", *root(office).rglob("*")):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    sealed = next(body for key, body in office.objects().items() if "/events/" in key)
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, IDENTITIES)


async def test_an_erased_day_is_unreadable_and_still_proved(
    office: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    await texts(office, cache)
    before = await verified(office)
    notes = tuple(body for key, body in office.objects().items() if key.endswith(".note"))
    segments = {key: body for key, body in office.objects().items() if "/events/" in key}
    wrapped = day_key(office)

    assert await erase(office) == "1 keys were destroyed."

    assert not wrapped.exists()
    assert segments.items() <= office.objects().items(), "no object was touched"
    for folder in ("cache", "another"):
        found = await texts(office, tmp_path / folder)
        assert "said first" not in found
        assert {"said next", "said last"} <= found
    assert not any(
        b"said first" in path.read_bytes() for path in cache.rglob("*") if path.is_file()
    )
    result = await verified(office, notes=notes)
    assert wrong(result) == []
    assert [key.rpartition("/")[2] for key in result.erased] == [wrapped.name]
    assert result.erased_segments > 0
    assert result.listed_records > before.listed_records, "the erasure itself was recorded"
    (detail,) = [
        json.loads(one.record["detail_json"])
        for one in [
            item
            async for item in read_rest(office, tmp_path)
            if item.record.get("action") == "erasure"
        ]
    ]
    assert (detail["days"], detail["reason"]) == (["2025-11-24"], "a court said so")
    documents = [key for key in office.objects() if "/erasures/" in key]
    assert len(documents) == 2
    assert detail["document"] in documents
    outside = await verified(office, identities=False)
    assert wrong(outside) == []


async def read_rest(office: Office, tmp_path: Path) -> AsyncIterator[Stored]:
    library = Library(tmp_path / "rest", (str(IDENTITIES[0]),))
    await sync(DirectoryPlace(root(office)), library, lambda _: Remembered())
    rows = library.connection.execute("SELECT id FROM record ORDER BY id").fetchall()
    for stored in library.stored(row[0] for row in rows):
        yield stored
    library.close()


async def test_the_same_picture_of_another_day_stays(office: Office, tmp_path: Path) -> None:
    library = Library(tmp_path / "cache", (str(IDENTITIES[0]),))
    place = DirectoryPlace(root(office))
    await sync(place, library, lambda _: Remembered())
    pictures = {
        str(one.record["event_id"]): str(state["key"])
        for one in load(library, search(library, Query(rooms=(ROOM,))))
        if (state := media_state(one)) is not None
    }
    assert len(set(pictures.values())) == 2
    for key in pictures.values():
        assert (await fetch_file(place, library, key)).read_bytes() == PNG
    library.close()

    await erase(office)

    library = Library(tmp_path / "another", (str(IDENTITIES[0]),))
    await sync(place, library, lambda _: Remembered())
    assert (await fetch_file(place, library, pictures["$image2"])).read_bytes() == PNG
    with pytest.raises(DamagedArchiveError, match="destroyed on purpose"):
        await fetch_file(place, library, pictures["$image1"])
    library.close()


async def test_nothing_here_says_which_files_an_erased_day_had(
    office: Office, database: Database
) -> None:
    await erase(office)

    rows = await database.fetch("SELECT object_key, clear_sha256 FROM audit_object ORDER BY 1")
    said = {row["object_key"].rpartition("Z")[2]: row["clear_sha256"] for row in rows}
    assert [said[key] is None for key in sorted(said)] == [True, False]
    assert await database.fetchval("SELECT count(*) FROM audit_media_source") == 1


async def test_a_hold_refuses_and_the_refusal_is_recorded(office: Office, tmp_path: Path) -> None:
    await holds.add(
        office.desk,
        reason="a case",
        rooms=["!somewhere"],
        users=[],
        from_ms=NOON,
        to_ms=NOON + 1,
    )
    with pytest.raises(UserError, match="held"):
        await erase(office)
    await office.store()

    assert day_key(office).exists()
    assert not [key for key in office.objects() if "/erasures/" in key]
    assert "said first" in await texts(office, tmp_path / "cache")
    refused = [
        json.loads(one.record["detail_json"])
        async for one in read_rest(office, tmp_path)
        if one.record.get("action") == "erasure_refused"
    ]
    (hold,) = await holds.active(office.desk)
    assert refused == [{"reason": "a court said so", "days": ["2025-11-24"], "holds": [hold.id]}]
    assert await erase(office, DAY + 1, DAY + 1) == "1 keys were destroyed."


async def test_what_cannot_be_erased_is_said(office: Office, database: Database) -> None:
    with pytest.raises(UserError, match="once it is over"):
        await erasure.survey(office.desk, first_day=DAY, last_day=DAY + 2)
    with pytest.raises(UserError, match="no day's key"):
        await erasure.survey(office.desk, first_day=DAY - 9, last_day=DAY - 1)
    await erase(office)
    with pytest.raises(UserError, match="no day's key"):
        await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_segment SET manifest = NULL WHERE day = $1", DAY + 1
        )
    with pytest.raises(UserError, match="Not all of 2025-11-25"):
        await erasure.survey(office.desk, first_day=DAY + 1, last_day=DAY + 1)


@pytest.mark.parametrize("damage", ["gone", "other", "forged"])
async def test_a_key_that_goes_otherwise_is_a_loss(office: Office, damage: str) -> None:
    path = day_key(office)
    key = path.relative_to(root(office)).as_posix()
    if damage == "forged":
        await erase(office, DAY + 1, DAY + 1)
        (document,) = root(office).rglob("erasures/*.json")
        day = document.read_bytes()
        document.write_bytes(day.replace(b"2025-11-25", b"2025-11-24"))
    if damage == "other":
        path.write_bytes(pyrage.encrypt(b"x", [one.to_public() for one in IDENTITIES]))
    else:
        path.unlink()

    found = wrong(await verified(office, identities=False))

    assert ("day_key" if damage == "other" else "missing", key) in found


async def test_what_interrupts_an_erasure_lets_it_be_repeated(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: Found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)

    async def crash(*_: object) -> None:
        raise TransientError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(type(office.desk), "publish", crash)
        with pytest.raises(TransientError):
            await erasure.apply(office.desk, found, reason="x")
    assert day_key(office).exists()
    await erasure.carry_out(office.desk)
    await office.store()

    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]
    assert wrong(await verified(office)) == []
    assert "said first" not in await texts(office, tmp_path / "cache")


async def test_what_was_interrupted_is_not_gone_on_with_once_it_is_held(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)

    async def crash(*_: object) -> None:
        raise TransientError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(type(office.desk), "publish", crash)
        with pytest.raises(TransientError):
            await erasure.apply(office.desk, found, reason="x")
    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=NOON, to_ms=NOON + 1)
    (hold,) = await holds.active(office.desk)

    told = await erase(office, DAY + 1, DAY + 1)

    assert day_key(office).exists()
    assert told.startswith("1 keys were destroyed.")
    assert f"2025-11-24 is held since ({hold.id})" in told
    await holds.remove(office.desk, hold.id, reason="over")
    await erasure.carry_out(office.desk)
    await office.store()
    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]
    assert wrong(await verified(office)) == []


class Killed(BaseException):
    """The process ends here, and nothing of it runs on."""


def unable(patch: pytest.MonkeyPatch, folder: str, why: BaseException) -> list[str]:
    """Let the store delete nothing of a folder; return what it refused, as that grows."""
    whole, refused = DirectoryStore.delete, list[str]()

    async def refuse(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        if f"/{folder}/" in key:
            refused.append(key)
            raise why
        await whole(store, key, version_id)

    patch.setattr(DirectoryStore, "delete", refuse)
    return refused


def documents(office: Office, folder: str = "erasures") -> list[str]:
    return [key for key in office.objects() if f"/{folder}/" in key and key.endswith(".json")]


async def alarms(office: Office) -> list[str]:
    rows = await office.world.database.fetch("SELECT sentence FROM alarm ORDER BY number")
    return [row["sentence"] for row in rows if "signed document" in row["sentence"]]


def later(office: Office, minutes: int = 16) -> None:
    office.at(office.world.clock.now_ms() + minutes * 60_000)


async def test_what_was_killed_before_the_key_was_gone_is_finished_by_itself(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        unable(patch, "keys", Killed())
        with pytest.raises(Killed):
            await erase(office, DAY, DAY + 1)
    assert len(documents(office)) == 1, "it was announced"
    office.start()
    later(office, 1)
    await office.bot.daily.look()
    assert day_key(office).exists(), "a command that was just typed is left to itself"

    later(office)
    await office.bot.daily.look()
    await office.store()

    assert [key for key in office.objects() if "/keys/day-" in key] == [
        day_key(office, "2025-11-26").relative_to(root(office)).as_posix()
    ]
    assert len(documents(office)) == 1
    assert wrong(await verified(office)) == []
    assert "said first" not in await texts(office, tmp_path / "cache")
    assert await alarms(office) == []
    rows = await office.world.database.fetch(
        "SELECT state, manifest FROM audit_statement WHERE object_key LIKE '%/erasures/%'"
    )
    assert [(row["state"], row["manifest"] is None) for row in rows] == [("done", False)]


async def test_a_key_that_the_store_refuses_to_delete_is_tried_again_and_told_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unable(patch, "keys", PermanentError("it is locked"))
        assert "1 were not, because the store refused" in await erase(office)
        # Whoever repeats the command announces nothing twice.
        assert "it is locked" in await erase(office)
        for number in range(3):
            # A store may say it in other words each time.
            tried = unable(patch, "keys", PermanentError(f"it is locked, request {number}"))
            later(office, 24 * 60)
            for _ in range(2):
                await office.bot.daily.look()
            assert len(tried) == 1, "once a day"
        assert day_key(office).exists()
        (told,) = await alarms(office)
        assert "it is locked" in told

    later(office, 24 * 60)
    await office.bot.daily.look()
    await office.store()

    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]
    assert len(documents(office)) == 1
    assert len(await alarms(office)) == 1
    assert wrong(await verified(office)) == []


@pytest.mark.parametrize("state", ["announced", "done"])
async def test_of_two_who_erase_the_same_at_once_one_announces_it(
    office: Office, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    first, second = [
        await erasure.survey(office.desk, first_day=DAY, last_day=last) for last in (DAY, DAY + 1)
    ]
    whole = erasure._announce
    monkeypatch.setattr(erasure, "_announce", whole)

    async def overtaken(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(erasure, "_announce", whole)
        with monkeypatch.context() as patch:
            if state == "announced":
                unable(patch, "keys", TransientError("time-out"))
            await erasure.apply(office.desk, first, reason="the first")
        return await whole(*arguments, **more)

    monkeypatch.setattr(erasure, "_announce", overtaken)
    told = await erasure.apply(office.desk, second, reason="the second")
    await office.store()

    assert "1 of these keys were announced by another command at the same moment" in told
    contents = [json.loads(office.objects()[key]) for key in documents(office)]
    named = {one["reason"]: [key["day"] for key in one["day_keys"]] for one in contents}
    assert named == {"the first": ["2025-11-24"], "the second": ["2025-11-25"]}
    assert len([key for key in office.objects() if "/keys/day-" in key]) == 1
    assert wrong(await verified(office)) == []


async def test_a_store_that_is_away_refuses_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unable(patch, "keys", TransientError("time-out"))
        told = await erase(office)
        assert "1 were not, because the store cannot be reached or used now" in told
        assert "refused" not in told
        later(office)
        await office.bot.daily.look()
        tried = unable(patch, "keys", TransientError("time-out"))
        for _ in range(2):
            later(office)
            await office.bot.daily.look()
        assert len(tried) == 2, "at each look"
        (told,) = await alarms(office)
        assert "its store cannot be reached or used now" in told
        assert "refuse" not in told
        assert "s3:DeleteObject" not in told
    with monkeypatch.context() as patch:
        unable(patch, "keys", PermanentError("it is locked"))
        for _ in range(2):
            later(office)
            await office.bot.daily.look()
        _, told = await alarms(office)
        assert "the store refuses: " in told
        unable(patch, "keys", TransientError("time-out"))
        later(office, 24 * 60)
        await office.bot.daily.look()
        unable(patch, "keys", PermanentError("it is locked"))
        later(office)
        await office.bot.daily.look()
        assert len(await alarms(office)) == 2, "that was told before"

    later(office, 24 * 60)
    await office.bot.daily.look()

    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]
    assert len(await alarms(office)) == 2


async def test_what_was_announced_and_is_held_since_waits_for_the_release(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unable(patch, "keys", Killed())
        with pytest.raises(Killed):
            await erase(office)
    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=NOON, to_ms=NOON + 1)
    (hold,) = await holds.active(office.desk)
    later(office)
    await office.bot.daily.look()
    assert day_key(office).exists()

    await holds.remove(office.desk, hold.id, reason="over")
    later(office, 24 * 60)
    await office.bot.daily.look()

    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]
    assert await alarms(office) == []


async def test_a_repeated_command_says_what_it_finished(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = typed("--from=2025-11-24", "--apply")
    with monkeypatch.context() as patch:
        unable(patch, "keys", Killed())
        with pytest.raises(Killed):
            await wanted.act(office.desk, wanted)

    told = await wanted.act(office.desk, wanted)

    assert "An erasure that was interrupted was finished: 1 keys were destroyed." in told
    with pytest.raises(UserError, match="no day's key"):
        await wanted.act(office.desk, wanted)


async def test_one_place_that_is_away_keeps_no_other_from_being_erased(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unable(patch, "keys", Killed())
        for day in (DAY, DAY + 1):
            with pytest.raises(Killed):
                await erase(office, day, day)
    whole = type(office.desk).publish
    first = documents(office)[0]

    async def away(desk: Desk, store: ArchiveStore, statement: Statement) -> None:
        if statement.key == first:
            raise TransientError("the place is away")
        await whole(desk, store, statement)

    async with office.world.database.transaction() as connection:
        await connection.execute("UPDATE audit_statement SET state = 'made'")
    later(office)
    with monkeypatch.context() as patch:
        patch.setattr(Desk, "publish", away)
        await office.bot.daily.look()

    assert len([key for key in office.objects() if "/keys/day-" in key]) == 2
    (told,) = await alarms(office)
    assert "the place is away" in told

    await office.bot.daily.look()

    assert len([key for key in office.objects() if "/keys/day-" in key]) == 1
    assert len(await alarms(office)) == 1


async def test_what_is_away_of_an_earlier_erasure_keeps_no_later_one_from_being_made(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Desk.publish

    async def away(desk: Desk, store: ArchiveStore, statement: Statement) -> None:
        if "11-24" in statement.body.decode():
            raise TransientError("the place is away")
        await whole(desk, store, statement)

    first, second = (typed(f"--from=2025-11-{day}", "--apply") for day in (24, 25))
    with monkeypatch.context() as patch:
        patch.setattr(Desk, "publish", away)
        for _ in range(2):
            with pytest.raises(TransientError, match="the place is away"):
                await first.act(office.desk, first)

        told = await second.act(office.desk, second)

    assert "1 keys were destroyed." in told
    assert "1 signed documents could not be carried out" in told
    assert day_key(office).exists()
    assert not [key for key in office.objects() if "/keys/day-" in key and "11-25" in key]


async def test_what_is_away_at_the_first_look_of_a_day_is_tried_at_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        unable(patch, "keys", PermanentError("it is locked"))
        await erase(office)
        later(office)
        await office.bot.daily.look()
    later(office, 24 * 60)
    with monkeypatch.context() as patch:

        async def away(*_: object) -> None:
            raise TransientError("away")

        patch.setattr(erasure, "still_held", away)
        await office.bot.daily.look()
    assert day_key(office).exists()

    later(office)
    await office.bot.daily.look()

    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]


async def test_a_hold_that_is_made_while_keys_are_destroyed_keeps_the_others(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, held = DirectoryStore.delete, list[str]()

    async def delete(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        if not held:
            held.append(
                await holds.add(
                    office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None
                )
            )
        await whole(store, key, version_id)

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "delete", delete)
        told = await erase(office, DAY, DAY + 1)

    assert told.startswith("1 keys were destroyed.")
    assert "2025-11-25 is held since" in told
    assert day_key(office, "2025-11-25").exists()


async def test_what_is_too_large_for_a_days_key_is_none_and_is_not_kept(office: Office) -> None:
    path, place = day_key(office), DirectoryPlace(root(office))
    segment = next(key for key in office.objects() if "/events/dt=2025-11-24" in key)
    assert await DayKeys(place).get(segment) == path.read_bytes()
    path.write_bytes(bytes(2**20))

    assert await DayKeys(place).get(segment) is None


async def test_a_key_that_comes_later_says_nothing_of_an_erased_day(
    office: Office, tmp_path: Path
) -> None:
    await erase(office)
    office.world.crypto.sessions.add("late")

    await office.bot.keys_arrived([SessionRef(ROOM, "late")])
    await office.store()

    assert "clear text of $unread" not in await texts(office, tmp_path / "cache")


async def test_a_drill_passes_over_what_was_erased(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await erase(office)
    identity = tmp_path / "officer.key"
    identity.write_text(f"{IDENTITIES[0]}\n")
    words = [
        "drill",
        "--objects=50",
        f"--identity={identity}",
        f"--destination=file:{root(office)}",
        f"--home={tmp_path / 'home'}",
        f"--output={tmp_path / 'proof.txt'}",
    ]

    status = await asyncio.to_thread(main, words)

    assert status == 0, capsys.readouterr().out
    proof = (tmp_path / "proof.txt").read_text()
    assert "dt=2025-11-24" not in proof
    assert "dt=2025-11-25" in proof


async def test_what_comes_on_an_erased_day_because_the_clock_went_back_is_kept(
    office: Office, tmp_path: Path
) -> None:
    await erase(office)
    office.at(NOON + 1000)
    await office.say(message("$back", "said in the past"), image("$image3"))
    await office.store()
    office.at(NOON + 2 * DAY_MS)
    await office.store()

    assert wrong(await verified(office)) == []
    found = await texts(office, tmp_path / "cache")
    assert "said in the past" in found
    assert "said first" not in found


async def test_what_came_on_an_erased_day_waits_for_an_identity_and_stays(
    office: Office, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    await erase(office)
    await texts(office, cache)
    office.at(NOON + 1000)
    await office.say(message("$back", "said in the past"))
    await office.store()

    async def faults_without_an_identity() -> list[str]:
        library = Library(cache, ())
        done = await sync(DirectoryPlace(root(office)), library, lambda _: Remembered())
        library.close()
        return done.faults

    assert any("with --identity" in fault for fault in await faults_without_an_identity())
    assert "said in the past" in await texts(office, cache)
    await faults_without_an_identity()
    found = await texts(office, cache)
    assert "said in the past" in found
    assert "said first" not in found


async def test_the_key_of_an_erased_day_that_is_still_here_is_not_tried_on_what_comes(
    office: Office, tmp_path: Path
) -> None:
    await texts(office, tmp_path / "cache")
    await erase(office)
    office.at(NOON + 1000)
    await office.say(message("$back", "said in the past"))
    await office.store()

    assert "said in the past" in await texts(office, tmp_path / "cache"), (
        "at once, without a fault"
    )


def typed(*words: str) -> argparse.Namespace:
    return _parser().parse_args(["erase", *words, "--reason=a court said so"])


async def test_what_is_typed_is_a_dry_run_unless_it_says_otherwise(office: Office) -> None:
    wanted = typed("--from=2025-11-24", "--to=2025-11-25")
    dry = await wanted.act(office.desk, wanted)
    assert day_key(office).exists()
    assert "2025-11-24  " in dry
    assert "2025-11-25  " in dry
    assert "Nothing was destroyed: this was a dry run." in dry

    wanted = typed("--from=2025-11-24", "--apply")
    done = await wanted.act(office.desk, wanted)

    assert done.endswith("1 keys were destroyed.")
    assert day_key(office, "2025-11-25").exists()
    assert not [key for key in office.objects() if "/keys/day-" in key and "11-24" in key]
    wrong_way = typed("--from=2025-11-25", "--to=2025-11-24")
    with pytest.raises(UserError, match="before the first"):
        await wrong_way.act(office.desk, wrong_way)
    with pytest.raises(SystemExit):
        typed("--from=yesterday")


async def _receive(office: Office, inbox: StoredInbox, *names: str) -> None:
    """Acknowledge events on the first day that nobody deals with until a later one."""
    office.at(NOON + 1000)
    await inbox.append(
        [
            NewEntry(EntryKind.EVENT, message(name, name), Source.TRANSACTION, "1", key=name)
            for name in names
        ]
    )
    office.at(NOON + 2 * DAY_MS)


async def _deal_with(office: Office, inbox: StoredInbox) -> None:
    waiting = await inbox.read(await inbox.cursor("auditbot"), [EntryKind.EVENT], limit=100)
    effect = await office.bot.handle(waiting)
    async with office.world.database.transaction() as connection:
        await effect(connection)
        await move_cursor(connection, "auditbot", waiting[-1].position)
    await office.store()


@pytest.mark.parametrize("in_a_file", [False, True])
async def test_a_day_of_which_something_waits_in_the_inbox_is_not_erased(
    office: Office,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_a_file: bool,
) -> None:
    monkeypatch.chdir(tmp_path)  # where the configured database is
    async with AsyncExitStack() as stack:
        file = None
        if in_a_file:
            opened = open_inbox_file(sqlite_url(tmp_path), database, office.world.clock)
            file = await stack.enter_async_context(opened)
        inbox = StoredInbox(database, office.world.clock, entries=file)
        await _receive(office, inbox, "$late")
        wrapped = day_key(office)

        with pytest.raises(UserError, match="Not all that came on 2025-11-24 is recorded"):
            await erase(office)
        assert wrapped.exists()
        # Another day's key does not wait for it.
        await erase(office, DAY + 1, DAY + 1)

        await _deal_with(office, inbox)
        assert await erase(office) == "1 keys were destroyed."

    assert await texts(office, tmp_path / "cache") & {"$late", "said first"} == set()


async def test_what_comes_into_the_inbox_while_somebody_confirms_is_looked_at(
    office: Office, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = await erasure.survey(office.desk, first_day=DAY, last_day=DAY)
    await _receive(office, StoredInbox(database, office.world.clock), "$late")

    with pytest.raises(UserError, match="Nothing was erased"):
        await erasure.apply(office.desk, found, reason="a court said so")

    assert day_key(office).exists()
    assert office.controls("erasure") == []


async def test_a_day_of_which_something_is_set_aside_is_not_erased(
    office: Office, database: Database, tmp_path: Path
) -> None:
    (entry,) = entries([message("$aside", "aside")], NOON + 1000)
    async with database.transaction() as connection:
        await set_aside(connection, "auditbot", entry, "TypeError", now_ms=NOON + 2000)

    with pytest.raises(UserError, match="steward inbox retry"):
        await erase(office)
    assert day_key(office).exists()

    await office.world.give(office.bot, [entry])
    async with database.transaction() as connection:
        await dealt_with(connection, "auditbot", entry)
    await office.store()
    assert await erase(office) == "1 keys were destroyed."
    assert await texts(office, tmp_path / "cache") & {"aside", "said first"} == set()


async def test_what_was_set_aside_of_a_day_goes_with_its_key(
    office: Office, database: Database
) -> None:
    stream = await database.fetchval("SELECT stream FROM audit_day_key LIMIT 1")
    for number, moment_ms in enumerate((NOON, NOON + DAY_MS)):
        (entry,) = entries([message(f"${number}")], moment_ms)
        entry = msgspec.structs.replace(entry, position=number)
        async with database.transaction() as connection:
            await set_aside(connection, "auditbot", entry, "TypeError", now_ms=moment_ms)

    async with database.transaction() as connection:
        await forget_day(connection, stream, DAY)

    left = await database.fetch("SELECT received_ms FROM inbox_set_aside")
    assert [row["received_ms"] for row in left] == [NOON + DAY_MS]
