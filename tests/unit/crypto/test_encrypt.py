"""Sending: who gets the key, when it changes, and that an index is never used twice."""

import asyncio
from typing import Any

import pytest
import vodozemac

from common.crypto.canonical import Json
from common.crypto.port import Decrypted, EncryptedEvent, Trust
from common.errors import TransientError, UserError
from common.ids import UserId
from common.inbox.port import EntryKind
from tests.unit.crypto.peers import BOT, ROOM, Bot, KeyServer, Peer

DAY = 86_400.0


def index_of(content: Json) -> int:
    return vodozemac.MegolmMessage.from_base64(content["ciphertext"]).message_index()


class Reader:
    """What a peer makes of the bot's messages."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.sessions: dict[str, vodozemac.InboundGroupSession] = {}

    def take_keys(self) -> list[str]:
        ids = []
        for message in self.peer.inbox():
            assert message["type"] == "m.room_key"
            content = message["content"]
            key = vodozemac.SessionKey(content["session_key"])
            self.sessions[content["session_id"]] = vodozemac.InboundGroupSession(key)
            ids.append(content["session_id"])
        return ids

    def read(self, content: Json) -> bytes:
        session = self.sessions[content["session_id"]]
        message = vodozemac.MegolmMessage.from_base64(content["ciphertext"])
        return session.decrypt(message).plaintext


@pytest.fixture
def bob(server: KeyServer) -> Peer:
    return Peer(server, "@bob:example.org", "BOB")


async def changed(bot: Bot, peer: Peer) -> None:
    await bot.receive({"changed": [peer.me.user_id]}, kind=EntryKind.DEVICE_LIST)


async def test_members_read_and_so_do_we(bot: Bot, alice: Peer, bob: Peer) -> None:
    readers = [Reader(alice), Reader(bob)]

    content = await bot.encrypt("hello", [alice, bob])
    more = await bot.encrypt("again", [alice, bob])

    for reader in readers:
        assert len(reader.take_keys()) == 1
        assert b"hello" in reader.read(content)
        assert b"again" in reader.read(more)
    assert bot.server.calls["keys/claim"] == 1
    [own] = await bot.decrypt(EncryptedEvent("$1", ROOM, BOT.user_id, content))
    assert isinstance(own, Decrypted)
    assert own.trust is Trust.CROSS_SIGNED


async def test_no_index_twice_after_a_crash(bot: Bot, server: KeyServer, alice: Peer) -> None:
    indexes = [index_of(await bot.encrypt("1", [alice]))]
    for _ in range(4):
        bot = Bot(bot.database, server, bot.clock)
        indexes.append(index_of(await bot.encrypt("2", [alice])))

    assert indexes == [0, 1, 2, 3, 4]


async def test_no_index_twice_at_the_same_time(bot: Bot, alice: Peer) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bot.encrypt(str(n), [alice])) for n in range(20)]

    contents = [task.result() for task in tasks]
    assert sorted(index_of(content) for content in contents) == list(range(20))
    assert len({content["session_id"] for content in contents}) == 1
    assert len(alice.inbox()) == 1


async def test_a_key_whose_sending_failed_is_sent_with_the_next_message(
    bot: Bot, alice: Peer
) -> None:
    reader = Reader(alice)
    bot.server.down_for.add("sendToDevice")
    with pytest.raises(TransientError):
        await bot.encrypt("lost", [alice])
    bot.server.down_for.clear()

    content = await bot.encrypt("hello", [alice])

    reader.take_keys()
    assert b"hello" in reader.read(content)


@pytest.mark.parametrize(
    ("settings", "sent", "rotates"),
    [
        ({}, (99, 0.0), False),
        ({}, (100, 0.0), True),
        ({}, (1, 7 * DAY - 1), False),
        ({}, (1, 7 * DAY), True),
        ({"rotation_period_msgs": 3}, (3, 0.0), True),
        ({"rotation_period_ms": int(DAY * 1000)}, (1, DAY), True),
        ({"rotation_period_ms": 1}, (1, 60.0), False),
        ({"rotation_period_msgs": -1, "rotation_period_ms": "x"}, (99, 0.0), False),
        ({"rotation_period_msgs": True, "rotation_period_ms": None}, (5, 0.0), False),
    ],
)
async def test_rotation_by_the_rooms_settings(
    bot: Bot, alice: Peer, settings: dict[str, Any], sent: tuple[int, float], rotates: bool
) -> None:
    messages, seconds = sent
    contents = [await bot.encrypt("x", [alice], **settings) for _ in range(messages)]
    bot.clock.advance(seconds=seconds)

    after = await bot.encrypt("y", [alice], **settings)

    assert len({content["session_id"] for content in contents}) == 1
    assert (after["session_id"] != contents[0]["session_id"]) == rotates


async def test_who_left_cannot_read_on_and_who_came_cannot_read_back(
    bot: Bot, alice: Peer, bob: Peer
) -> None:
    reader, newcomer = Reader(alice), Reader(bob)
    first = await bot.encrypt("1", [alice])
    second = await bot.encrypt("2", [alice, bob])
    third = await bot.encrypt("3", [bob])

    reader.take_keys()
    newcomer.take_keys()
    assert first["session_id"] == second["session_id"] != third["session_id"]
    assert third["session_id"] not in reader.sessions
    assert b"2" in newcomer.read(second)
    with pytest.raises(ValueError, match="unknown message index"):
        newcomer.read(first)


async def test_a_removed_device_ends_the_session_and_a_new_one_gets_it(
    bot: Bot, server: KeyServer, alice: Peer
) -> None:
    second = Peer(server, alice.me.user_id, "SECOND")
    one = await bot.encrypt("1", [alice])
    del server.devices[alice.me.user_id]["SECOND"]
    await changed(bot, alice)
    two = await bot.encrypt("2", [alice])
    third = Peer(server, alice.me.user_id, "THIRD")
    await changed(bot, alice)
    three = await bot.encrypt("3", [alice])

    readers = [Reader(second), Reader(third)]
    assert [reader.take_keys() for reader in readers] == [
        [one["session_id"]],
        [two["session_id"]],
    ]
    assert two["session_id"] == three["session_id"]


async def test_a_device_whose_keys_were_replaced_gets_no_key(
    bot: Bot, server: KeyServer, alice: Peer, bob: Peer
) -> None:
    first = await bot.encrypt("1", [alice, bob])
    impostor = Peer(server, alice.me.user_id, alice.me.device_id)
    alice.inbox()
    await changed(bot, alice)

    second = await bot.encrypt("2", [alice, bob])

    assert second["session_id"] != first["session_id"]
    assert impostor.inbox() == []


async def test_hostile_devices_are_left_out(bot: Bot, server: KeyServer, alice: Peer) -> None:
    mallory = server.devices.setdefault("@mallory:example.org", {})
    mallory["ALICE"] = server.devices[alice.me.user_id]["ALICE"]
    mallory["JUNK"] = {"keys": 1}
    server.devices["@mallory:example.org"]["LIST"] = []  # type: ignore[assignment]  # the wrong value that is tested
    unsigned = Peer(server, "@mallory:example.org", "UNSIGNED")
    server.devices["@mallory:example.org"]["UNSIGNED"]["signatures"] = {}
    no_keys = Peer(server, "@mallory:example.org", "EMPTY", keys=0)
    forged = Peer(server, "@mallory:example.org", "FORGED")
    for key in server.one_time[forged.me].values():
        key["key"] = "A" * 43

    content = await bot.encrypt("hello", [alice, unsigned])

    reader = Reader(alice)
    reader.take_keys()
    assert b"hello" in reader.read(content)
    assert [peer.inbox() for peer in (unsigned, no_keys, forged)] == [[], [], []]
    claims = server.calls["keys/claim"]
    await bot.encrypt("again", [alice, unsigned])
    assert server.calls["keys/claim"] == claims  # not for every message


async def test_a_relation_stays_readable_outside(bot: Bot, alice: Peer) -> None:
    relation = {"rel_type": "m.thread", "event_id": "$root"}
    content = await bot.machine.encrypt(
        ROOM,
        "m.room.message",
        {"body": "x", "m.relates_to": relation},
        members=[alice.me.user_id],
        settings={},
    )

    reader = Reader(alice)
    reader.take_keys()
    assert content["m.relates_to"] == relation
    assert b"m.relates_to" not in reader.read(content)


async def test_what_cannot_be_sent_is_said(bot: Bot) -> None:
    with pytest.raises(UserError):
        await bot.machine.encrypt(ROOM, "m.x", {"n": 1.5}, members=[], settings={})


async def test_many_devices_are_sent_to_in_portions(bot: Bot, server: KeyServer) -> None:
    peers = [Peer(server, f"@peer{n}:example.org", "D", keys=1) for n in range(230)]

    await bot.encrypt("hello", peers)

    assert all(len(peer.inbox()) == 1 for peer in peers)
    sends = sum(count for call, count in server.calls.items() if call.startswith("sendToDevice"))
    assert sends == 3


async def test_olm_answers_go_over_the_session_that_the_other_side_used(
    bot: Bot, alice: Peer
) -> None:
    await bot.receive(alice.olm("m.room_key", alice.room_key()))

    await bot.encrypt("hello", [alice])

    [message] = alice.inbox()
    assert message["type"] == "m.room_key"
    assert bot.server.calls["keys/claim"] == 0


async def test_users_on_servers_that_are_away_do_not_stop_a_message(
    bot: Bot, server: KeyServer, alice: Peer
) -> None:
    far = Peer(server, "@far:elsewhere.example", "D")
    original = server._keys_query

    def failing(me: Any, body: Json) -> Json:
        answer = original(me, body)
        answer["device_keys"].pop(far.me.user_id, None)
        answer["failures"] = {"elsewhere.example": {"status": 503}}
        return answer

    server._keys_query = failing  # type: ignore[method-assign]  # the failure that is tested
    await bot.encrypt("1", [alice, far])
    queries = server.calls["keys/query"]
    await bot.encrypt("2", [alice, far])
    assert server.calls["keys/query"] == queries  # asked again after a while only
    server._keys_query = original  # type: ignore[method-assign]  # the end of it
    bot.clock.advance(seconds=61)

    await bot.encrypt("3", [alice, far])

    assert len(far.inbox()) == 1


async def test_a_server_that_hangs_is_asked_ever_more_rarely_whoever_writes(
    bot: Bot, server: KeyServer
) -> None:
    original, asked = server._keys_query, 0

    def hanging(me: Any, body: Json) -> Json:
        nonlocal asked
        asked += 1
        return {"device_keys": {}, "failures": {"hostile.example": {"status": 504}}}

    server._keys_query = hanging  # type: ignore[method-assign]  # the failure that is tested
    for n in range(120):  # an hour, a new person each half minute
        await bot.machine.learn([UserId(f"@u{n}:hostile.example")])
        bot.clock.advance(seconds=30)
    assert asked <= 7
    server._keys_query = original  # type: ignore[method-assign]  # the end of it
    late = Peer(server, "@late:hostile.example", "D")
    bot.clock.advance(seconds=3600)

    await bot.machine.learn([late.me.user_id])

    assert await bot.machine._tracker.devices_of([late.me.user_id])
