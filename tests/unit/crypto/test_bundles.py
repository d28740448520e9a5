"""Bundles of room keys are taken from whoever invited the bot, and from nobody else."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import vodozemac

from common.crypto.attachments import AttachmentError
from common.crypto.bundles import (
    _KEEP_MS,
    _RETRY_MS,
    LARGEST_BYTES,
    MOST_OFFERS,
    MOST_VALUES,
    parse_bundle,
)
from common.crypto.canonical import Json
from common.crypto.port import Decrypted, KeySource, Trust, Undecryptable, Why
from tests.unit.crypto.peers import BOT, ROOM, Bot, KeyServer, Peer

FILE = {
    "v": "v2",
    "url": "mxc://example.org/bundle",
    "key": {"kty": "oct", "key_ops": ["decrypt"], "alg": "A256CTR", "k": "A" * 43, "ext": True},
    "iv": "A" * 22,
    "hashes": {"sha256": "A" * 43},
}


class FakeFiles:
    """Holds one bundle; our own port's double."""

    def __init__(self, *keys: Json, withheld: object = None) -> None:
        self.body = json.dumps({"room_keys": list(keys), "withheld": withheld}).encode()
        self.asked = 0
        self.error: Exception | None = None

    async def read_file(self, content: Mapping[str, Any]) -> AsyncIterator[bytes]:
        assert content["file"]["url"] == FILE["url"]
        self.asked += 1
        yield self.body
        if self.error is not None:
            raise self.error


def exported(owner: Peer, room: str = ROOM, **changes: object) -> Json:
    """Return a peer's Megolm session as a bundle has it."""
    session = vodozemac.InboundGroupSession(owner.group.session_key)
    key = session.export_at(session.first_known_index)
    assert key is not None
    return {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": room,
        "session_id": owner.group.session_id,
        "sender_key": owner.account.curve25519,
        "sender_claimed_keys": {"ed25519": owner.account.ed25519},
        "session_key": key.to_base64(),
        **changes,
    }


async def offer(bot: Bot, alice: Peer, kind: str = "m.room_key_bundle") -> None:
    await bot.receive(alice.olm(kind, {"room_id": ROOM, "file": FILE}))


def invite(server: KeyServer, sender: str) -> None:
    server.members[ROOM] = [
        {
            "type": "m.room.member",
            "sender": sender,
            "state_key": BOT.user_id,
            "content": {"membership": "invite"},
        }
    ]


@pytest.fixture
def carol(server: KeyServer) -> Peer:
    """The one whose earlier message the bot could not read."""
    return Peer(server, "@carol:example.org", "CAROL")


@pytest.mark.parametrize("kind", ["m.room_key_bundle", "io.element.msc4268.room_key_bundle"])
async def test_the_inviter_s_bundle_makes_the_past_readable(
    bot: Bot, alice: Peer, carol: Peer, server: KeyServer, kind: str
) -> None:
    alice.cross_sign()
    files = FakeFiles(exported(carol))
    event = carol.message("before", event_id="$1")
    invite(server, alice.me.user_id)
    await offer(bot, alice, kind)

    improved = await bot.machine.bundles.fetch(files)

    assert {ref.session_id for ref in improved} == {carol.group.session_id}
    (reading,) = await bot.decrypt(event)
    assert isinstance(reading, Decrypted)
    # Whose key it is, only the inviter says.
    assert (reading.trust, reading.key_source) == (Trust.UNKNOWN_DEVICE, KeySource.HISTORY_SHARE)
    assert await bot.machine.bundles.fetch(files) == frozenset()
    assert files.asked == 1


@pytest.mark.parametrize(
    "case",
    [
        ({}, Why.WITHHELD_UNVERIFIED),
        ({"code": "m.blacklisted"}, Why.WITHHELD_BLACKLISTED),
        ({"code": "m.no_olm"}, Why.NO_SESSION),
        ({"code": ["m.unverified"]}, Why.NO_SESSION),
        ({"room_id": "!other:example.org"}, Why.NO_SESSION),
        ({"session_id": None}, Why.NO_SESSION),
    ],
)
async def test_what_was_withheld_from_the_inviter_too_is_told_with_its_reason(
    bot: Bot, alice: Peer, carol: Peer, server: KeyServer, case: tuple[Json, Why]
) -> None:
    changes, why = case
    alice.cross_sign()
    event = carol.message("before", event_id="$1")
    invite(server, alice.me.user_id)
    await offer(bot, alice)
    said = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": carol.group.session_id,
        "sender_key": carol.account.curve25519,
        "code": "m.unverified",
        **changes,
    }

    await bot.machine.bundles.fetch(FakeFiles(withheld=[said, "odd", said]))

    (reading,) = await bot.decrypt(event)
    assert isinstance(reading, Undecryptable)
    assert reading.why is why


async def test_nothing_is_taken_from_who_did_not_invite(
    bot: Bot, alice: Peer, carol: Peer, server: KeyServer
) -> None:
    alice.cross_sign()
    files = FakeFiles(exported(carol))
    invite(server, "@somebody:example.org")
    await offer(bot, alice)

    assert not await bot.machine.bundles.fetch(files)
    assert files.asked == 0

    # The invitation may still come, and the bundle waits for it.
    invite(server, alice.me.user_id)
    bot.clock.advance(seconds=_RETRY_MS / 1000)
    assert await bot.machine.bundles.fetch(files)


async def test_nothing_is_taken_from_a_device_that_is_not_cross_signed(
    bot: Bot, alice: Peer, carol: Peer, server: KeyServer
) -> None:
    files = FakeFiles(exported(carol))
    invite(server, alice.me.user_id)
    await offer(bot, alice)

    assert not await bot.machine.bundles.fetch(files)

    bot.clock.advance(seconds=_KEEP_MS / 1000)
    assert not await bot.machine.bundles.fetch(files)
    assert files.asked == 0
    assert await bot.database.fetchval("SELECT COUNT(*) FROM crypto_key_bundle") == 0


async def test_a_file_that_is_not_the_one_described_is_refused_for_ever(
    bot: Bot, alice: Peer, carol: Peer, server: KeyServer
) -> None:
    alice.cross_sign()
    files = FakeFiles(exported(carol))
    files.error = AttachmentError("An encrypted file is not the one that its message describes.")
    invite(server, alice.me.user_id)
    await offer(bot, alice)

    assert not await bot.machine.bundles.fetch(files)
    bot.clock.advance(seconds=60)
    assert not await bot.machine.bundles.fetch(files)

    assert files.asked == 1
    (reading,) = await bot.decrypt(carol.message("x", event_id="$1"))
    assert isinstance(reading, Undecryptable)


async def test_a_bundle_does_not_displace_a_key_from_its_owner(
    bot: Bot, alice: Peer, carol: Peer, server: KeyServer
) -> None:
    alice.cross_sign()
    files = FakeFiles(exported(carol))
    invite(server, alice.me.user_id)
    await bot.receive(carol.olm("m.room_key", carol.room_key()))
    await offer(bot, alice)

    await bot.machine.bundles.fetch(files)

    (reading,) = await bot.decrypt(carol.message("hello", event_id="$1"))
    assert isinstance(reading, Decrypted)
    assert reading.key_source is KeySource.DIRECT


async def test_the_key_of_the_file_is_not_stored_in_clear_text(bot: Bot, alice: Peer) -> None:
    await offer(bot, alice)

    (row,) = await bot.database.fetch("SELECT * FROM crypto_key_bundle")
    assert "A" * 43 not in str(tuple(row))


async def test_only_sound_keys_of_the_room_are_taken(server: KeyServer, carol: Peer) -> None:
    good = exported(carol)
    odd: list[object] = [
        5,
        {},
        exported(carol, "!elsewhere"),
        exported(carol, session_id="another"),
        exported(carol, session_key="AAAA"),
        exported(carol, sender_key=5),
        exported(carol, algorithm="m.olm"),
    ]

    assert len(parse_bundle(ROOM, {"room_keys": [*odd, good]})) == 1
    assert parse_bundle(ROOM, {"room_keys": 5}) == []
    assert parse_bundle(ROOM, {}) == []


@pytest.mark.parametrize("content", [{}, {"room_id": ROOM}, {"room_id": 5, "file": FILE}])
async def test_a_malformed_offer_is_passed_over(bot: Bot, alice: Peer, content: Json) -> None:
    await bot.receive(alice.olm("m.room_key_bundle", content))

    assert await bot.database.fetchval("SELECT COUNT(*) FROM crypto_key_bundle") == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"room_keys": [' + b"[]," * (MOST_VALUES // 2 + 1) + b"[]]}",
        b'{"room_keys": [], "x": "' + b"x" * LARGEST_BYTES + b'"}',
    ],
    ids=["too many values", "too many bytes"],
)
async def test_a_bundle_that_would_fill_the_memory_is_refused(
    bot: Bot, alice: Peer, server: KeyServer, body: bytes
) -> None:
    alice.cross_sign()
    files = FakeFiles()
    files.body = body
    invite(server, alice.me.user_id)
    await offer(bot, alice)

    assert not await bot.machine.bundles.fetch(files)

    assert await bot.database.fetchval("SELECT COUNT(*) FROM crypto_key_bundle") == 0


async def test_a_flood_of_offers_is_bounded_and_asked_about_ever_more_rarely(
    bot: Bot, alice: Peer, server: KeyServer
) -> None:
    alice.cross_sign()
    files = FakeFiles()
    flood = [
        alice.olm("m.room_key_bundle", {"room_id": f"!{n}", "file": FILE})
        for n in range(MOST_OFFERS + 20)
    ]
    await bot.receive(*flood)
    assert await bot.database.fetchval("SELECT COUNT(*) FROM crypto_key_bundle") == MOST_OFFERS

    def asked() -> int:
        return sum(count for call, count in server.calls.items() if call.startswith("rooms/"))

    for _ in range(360):  # an hour
        await bot.machine.bundles.fetch(files)
        bot.clock.advance(seconds=10)

    assert asked() <= MOST_OFFERS * 12
