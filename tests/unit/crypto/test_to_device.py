"""To-device messages: several Olm sessions, broken ones, hostile ones; device lists; counts."""

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.crypto.account import OLM
from common.crypto.olm import MOST_SESSIONS
from common.crypto.port import SessionRef
from common.database.pool import Connection
from common.errors import TransientError
from common.inbox.port import EntryKind
from tests.unit.crypto.peers import BOT, ROOM, Bot, KeyServer, Peer, rolled_back
from tests.unit.crypto.test_decrypt import HOSTILE

HOUR = 3600.0


def new_key(peer: Peer) -> dict[str, Any]:
    peer.group = type(peer.group)()
    return peer.room_key()


async def test_any_of_several_sessions_is_read(bot: Bot, alice: Peer) -> None:
    sessions = [alice.start_session() for _ in range(3)]
    for session in [*sessions, *reversed(sessions)]:
        alice.sessions = [session]
        assert await bot.receive(alice.olm("m.room_key", new_key(alice)))


async def test_messages_out_of_order_and_repeated(bot: Bot, alice: Peer) -> None:
    messages = [alice.olm("m.room_key", new_key(alice)) for _ in range(4)]

    assert len(await bot.receive(*reversed(messages))) == 4
    assert not await bot.receive(*messages)
    bot.clock.advance(seconds=2 * HOUR)
    await bot.machine.maintain()
    assert alice.inbox() == []  # a repeated message does not mean a broken session


async def test_only_the_last_used_sessions_are_kept(bot: Bot, alice: Peer) -> None:
    for _ in range(MOST_SESSIONS + 3):
        alice.start_session()
        await bot.receive(alice.olm("m.room_key", new_key(alice)))

    count = await bot.database.fetchval("SELECT COUNT(*) FROM crypto_olm_session")
    assert count == MOST_SESSIONS


async def test_a_broken_session_is_replaced_and_not_more_than_once_an_hour(
    bot: Bot, alice: Peer
) -> None:
    await bot.receive(alice.olm("m.room_key", new_key(alice)))
    async with bot.database.transaction() as conn:
        await conn.execute("DELETE FROM crypto_olm_session")

    assert not await bot.receive(alice.olm("m.room_key", new_key(alice)))
    await bot.machine.maintain()

    [dummy] = alice.inbox()
    assert (dummy["type"], dummy["sender"]) == ("m.dummy", BOT.user_id)
    assert dummy["recipient_keys"] == {"ed25519": alice.account.ed25519}
    assert dummy["sender_device_keys"]["device_id"] == BOT.device_id
    assert await bot.receive(alice.olm("m.room_key", new_key(alice)))  # over the new session

    alice.sessions.pop(0)
    for _ in range(3):
        await bot.receive(alice.olm("m.room_key", new_key(alice)))
        await bot.machine.maintain()
    assert alice.inbox() == []
    bot.clock.advance(seconds=HOUR)
    await bot.machine.maintain()
    assert [message["type"] for message in alice.inbox()] == ["m.dummy"]


async def test_made_up_devices_are_not_remembered_for_ever(bot: Bot, server: KeyServer) -> None:
    async def break_a_session() -> None:
        stranger = Peer(server, "@mallory:example.org", "MALLORY")
        await bot.receive(stranger.olm("m.dummy", {}))
        async with bot.database.transaction() as conn:
            await conn.execute("DELETE FROM crypto_olm_session")
        await bot.receive(stranger.olm("m.dummy", {}))

    async def remembered() -> int:
        return int(await bot.database.fetchval("SELECT COUNT(*) FROM crypto_wedged"))

    for _ in range(5):
        await break_a_session()
    await bot.machine.maintain()
    assert await remembered() == 5
    bot.clock.advance(seconds=HOUR + 1)
    await break_a_session()

    await bot.machine.maintain()

    assert await remembered() == 1


async def test_a_rolled_back_pre_key_message_is_read_the_next_time(bot: Bot, alice: Peer) -> None:
    message = alice.olm("m.room_key", alice.room_key())
    for _ in range(2):
        async with rolled_back(bot.database) as conn:
            await bot.machine.receive(conn, [bot.entry(json.dumps(message).encode())])

    assert await bot.receive(message) == {SessionRef(ROOM, alice.group.session_id)}


class FailingConnection:
    """A connection that is lost when Olm sessions are about to be written."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def executemany(self, query: str, args: Any) -> object:
        if "crypto_olm_session" in query:
            raise TransientError("The database is away.")
        return await self._inner.executemany(query, args)


async def test_a_one_time_key_used_in_memory_only_is_not_lost(bot: Bot, alice: Peer) -> None:
    message = alice.olm("m.room_key", alice.room_key())
    entry = bot.entry(json.dumps(message).encode())
    with pytest.raises(TransientError):
        async with bot.database.transaction() as conn:
            await bot.machine.receive(FailingConnection(conn), [entry])

    assert await bot.receive(message)


async def test_the_account_survives_being_cached(bot: Bot, server: KeyServer) -> None:
    for n in range(10):
        peer = Peer(server, f"@peer{n}:example.org", "DEVICE")
        assert await bot.receive(peer.olm("m.room_key", peer.room_key()))
        if n % 3 == 0:
            bot = Bot(bot.database, server, bot.clock)


async def test_entries_of_others_are_passed_over(bot: Bot, alice: Peer) -> None:
    body = json.dumps(alice.olm("m.room_key", alice.room_key())).encode()
    elsewhere = {**json.loads(body), "to_device_id": "OTHER"}

    assert not await bot.receive_raw(body, recipient="@adminbot:example.org")
    assert not await bot.receive(elsewhere)
    assert await bot.receive_raw(body, recipient="")


async def test_a_room_key_in_clear_text_is_nothing(bot: Bot, alice: Peer) -> None:
    event = {
        "type": "m.room_key",
        "sender": alice.me.user_id,
        "content": alice.room_key(),
    }
    forwarded = alice.olm("m.forwarded_room_key", alice.room_key())

    assert not await bot.receive(event, forwarded)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"type": "m.room.encrypted"}', b"{}", b"null"]
)
@pytest.mark.parametrize("kind", list(EntryKind))
async def test_malformed_entries_are_left_behind(bot: Bot, body: bytes, kind: EntryKind) -> None:
    assert not await bot.receive_raw(body, kind=kind)


@given(
    event=st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["m.room.encrypted", "m.room_key.withheld"]) | HOSTILE,
            "sender": st.just("@alice:example.org") | HOSTILE,
            "content": HOSTILE
            | st.fixed_dictionaries(
                {},
                optional={
                    "algorithm": st.sampled_from([OLM, "m.megolm.v1.aes-sha2"]) | HOSTILE,
                    "sender_key": st.just("A" * 43) | HOSTILE,
                    "code": st.just("m.unverified") | HOSTILE,
                    "room_id": HOSTILE,
                    "session_id": HOSTILE,
                    "ciphertext": HOSTILE,
                },
            ),
            "changed": HOSTILE,
            "left": HOSTILE,
            "one_time": HOSTILE,
            "unused_fallback": HOSTILE,
        },
    ),
    kind=st.sampled_from(list(EntryKind)),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_entries_never_raise(
    bot: Bot, event: dict[str, Any], kind: EntryKind
) -> None:
    assert not await bot.receive(event, kind=kind)


@given(
    kind=st.sampled_from([0, 1, 2, -1, True, None, "0", 0.0, 10**30]),
    body=st.binary(max_size=300).map(lambda b: base64.b64encode(b).decode().rstrip("="))
    | st.text(max_size=20),
    sender_key=st.sampled_from(["A" * 43, "", "x", "é" * 43, "A" * 300]),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_olm_messages_never_raise(
    bot: Bot, kind: object, body: str, sender_key: str
) -> None:
    keys = bot.server.devices[BOT.user_id][BOT.device_id]["keys"]
    content = {
        "algorithm": OLM,
        "sender_key": sender_key,
        "ciphertext": {keys[f"curve25519:{BOT.device_id}"]: {"type": kind, "body": body}},
    }

    assert not await bot.receive(
        {"type": "m.room.encrypted", "sender": "@alice:example.org", "content": content}
    )


@given(content=st.dictionaries(st.text(max_size=5), HOSTILE) | HOSTILE, keys=HOSTILE, own=HOSTILE)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hostile_payloads_never_raise(
    bot: Bot, alice: Peer, content: Any, keys: Any, own: Any
) -> None:
    forged = {**alice.room_key(), **content} if isinstance(content, dict) else content

    await bot.receive(
        alice.olm("m.room_key", forged),
        alice.olm("m.room_key", alice.room_key(), keys=keys),
        alice.olm("m.room_key", alice.room_key(), sender_device_keys=own),
    )
