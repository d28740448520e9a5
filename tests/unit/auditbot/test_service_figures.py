"""How soon encrypted messages were read, and what is open, is stated of each day as it is true."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyrage
import pytest

from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.unread import keep_older
from common.appservice.tally import Tally
from common.crypto.port import Why
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, encrypted, message, new_room
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.world import AUDITBOT

HOUR_MS = 3_600_000
FIRST = "2025-11-24"
BOB = "@bob<b>\u202e:example.org"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def key_comes(office: Office, session: str, after_ms: int) -> None:
    office.at(NOON + after_ms)
    office.world.crypto.sessions.add(session)
    assert await office.bot.late_keys.retry_all() == 1
    await office.store()


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    """A day with messages that are read at once, soon, later, long after and never."""
    office = Office(database, tmp_path)
    crypto = office.world.crypto
    crypto.sessions.add("known")
    crypto.attacks["$replayed"] = Why.REPLAY
    await office.say(
        *new_room(BOB, AUDITBOT),
        encrypted("$at-once", "known"),
        encrypted("$soon", "soon"),
        encrypted("$in-an-hour", "hour"),
        encrypted("$two-days-later", "days"),
        encrypted("$never", "never"),
        encrypted("$replayed", "known"),
        encrypted("$bobs", "bobs", sender=BOB, room_id="!other<i>"),
    )
    await key_comes(office, "soon", 60_000)
    await key_comes(office, "hour", 60_001)
    return office


async def go_on(office: Office, days: int) -> None:
    """Let days pass with a message on each, stated once they are over."""
    start = office.world.clock.now_ms()
    for day in range(1, days + 1):
        office.at(start + day * DAY_MS)
        await office.bot.daily.look()
        await office.say(message(f"$after-{start}-{day}"))
        await office.store()


def stated(office: Office, day: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        office.objects()[f"v1/example.org/reports/dt={day}/completeness.json"]
    )
    return found


def of_first(office: Office, day: str) -> dict[str, int]:
    (found,) = [one for one in stated(office, day)["service"] if one["day"] == FIRST]
    return {name: figure for name, figure in found.items() if name != "day"}


async def report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    words = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    status = await asyncio.to_thread(main, ["report", f"--from={FIRST}", *words])
    return status, capsys.readouterr().out


async def test_each_statement_says_how_soon_and_what_is_final(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await go_on(office, 1)
    await key_comes(office, "days", 2 * DAY_MS)
    await go_on(office, 3)

    soon = {"encrypted": 7, "within_60_s": 2, "within_24_h": 3}
    assert of_first(office, FIRST) == {**soon, "read": 3, "final": 1}
    assert of_first(office, "2025-11-26") == {**soon, "read": 4, "final": 1}
    assert of_first(office, "2025-11-27") == {**soon, "read": 4, "final": 3}
    page = office.objects()["v1/example.org/reports/dt=2025-11-27/completeness.html"].decode()
    assert "<td>2025-11-24</td>" in page
    assert "2 (28.5 %)" in page

    status, said = await report(tmp_path, capsys)
    assert status == 0
    assert "DIFFERS" not in said
    assert (
        "stated of the messages of 2025-11-24: of 7 encrypted 28.5 % read within 60 s, 42.8 % "
        "within 24 h, 3 not, 3 of them final" in said
    )
    assert "    within 60 s       28.5 %\n    within 24 h       42.8 %\n" in said
    assert "        3 final: not read within 72 h, or no key helps; 0 still waited for\n" in said


async def test_what_is_final_is_read_all_the_same_if_a_key_comes(office: Office) -> None:
    await go_on(office, 4)
    await key_comes(office, "never", 5 * DAY_MS)
    await go_on(office, 2)

    assert of_first(office, "2025-11-27")["final"] == 4
    assert of_first(office, "2025-11-29") == {
        **of_first(office, "2025-11-27"),
        "read": 4,
        "final": 3,
    }


async def test_open_events_are_those_of_the_archive(office: Office) -> None:
    await go_on(office, 1)

    checked = office.check()
    late = {one["event_id"] for one in checked.of_kind("decryption")}
    truth = [
        one
        for one in checked.of_kind("event")
        if one["enc_status"] == "undecryptable" and one["event_id"] not in late
    ]
    waiting = [one for one in truth if one["enc_error"] != "replay"]  # that waits for nothing
    said = stated(office, FIRST)
    assert said["undecryptable_open"] == len(waiting) == 3
    assert sum(said["undecryptable"].values()) - said["undecryptable_read"] == len(truth)
    assert said["open"] == {
        "causes": dict(Counter(one["enc_error"] for one in waiting)),
        "rooms": [{"room_id": ROOM, "events": 2}, {"room_id": "!other<i>", "events": 1}],
        "rooms_count": 2,
        "devices": [
            {"sender": ALICE, "device_id": "DEVICE", "events": 2},
            {"sender": BOB, "device_id": "DEVICE", "events": 1},
        ],
        "devices_count": 2,
    }
    page = office.objects()[f"v1/example.org/reports/dt={FIRST}/completeness.html"].decode()
    assert "@bob&lt;b&gt;⟨U+202E⟩:example.org DEVICE" in page
    assert "!other&lt;i&gt;" in page


async def test_figures_that_the_archive_does_not_bear_out_are_named(
    office: Office, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_unread SET read_ms = received_ms WHERE event_id = '$never'"
        )
    await go_on(office, 1)

    status, said = await report(tmp_path, capsys)

    assert status == 1
    assert "DIFFERS in the messages of 2025-11-24 not read: stated 3, counted 4" in said
    assert "2025-11-24 not read within 60 s: stated 4, counted 5" in said


async def test_an_encrypted_archive_names_nobody(database: Database, tmp_path: Path) -> None:
    office = Office(database, tmp_path)
    identity = pyrage.x25519.Identity.generate()
    office.world.recipients = (str(identity.to_public()),) * 2
    office.start()
    await office.say(*new_room(AUDITBOT), encrypted("$1", "none"))
    await office.store()
    await go_on(office, 1)

    said = stated(office, FIRST)
    assert said["open"] == {
        "causes": {"no_session": 1},
        "rooms": [],
        "rooms_count": 1,
        "devices": [],
        "devices_count": 1,
    }
    assert ALICE not in json.dumps(said)
    page = office.objects()[f"v1/example.org/reports/dt={FIRST}/completeness.html"].decode()
    assert "1; “steward audit coverage” names them" in page


async def test_what_an_older_version_did_not_remember_is_not_made_up(
    office: Office, database: Database
) -> None:
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM audit_unread")
    assert await keep_older(database) == 3
    assert await keep_older(database) == 0
    await go_on(office, 2)

    assert FIRST not in {one["day"] for one in stated(office, FIRST)["service"]}
    assert sum(stated(office, FIRST)["open"]["causes"].values()) == 3
    assert {one["day"] for one in stated(office, "2025-11-25")["service"]} == {"2025-11-25"}


async def test_only_what_waits_is_remembered_for_ever(office: Office, database: Database) -> None:
    await go_on(office, 17)

    rows = await database.fetch("SELECT event_id FROM audit_unread ORDER BY event_id")
    assert [row["event_id"] for row in rows] == ["$bobs", "$never", "$two-days-later"]


async def test_transactions_are_stated_and_a_hole_raises_no_alarm(
    office: Office, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(database, office.world.clock)
    office.at(NOON)
    for name in ("7", "7", "11"):
        tally.count(name)
    await tally.save()
    await go_on(office, 1)

    assert stated(office, FIRST)["transactions"] == {
        "seen": 3,
        "repeated": 1,
        "skipped": 3,
        "restarted": 0,
    }
    page = office.objects()[f"v1/example.org/reports/dt={FIRST}/completeness.html"].decode()
    assert '<tr><th>of them, sent again</th><td class="n">1</td></tr>' in page
    status, said = await report(tmp_path, capsys)
    assert status == 0
    assert (
        "pushed: 3 transactions, 1 sent again, 3 numbers in between of other services or none"
        in said
    )
    (gaps,) = await database.fetch("SELECT count(*) AS gaps FROM audit_gap")
    assert gaps["gaps"] == 0


async def test_a_day_is_stated_when_all_of_it_is_counted(office: Office) -> None:
    midnight = (NOON // DAY_MS + 1) * DAY_MS
    office.at(midnight + 59_999)
    await office.bot.daily.look()
    assert not any("/reports/" in key for key in office.objects())

    office.at(midnight + 60_000)
    await office.bot.daily.look()
    assert any("/reports/" in key for key in office.objects())


async def test_a_manifest_that_is_late_is_stated(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(database, tmp_path)
    for minutes in (0, 15, 30, 30 + 23, 30 + 23 + 24):
        office.at(NOON + minutes * 60_000)
        await office.bot.archive.sign()
        await office.say(message(f"$after-{minutes}"))
        await office.bot.archive.seal(flush=True)
        await office.bot.archive.upload()
    await office.store()
    await go_on(office, 1)

    # 23 minutes are not late yet; the fifth lists what was stored last.
    assert stated(office, FIRST)["manifests"] == {"made": 5, "late": 1, "longest_ms": 24 * 60_000}
    _, said = await report(tmp_path, capsys)
    assert "; 5 manifests (1 LATE, the longest time without 24 minutes)" in said
    assert "    Nothing was signed for 24 minutes, from 2025-11-24 16:53:00" in said
