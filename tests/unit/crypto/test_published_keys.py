"""What the homeserver holds for the bot's device: made once, refilled, never overwritten."""

import json

import pytest

from common.crypto.account import LARGEST_POOL
from common.crypto.machine import CryptoMachine
from common.crypto.port import (
    DeviceAddress,
    DeviceGoneError,
    DeviceKeysDifferError,
    IdentityTakenError,
)
from common.crypto.sealing import WrongPickleKeyError
from common.database.pool import Database
from common.errors import PermanentError, TransientError
from common.ids import DeviceId, UserId
from common.inbox.port import EntryKind
from tests.unit.crypto.peers import BOT, Bot, FakeClock, KeyServer, Peer

SIGNED = "signed_curve25519"


def snapshot(server: KeyServer) -> str:
    return json.dumps([server.devices, server.cross_signing], sort_keys=True)


async def report(bot: Bot, *, count: int, fallback_unused: bool = True) -> None:
    body = {
        "device_id": BOT.device_id,
        "one_time": {SIGNED: count},
        "unused_fallback": [SIGNED] if fallback_unused else [],
    }
    await bot.receive(body, kind=EntryKind.KEY_COUNTS)


async def test_the_first_start_publishes_everything(bot: Bot, server: KeyServer) -> None:
    assert len(server.one_time[BOT]) == 60
    [fallback] = server.fallback[BOT].values()
    assert fallback["fallback"] is True
    assert set(server.cross_signing[BOT.user_id]) == {"master", "self_signing", "user_signing"}
    signatures = server.devices[BOT.user_id][BOT.device_id]["signatures"][BOT.user_id]
    assert len(signatures) == 2


async def test_later_starts_change_nothing(bot: Bot, server: KeyServer) -> None:
    before, keys = snapshot(server), dict(server.one_time[BOT])

    for _ in range(2):
        await Bot(bot.database, server, bot.clock).machine.set_up()

    assert snapshot(server) == before
    assert server.one_time[BOT] == keys
    assert server.calls["keys/device_signing/upload"] == 1
    assert server.calls["keys/signatures/upload"] == 1


@pytest.mark.parametrize(
    "call",
    ["keys/query", "keys/upload", "keys/device_signing/upload", "keys/signatures/upload"],
)
async def test_a_start_cut_short_is_finished_by_the_next_with_the_same_keys(
    database: Database, server: KeyServer, clock: FakeClock, call: str
) -> None:
    server.down_for.add(call)
    for _ in range(2):
        with pytest.raises(TransientError):
            await Bot(database, server, clock).machine.set_up()
    devices = json.dumps(server.devices)
    server.down_for.clear()

    await Bot(database, server, clock).machine.set_up()

    rows = await database.fetch("SELECT COUNT(*) AS n FROM crypto_account")
    assert rows[0]["n"] == 1
    if "signatures" in call:
        published = json.loads(devices)[BOT.user_id][BOT.device_id]["keys"]
        assert server.devices[BOT.user_id][BOT.device_id]["keys"] == published
    assert len(server.one_time[BOT]) == 60


async def test_other_keys_on_the_server_are_never_replaced(
    database: Database, server: KeyServer, clock: FakeClock
) -> None:
    Peer(server, BOT.user_id, BOT.device_id)
    before = snapshot(server)

    with pytest.raises(DeviceKeysDifferError, match="were not replaced"):
        await Bot(database, server, clock).machine.set_up()

    assert snapshot(server) == before


async def test_replaced_keys_are_noticed(bot: Bot, server: KeyServer) -> None:
    Peer(server, BOT.user_id, BOT.device_id)

    with pytest.raises(DeviceKeysDifferError):
        await Bot(bot.database, server, bot.clock).machine.set_up()


async def test_a_foreign_identity_is_never_replaced(
    database: Database, server: KeyServer, clock: FakeClock
) -> None:
    Peer(server, BOT.user_id, "SOMEONE").cross_sign()
    before = json.dumps(server.cross_signing)

    with pytest.raises(IdentityTakenError, match="It was not replaced"):
        await Bot(database, server, clock).machine.set_up()

    assert json.dumps(server.cross_signing) == before


async def test_a_new_device_keeps_the_identity_and_the_room_keys(
    bot: Bot, server: KeyServer, alice: Peer
) -> None:
    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    identity = json.dumps(server.cross_signing[BOT.user_id])
    new = DeviceAddress(BOT.user_id, DeviceId("STEWARD2"))

    second = Bot(bot.database, server, bot.clock, me=new)
    await second.machine.set_up()

    assert json.dumps(server.cross_signing[BOT.user_id]) == identity
    assert len(server.devices[BOT.user_id]["STEWARD2"]["signatures"][BOT.user_id]) == 2
    [reading] = await second.decrypt(alice.message("x", event_id="$1"))
    assert type(reading).__name__ == "Decrypted"


async def test_two_bots_share_a_database(bot: Bot, server: KeyServer) -> None:
    other = DeviceAddress(UserId("@adminbot:example.org"), DeviceId("STEWARD"))

    await Bot(bot.database, server, bot.clock, me=other).machine.set_up()

    keys = {json.dumps(devices) for devices in server.devices.values()}
    assert len(keys) == 2
    assert len(server.cross_signing) == 2


async def test_a_deleted_device_is_told_apart(bot: Bot, server: KeyServer) -> None:
    server.gone.add(BOT)
    await report(bot, count=0)

    with pytest.raises(DeviceGoneError):
        await bot.machine.maintain()
    with pytest.raises(DeviceGoneError):
        await bot.machine.set_up()


async def test_the_pool_is_refilled_below_three_quarters(bot: Bot, server: KeyServer) -> None:
    for _ in range(20):
        server.claim_one(BOT)
    await report(bot, count=46)
    await bot.machine.maintain()
    assert len(server.one_time[BOT]) == 40

    await report(bot, count=40)
    await bot.machine.maintain()

    assert len(server.one_time[BOT]) == 60
    assert len(set(server.uploaded_ids)) == len(server.uploaded_ids)


async def test_a_stale_low_count_makes_no_keys(bot: Bot, server: KeyServer) -> None:
    for _ in range(5):
        server.claim_one(BOT)
    await report(bot, count=3)
    await bot.machine.maintain()

    assert len(server.one_time[BOT]) == 55


async def test_every_uploaded_key_can_be_used_after_failed_uploads(
    database: Database, server: KeyServer, clock: FakeClock
) -> None:
    bot = Bot(database, server, clock, one_time_keys=1200)
    await bot.machine.set_up()
    assert len(server.one_time[BOT]) == 1200
    for _ in range(700):
        server.claim_one(BOT)
    await report(bot, count=500)
    server.down_for.add("keys/upload")
    with pytest.raises(TransientError):
        await bot.machine.maintain()
    server.down_for.clear()
    bot = Bot(database, server, clock, one_time_keys=1200)
    await bot.machine.maintain()

    oldest = Peer(server, "@first:example.org", "D")
    assert len(server.one_time[BOT]) == 1200
    assert await bot.receive(oldest.olm("m.room_key", oldest.room_key()))
    while len(server.one_time[BOT]) > 1:
        server.claim_one(BOT)
    newest = Peer(server, "@last:example.org", "D")
    assert await bot.receive(newest.olm("m.room_key", newest.room_key()))


async def test_the_fallback_key_serves_everybody_and_is_renewed_once_used(
    bot: Bot, server: KeyServer
) -> None:
    server.one_time[BOT].clear()
    peers = [Peer(server, f"@peer{n}:example.org", "D") for n in range(5)]
    first = server.fallback[BOT]
    early = [peer.olm("m.room_key", peer.room_key()) for peer in peers]

    assert len(await bot.receive(*early[:3])) == 3
    bot.clock.advance(seconds=1)
    await report(bot, count=60, fallback_unused=False)
    await bot.machine.maintain()
    second = server.fallback[BOT]
    assert second != first
    assert len(await bot.receive(*early[3:])) == 2  # the one before still works


async def test_a_report_from_before_the_renewal_renews_nothing(
    bot: Bot, server: KeyServer
) -> None:
    bot.clock.advance(seconds=1)
    await report(bot, count=60, fallback_unused=False)
    await bot.machine.maintain()
    renewed = server.fallback[BOT]

    await report(bot, count=60, fallback_unused=False)  # received at the same moment
    await bot.machine.maintain()

    assert server.fallback[BOT] == renewed


async def test_the_largest_pool_is_usable_to_its_first_key(
    database: Database, server: KeyServer, clock: FakeClock, alice: Peer
) -> None:
    bot = Bot(database, server, clock, one_time_keys=LARGEST_POOL + 5000)
    await bot.machine.set_up()

    assert len(server.one_time[BOT]) == LARGEST_POOL
    assert await bot.receive(alice.olm("m.room_key", alice.room_key()))


@pytest.mark.parametrize("most", [500, 60, 0])
async def test_a_homeserver_that_keeps_fewer_keys_gets_as_many_as_it_takes(
    database: Database, server: KeyServer, clock: FakeClock, alice: Peer, most: int
) -> None:
    server.most_one_time_keys = most
    bot = Bot(database, server, clock, one_time_keys=2000)
    await bot.machine.set_up()
    held = len(server.one_time[BOT])
    assert most - 16 < held <= most
    assert server.fallback[BOT]

    # From now on it is full with that: nothing is tried again, and what is claimed is renewed.
    uploads = server.calls["keys/upload"]
    await report(bot, count=held, fallback_unused=True)
    await bot.machine.maintain()
    assert server.calls["keys/upload"] == uploads
    for _ in range(held // 2):
        server.claim_one(BOT)
    await report(bot, count=held - held // 2, fallback_unused=True)
    await bot.machine.maintain()
    assert len(server.one_time[BOT]) == held
    assert await bot.receive(alice.olm("m.room_key", alice.room_key()))


async def test_figures_tell_of_a_used_up_pool(bot: Bot, server: KeyServer) -> None:
    def figures() -> dict[str, float]:
        samples = bot.machine.samples()
        return {s.metric.name: s.value for s in samples if "backup" not in s.metric.name}

    assert figures() == {
        "steward_one_time_keys": 60,
        "steward_one_time_keys_target": 60,
        "steward_fallback_key_used_total": 0,
    }
    while server.one_time[BOT]:
        server.claim_one(BOT)
    bot.clock.advance(seconds=1)
    await report(bot, count=0, fallback_unused=False)
    assert figures()["steward_one_time_keys"] == 0

    await bot.machine.maintain()

    assert figures()["steward_one_time_keys"] == 60
    assert figures()["steward_fallback_key_used_total"] == 1
    (told,) = await bot.database.fetch("SELECT sentence FROM alarm")
    assert "fallback key was used" in told["sentence"]


async def test_another_pickle_key_is_one_clear_error(bot: Bot, server: KeyServer) -> None:
    wrong = Bot(bot.database, server, bot.clock, pickle_key="another key")

    with pytest.raises(WrongPickleKeyError, match=r"encryption\.pickle_key"):
        await wrong.machine.set_up()


async def test_nothing_is_stored_in_clear_text(bot: Bot, alice: Peer) -> None:
    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    await bot.encrypt("x", [alice])
    exported = alice.group.session_key.to_base64()

    for table in ("crypto_account", "crypto_inbound_session", "crypto_cross_signing"):
        for row in await bot.database.fetch(f"SELECT * FROM {table}"):
            assert exported[20:60] not in str(tuple(row))


async def test_a_machine_needs_a_device_and_a_set_up(
    database: Database, server: KeyServer, clock: FakeClock
) -> None:
    bot = Bot(database, server, clock)

    with pytest.raises(PermanentError, match="not set up"):
        await bot.receive({})
    assert isinstance(bot.machine, CryptoMachine)
