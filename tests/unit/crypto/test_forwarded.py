"""Forwarded room keys: from our own verified devices only, and never in place of better ones."""

import pytest
import vodozemac

from common.crypto.canonical import Json, from_unpadded, unpadded
from common.crypto.port import Decrypted, EncryptedEvent, KeySource, SessionRef, Trust
from common.ids import DeviceId
from tests.unit.crypto.peers import BOT, ROOM, Bot, KeyServer, Peer
from tests.unit.crypto.test_encrypt import changed

REFUSED = "a forwarded room key from elsewhere than our own verified devices"


@pytest.fixture
def laptop(server: KeyServer, bot: Bot) -> Peer:
    """Another device of the bot: a person who logged in as it."""
    return Peer(server, BOT.user_id, "LAPTOP")


async def verified(bot: Bot, device: Peer) -> None:
    """Sign a device with the bot's own identity, and have the bot hear of it."""
    async with bot.database.transaction() as conn:
        identity = await bot.machine._cross_signing._identities.load(conn)
    assert identity is not None
    signed = identity.sign_device(device.account.device_keys())
    bot.server.devices[BOT.user_id][DeviceId("LAPTOP")] = signed
    await changed(bot, device)
    await bot.machine.maintain()


def forwarded(alice: Peer, **changes: object) -> Json:
    """Return alice's session as it is now, as somebody else passes it on."""
    session = vodozemac.InboundGroupSession(alice.group.session_key)
    exported = session.export_at(session.first_known_index)
    assert exported is not None
    return {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": alice.group.session_id,
        "session_key": exported.to_base64(),
        "sender_key": alice.account.curve25519,
        "sender_claimed_ed25519_key": alice.account.ed25519,
        "forwarding_curve25519_key_chain": [],
        **changes,
    }


async def read(bot: Bot, event: EncryptedEvent) -> Decrypted:
    [reading] = await bot.decrypt(event)
    assert isinstance(reading, Decrypted), reading
    return reading


async def test_a_key_from_our_own_verified_device_opens_without_proving_the_sender(
    bot: Bot, alice: Peer, laptop: Peer
) -> None:
    await verified(bot, laptop)
    content = forwarded(alice)

    new = await bot.receive(laptop.olm("m.forwarded_room_key", content))

    assert new == {SessionRef(ROOM, alice.group.session_id)}
    reading = await read(bot, alice.message("hello", event_id="$1"))
    assert (reading.key_source, reading.trust) == (KeySource.FORWARDED, Trust.UNKNOWN_DEVICE)


async def test_keys_from_others_and_from_unverified_devices_are_refused_and_counted(
    bot: Bot, alice: Peer, laptop: Peer
) -> None:
    await changed(bot, laptop)
    await bot.machine.maintain()

    for device in (alice, laptop):
        assert not await bot.receive(device.olm("m.forwarded_room_key", forwarded(alice)))

    assert bot.machine.refused_to_device[REFUSED] == 2


async def test_a_device_signed_by_another_identity_is_refused(
    bot: Bot, alice: Peer, laptop: Peer
) -> None:
    laptop.cross_sign()  # what a lying homeserver would show
    await changed(bot, laptop)
    await bot.machine.maintain()

    assert not await bot.receive(laptop.olm("m.forwarded_room_key", forwarded(alice)))


@pytest.mark.parametrize(
    "change",
    [{"session_key": "AAAA"}, {"session_id": "other"}, {"sender_key": 3}, {"algorithm": "x"}],
)
async def test_a_malformed_key_is_refused(
    bot: Bot, alice: Peer, laptop: Peer, change: Json
) -> None:
    await verified(bot, laptop)

    message = laptop.olm("m.forwarded_room_key", forwarded(alice, **change))
    assert not await bot.receive(message)
    assert bot.machine.refused_to_device["a malformed room key"] == 1


async def test_it_lends_earlier_messages_to_the_owners_own_key_and_takes_no_trust_away(
    bot: Bot, alice: Peer, laptop: Peer
) -> None:
    await verified(bot, laptop)
    alice.cross_sign()
    earlier = forwarded(alice)
    first = alice.message("first", event_id="$1")
    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    second = alice.message("second", event_id="$2")
    await bot.machine.learn([alice.me.user_id])

    await bot.receive(laptop.olm("m.forwarded_room_key", earlier))

    for event in (first, second):
        reading = await read(bot, event)
        assert (reading.key_source, reading.trust) == (KeySource.DIRECT, Trust.CROSS_SIGNED)


async def test_the_owners_own_key_takes_the_place_of_a_forwarded_one(
    bot: Bot, alice: Peer, laptop: Peer
) -> None:
    await verified(bot, laptop)
    alice.cross_sign()
    await bot.receive(laptop.olm("m.forwarded_room_key", forwarded(alice)))
    first = alice.message("first", event_id="$1")

    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    await bot.machine.learn([alice.me.user_id])

    reading = await read(bot, first)
    assert (reading.key_source, reading.trust) == (KeySource.DIRECT, Trust.CROSS_SIGNED)


async def test_another_chain_under_the_same_name_displaces_nothing(
    bot: Bot, alice: Peer, laptop: Peer
) -> None:
    await verified(bot, laptop)
    alice.message("skipped", event_id="$0")
    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    exported = vodozemac.InboundGroupSession(alice.group.session_key).export_at(1)
    assert exported is not None
    forged = _with_index_zero(exported.to_base64())

    await bot.receive(laptop.olm("m.forwarded_room_key", forwarded(alice, session_key=forged)))

    reading = await read(bot, alice.message("second", event_id="$1"))
    assert reading.key_source is KeySource.DIRECT


def _with_index_zero(exported: str) -> str:
    """Return an exported session that claims to begin earlier than it does."""
    data = bytearray(from_unpadded(exported))
    data[1:5] = b"\0\0\0\0"
    return unpadded(bytes(data))
