"""Which room key wins, whose it is, and why one is missing."""

import json

import vodozemac

from common.crypto.canonical import from_unpadded, sign_json, unpadded
from common.crypto.port import Decrypted, KeySource, SessionRef, Trust, Undecryptable, Why
from common.crypto.room_keys import RoomKey
from common.inbox.port import EntryKind
from tests.unit.crypto.peers import ROOM, Bot, KeyServer, Peer, rolled_back


def text_of(reading: object) -> bytes:
    assert isinstance(reading, Decrypted), reading
    return reading.payload


def why(reading: object) -> Why:
    assert isinstance(reading, Undecryptable), reading
    return reading.why


async def test_a_room_key_opens_messages(bot: Bot, alice: Peer) -> None:
    improved = await bot.receive(alice.olm("m.room_key", alice.room_key()))

    [reading] = await bot.decrypt(alice.message("hello", event_id="$1"))

    assert improved == {SessionRef(ROOM, alice.group.session_id)}
    assert b"hello" in text_of(reading)


async def test_a_key_after_its_event_opens_it(bot: Bot, alice: Peer) -> None:
    key = alice.room_key()
    event = alice.message("early", event_id="$1")

    assert [why(r) for r in await bot.decrypt(event)] == [Why.NO_SESSION]
    await bot.receive(alice.olm("m.room_key", key))

    assert b"early" in text_of((await bot.decrypt(event))[0])


async def test_a_later_copy_replaces_one_that_begins_later_only(bot: Bot, alice: Peer) -> None:
    early = alice.room_key()
    first = alice.message("first", event_id="$1")
    late = alice.room_key()
    second = alice.message("second", event_id="$2")

    assert await bot.receive(alice.olm("m.room_key", late))
    assert [why(r) for r in await bot.decrypt(first)] == [Why.UNKNOWN_INDEX]
    assert await bot.receive(alice.olm("m.room_key", early))
    assert not await bot.receive(alice.olm("m.room_key", late))

    readings = await bot.decrypt(first, second)
    assert [b"first" in text_of(readings[0]), b"second" in text_of(readings[1])] == [True, True]


async def test_a_better_copy_is_found_although_the_worse_is_in_memory(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    early = alice.room_key()
    first = alice.message("first", event_id="$1")
    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    await bot.decrypt(first)  # the late copy is in memory now
    other = Bot(bot.database, server, bot.clock)

    await other.receive(alice.olm("m.room_key", early))

    assert b"first" in text_of((await bot.decrypt(first))[0])


async def test_another_session_under_the_same_name_changes_nothing(bot: Bot, alice: Peer) -> None:
    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    stranger = vodozemac.GroupSession()
    forged = alice.room_key(session_key=stranger.session_key.to_base64())

    assert not await bot.receive(alice.olm("m.room_key", forged))
    assert b"hello" in text_of((await bot.decrypt(alice.message("hello", event_id="$1")))[0])


async def test_a_key_under_the_name_of_another_is_not_stored(bot: Bot, alice: Peer) -> None:
    stranger = vodozemac.GroupSession()
    forged = alice.room_key(session_key=stranger.session_key.to_base64())

    assert not await bot.receive(alice.olm("m.room_key", forged))
    assert await bot.receive(alice.olm("m.room_key", alice.room_key()))


async def test_the_same_key_for_another_room_does_not_move_the_session(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    mallory = Peer(server, "@mallory:example.org", "MALLORY")
    key = alice.room_key()
    await bot.receive(alice.olm("m.room_key", key))

    await bot.receive(mallory.olm("m.room_key", {**key, "room_id": "!elsewhere"}))

    [reading] = await bot.decrypt(alice.message("hello", event_id="$1"))
    assert isinstance(reading, Decrypted)
    assert reading.sender_key == alice.account.curve25519


async def test_whoever_resends_a_key_first_does_not_become_its_owner(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    mallory = Peer(server, "@mallory:example.org", "MALLORY")
    alice.cross_sign()
    stolen = alice.room_key()
    unseen = alice.message("before", event_id="$0")
    await bot.receive(mallory.olm("m.room_key", stolen))
    await bot.machine.learn([alice.me.user_id, mallory.me.user_id])
    [early] = await bot.decrypt(unseen)  # mallory's copy is in memory now
    assert isinstance(early, Decrypted)
    assert early.trust is Trust.MISMATCH
    await bot.receive(alice.olm("m.room_key", alice.room_key()))

    readings = await bot.decrypt(alice.message("after", event_id="$1"), unseen)

    assert [r.trust for r in readings if isinstance(r, Decrypted)] == [
        Trust.CROSS_SIGNED,
        Trust.MISMATCH,  # only mallory's copy reaches back to it
    ]


async def test_a_message_sent_under_another_name_is_a_mismatch(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    mallory = Peer(server, "@mallory:example.org", "MALLORY")
    mallory.group = alice.group
    await bot.receive(alice.olm("m.room_key", alice.room_key()))

    [reading] = await bot.decrypt(mallory.message("not mine", event_id="$1"))

    assert isinstance(reading, Decrypted)
    assert reading.trust is Trust.MISMATCH


async def test_withheld_keys_are_explained_by_their_sender_only(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    mallory = Peer(server, "@mallory:example.org", "MALLORY")
    event = alice.message("secret", event_id="$1")
    news = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": alice.group.session_id,
        "sender_key": alice.account.curve25519,
        "code": "m.unverified",
    }

    async def tell(sender: Peer, code: str) -> Why:
        body = {"type": "m.room_key.withheld", "sender": sender.me.user_id}
        await bot.receive({**body, "content": {**news, "code": code}})
        return why((await bot.decrypt(event))[0])

    assert await tell(mallory, "m.blacklisted") is Why.NO_SESSION
    assert await tell(alice, "m.unverified") is Why.WITHHELD_UNVERIFIED
    assert await tell(alice, "m.blacklisted") is Why.WITHHELD_BLACKLISTED
    assert await tell(alice, "m.unauthorised") is Why.WITHHELD_UNAUTHORISED
    assert await tell(alice, "m.unavailable") is Why.WITHHELD_UNAVAILABLE


async def test_no_olm_holds_until_an_olm_message_comes(bot: Bot, alice: Peer) -> None:
    event = alice.message("secret", event_id="$1")
    content = {"algorithm": "m.megolm.v1.aes-sha2", "code": "m.no_olm", "sender_key": "x"}
    await bot.receive(
        {"type": "m.room_key.withheld", "sender": alice.me.user_id, "content": content}
    )

    before = [why(r) for r in await bot.decrypt(event)]
    await bot.receive(alice.olm("m.dummy", {}))
    after = [why(r) for r in await bot.decrypt(event)]

    assert (before, after) == ([Why.NO_OLM], [Why.NO_SESSION])


async def test_payload_names_that_are_not_ours_or_theirs_are_refused(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    mallory = Peer(server, "@mallory:example.org", "MALLORY")
    key = alice.room_key()
    other = "x" * 43

    assert not await bot.receive(
        alice.olm("m.room_key", key, sender="@bob:example.org"),
        alice.olm("m.room_key", key, recipient="@bob:example.org"),
        alice.olm("m.room_key", key, recipient_keys={"ed25519": other}),
        alice.olm("m.room_key", key, recipient_keys=None),
        alice.olm("m.room_key", key, keys={}),
        alice.olm("m.room_key", key, sender_device_keys=mallory.account.device_keys()),
        {**alice.olm("m.room_key", key), "sender": "@mallory:example.org"},
    )
    assert sum(bot.machine.refused_to_device.values()) == 7
    assert await bot.receive(alice.olm("m.room_key", key))


async def test_a_claimed_fingerprint_that_the_device_does_not_have_is_refused(
    bot: Bot, alice: Peer
) -> None:
    await bot.machine.learn([alice.me.user_id])
    forged = alice.olm("m.room_key", alice.room_key(), keys={"ed25519": "x" * 43})

    assert not await bot.receive(forged)


async def test_a_device_that_describes_itself_is_known_at_once(bot: Bot, alice: Peer) -> None:
    identity = alice.cross_sign()
    own = identity.sign_device(alice.account.device_keys())
    await bot.machine.learn([alice.me.user_id])
    second = Peer(bot.server, alice.me.user_id, "SECOND")
    signed = identity.sign_device(second.account.device_keys())

    await bot.receive(
        alice.olm("m.room_key", alice.room_key(), sender_device_keys=own),
        second.olm("m.room_key", second.room_key(), sender_device_keys=signed),
    )

    readings = await bot.decrypt(
        alice.message("1", event_id="$1"), second.message("2", event_id="$2")
    )
    assert [(r.trust, r.device_id) for r in readings if isinstance(r, Decrypted)] == [
        (Trust.CROSS_SIGNED, "ALICE"),
        (Trust.CROSS_SIGNED, "SECOND"),
    ]


async def test_trust_follows_the_identity(bot: Bot, alice: Peer) -> None:
    async def trust(event_id: str) -> Trust:
        [reading] = await bot.decrypt(alice.message("x", event_id=event_id))
        assert isinstance(reading, Decrypted)
        return reading.trust

    async def changed() -> None:
        await bot.receive({"changed": [alice.me.user_id]}, kind=EntryKind.DEVICE_LIST)
        await bot.machine.maintain()

    await bot.receive(alice.olm("m.room_key", alice.room_key()))
    assert await trust("$1") is Trust.UNKNOWN_DEVICE
    await bot.machine.maintain()  # the unknown sender was noted
    assert await trust("$2") is Trust.UNVERIFIED_DEVICE
    identity = alice.cross_sign()
    await changed()
    assert await trust("$3") is Trust.CROSS_SIGNED
    bot.server.cross_signing[alice.me.user_id]["self_signing"] = sign_json(
        {
            "user_id": alice.me.user_id,
            "usage": ["self_signing"],
            "keys": {identity.self_signing.key_id: identity.self_signing.public},
        },
        user_id=alice.me.user_id,
        key_id=identity.master.key_id,
        sign=alice.account.sign,  # not the master key
    )
    await changed()
    assert await trust("$4") is Trust.UNVERIFIED_DEVICE
    renewed = type(identity)(
        identity.user_id, identity.user_signing, identity.self_signing, identity.master
    )
    alice.sign_with(renewed)
    await changed()
    assert await trust("$5") is Trust.IDENTITY_CHANGED


async def test_a_rolled_back_transaction_leaves_everything_to_be_done_again(
    bot: Bot, alice: Peer
) -> None:
    first = alice.olm("m.room_key", alice.room_key())
    async with rolled_back(bot.database) as conn:
        assert await bot.machine.receive(conn, [bot.entry(json.dumps(first).encode())])

    assert await bot.receive(first)
    assert b"hello" in text_of((await bot.decrypt(alice.message("hello", event_id="$1")))[0])


def test_an_earlier_session_with_other_ratchets_is_no_better() -> None:
    group = vodozemac.GroupSession()
    whole = vodozemac.InboundGroupSession(group.session_key)
    group.encrypt(b"x")
    later = vodozemac.InboundGroupSession(group.session_key)
    exported = whole.export_at(0)
    assert exported is not None
    forged = bytearray(from_unpadded(exported.to_base64()))
    forged[40] ^= 1  # within the ratchet; the session ID stays the same
    other = vodozemac.InboundGroupSession.import_session(
        vodozemac.ExportedSessionKey(unpadded(bytes(forged)))
    )

    def key(session: vodozemac.InboundGroupSession) -> RoomKey:
        ref = SessionRef(ROOM, session.session_id)
        return RoomKey(ref, "@alice:example.org", "curve", "ed", KeySource.DIRECT, session)

    assert other.session_id == whole.session_id
    assert key(whole).improves(key(later))
    assert not key(whole).improves(key(whole))
    assert not key(later).improves(key(whole))
    assert not key(other).improves(key(later))
