"""What the standing work survives, and what it passes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from adminbot.worker import REST_SECONDS
from common.crypto.port import DeviceGoneError, SessionRef, Undecryptable, Why
from common.errors import PermanentError, StewardError, TransientError
from common.homeserver.errors import StrangeAnswerError
from common.homeserver.port import HttpChange, Json
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.server import GetServerVersion
from common.matrix.client import MatrixError
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.test_bot import (
    DEADLINE_SECONDS,
    World,
    build,
    decrypted,
    encrypted,
    numbered,
)
from tests.unit.adminbot.world import ADMIN, DIRECT, message

LATE = SessionRef(DIRECT, "s1")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        yield build(database)


async def eventually(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not claim():  # noqa: ASYNC110  # a state, not an event
            await asyncio.sleep(0.005)


async def trail(world: World) -> set[str]:
    return {row["phase"] for row in await world.database.fetch("SELECT phase FROM admin_action")}


async def left_over(world: World) -> list[str]:
    rows = await world.database.fetch(
        "SELECT status FROM admin_command WHERE status <> 'done'"
        " UNION ALL SELECT status FROM admin_plan WHERE status <> 'done'"
    )
    return [row["status"] for row in rows]


async def late(world: World, number: int, session: str = "s1") -> str:
    """Let a message come whose key has not."""
    event = numbered(encrypted(), number)
    world.crypto.readings[event["event_id"]] = Undecryptable(Why.NO_SESSION, session)
    await world.push(event)
    return str(event["event_id"])


async def test_a_late_message_that_cannot_be_kept_is_dropped_and_the_others_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = [await late(world, number) for number in (1, 2, 3)]
    for event, text in ((first, "version"), (second, "whoami"), (third, "version")):
        world.crypto.readings[event] = decrypted(text)
    keep = type(world.bot.intake.store).take_in

    async def refusing(self: Any, connection: Any, request: Any, trust: Any) -> None:
        if request.event == second:
            raise PermanentError("The database refused a value: DataError")
        await keep(self, connection, request, trust)

    monkeypatch.setattr(type(world.bot.intake.store), "take_in", refusing)
    await world.bot.keys_arrived({LATE})

    assert await world.waiting() == ["version", "version"]
    assert await world.unreadable() == 0


async def test_a_late_message_that_meets_a_bug_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await late(world, 1)
    world.crypto.readings.clear()  # a KeyError within

    await world.bot.keys_arrived({LATE})

    assert await world.unreadable() == 0


@pytest.mark.parametrize("error", [TransientError("away"), DeviceGoneError("gone")])
async def test_a_late_message_stays_while_it_is_not_its_fault(
    world: World, error: StewardError
) -> None:
    await late(world, 1)

    async def decrypt(*arguments: object) -> list[Any]:
        raise error

    world.crypto.decrypt = decrypt  # type: ignore[method-assign,assignment]  # the failure that is tested
    with pytest.raises(type(error)):
        await world.bot.keys_arrived({LATE})

    assert await world.unreadable() == 1


async def test_a_late_message_with_a_nul_is_answered_with_a_sentence(world: World) -> None:
    event = await late(world, 1)
    world.crypto.readings[event] = decrypted("help \0")

    async with world.running():
        await world.bot.keys_arrived({LATE})
        (said,) = await world.until_said(1)

    assert "cannot be read" in said


async def test_a_payload_of_a_bad_encoding_is_survived(world: World) -> None:
    broken = decrypted("xxx")
    payload = broken.payload.replace(b"xxx", b"\xed\xa0\x80")
    world.crypto.readings["$command"] = replace(broken, payload=payload)

    await world.push(encrypted())

    assert await world.waiting() == []


async def test_all_that_waits_is_tried_however_much_it_is(world: World) -> None:
    for number in range(120):
        await late(world, number, session=f"s{number}")
    for number in range(90, 100):  # by name the last, and all are equally old
        world.crypto.readings[f"$command{number}"] = decrypted("version")

    await world.bot.intake.read_again(None)

    assert len(await world.waiting()) == 10
    assert await world.unreadable() == 110


async def test_what_waited_too_long_is_forgotten_unread(world: World) -> None:
    event = {**encrypted(), "origin_server_ts": 2**53 - 1}  # never too old by its own account
    world.crypto.readings["$command"] = Undecryptable(Why.NO_SESSION, "s1")
    await world.push(event)
    world.clock.forward(301)

    await world.bot.intake.read_again(None)

    assert await world.unreadable() == 0


@pytest.mark.parametrize("error", [PermanentError("a bad row"), ValueError("a bug")])
@pytest.mark.parametrize("where", ["executing", "jobs", "overdue", "confirmed", "counts"])
async def test_the_standing_work_survives_bad_rows_and_bugs(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    store = type(world.bot.worker.store)
    working, failed = getattr(store, where), asyncio.Event()

    async def failing(*arguments: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise error
        return await working(*arguments)

    monkeypatch.setattr(store, where, failing)
    monkeypatch.setattr("adminbot.worker.IDLE_SECONDS", 0.01)
    async with world.running():
        async with asyncio.timeout(DEADLINE_SECONDS):
            await failed.wait()
        await world.push(message("version", sender=ADMIN))
        (said,) = await world.until_said(1)

    assert "1.163.2" in said


def strange(request: object) -> StewardError | None:
    if isinstance(request, GetServerVersion):
        return StrangeAnswerError("The homeserver's answer has an unknown shape")
    return None


async def test_a_command_that_can_never_succeed_is_answered_and_written_down(
    world: World,
) -> None:
    world.admin.refuse_read = strange

    async with world.running():
        await world.push(message("version", sender=ADMIN))
        (said,) = await world.until_said(1)
        await eventually(lambda: not world.bot.worker.busy)

    assert "Something is wrong on my side" in said
    assert "broken" in await trail(world)
    assert await left_over(world) == []


async def test_an_answer_that_cannot_be_sent_is_told_of(world: World) -> None:
    def too_large(content: Json) -> StewardError | None:
        return MatrixError(413, "M_TOO_LARGE", "") if "1.163.2" in content["body"] else None

    world.messenger.refuse = too_large
    async with world.running():
        await world.push(message("version", sender=ADMIN))
        (said,) = await world.until_said(1)

    assert "Something is wrong on my side" in said


async def test_where_nothing_can_be_sent_a_command_ends(world: World) -> None:
    world.messenger.refuse = lambda content: MatrixError(403, "M_FORBIDDEN", "not in room")

    async with world.running():
        await world.push(message("version", sender=ADMIN))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await left_over(world):  # noqa: ASYNC110  # a state, not an event
                await asyncio.sleep(0.005)

    assert world.messenger.said == {}
    assert "broken" in await trail(world)


async def test_a_plan_that_fails_at_once_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = type(world.bot.worker.dispatcher.trail).note_in

    async def failing(
        self: Any, connection: Any, subject: Any, phase: Any, *rest: Any, **k: Any
    ) -> None:
        if phase.value == "did":
            raise PermanentError("The database refused a value: DataError")
        await note(self, connection, subject, phase, *rest, **k)

    monkeypatch.setattr(type(world.bot.worker.dispatcher.trail), "note_in", failing)
    async with world.running():
        await world.push(message("test rename alice", sender=ADMIN))
        (said,) = await world.until_said(1)
        await eventually(lambda: not world.bot.worker.busy)

    assert "1 may or may not have happened" in said
    assert "Something is wrong on my side" in said
    assert await left_over(world) == []
    assert len(world.admin.changes) == 1


async def test_an_outcome_that_could_not_be_said_is_said_later(world: World) -> None:
    def away(content: Json) -> StewardError | None:
        return None if world.messenger.said else TransientError("away")

    world.messenger.refuse = away

    async with world.running():
        await world.push(message("test rename alice", sender=ADMIN))
        await eventually(lambda: bool(world.bot.worker.resting))
        assert await left_over(world) == ["planned", "executing"]
        world.messenger.refuse = lambda content: None
        world.clock.forward(REST_SECONDS + 1)
        (said,) = await world.until_said(1)
        await eventually(lambda: not world.bot.worker.busy)

    assert said == "@alice:example.org is renamed."
    assert await left_over(world) == []
    assert len(world.admin.changes) == 1


async def test_a_homeserver_that_is_away_for_long_gets_the_answer_in_the_end(
    world: World,
) -> None:
    world.messenger.refuse = lambda content: TransientError("away")

    async with world.running():
        await world.push(message("version", sender=ADMIN))
        for _ in range(20):
            await eventually(lambda: not world.bot.worker.busy)
            world.clock.forward(31)
            world.bot.intake.woken.set()
            await asyncio.sleep(0.02)
        world.messenger.refuse = lambda content: None
        world.clock.forward(31)
        (said,) = await world.until_said(1)

    assert "Ask again" in said


async def test_a_lost_device_ends_nothing_but_this_life_of_the_process(world: World) -> None:
    world.messenger.refuse = lambda content: DeviceGoneError("deleted")
    await world.push(message("version", sender=ADMIN))

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await world.bot.run()

    assert caught.group_contains(DeviceGoneError)
    assert await left_over(world) == ["received"]
    assert await trail(world) <= {"answered"}
    world.messenger.refuse = lambda content: None
    async with world.running():
        (said,) = await world.until_said(1)
    assert "1.163.2" in said


async def test_a_device_lost_while_the_outcome_is_said_has_it_said_in_the_next_life(
    world: World,
) -> None:
    world.messenger.refuse = lambda content: DeviceGoneError("deleted")
    await world.push(message("test rename alice", sender=ADMIN))
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await world.bot.run()
    assert len(world.admin.changes) == 1

    restarted = build(world.database)
    async with restarted.running():
        (said,) = await restarted.until_said(1)

    assert said == "@alice:example.org is renamed."
    assert restarted.admin.changes == []


async def test_a_change_that_meets_a_lost_device_is_not_told_as_a_failure(world: World) -> None:
    def gone(call: HttpChange) -> bool:
        raise DeviceGoneError("deleted")

    world.admin.refuse_change = gone
    await world.push(message("test rename alice", sender=ADMIN))

    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await world.bot.run()

    assert "failed" not in await trail(world)


async def test_a_sign_for_yes_that_meets_a_lost_device_passes_it_on(world: World) -> None:
    async def gone(*arguments: Any) -> Any:
        raise DeviceGoneError("deleted")

    world.sender.send = gone  # type: ignore[method-assign,assignment]  # the failure that is tested
    await world.push(message("test close alice", sender=ADMIN))

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await world.bot.run()

    assert caught.group_contains(DeviceGoneError)


async def test_a_room_that_is_a_direct_chat_no_more_is_asked_about_again(world: World) -> None:
    await world.push(numbered(message("hello", sender=ADMIN), 1))
    asked = sum(isinstance(one, GetRoom) for one in world.admin.reads)
    await world.push({**message("", sender=ADMIN), "type": [], "event_id": "$odd"})
    await world.push(numbered(message("hello", sender=ADMIN), 2))

    assert sum(isinstance(one, GetRoom) for one in world.admin.reads) == asked
