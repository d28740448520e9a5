"""Room keys in the backup: what goes in comes out, and what was put there by others does little."""

import json
from typing import Any

import pytest
import vodozemac
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.canonical import Json, canonical_json, from_unpadded, unpadded
from common.crypto.key_backup import BackupKey
from common.crypto.port import Decrypted, KeySource, SessionRef, Trust
from common.crypto.room_keys import RoomKey
from common.database.pool import Database
from tests.unit.crypto.peers import ROOM, Bot, Peer

KEY = BackupKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))


def room_key(group: vodozemac.GroupSession, *, source: KeySource = KeySource.DIRECT) -> RoomKey:
    session = vodozemac.InboundGroupSession(group.session_key)
    return RoomKey(SessionRef(ROOM, group.session_id), "@a:b", "curve", "ed", source, session)


def sealed(content: object) -> Json:
    """Return key backup data with any content, as anybody who knows the public key can make it."""
    public = vodozemac.Curve25519PublicKey.from_base64(KEY.public)
    message = vodozemac.PkEncryption.from_key(public).encrypt(json.dumps(content).encode())
    return {
        "session_data": {
            "ciphertext": unpadded(message.ciphertext),
            "mac": unpadded(message.mac),
            "ephemeral": unpadded(message.ephemeral_key),
        }
    }


def test_the_public_key_is_that_of_the_rfc() -> None:
    # RFC 7748, section 6.1.
    expected = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"

    assert KEY.public == unpadded(bytes.fromhex(expected))
    assert BackupKey.parse(KEY.secret) is not None


@pytest.mark.parametrize("secret", [None, "", "AAAA", "!", KEY.secret + "AAAA"])
def test_another_secret_is_no_backup_key(secret: str | None) -> None:
    assert BackupKey.parse(secret) is None


def test_a_room_key_comes_back_from_its_first_index_on() -> None:
    group = vodozemac.GroupSession()
    for _ in range(3):
        group.encrypt(b"before")
    key = room_key(group)

    data = KEY.encrypt(key)
    found = KEY.decrypt(key.ref, data)

    assert data["first_message_index"] == 3
    assert found is not None
    assert (found.sender_key, found.signing_key, found.sender) == ("curve", "ed", "")
    assert found.source is KeySource.BACKUP
    assert found.session.decrypt(group.encrypt(b"hello")).plaintext == b"hello"
    canonical_json(data)  # no floats, nothing else that a homeserver refuses


def test_a_room_key_under_another_name_is_refused() -> None:
    key = room_key(vodozemac.GroupSession())

    assert KEY.decrypt(SessionRef(ROOM, "another"), KEY.encrypt(key)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["algorithm", "sender_key", "session_key", "sender_claimed_keys", "ciphertext", "mac", "x"]
)


@given(content=st.dictionaries(NAMES, json_values) | json_values)
def test_nothing_in_a_backup_raises(content: Any) -> None:
    assert KEY.decrypt(SessionRef(ROOM, "s"), sealed(content)) is None
    assert KEY.decrypt(SessionRef(ROOM, "s"), {"session_data": content}) is None
    assert KEY.decrypt(SessionRef(ROOM, "s"), content if isinstance(content, dict) else {}) is None


async def add(bot: Bot, database: Database, *keys: RoomKey) -> frozenset[SessionRef]:
    async with database.transaction() as conn:
        return await bot.machine._room_keys.add(conn, keys)


async def test_a_key_from_the_backup_reads_but_vouches_for_nobody(
    bot: Bot, database: Database, alice: Peer
) -> None:
    key = room_key(alice.group)
    restored = KEY.decrypt(key.ref, KEY.encrypt(key))
    assert restored is not None

    assert await add(bot, database, restored) == {key.ref}

    [reading] = await bot.decrypt(alice.message("hello", event_id="$1"))
    assert isinstance(reading, Decrypted)
    assert (reading.key_source, reading.trust) == (KeySource.BACKUP, Trust.UNKNOWN_DEVICE)


async def test_the_backup_displaces_no_better_key_and_lends_its_earlier_indexes(
    bot: Bot, database: Database, alice: Peer
) -> None:
    early = room_key(alice.group)
    first = alice.message("first", event_id="$1")
    sender = {"sender": alice.me.user_id, "sender_key": alice.account.curve25519}
    claimed = {"algorithm": "m.megolm.v1.aes-sha2", **sender}
    exported = early.session.export_at(0)
    later = early.session.export_at(1)
    assert exported is not None
    assert later is not None
    from_start = KEY.decrypt(early.ref, sealed({**claimed, "session_key": exported.to_base64()}))
    from_later = KEY.decrypt(early.ref, sealed({**claimed, "session_key": later.to_base64()}))
    assert from_start is not None
    assert from_later is not None
    await bot.receive(alice.olm("m.room_key", alice.room_key()))  # from index 1 on

    assert await add(bot, database, from_later) == frozenset()
    assert await add(bot, database, from_start) == {early.ref}

    [reading] = await bot.decrypt(first)
    assert isinstance(reading, Decrypted)
    assert reading.key_source is KeySource.DIRECT


async def test_the_real_key_takes_the_place_of_one_that_was_slipped_into_the_backup(
    bot: Bot, database: Database, alice: Peer
) -> None:
    # Same public key, another ratchet: whoever runs the homeserver can write this.
    key = room_key(alice.group)
    exported = key.session.export_at(0)
    assert exported is not None
    data = bytearray(from_unpadded(exported.to_base64()))
    data[10] ^= 0xFF
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "sender_key": alice.account.curve25519,
        "session_key": unpadded(bytes(data)),
    }
    forged = KEY.decrypt(key.ref, sealed(content))
    assert forged is not None
    await add(bot, database, forged)
    sent = alice.olm("m.room_key", alice.room_key())

    assert await bot.receive(sent) == {key.ref}

    [reading] = await bot.decrypt(alice.message("hello", event_id="$1"))
    assert isinstance(reading, Decrypted)
    assert reading.key_source is KeySource.DIRECT
