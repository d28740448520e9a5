"""Who gets the bot's room keys, and who is told once that they do not."""

import pytest

from common.crypto.account import MEGOLM
from common.crypto.sharing import ShareWith
from common.database.pool import Database
from tests.unit.crypto.peers import ROOM, Bot, FakeClock, KeyServer, Peer
from tests.unit.crypto.test_encrypt import changed


@pytest.fixture
async def strict(database: Database, server: KeyServer, clock: FakeClock) -> Bot:
    bot = Bot(database, server, clock, share_with=ShareWith.CROSS_SIGNED)
    await bot.machine.set_up()
    return bot


@pytest.fixture
def bob(server: KeyServer) -> Peer:
    bob = Peer(server, "@bob:example.org", "BOB")
    bob.cross_sign()
    return bob


async def test_only_cross_signed_devices_get_the_key_and_others_are_told_once(
    strict: Bot, alice: Peer, bob: Peer
) -> None:
    sent = [await strict.encrypt(text, [alice, bob]) for text in ("one", "two")]

    assert [message["type"] for message in bob.inbox()] == ["m.room_key"]
    assert bob.notices() == []
    assert alice.inbox() == []
    [notice] = alice.notices()
    assert notice.pop("reason")
    assert notice == {
        "algorithm": MEGOLM,
        "code": "m.unverified",
        "room_id": ROOM,
        "session_id": sent[0]["session_id"],
        "sender_key": sent[0]["sender_key"],
    }


async def test_a_new_session_is_withheld_anew(strict: Bot, alice: Peer) -> None:
    await strict.encrypt("one", [alice])
    alice.notices()

    strict.clock.advance(seconds=8 * 86_400)
    content = await strict.encrypt("two", [alice])

    assert [notice["session_id"] for notice in alice.notices()] == [content["session_id"]]


async def test_a_device_that_is_signed_later_gets_the_present_session(
    strict: Bot, alice: Peer
) -> None:
    first = await strict.encrypt("one", [alice])
    alice.cross_sign()
    await changed(strict, alice)

    second = await strict.encrypt("two", [alice])

    assert first["session_id"] == second["session_id"]
    [key] = alice.inbox()
    assert key["content"]["session_id"] == second["session_id"]


async def test_by_default_all_devices_get_the_key(bot: Bot, alice: Peer, bob: Peer) -> None:
    await bot.encrypt("one", [alice, bob])

    assert [len(peer.inbox()) for peer in (alice, bob)] == [1, 1]
    assert alice.notices() == []


async def test_a_device_without_one_time_keys_is_told_once_until_it_can_be_reached(
    bot: Bot, alice: Peer
) -> None:
    kept = bot.server.one_time.pop(alice.me)
    for text in ("one", "two"):
        await bot.encrypt(text, [alice])
        bot.clock.advance(seconds=61)
    [notice] = alice.notices()
    assert (notice["code"], "room_id" in notice) == ("m.no_olm", False)

    bot.server.one_time[alice.me] = kept
    await bot.encrypt("three", [alice])
    assert [message["type"] for message in alice.inbox()] == ["m.room_key"]
    assert await bot.database.fetchval("SELECT COUNT(*) FROM crypto_withheld_told") == 0


async def test_a_homeserver_that_is_away_for_the_news_stops_no_message(
    strict: Bot, alice: Peer
) -> None:
    strict.server.down_for.add("sendToDevice")
    await strict.encrypt("one", [alice])
    strict.server.down_for.clear()

    await strict.encrypt("two", [alice])

    assert [notice["code"] for notice in alice.notices()] == ["m.unverified"]
