"""Reading room messages: replays, hostile messages, and what is held in memory."""

from typing import Any

import pytest
import vodozemac
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from common.crypto.canonical import from_unpadded, unpadded
from common.crypto.opening import Opened
from common.crypto.port import (
    Decrypted,
    EncryptedEvent,
    KeySource,
    SessionRef,
    Trust,
    Undecryptable,
    Why,
)
from common.crypto.room_keys import RoomKey
from tests.unit.crypto.peers import ROOM, Bot, KeyServer, Peer, rolled_back


async def share(bot: Bot, peer: Peer, room: str = ROOM) -> None:
    await bot.receive(peer.olm("m.room_key", peer.room_key(room)))


def results(readings: list[Any]) -> list[object]:
    return [r.why if isinstance(r, Undecryptable) else r.index for r in readings]


async def test_one_index_belongs_to_one_event(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    first = alice.message("pay 10", event_id="$1")
    again = replace(first, event_id="$2")

    assert results(await bot.decrypt(first)) == [0]
    assert results(await bot.decrypt(again)) == [Why.REPLAY]
    assert results(await bot.decrypt(first, again)) == [0, Why.REPLAY]


async def test_a_replay_in_the_same_batch_is_one(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    first = alice.message("pay 10", event_id="$1")

    readings = await bot.decrypt(first, replace(first, event_id="$2"), first)

    assert results(readings) == [0, Why.REPLAY, 0]


async def test_a_batch_larger_than_a_statement_is_bound_completely(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    events = [alice.message(str(n), event_id=f"${n}") for n in range(1101)]

    assert results(await bot.decrypt(*events)) == list(range(1101))
    copies = [replace(event, event_id=f"{event.event_id}x") for event in events]
    assert results(await bot.decrypt(*copies)) == [Why.REPLAY] * 1101


async def test_an_index_bound_in_a_rolled_back_transaction_is_free(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    first = alice.message("pay 10", event_id="$1")
    async with rolled_back(bot.database) as conn:
        await bot.machine.decrypt(conn, [first])

    assert results(await bot.decrypt(replace(first, event_id="$2"))) == [0]


async def test_a_message_for_another_room_is_refused(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    await share(bot, alice, "!other")
    event = alice.message("x", event_id="$1", room="!other")

    assert results(await bot.decrypt(replace(event, room_id=ROOM))) == [Why.ROOM_MISMATCH]
    assert results(await bot.decrypt(event)) == [0]


async def test_a_tampered_message_is_refused_and_binds_nothing(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    event = alice.message("x", event_id="$1")
    data = bytearray(from_unpadded(event.content["ciphertext"]))
    data[-80] ^= 1
    tampered = replace(
        event, event_id="$0", content={**event.content, "ciphertext": unpadded(bytes(data))}
    )

    assert results(await bot.decrypt(tampered)) == [Why.BAD_MAC]
    assert results(await bot.decrypt(event)) == [0]


async def test_what_was_read_early_is_checked_when_its_turn_comes(bot: Bot, alice: Peer) -> None:
    await share(bot, alice)
    await bot.decrypt(alice.message("so that the session is in memory", event_id="$0"))
    event = alice.message("x", event_id="$1")
    twice = replace(event, event_id="$2")
    events = [event, twice, replace(event, event_id="$3", room_id="!elsewhere")]

    early = await bot.machine.open_early(events)
    async with bot.database.transaction() as conn:
        readings = await bot.machine.decrypt(conn, events, early)

    assert early[0].opened is not None
    assert results(readings) == [1, Why.REPLAY, Why.NO_SESSION]


async def test_what_was_read_early_with_a_copy_that_was_replaced_is_read_again(
    bot: Bot, alice: Peer
) -> None:
    session = vodozemac.InboundGroupSession(alice.group.session_key)
    ref = SessionRef(ROOM, alice.group.session_id)
    keys = (alice.account.curve25519, alice.account.ed25519)
    from_backup = RoomKey(ref, alice.me.user_id, *keys, KeySource.BACKUP, session)
    async with bot.database.transaction() as conn:
        await bot.machine._room_keys.add(conn, [from_backup])
    whole = alice.room_key()
    await bot.decrypt(alice.message("so that the session is in memory", event_id="$0"))
    event = alice.message("x", event_id="$1")
    (early,) = await bot.machine.open_early([event])
    assert results([(await bot.decrypt(event))[0]]) == [1]

    await bot.receive(alice.olm("m.room_key", whole))
    async with bot.database.transaction() as conn:
        (reading,) = await bot.machine.decrypt(conn, [event], [early])

    assert isinstance(early.opened, Opened)
    assert early.opened.key.source is KeySource.BACKUP
    assert isinstance(reading, Decrypted)
    assert reading.key_source is KeySource.DIRECT


async def test_an_index_before_the_key_is_unknown(bot: Bot, alice: Peer) -> None:
    early = alice.message("x", event_id="$1")
    await share(bot, alice)

    assert results(await bot.decrypt(early)) == [Why.UNKNOWN_INDEX]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"type": "m.room.message", "content": {}}',
        b'{"type": "m.room.message", "content": {}, "room_id": null}',
        b'{"type": 1, "content": {}, "room_id": "!room"}',
        b'{"type": "m.room.message", "content": [], "room_id": "!room"}',
        b'{"type": "m.room.message", "content": "x", "room_id": "!room"}',
        b'{"type": "m.room.message", "room_id": "!room"}',
    ],
)
async def test_a_payload_of_another_form_is_malformed(
    bot: Bot, alice: Peer, payload: bytes
) -> None:
    await share(bot, alice)

    assert results(await bot.decrypt(alice.sealed(payload, event_id="$1"))) == [Why.MALFORMED]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type": "m.room.message", "content": {"body": "\\ud800"}, "room_id": "!room"}',
        b'{"type": "m.room.message", "content": {"body": "\xff"}, "room_id": "!room"}',
        b'{"type": "m.room.message", "content": {"n": 1e999}, "room_id": "!room", "x": "\\udc00"}',
        b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b', "type": "m.room.message",'
        b' "content": {"body": "shown"}, "room_id": "!room"}',
    ],
)
async def test_odd_text_does_not_hide_a_message(bot: Bot, alice: Peer, payload: bytes) -> None:
    await share(bot, alice)

    [reading] = await bot.decrypt(alice.sealed(payload, event_id="$1"))

    assert isinstance(reading, Decrypted)
    assert reading.payload == payload


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    content=st.fixed_dictionaries(
        {},
        optional={
            "algorithm": st.just("m.megolm.v1.aes-sha2") | HOSTILE,
            "ciphertext": st.binary(max_size=200).map(unpadded) | HOSTILE,
            "session_id": st.just("known") | HOSTILE,
            "sender_key": HOSTILE,
            "device_id": HOSTILE,
        },
    ),
    sender=st.text(max_size=8),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_events_are_answered_and_never_raise(
    bot: Bot, content: dict[str, Any], sender: str
) -> None:
    [reading] = await bot.decrypt(EncryptedEvent("$1", ROOM, sender, content))

    assert isinstance(reading, Undecryptable)


async def test_memory_holds_no_more_sessions_than_allowed(
    bot: Bot, server: KeyServer, alice: Peer
) -> None:
    small = Bot(bot.database, server, bot.clock, session_cache=3)
    events = []
    for n in range(10):
        alice.group = type(alice.group)()
        await share(small, alice)
        events.append(alice.message(str(n), event_id=f"${n}"))

    assert results(await small.decrypt(*events)) == [0] * 10
    assert len(small.machine._cache) == 3
    assert results(await small.decrypt(*events)) == [0] * 10


@pytest.mark.parametrize("with_a_copy", [False, True], ids=["without the key", "with the key"])
async def test_a_copy_under_another_name_takes_nobodys_place(
    bot: Bot, server: KeyServer, alice: Peer, with_a_copy: bool
) -> None:
    mallory = Peer(server, "@mallory:example.org", "MALLORY")
    await bot.receive(mallory.olm("m.dummy", {}))  # the same Olm session for both ways
    key = alice.room_key()
    await bot.receive(alice.olm("m.room_key", key))
    if with_a_copy:
        await bot.receive(mallory.olm("m.room_key", key))
    await bot.machine.learn([alice.me.user_id, mallory.me.user_id])
    original = alice.message("pay 10", event_id="$1")
    copy = replace(original, event_id="$2", sender=mallory.me.user_id)

    [first] = await bot.decrypt(copy)  # the push had lost the original
    [second] = await bot.decrypt(original)

    assert isinstance(first, Decrypted)
    assert (first.trust is Trust.MISMATCH) is not with_a_copy
    assert isinstance(second, Decrypted)
    assert second.trust is Trust.UNVERIFIED_DEVICE
    assert second.sender_key == alice.account.curve25519
    again = replace(original, event_id="$3")
    assert results(await bot.decrypt(again, replace(copy, event_id="$4"))) == [Why.REPLAY] * 2


async def test_after_the_original_a_copy_under_another_name_is_a_replay(
    bot: Bot, alice: Peer
) -> None:
    await share(bot, alice)
    original = alice.message("pay 10", event_id="$1")
    copy = replace(original, event_id="$2", sender="@mallory:example.org")

    assert results(await bot.decrypt(copy, original)) == [Why.REPLAY, 0]
    assert results(await bot.decrypt(copy)) == [Why.REPLAY]


async def test_a_copy_hides_nothing_of_a_session_whose_owner_is_unknown(
    bot: Bot, alice: Peer
) -> None:
    await share(bot, alice)
    async with bot.database.transaction() as conn:
        await conn.execute("UPDATE crypto_inbound_session SET source = 'backup', sender = ''")
    original = alice.message("pay 10", event_id="$1")
    copy = replace(original, event_id="$2", sender="@mallory:example.org")

    readings = await bot.decrypt(copy, original)

    assert results(readings) == [0, 0]
    for reading in readings:
        assert isinstance(reading, Decrypted)
        assert reading.trust is Trust.UNKNOWN_DEVICE
    assert results(await bot.decrypt(replace(original, event_id="$3"))) == [Why.REPLAY]
