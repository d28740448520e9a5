"""Helper processes read what they are asked, and whatever they do not answer is read without them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import vodozemac

from common.crypto import helpers as module
from common.crypto.helpers import Asked, Helpers
from common.crypto.port import Decrypted, EncryptedEvent
from tests.unit.crypto.peers import Bot, Peer
from tests.unit.crypto.test_decrypt import results, share


@pytest.fixture
async def helpers() -> AsyncIterator[Helpers]:
    async with Helpers(2) as running:
        yield running


def asked(count: int, messages: int = 2) -> list[tuple[Asked, bytes]]:
    """Return messages of so many sessions, each with what it says."""
    found = []
    for number in range(count):
        group = vodozemac.GroupSession()
        session = vodozemac.InboundGroupSession(group.session_key)
        for place in range(messages):
            text = f"{number} {place}".encode()
            sealed = group.encrypt(text).to_base64()
            found.append((Asked(session, group.session_id, sealed), text))
    return found


async def test_what_messages_say_comes_back_in_their_order(helpers: Helpers) -> None:
    some, more = asked(20), asked(1, 500)

    for batch in (some, more, some[::-1]):
        assert await helpers.read([one for one, _ in batch]) == [text for _, text in batch]
    assert await helpers.read([]) == []


async def test_what_cannot_be_read_is_left_to_whoever_asked(helpers: Helpers) -> None:
    (good, text), (other, _) = asked(2, 1)
    broken = good._replace(ciphertext="AAAA")
    wrong = good._replace(ciphertext=other.ciphertext)

    assert await helpers.read([broken, good, wrong]) == [None, text, None]


async def test_more_sessions_than_a_helper_keeps_are_all_read(
    helpers: Helpers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)
    batch = asked(12, 1)

    for _ in range(3):
        for place in range(0, 12, 2):
            part = batch[place : place + 2]
            assert await helpers.read([one for one, _ in part]) == [text for _, text in part]


async def test_a_helper_that_is_killed_is_replaced(helpers: Helpers) -> None:
    batch = asked(10)
    await helpers.read([one for one, _ in batch])

    for helper in helpers._helpers:
        assert helper._process is not None
        os.kill(helper._process.pid, signal.SIGKILL)
        await helper._process.wait()

    assert await helpers.read([one for one, _ in batch]) == [None] * len(batch)
    assert await helpers.read([one for one, _ in batch]) == [text for _, text in batch]


async def test_whoever_stops_waiting_leaves_no_answer_for_the_next(helpers: Helpers) -> None:
    first, second = asked(1, 3000), asked(1, 3)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await helpers.read([one for one, _ in first])

    assert await helpers.read([one for one, _ in second]) == [text for _, text in second]


async def test_a_helper_ends_with_whoever_started_it() -> None:
    async with Helpers(1) as running:
        await running.read([one for one, _ in asked(1)])
        process = running._helpers[0]._process
        assert process is not None
    assert process.returncode is not None


async def test_what_a_helper_read_is_checked_like_everything_else(
    bot: Bot, alice: Peer, helpers: Helpers
) -> None:
    await share(bot, alice)
    await bot.decrypt(alice.message("so that the session is in memory", event_id="$0"))
    events = [alice.message(f"message {number}", event_id=f"${number}") for number in range(1, 4)]
    again = EncryptedEvent("$again", events[0].room_id, events[0].sender, events[0].content)
    bot.machine._opener.helpers = helpers

    early = await bot.machine.open_early([*events, again])
    async with bot.database.transaction() as conn:
        readings = await bot.machine.decrypt(conn, [*events, again], early)

    assert all(one.opened is not None for one in early)
    assert [str(one) for one in results(readings)] == ["1", "2", "3", "replay"]
    first = readings[0]
    assert isinstance(first, Decrypted)
    assert b"message 1" in first.payload


async def test_a_helper_gets_nothing_of_our_environment_and_runs_nothing_that_lies_around(
    helpers: Helpers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEWARD_HOMESERVER__AS_TOKEN", "s3cret")
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)

    ((one, text),) = asked(1, 1)
    assert await helpers.read([one]) == [text]

    (process,) = helpers.processes
    environment = await asyncio.to_thread(Path(f"/proc/{process}/environ").read_text)
    assert "s3cret" not in environment
    assert not await asyncio.to_thread((tmp_path / "ran").exists)
