"""What opens messages is nowhere in clear: not in the database's files, not in the log."""

import base64
from collections.abc import Iterator

from common.clock import SystemClock
from common.crypto.backup_store import BackupStore
from common.crypto.cross_signing import IdentityStore
from common.crypto.room_keys import RoomKeyStore
from common.crypto.sealing import Sealer
from common.ids import UserId
from tests.support.backup import config_of, passphrase_of
from tests.support.clients import NioClient
from tests.support.databases import open_database
from tests.support.world import MakeWorld, World


def spellings(secret: bytes) -> Iterator[bytes]:
    """Yield how a key could stand somewhere."""
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")


async def keys_of(world: World, bot: UserId) -> list[bytes]:
    """Open what the database has of a bot, with the configured key."""
    config = config_of(world.steward)
    sealer = Sealer(config.encryption.pickle_key)
    async with (
        open_database(config.database.url.reveal()) as database,
        database.transaction() as conn,
    ):
        identity = await IdentityStore(bot, sealer).load(conn)
        storage = await BackupStore(bot, sealer).storage(conn)
        backup = await BackupStore(bot, sealer).backup(conn)
        rows = await conn.fetch("SELECT session_id FROM crypto_inbound_session")
        ids = {row["session_id"] for row in rows}
        room_keys = await RoomKeyStore(bot, sealer, SystemClock()).find(conn, ids)
    assert identity is not None
    assert storage is not None
    assert backup is not None
    assert room_keys
    found = [key.seed for key in (identity.master, identity.self_signing, identity.user_signing)]
    found += [storage.key.raw, backup.key.raw]
    for copies in room_keys.values():
        for copy in copies:
            exported = copy.session.export_at(copy.session.first_known_index)
            assert exported is not None
            # Version, index, the ratchet's 128 bytes, the public key (specification, "Megolm").
            found.append(base64.b64decode(exported.to_base64() + "==")[5:133])
    return found


async def test_no_key_is_in_the_databases_files_or_in_the_log(make_world: MakeWorld) -> None:
    # Of its own: each key is looked for everywhere, and the shared one has many of both.
    world = await make_world()
    account = await world.synapse.register("at-rest")
    async with NioClient(world.synapse.url, account, world.directory / "at-rest") as alice:
        room = await alice.create_room("room", encrypted=True)
        await alice.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
        record = await world.steward.wait_for_event(await alice.send_text(room, "hello"))
    assert record["enc_status"] == "decrypted"
    config = config_of(world.steward)
    words = [config.encryption.pickle_key.reveal(), config.appservice.as_token.reveal()]
    keys: list[bytes] = []
    for bot in ("adminbot", "auditbot"):
        words += await passphrase_of(world.steward, bot)
        keys += await keys_of(world, UserId(getattr(world.steward, bot)))

    files = sorted(world.steward.directory.glob("steward.db*"))
    assert len(files) > 1
    places = {file.name: file.read_bytes() for file in files}
    places["log"] = world.steward.log().encode()
    for name, content in places.items():
        for word in words:
            assert word.encode() not in content, name
        for key in keys:
            assert not [one for one in spellings(key) if one in content], name
        assert b"pickle_key" not in content
    for file in files:
        assert file.stat().st_mode & 0o077 == 0, file
