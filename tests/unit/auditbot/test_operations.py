"""What operators do to the archive: every act is signed, recorded, and undoes no proof."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyrage
import pytest

from auditbot.bot import Auditbot
from auditbot.media import MediaKeeper
from auditbot.media_queue import KeptObject, MediaQueue, Target
from auditbot.operations import destination, holds, keys, legal_holds, over, removing, retention
from auditbot.operations.desk import Desk
from auditbot.pipeline.segment import DAY_MS
from auditbot.storage.directory import DirectoryStore
from common.database.pool import Database
from common.errors import PermanentError, TransientError, UserError
from tests.support.archive_check import Checked, check_archive, read_directory
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import (
    ALICE,
    NOON,
    ROOM,
    StoppedClock,
    entries,
    message,
    new_room,
    state,
)
from tests.unit.auditbot.test_media import PNG, ScriptedFiles, image
from tests.unit.auditbot.world import World

TODAY = NOON + 100 * DAY_MS


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


class Office:
    """auditbot and an operator, on one clock."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.world = World(database, directory, StoppedClock(NOON))
        self.files = ScriptedFiles()
        self.start()

    def start(self) -> None:
        self.bot = cast(Auditbot, self.world.restart())
        if self.bot.media is not None:
            self.bot.media.files = self.files

    @property
    def media(self) -> MediaKeeper:
        assert self.bot.media is not None
        return self.bot.media

    @property
    def desk(self) -> Desk:
        return Desk(self.world.config, self.world.database, self.world.clock)

    def at(self, moment_ms: int) -> None:
        cast(StoppedClock, self.world.clock).moment_ms = moment_ms

    async def say(self, *bodies: bytes) -> None:
        await self.world.give(self.bot, entries(bodies, self.world.clock.now_ms()))

    async def store(self) -> None:
        """Store and sign everything, as a running Steward would."""
        await self.bot.exporting.settle()
        await self.bot.exporting.look()
        if self.bot.media is not None:
            await self.bot.media.step()
        archive = self.bot.archive
        for _ in range(2):
            await archive.seal(flush=True)
            assert await archive.upload() is None
            await archive.sign(flush=True)
        assert await archive.upload() is None

    def objects(self, name: str = "archive") -> dict[str, bytes]:
        return read_directory(self.world.directory / name)

    def check(self, name: str = "archive") -> Checked:
        return check_archive(self.objects(name))

    def events(self) -> set[str]:
        return {record["event_id"] for record in self.check().of_kind("event")}

    def controls(self, action: str) -> list[dict[str, Any]]:
        found = self.check().of_kind("control")
        return [json.loads(one["detail_json"]) for one in found if one["action"] == action]


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    """Three days in the past, each with a message, the first with an attachment too."""
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    await office.say(*new_room("@bob:example.org"), message("$1"), image("$image"))
    await office.store()
    for day in (1, 2):
        office.at(NOON + day * DAY_MS)
        await office.say(message(f"${day + 1}"))
        await office.store()
    office.at(TODAY)
    await office.say(message("$today"))
    await office.store()
    return office


async def retain(office: Office, keep_days: int = 30) -> str:
    found = await over.survey(office.desk, keep_days=keep_days)
    return await retention.apply(office.desk, found, keep_days=keep_days)


async def test_a_dry_run_lists_and_deletes_nothing(office: Office) -> None:
    before = office.objects()

    found = await over.survey(office.desk, keep_days=30)

    assert len(found.days) == 3
    assert len(found.media) == 1
    assert office.objects() == before
    assert ROOM not in found.text()


async def test_what_is_too_old_goes_and_the_rest_still_proves_itself(office: Office) -> None:
    assert "5 objects" not in await retain(office)
    await office.store()

    assert office.events() == {"$today"}
    assert not any("/media/" in key for key in office.objects())
    (detail,) = office.controls("removal")
    assert detail["policy"] == {"keep_days": 30}
    manifests = [one for found in office.check().manifests.values() for one in found]
    listed = [item["key"] for one in manifests for item in one["statements"]]
    assert listed == [detail["document"]]


async def test_copies_for_query_engines_go_with_what_they_are_of(office: Office) -> None:
    folder = office.world.directory / "archive/v1/example.org/derived/parquet"
    for name in ("dt=2025-11-24/records.parquet", "dt=2026-03-04/records.parquet"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"copy")

    await retain(office)

    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")] == [
        "dt=2026-03-04/records.parquet"
    ]


async def test_a_deletion_without_a_removal_is_a_loss(office: Office) -> None:
    objects = office.objects()
    gone = next(key for key in objects if "/events/" in key)

    with pytest.raises(KeyError):
        check_archive({key: body for key, body in objects.items() if key != gone})


async def test_only_days_before_the_policy_go(office: Office) -> None:
    await retain(office, keep_days=98)
    await office.store()

    assert office.events() == {"$3", "$today"}


@pytest.mark.parametrize(
    ("sides", "kept"),
    [
        ({}, {"$1", "$2", "$3"}),
        ({"rooms": [ROOM]}, {"$1", "$2", "$3"}),
        ({"rooms": ["!other"]}, set()),
        ({"users": [ALICE]}, {"$1", "$2", "$3"}),
        ({"users": ["@bob:example.org"]}, {"$1", "$2", "$3"}),
        ({"users": ["@carol:example.org"]}, set()),
        ({"from_ms": NOON + DAY_MS, "to_ms": NOON + 2 * DAY_MS}, {"$2"}),
        ({"users": [ALICE], "rooms": ["!other"]}, set()),
    ],
)
async def test_a_hold_keeps_what_it_names(
    office: Office, sides: dict[str, Any], kept: set[str]
) -> None:
    whole = {"rooms": [], "users": [], "from_ms": None, "to_ms": None, **sides}
    await holds.add(office.desk, reason="a case", **whole)
    await retain(office)
    await office.store()

    assert {event for event in office.events() if event[1:].isdigit()} == kept
    assert len(office.controls("hold_added")) == 1
    assert any("/media/" in key for key in office.objects()) == ("$1" in kept)


async def test_a_hold_does_not_end_because_its_records_were_taken_out_of_a_segment(
    office: Office,
) -> None:
    await holds.add(
        office.desk, reason="a case", rooms=["!other"], users=[], from_ms=None, to_ms=None
    )
    first, second, *_ = sorted(key for key in office.objects() if "/events/" in key)
    root = office.world.directory / "archive"
    (root / first).write_bytes((root / second).read_bytes())

    await retain(office)

    assert (root / first).exists()
    assert not (root / second).exists()


@pytest.mark.parametrize("is_made_first", [True, False])
async def test_a_hold_keeps_what_the_person_could_read_before_the_export_began_anew(
    office: Office, *, is_made_first: bool
) -> None:
    async def hold() -> None:
        await holds.add(
            office.desk,
            reason="a case",
            rooms=[],
            users=["@bob:example.org"],
            from_ms=None,
            to_ms=None,
        )

    if is_made_first:
        await hold()
    await destination.clear(office.desk)
    await office.store()
    await destination.change(
        office.desk, str(office.world.config.auditbot.destination), None, check=True
    )
    await office.store()
    assert not await office.world.database.fetchval("SELECT count(*) FROM audit_member")
    if not is_made_first:
        await hold()

    await retain(office)
    await office.store()

    # The days of which no record names Bob, and on which he could read what Alice wrote.
    assert {"$2", "$3"} <= office.events()


async def test_a_directory_has_no_legal_hold_of_its_own(office: Office) -> None:
    before = office.objects()
    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)

    done = await legal_holds.settle(office.desk, actor="an officer")

    assert (done.text, done.trouble) == ("", None)
    assert before.items() <= office.objects().items()
    assert not await office.world.database.fetchval("SELECT count(*) FROM audit_hold_object")


async def test_a_released_hold_deletes_nothing_by_itself(office: Office) -> None:
    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)
    (hold,) = await holds.active(office.desk)
    await holds.remove(office.desk, hold.id, reason="closed")
    await office.store()

    assert await holds.active(office.desk) == []
    assert "$1" in office.events()
    assert len(office.controls("hold_released")) == 1
    with pytest.raises(UserError, match="no hold"):
        await holds.remove(office.desk, hold.id, reason="again")
    await retain(office)
    await office.store()
    assert office.events() == {"$today"}


async def test_an_interrupted_deletion_goes_on_where_it_was(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await over.survey(office.desk, keep_days=30)
    count = 0
    delete = removing._delete

    async def crash(*arguments: Any) -> bool:
        nonlocal count
        count += 1
        if count > 2:
            raise ConnectionResetError
        return await delete(*arguments)

    monkeypatch.setattr(removing, "_delete", crash)
    with pytest.raises(ConnectionResetError):
        await retention.apply(office.desk, found, keep_days=30)
    office.check()
    monkeypatch.setattr(removing, "_delete", delete)
    await retention.carry_out(office.desk)
    await retain(office)
    await office.store()

    assert office.events() == {"$today"}


class Killed(BaseException):
    """The process ends here, and nothing of it runs on."""


def killed_at(patch: pytest.MonkeyPatch, folder: str, number: int = 1) -> None:
    """End the process at a deletion below a folder."""
    whole, count = DirectoryStore.delete, 0

    async def delete(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        nonlocal count
        count += f"/{folder}/" in key
        if count >= number:
            raise Killed
        await whole(store, key, version_id)

    patch.setattr(DirectoryStore, "delete", delete)


def removals(office: Office) -> list[str]:
    return [key for key in office.objects() if "/removals/" in key and key.endswith(".json")]


@pytest.mark.parametrize(("folder", "number"), [("events", 1), ("events", 2), ("media", 1)])
async def test_a_deletion_that_was_killed_is_finished_by_itself(
    office: Office, monkeypatch: pytest.MonkeyPatch, folder: str, number: int
) -> None:
    with monkeypatch.context() as patch:
        killed_at(patch, folder, number)
        with pytest.raises(Killed):
            await retain(office)
    assert len(removals(office)) == 1, "it was announced"
    assert any("/media/" in key for key in office.objects())
    office.at(TODAY + 16 * 60_000)
    office.start()

    await office.bot.daily.look()
    await office.store()

    assert office.events() == {"$today"}
    assert not any("/media/" in key for key in office.objects())
    assert len(removals(office)) == 1
    assert len(office.controls("removal")) == 1


@pytest.mark.parametrize("state", ["announced", "done"])
async def test_of_two_who_delete_the_same_at_once_one_announces_it(
    office: Office, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    # The second one finds a day more than the first.
    first, second = [await over.survey(office.desk, keep_days=days) for days in (99, 98)]
    whole = retention._announce

    async def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(retention, "_announce", whole)
        with monkeypatch.context() as patch:
            if state == "announced":
                killed_at(patch, "events")
                with pytest.raises(Killed):
                    await retention.apply(office.desk, first, keep_days=99)
            else:
                await retention.apply(office.desk, first, keep_days=99)
        return await whole(*arguments)

    monkeypatch.setattr(retention, "_announce", overtaken)
    told = await retention.apply(office.desk, second, keep_days=98)
    await office.store()

    assert "of these objects were announced by another command at the same moment" in told
    named = [
        {item["key"] for item in json.loads(office.objects()[key])["objects"]}
        for key in removals(office)
    ]
    assert len(named) == 2
    assert not named[0] & named[1]
    assert office.events() == {"$3", "$today"}


async def test_what_was_announced_and_is_held_since_is_kept_until_the_release(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killed_at(patch, "events", 2)
        with pytest.raises(Killed):
            await retain(office)
    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)
    (hold,) = await holds.active(office.desk)
    office.at(TODAY + 16 * 60_000)
    await office.bot.daily.look()
    assert any("/media/" in key for key in office.objects())

    await holds.remove(office.desk, hold.id, reason="over")
    office.at(TODAY + DAY_MS)
    await office.bot.daily.look()
    await office.store()

    assert office.events() == {"$today"}


async def test_an_attachment_that_comes_again_before_it_is_deleted_stays(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killed_at(patch, "media")
        with pytest.raises(Killed):
            await retain(office)
    await office.say(image("$again"))
    await office.store()
    office.at(TODAY + 16 * 60_000)

    await office.bot.daily.look()
    await office.store()

    assert office.events() == {"$today", "$again"}
    (media,) = [key for key in office.objects() if "/media/" in key]
    (record,) = [one for one in office.check().of_kind("media") if one["event_id"] == "$again"]
    assert record["media_key"] == media


async def test_an_attachment_of_the_same_name_at_another_place_is_another_one(
    office: Office,
) -> None:
    office.world.destination = f"file:{office.world.directory / 'elsewhere'}"
    office.at(TODAY + 1000)
    office.start()
    await office.say(image("$again"))
    await office.store()

    await retain(office)

    assert not any("/media/" in key for key in office.objects())
    (there,) = [key for key in office.objects("elsewhere") if "/media/" in key]
    await office.say(image("$once more"))
    await office.store()
    media = office.check("elsewhere").of_kind("media")
    assert [one["media_status"] for one in media] == ["stored", "duplicate"]
    office.at(TODAY + 100 * DAY_MS)
    await retain(office)
    assert there not in office.objects("elsewhere")


def at_first_deletion(
    patch: pytest.MonkeyPatch, folder: str, act: Callable[[], Awaitable[object]]
) -> None:
    """Let something else happen just before the first deletion below a folder."""
    whole, waiting = DirectoryStore.delete, [act]

    async def delete(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        if f"/{folder}/" in key and waiting:
            await waiting.pop()()
        await whole(store, key, version_id)

    patch.setattr(DirectoryStore, "delete", delete)


async def test_a_hold_that_is_made_while_a_removal_is_carried_out_keeps_the_rest(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = partial(
        holds.add, office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None
    )
    with monkeypatch.context() as patch:
        at_first_deletion(patch, "events", hold)
        told = await retain(office)

    assert told.startswith("1 objects were deleted.")
    assert "held since" in told
    assert any("/media/" in key for key in office.objects())
    (made,) = await holds.active(office.desk)
    await holds.remove(office.desk, made.id, reason="over")
    await retention.carry_out(office.desk)
    await office.store()
    assert office.events() == {"$today"}


async def test_a_hold_on_something_else_that_is_made_meanwhile_keeps_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = partial(
        holds.add, office.desk, reason="a case", rooms=["!x"], users=[], from_ms=None, to_ms=None
    )
    with monkeypatch.context() as patch:
        at_first_deletion(patch, "events", hold)
        await retain(office)

    await office.store()
    assert office.events() == {"$today"}


async def test_an_attachment_that_comes_again_while_a_removal_is_carried_out_stays(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def again() -> None:
        await office.say(image("$again"))
        await office.media.step()

    with monkeypatch.context() as patch:
        at_first_deletion(patch, "events", again)
        await retain(office)

    await office.store()
    (record,) = [one for one in office.check().of_kind("media") if one["event_id"] == "$again"]
    assert record["media_key"] in office.objects()


async def test_an_attachment_that_is_deleted_while_it_comes_again_is_fetched_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MediaQueue.known

    async def known(queue: MediaQueue, target: Target, source: str) -> KeptObject | None:
        found = await whole(queue, target, source)
        if found is not None:
            await retain(office)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(MediaQueue, "known", known)
        await office.say(image("$again"))
        await office.store()

    (record,) = [one for one in office.check().of_kind("media") if one["event_id"] == "$again"]
    assert (record["media_status"], record["media_key"] in office.objects()) == ("stored", True)


async def test_an_attachment_that_comes_again_while_the_store_deletes_it_is_stored_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def again() -> None:
        await office.say(image("$again"))
        await office.media.step()

    with monkeypatch.context() as patch:
        at_first_deletion(patch, "media", again)
        await retain(office)
    office.at(TODAY + 60_000)

    await office.store()
    (record,) = [one for one in office.check().of_kind("media") if one["event_id"] == "$again"]
    assert (record["media_status"], record["media_key"] in office.objects()) == ("stored", True)


async def test_an_attachment_that_the_store_refuses_to_delete_is_there_for_whoever_sends_it_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise PermanentError("it is locked")

    with monkeypatch.context() as patch:
        at_first_deletion(patch, "media", refuse)
        assert "it is locked" in await retain(office)
    await office.say(image("$again"))
    await office.store()
    office.at(TODAY + DAY_MS)
    await office.bot.daily.look()
    await office.store()

    (record,) = [one for one in office.check().of_kind("media") if one["event_id"] == "$again"]
    assert (record["media_status"], record["media_key"] in office.objects()) == ("duplicate", True)


async def test_an_attachment_that_is_half_deleted_and_held_since_is_there_for_whoever_sends_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise PermanentError("it is locked")

    with monkeypatch.context() as patch:
        killed_at(patch, "media")
        at_first_deletion(patch, "events", refuse)
        with pytest.raises(Killed):
            await retain(office)
    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)
    await office.say(image("$again"))
    await office.store()
    assert [one for one in office.check().of_kind("media") if one["event_id"] == "$again"] == []
    office.at(TODAY + 16 * 60_000)

    await office.bot.daily.look()
    await office.store()

    (record,) = [one for one in office.check().of_kind("media") if one["event_id"] == "$again"]
    assert (record["media_status"], record["media_key"] in office.objects()) == ("duplicate", True)


async def test_copies_go_before_the_segments_they_are_of(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = office.world.directory / "archive/v1/example.org/derived/parquet"
    for day in ("2025-11-24", "2025-11-25"):
        (folder / f"dt={day}").mkdir(parents=True)
        (folder / f"dt={day}/records.parquet").write_bytes(b"copy")
    with monkeypatch.context() as patch:
        killed_at(patch, "events")
        with pytest.raises(Killed):
            await retain(office)

    assert not list(folder.rglob("*.parquet")), (
        "nobody looks for them once their segments are gone"
    )
    assert {"$1", "$2", "$3"} <= office.events()


async def test_a_segment_stays_as_long_as_a_copy_of_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = office.world.directory / (
        "archive/v1/example.org/derived/parquet/dt=2025-11-24/records.parquet"
    )
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"copy")
    whole = DirectoryStore.delete

    async def refuse(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        if "/derived/" in key:
            raise PermanentError("it is locked")
        await whole(store, key, version_id)

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "delete", refuse)
        assert "it is locked" in await retain(office)
    await office.store()
    assert {"$1", "$image"} <= office.events()
    assert not {"$2", "$3"} & office.events()

    office.at(TODAY + 16 * 60_000)
    await office.bot.daily.look()
    await office.store()

    assert not copy.exists()
    assert office.events() == {"$today"}
    assert len(removals(office)) == 1


@pytest.mark.parametrize("on_its_way", ["waiting", "built", "stored"])
async def test_a_day_is_held_by_what_is_not_listed_of_it_yet(
    office: Office, on_its_way: str
) -> None:
    office.at(NOON + DAY_MS)
    await office.say(message("$late", room_id="!other"))
    archive = office.bot.archive
    if on_its_way != "waiting":
        await archive.seal(flush=True)
    if on_its_way == "stored":
        await archive.upload()
    office.at(TODAY)
    await holds.add(
        office.desk, reason="a case", rooms=["!other"], users=[], from_ms=None, to_ms=None
    )

    await retain(office)

    assert any("dt=2025-11-25" in key for key in office.objects() if "/events/" in key)
    assert not any("dt=2025-11-24" in key for key in office.objects() if "/events/" in key)


async def test_what_was_interrupted_is_not_deleted_once_it_is_held(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await over.survey(office.desk, keep_days=30)

    async def crash(*_: object) -> None:
        raise TransientError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(type(office.desk), "publish", crash)
        with pytest.raises(TransientError):
            await retention.apply(office.desk, found, keep_days=30)
    await holds.add(office.desk, reason="a case", rooms=[ROOM], users=[], from_ms=None, to_ms=None)
    (hold,) = await holds.active(office.desk)
    before = office.events()

    told = await retain(office)

    await office.store()
    assert "interrupted wait" in told
    assert before <= office.events()
    await holds.remove(office.desk, hold.id, reason="over")
    assert "wait" not in (await retention.carry_out(office.desk)).text
    await retain(office)
    await office.store()
    assert office.events() == {"$today"}
    office.check()


async def test_an_encrypted_archive_is_held_by_days(database: Database, tmp_path: Path) -> None:
    office = Office(database, tmp_path)
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    office.world.recipients = tuple(str(officer.to_public()) for officer in officers)
    office.start()
    await office.say(*new_room(), message("$1"))
    await office.store()
    office.at(TODAY)
    await office.store()
    await holds.add(office.desk, reason="x", rooms=["!other"], users=[], from_ms=None, to_ms=None)

    found = await over.survey(office.desk, keep_days=30)

    assert found.free == []
    for officer in officers:
        checked = check_archive(office.objects(), open_body=partial(opened, officer))
        assert "$1" in {record["event_id"] for record in checked.of_kind("event")}
    assert b"hello" not in b"".join(office.objects().values())
    assert "/recipients-" in "".join(office.objects())


def database_files(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.glob("steward.db*")]


def opened(officer: Any, body: bytes) -> bytes:
    return bytes(pyrage.decrypt(body, [officer]))


async def test_the_database_of_an_encrypted_archive_holds_no_clear_text(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    office.world.recipients = tuple(str(officer.to_public()) for officer in officers)
    office.start()
    await office.say(*new_room(), message("$1", "a secret word"))

    held = b"".join(database_files(tmp_path))

    assert b"audit_lines" in held
    assert b"a secret word" not in held


async def test_a_new_key_is_vouched_for_by_the_old_one(office: Office) -> None:
    before = await keys.show(office.desk)
    after = await keys.rotate(office.desk)
    await office.say(message("$after"))
    await office.store()

    checked = office.check()
    assert len(checked.fingerprints) == 2
    # People have to know the fingerprint from elsewhere than the archive: they are told.
    alarms = await office.desk.database.fetch("SELECT sentence FROM alarm ORDER BY number")
    said = [row["sentence"].replace(" ", "") for row in alarms]
    for fingerprint in checked.fingerprints:
        assert sum(fingerprint in sentence for sentence in said) == 1
    for fingerprint, text in zip(sorted(checked.fingerprints), (before, after), strict=True):
        assert any(fingerprint in told.replace(" ", "") for told in (before, after)), text
    (detail,) = office.controls("signing_key_rotated")
    rotation = f"v1/example.org/keys/rotation-{detail['new_key_id']}"
    assert f"{rotation}.json" in office.objects()
    assert len(office.objects()[f"{rotation}.sig"]) == 64


async def test_a_destination_chosen_at_run_time_is_followed_and_no_event_falls_between(
    office: Office,
) -> None:
    other = office.world.directory / "other"
    await destination.change(office.desk, f"file:{other}", None, check=True)
    await office.say(message("$elsewhere"))
    await office.store()

    (first, manifests), *_ = office.check().manifests.items()
    (second,) = office.check("other").manifests
    assert manifests[-1]["closed"]["next_stream"] == second
    assert manifests[-1]["closed"]["next_destination"] == f"file:{other}"
    elsewhere = office.check("other")
    assert [record["event_id"] for record in elsewhere.of_kind("event")] == ["$elsewhere"]
    assert elsewhere.manifests[second][0]["previous_stream"]["stream"] == first
    started = json.loads(elsewhere.of_kind("control")[0]["detail_json"])
    assert started["previous_stream"] == first
    assert "command line" in elsewhere.of_kind("control")[0]["actor"]


async def test_a_cleared_destination_stops_the_export_and_nothing_is_made_up_for(
    office: Office,
) -> None:
    await destination.clear(office.desk)
    await office.store()
    await office.say(message("$unheard"), state("m.room.name", {"name": "unheard"}))
    await destination.change(
        office.desk, f"file:{office.world.directory / 'archive'}", None, check=True
    )
    await office.store()
    await office.say(message("$heard"))
    await office.store()

    assert "$unheard" not in office.events()
    assert "$heard" in office.events()
    one, two = (found for _, found in sorted(office.check().manifests.items()))
    assert one[-1]["closed"]["reason"] == "destination cleared"
    previous = two[0]["previous_stream"]
    assert previous["stopped_ms"] == TODAY
    number = f"{one[-1]['stream']}-{one[-1]['number']:08d}.json"
    (body,) = [body for key, body in office.objects().items() if key.endswith(number)]
    assert previous["final_manifest"] == one[-1]["number"]
    assert previous["final_sha256"] == hashlib.sha256(body).hexdigest()
    assert "as configured" not in await destination.show(office.desk)


async def test_a_newer_configuration_is_the_newer_word(office: Office) -> None:
    await destination.clear(office.desk)
    await office.store()
    office.world.destination = f"file:{office.world.directory / 'third'}"
    office.start()
    await office.say(message("$third"))
    await office.store()

    assert office.check("third").of_kind("event")[0]["event_id"] == "$third"


async def test_a_place_that_cannot_be_used_is_not_chosen(office: Office) -> None:
    (office.world.directory / "file").write_text("in the way")

    with pytest.raises(Exception, match="cannot be made"):
        await destination.change(
            office.desk, f"file:{office.world.directory / 'file' / 'x'}", None, check=True
        )

    assert "as configured" in await destination.show(office.desk)


async def test_holes_and_acts_of_others_are_recorded_once_and_holes_are_closed(
    office: Office,
) -> None:
    async with office.world.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO inbox_set_aside (reader, position, kind, reason, set_aside_ms, body)"
            " VALUES ('auditbot', 5, 'event', 'TypeError', 1, $1)",
            b'{"poison":1}',
        )
        await connection.execute(
            "INSERT INTO feed_gap (feed, room_id, from_token, to_token, refused)"
            " VALUES ('f', '!r', 'a', 'b', 99)"
        )
        await connection.execute(
            "INSERT INTO admin_action"
            " (event_id, phase, step, at_ms, room_id, sender, command, detail)"
            " VALUES ('$act', 'did', 1, $1, '!r', '@admin:x', 'user deactivate', 'done')",
            office.world.clock.now_ms(),
        )
    for _ in range(2):
        await office.store()
    open_gaps = [one["gaps_open"] for found in office.check().manifests.values() for one in found]
    async with office.world.database.transaction() as connection:
        await connection.execute("DELETE FROM inbox_set_aside")
        await connection.execute("DELETE FROM feed_gap")
    for _ in range(2):
        await office.store()

    checked = office.check()
    gaps = {one["action"]: one for one in checked.of_kind("gap")}
    assert set(gaps) == {"set_aside", "history_refused"}
    assert base64.b64decode(gaps["set_aside"]["raw_b64"]) == b'{"poison":1}'
    assert open_gaps[-1] == 2
    closed = {one["of_seq"]: one["room_id"] for one in checked.of_kind("gap_closed")}
    assert closed == {gaps["set_aside"]["seq"]: None, gaps["history_refused"]["seq"]: "!r"}
    (act,) = [one for one in checked.of_kind("control") if one["action"] == "admin_action"]
    assert act["actor"] == "@admin:x"
    assert json.loads(act["detail_json"])["command"] == "user deactivate"


async def test_what_an_operator_records_is_stored_in_time_if_nothing_else_is_said(
    office: Office,
) -> None:
    written = office.bot.archive.written
    await office.bot.exporting.look()
    before = written.count
    await office.bot.exporting.look()
    assert written.count == before, "nothing was recorded"

    await holds.add(office.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)
    await office.bot.exporting.look()

    assert written.count == before + 1
    await office.bot.exporting.look()
    assert written.count == before + 1, "once is enough"
