"""What the writer says of a day that is over is what the archive holds, signed, once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auditbot.operations import over, retention
from auditbot.operations.completeness import state_day
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.database.pool import Database
from common.inbox.aside import dealt_with, set_aside
from common.inbox.port import Entry, EntryKind, Source
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, encrypted, message, new_room, state
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.world import AUDITBOT

DAY = NOON // DAY_MS
KEY = "v1/example.org/reports/dt=2025-11-24/completeness.json"
HOSTILE = '"enc_status":"undecryptable","enc_error":"forged"'


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    """A day with all that can become of a message, and the next one."""
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    office.world.crypto.sessions.add("known")
    await office.say(
        *new_room("@bob:example.org"),
        message("$clear", HOSTILE),
        image("$image"),
        encrypted("$read", "known"),
        encrypted("$unread", "unknown"),
    )
    await office.store()
    office.at(NOON + DAY_MS)
    return office


async def verified(office: Office) -> list[str]:
    root = office.world.directory / "archive"
    options = Options(now_ms=office.world.clock.now_ms(), destination=f"file:{root}")
    (result,) = await verify(DirectoryPlace(root), options)
    return [item.code for item in result.findings.of(Severity.WRONG)]


def stated(office: Office) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(office.objects()[KEY])
    return found


async def test_a_day_is_stated_once_and_listed(office: Office) -> None:
    for _ in range(2):
        await office.bot.daily.look()
        await office.store()
    before = office.objects()[KEY]
    await state_day(office.desk, DAY)
    await office.store()

    assert office.objects()[KEY] == before
    checked = office.check()
    said = stated(office)
    events = checked.of_kind("event")
    assert said["counts"] == {
        kind: len(checked.of_kind(kind)) for kind in said["counts"] if kind != "control"
    } | {"control": said["counts"]["control"]}
    assert said["clear"] == len([one for one in events if one["enc_status"] == "clear"])
    assert said["decrypted"] == 1
    assert said["undecryptable"] == {"before_join": 1}
    assert said["media"] == {"stored": 1}
    assert (said["undecryptable_open"], said["not_sealed"]) == (1, 0)
    listed = [
        item["key"]
        for manifests in checked.manifests.values()
        for manifest in manifests
        for item in manifest["statements"]
    ]
    assert listed == [KEY]
    assert await verified(office) == []


async def test_the_officers_report_shows_what_was_stated(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await office.bot.daily.look()
    await office.store()
    words = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]

    status = await asyncio.to_thread(main, ["report", "--from=2025-11-24", *words])
    said = capsys.readouterr().out
    await asyncio.to_thread(main, ["report", "--from=2025-11-25", *words])

    assert status == 0
    assert "counted again: the same" in said
    assert "DIFFERS" not in said
    assert "Stated of 2025-11-24" in said
    why = "it was sent before the archive's account came into the room"
    assert f"1 decrypted, 1 not (1: {why}; 0 of them read by then)" in said
    assert "Stated of" not in capsys.readouterr().out


async def test_a_changed_or_moved_statement_is_found(office: Office) -> None:
    await office.bot.daily.look()
    await office.store()
    root = office.world.directory / "archive"
    whole = (root / KEY).read_bytes()

    (root / KEY).write_bytes(whole.replace(b'"decrypted":1', b'"decrypted":2'))
    assert "statement" in await verified(office)
    (root / KEY).write_bytes(whole)
    other = root / KEY.replace("11-24", "11-23")
    other.parent.mkdir()
    other.write_bytes(whole)
    other.with_suffix(".sig").write_bytes((root / KEY).with_suffix(".sig").read_bytes())
    assert "statement" in await verified(office)
    other.unlink()
    other.with_suffix(".sig").unlink()
    (root / KEY).unlink()
    assert "statement" in await verified(office)


async def test_a_day_whose_records_are_not_sealed_waits_and_then_says_so(office: Office) -> None:
    office.at(NOON)
    await office.say(message("$late"))
    office.at((DAY + 1) * DAY_MS + 60_000)
    assert not await state_day(office.desk, DAY)
    assert KEY not in office.objects()

    office.at((DAY + 1) * DAY_MS + 7 * 3_600_000)
    assert await state_day(office.desk, DAY)

    assert stated(office)["not_sealed"] > 0


async def test_a_statement_that_was_not_stored_is_stored_later(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*arguments: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(type(office.desk), "publish", crash)
        with pytest.raises(ConnectionResetError):
            await state_day(office.desk, DAY)
    assert KEY not in office.objects()

    assert await state_day(office.desk, DAY)
    await office.store()

    assert stated(office)["decrypted"] == 1
    assert await verified(office) == []


PAGE = KEY.replace(".json", ".html")


async def test_what_was_read_by_now_is_not_missing(office: Office) -> None:
    office.at(NOON + 60_000)
    office.world.crypto.sessions.add("unknown")
    assert office.bot.late_keys is not None
    await office.bot.late_keys.retry_all()
    office.at(NOON + DAY_MS)
    await office.store()
    await office.bot.daily.look()
    await office.store()

    said = stated(office)
    page = office.objects()[PAGE].decode()
    assert (sum(said["undecryptable"].values()), said["undecryptable_read"]) == (1, 1)
    assert "1 could not be read when they came; 1 of them are read by now." in page
    assert "Nothing of this day is known to be missing." in page
    assert await verified(office) == []


async def test_what_is_not_read_yet_is_missing(office: Office) -> None:
    await office.say(encrypted("$tomorrow", "tomorrow"))
    office.world.crypto.sessions.add("tomorrow")
    assert office.bot.late_keys is not None
    await office.bot.late_keys.retry_all()
    await office.store()
    await office.bot.daily.look()
    await office.store()

    page = office.objects()[PAGE].decode()
    assert stated(office)["undecryptable_read"] == 0
    assert "1 could not be read when they came; 0 of them are read by now." in page
    assert "Not everything of this day" in page
    assert "When all rooms of the homeserver were gone through last is not known." in page


async def test_attachments_that_are_not_archived_are_missing(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(database, tmp_path)
    await office.say(*new_room("@bob:example.org"))
    await office.store()
    office.world.media = False
    office.start()
    await office.say(image("$image"))
    await office.store()
    office.at(NOON + DAY_MS)
    await office.bot.daily.look()
    await office.store()

    checked = office.check()
    said = {one["event_id"]: one["media_status"] for one in checked.of_kind("event")}
    assert said["$image"] == "not_kept"
    (changed,) = office.controls("settings_changed")
    assert changed["changed"] == {"media": {"before": None, "now": False}}
    kept = [one["media_kept"] for found in checked.manifests.values() for one in found]
    assert (kept[0], kept[-1]) == (True, False)
    assert (stated(office)["media"], stated(office)["media_not_kept"]) == ({}, 1)
    page = office.objects()[PAGE].decode()
    assert "not archived: auditbot.media is off" in page
    assert "Not everything of this day" in page

    words = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    status = await asyncio.to_thread(main, ["report", "--from=2025-11-24", *words])
    told = capsys.readouterr().out
    assert status == 0
    sentence = "1 attachments were not archived (auditbot.media is off)"
    assert f"Attachments missing   {sentence}\n" in told
    assert "counted again: the same" in told
    output = f"--output={tmp_path / 'x.html'}"
    await asyncio.to_thread(main, ["transcript", "Lobby", output, *words])
    assert f"Attachment not in the archive: a.png ({sentence[2:]})" in capsys.readouterr().err


async def test_the_page_says_the_same_and_nothing_in_it_is_markup(
    office: Office, database: Database
) -> None:
    hostile = "<script>alert(1)</script>\u202e"
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO membership_problem (room_id, problem, since_ms) VALUES ($1, $2, 1)",
            "!closed<b>:example.org",
            hostile,
        )
        await connection.execute(
            "INSERT INTO audit_sample (day, room_id, events, missing, trouble)"
            " VALUES ($1, '!room', 12345, 3, NULL)",
            DAY,
        )
    await office.bot.daily.look()
    await office.store()

    page = office.objects()[PAGE].decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩" in page
    assert "!closed&lt;b&gt;:example.org" in page
    assert "default-src 'none'" in page
    assert "sent before the archive&#x27;s account came into the room" in page
    assert "12,345" in page
    assert "Not everything of this day" in page
    assert "http:" not in page
    assert "https:" not in page
    assert stated(office)["sampled"] == {"rooms": 1, "events": 12345, "missing": 3, "not_read": 0}
    assert await verified(office) == []


@pytest.mark.parametrize("damage", ["changed", "gone", "another's"])
async def test_a_page_that_is_not_the_stated_one_is_found(office: Office, damage: str) -> None:
    await office.bot.daily.look()
    await office.store()
    page = office.world.directory / "archive" / PAGE
    body = page.read_bytes()

    match damage:
        case "changed":
            page.write_bytes(
                body.replace(b"decrypted", b"DECRYPTED").replace(b"1</td>", b"2</td>")
            )
        case "gone":
            page.unlink()
        case _:
            other = page.parent.with_name("dt=2025-11-23") / page.name
            other.parent.mkdir()
            other.write_bytes(body)

    assert await verified(office) == ["foreign" if damage == "another's" else "statement"]


async def test_a_statement_that_the_archive_does_not_bear_out_is_named(
    office: Office, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with database.transaction() as connection:
        for row in await connection.fetch("SELECT * FROM audit_segment WHERE outcomes <> '{}'"):
            outcomes = json.loads(row["outcomes"])
            outcomes.pop("undecryptable before_join", None)
            outcomes["too_large"] = outcomes.pop("stored", 0)
            await connection.execute(
                "UPDATE audit_segment SET outcomes = $3 WHERE stream = $1 AND first_seq = $2",
                row["stream"],
                row["first_seq"],
                json.dumps({name: count for name, count in outcomes.items() if count}),
            )
    await office.bot.daily.look()
    await office.store()
    words = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]

    status = await asyncio.to_thread(main, ["report", "--from=2025-11-24", *words])
    said = capsys.readouterr().out

    assert status == 1
    assert "DIFFERS in undecryptable before join: stated 0, counted 1" in said
    assert "DIFFERS in attachments stored: stated 0, counted 1" in said
    assert "DIFFERS in attachments too large: stated 1, counted 0" in said
    assert "DIFFERS in events" not in said
    assert "1 days are not as Steward stated them" in said


async def test_a_day_that_was_deleted_on_purpose_is_not_counted_again(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await office.bot.daily.look()
    await office.store()
    words = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    office.at(NOON + 100 * DAY_MS)
    found = await over.survey(office.desk, keep_days=30)
    await retention.apply(office.desk, found, keep_days=30)
    await office.store()

    status = await asyncio.to_thread(main, ["report", "--from=2025-11-24", *words])

    assert status == 0
    assert "not counted again: 1 of its 1 segments were deleted or erased on purpose" in (
        capsys.readouterr().out
    )


async def test_a_known_gap_is_told_with_when_it_was_closed(
    office: Office, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Entry(7, EntryKind.EVENT, b"{}", Source.TRANSACTION, "12", "", NOON)
    async with database.transaction() as connection:
        await set_aside(connection, "auditbot", entry, "KeyError", now_ms=NOON)
    await office.store()
    words = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    await asyncio.to_thread(main, ["report", "--from=2025-11-24", *words])
    before = capsys.readouterr().out
    async with database.transaction() as connection:
        await dealt_with(connection, "auditbot", entry)
    await office.store()

    await asyncio.to_thread(main, ["report", "--from=2025-11-24", *words])

    assert "Known gap: set aside\n" in before
    assert "Known gap: set aside, closed 2025-11-25 16:00:00 UTC\n" in capsys.readouterr().out


async def test_a_room_that_the_bot_left_is_not_covered_any_more(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)

    async def covered() -> int:
        await office.store()
        manifests = [one for found in office.check().manifests.values() for one in found]
        return int(manifests[-1]["rooms"]["covered"])

    await office.say(*new_room("@bob:example.org", AUDITBOT))
    assert await covered() == 1
    await office.say(state("m.room.member", {"membership": "leave"}, key=AUDITBOT))
    assert await covered() == 0
