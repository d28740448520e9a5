"""The admins are told of a device that can never be read, once, on either database."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from auditbot.bot import Auditbot
from auditbot.pipeline.segment import DAY_MS
from auditbot.silent_devices import LEAST, MOST_A_DAY, MOST_OF_ONE, PATIENCE_MS
from common.crypto.port import Undecryptable, Why
from common.database.pool import Database
from common.inbox.port import Source
from tests.unit.auditbot.builders import (
    ALICE,
    NOON,
    ScriptedDecryption,
    StoppedClock,
    encrypted,
    entries,
    event,
    message,
    new_room,
)
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.world import AUDITBOT, World

HOUR_MS = 3_600_000


class Withheld(ScriptedDecryption):
    """Gives certain causes for messages without a session, by the session's name."""

    def _read(self, event: Any) -> Any:
        reading = super()._read(event)
        session = event.content.get("session_id")
        if isinstance(reading, Undecryptable) and session in set(Why):
            return replace(reading, why=Why(session))
        return reading


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> World:
    world = World(database, tmp_path, StoppedClock(), crypto=Withheld())
    await say(world, *new_room(AUDITBOT, "@bob:example.org"))
    return world


async def say(world: World, *bodies: bytes, source: Source = Source.TRANSACTION) -> None:
    """Have events come to a new process, so that nothing is known but what is stored."""
    batch = [
        msgspec.structs.replace(entry, source=source)
        for entry in entries(bodies, world.clock.now_ms())
    ]
    await world.give(world.restart(), batch)


def of_device(name: str, device: object, session: str = "none", sender: str = ALICE) -> bytes:
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": name,
        "session_id": session,
        "device_id": device,
    }
    return event(name, content, type="m.room.encrypted", sender=sender)


def many(device: object, *, count: int = LEAST, **more: str) -> list[bytes]:
    sender = more.get("sender", "")
    return [
        of_device(f"${device!r}{sender}{number}{more}", device, **more) for number in range(count)
    ]


async def look(world: World, after_ms: int = 0) -> list[str]:
    """Let time pass and a new process look; return all that the admins were told so far."""
    world.advance(after_ms)
    await cast(Auditbot, world.restart()).silent.look()
    rows = await world.database.fetch("SELECT sentence FROM alarm ORDER BY number")
    return [row["sentence"] for row in rows]


async def test_it_is_told_once_with_what_to_do_and_once_when_it_is_over(world: World) -> None:
    await say(world, *many("PHONE", session="withheld_unverified"))
    assert await look(world, PATIENCE_MS - 1) == [], "keys may still come"

    (told,) = await look(world, 1)
    assert f"No message of device “PHONE” of {ALICE} can be read, none of the 5 since" in told
    assert "it gives keys to verified devices only (withheld_unverified)" in told
    assert f"verify {AUDITBOT}" in told

    world.advance(DAY_MS)
    await say(world, *many("PHONE", sender="@bob:example.org", count=1))
    await say(world, of_device("$more", "PHONE"), of_device("$still-more", "PHONE"))
    assert len(await look(world, 3 * DAY_MS)) == 1, "not each day"

    world.crypto.sessions.add("good")
    await say(world, of_device("$readable", "PHONE", "good"))
    await say(world, of_device("$readable-2", "PHONE", "good"))
    _, again = await look(world)
    assert again.startswith(f"Messages of device “PHONE” of {ALICE} can be read again")

    await say(world, *many("PHONE", session="no_olm"))
    *_, anew = await look(world, PATIENCE_MS)
    assert "none of the 5 since" in anew
    assert "sign this device out and in again" in anew


async def test_a_late_key_is_an_answer_too(world: World) -> None:
    await say(world, *many("PHONE", session="late"))
    assert len(await look(world, PATIENCE_MS)) == 1

    world.crypto.sessions.add("late")
    await cast(Auditbot, world.restart()).late_keys.retry_all()

    assert len(await look(world)) == 2
    assert await world.database.fetchval("SELECT count(*) FROM audit_silent_device") == 0


async def test_what_is_no_silence_is_not_told(world: World) -> None:
    world.crypto.sessions.add("good")
    await say(world, *many("FEW", count=LEAST - 1))
    half = many("MIXED", count=LEAST)
    await say(world, *half[:2], of_device("$good", "MIXED", "good"), *half[2:])
    await say(world, *many("HISTORY"), source=Source.MESSAGES)
    await say(world, *many("ATTACK", session="bad_mac"))
    await say(world, *many("BEFORE", session="before_join"))

    (told,) = await look(world, DAY_MS)
    assert told.startswith("A message was changed after it was encrypted"), "of the attack alone"


async def test_messages_that_waited_for_a_moment_do_not_count(world: World) -> None:
    old = many("PHONE")
    await say(world, *old[1:])
    world.advance(PATIENCE_MS)
    await say(world, old[0])

    assert await look(world) == []
    assert len(await look(world, PATIENCE_MS)) == 1


async def test_ids_are_names_and_nothing_else(world: World) -> None:
    hostile = "X” is fine. Send your password to <b>me</b>\u202e"
    await say(world, *many(hostile, sender="@e vil\n:x"))
    await say(world, *many(7))

    told = sorted(await look(world, PATIENCE_MS))
    assert [one.partition(" can be read")[0] for one in told] == [
        f"No message of a device of {ALICE} that does not say its name",
        "No message of device “(a name that cannot be shown)” of (a name that cannot be shown)",
    ]


async def test_a_flood_of_devices_is_no_flood_of_messages(world: World) -> None:
    for number in range(2 * MOST_OF_ONE):
        await say(world, *many(f"MADE-UP-{number}"))
    for number in range(MOST_A_DAY):
        await say(world, *many("D", sender=f"@sybil{number}:evil.example"))

    told = await look(world, PATIENCE_MS)
    assert len(told) == MOST_A_DAY + 1
    assert f"Of {MOST_OF_ONE} more devices no message can be read" in told[-1]

    await say(world, *many("NEXT", sender="@late:evil.example"))
    assert await look(world, PATIENCE_MS) == told, "one sum a day"
    *before, tomorrow = await look(world, DAY_MS)
    assert before == told
    assert "“NEXT” of @late:evil.example" in tomorrow


async def test_a_device_that_says_nothing_any_more_takes_nobodys_place(world: World) -> None:
    await say(world, *many("GONE", count=2))
    await look(world, 15 * DAY_MS)

    assert await world.database.fetchval("SELECT count(*) FROM audit_silent_device") == 0


async def test_a_day_is_stated_on_either_database(database: Database, tmp_path: Path) -> None:
    office = Office(database, tmp_path)
    office.world.crypto.sessions.add("known")
    await office.say(*new_room(AUDITBOT), encrypted("$1", "known"), encrypted("$2", "late"))
    office.at(NOON + 60_000)
    office.world.crypto.sessions.add("late")
    assert await office.bot.late_keys.retry_all() == 1
    await office.say(encrypted("$3", "never"))
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(message("$4"))
    await office.bot.daily.look()
    await office.store()

    body = office.objects()["v1/example.org/reports/dt=2025-11-24/completeness.json"]
    said: dict[str, Any] = json.loads(body)
    assert said["service"] == [
        {
            "day": "2025-11-24",
            "encrypted": 3,
            "within_60_s": 2,
            "within_24_h": 2,
            "read": 2,
            "final": 0,
        }
    ]
    assert said["open"]["causes"] == {"no_session": 1}
    assert said["open"]["devices"] == [{"sender": ALICE, "device_id": "DEVICE", "events": 1}]
