"""Secure Backup is set up once, whatever goes wrong in between, and uploads what it has to."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote

import pytest
import vodozemac

from common.config.secret import Secret
from common.crypto.account import AccountStore
from common.crypto.canonical import Json
from common.crypto.cross_signing import Identity, IdentityStore, SigningKey
from common.crypto.key_backup import BackupKey
from common.crypto.port import DeviceAddress, KeySource, SessionRef
from common.crypto.recovery import recover_identity
from common.crypto.room_keys import RoomKey, RoomKeyStore
from common.crypto.sealing import Sealer
from common.crypto.secret_storage import (
    BACKUP,
    MASTER,
    Derivation,
    SecretStorage,
    WrongKeyError,
)
from common.crypto.secure_backup import KEYS_A_BATCH, SecureBackup, fresh_passphrase
from common.database.pool import Database
from common.errors import TransientError, UserError
from common.ids import DeviceId, UserId
from common.matrix.client import MatrixError
from tests.unit.crypto.peers import BOT, ROOM, Bot, FakeClock

SEALER = Sealer(Secret("a key"))

REQUESTS = 14
"""How many it takes to set everything up and to upload one batch."""


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys quickly; the specified number of rounds is for passphrases of people."""
    name = "common.crypto.secure_backup.fresh_derivation"
    monkeypatch.setattr(name, lambda: Derivation("salt", 10))


@dataclass
class Homeserver:
    """Account data and key backups of one account, behind our requests.

    ``fails_at`` is the number of the request that fails: before it is done, or after it.
    """

    account_data: dict[str, Json] = field(default_factory=dict)
    versions: list[Json] = field(default_factory=list)
    keys: dict[str, dict[SessionRef, Json]] = field(default_factory=dict)
    published: Json = field(default_factory=dict)
    largest: int = 0
    requests: int = 0
    fails_at: int = -1
    fails_after: bool = False

    user_id: UserId = BOT.user_id
    device_id: DeviceId = BOT.device_id

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = 60,
    ) -> Json:
        number, self.requests = self.requests, self.requests + 1
        if number == self.fails_at and not self.fails_after:
            raise TransientError("away")
        try:
            return self._answer(method, path, body or {}, dict(query or {}))
        finally:
            if number == self.fails_at:
                raise TransientError("the answer was lost")

    def _answer(self, method: str, path: str, body: Json, query: dict[str, str]) -> Json:
        if path.endswith("/keys/query"):
            return self.published
        if "/account_data/" in path:
            return self._account_data(method, unquote(path.rsplit("/", 1)[1]), body)
        if path.endswith("/version"):
            return self._version(method, body)
        if method == "GET":
            return {"rooms": self._rooms(query["version"])}
        return self._upload(query["version"], body)

    def _account_data(self, method: str, name: str, body: Json) -> Json:
        if method == "PUT":
            self.account_data[name] = body
        elif name not in self.account_data:
            raise MatrixError(404, "M_NOT_FOUND", "")
        return self.account_data[name]

    def _version(self, method: str, body: Json) -> Json:
        if method == "POST":
            self.versions.append({**body, "version": str(len(self.versions) + 1)})
        elif not self.versions:
            raise MatrixError(404, "M_NOT_FOUND", "")
        return self.versions[-1]

    def _upload(self, version: str, body: Json) -> Json:
        if version != self.versions[-1]["version"]:
            raise MatrixError(403, "M_WRONG_ROOM_KEYS_VERSION", "")
        sent = {
            SessionRef(room, session): data
            for room, sessions in body["rooms"].items()
            for session, data in sessions["sessions"].items()
        }
        self.largest = max(self.largest, len(sent))
        self.keys.setdefault(version, {}).update(sent)
        return {}

    def _rooms(self, version: str) -> Json:
        rooms: Json = {}
        for ref, data in self.keys.get(version, {}).items():
            rooms.setdefault(ref.room_id, {"sessions": {}})["sessions"][ref.session_id] = data
        return rooms


def backup_of(
    server: Homeserver,
    database: Database,
    clock: FakeClock,
    passphrase: str = "",
    device: DeviceAddress = BOT,
) -> SecureBackup:
    """A SecureBackup as after a start of the process."""
    return SecureBackup(
        server,
        database=database,
        sealer=SEALER,
        accounts=AccountStore(device, SEALER, is_postgres=False),
        room_keys=RoomKeyStore(BOT.user_id, SEALER, clock),
        passphrase=Secret(passphrase) if passphrase else None,
        clock=clock,
    )


ANOTHER = DeviceAddress(BOT.user_id, DeviceId("ANOTHER"))


def figures(backup: SecureBackup) -> dict[str, float]:
    return {sample.metric.name: sample.value for sample in backup.samples()}


async def put_keys(database: Database, clock: FakeClock, count: int) -> list[SessionRef]:
    keys = []
    for _ in range(count):
        session = vodozemac.InboundGroupSession(vodozemac.GroupSession().session_key)
        ref = SessionRef(ROOM, session.session_id)
        keys.append(RoomKey(ref, "@a:b", "c", "e", KeySource.DIRECT, session))
    store = RoomKeyStore(BOT.user_id, SEALER, clock)
    async with database.transaction() as conn:
        await store.add(conn, keys)
    return [key.ref for key in keys]


async def passphrase_in(backup: SecureBackup, database: Database) -> str:
    async with database.transaction() as conn:
        kept = await backup._store.storage(conn)
    assert kept is not None
    assert kept.passphrase is not None
    return kept.passphrase.reveal()


@pytest.mark.parametrize("fails_after", [False, True])
@pytest.mark.parametrize("fails_at", range(REQUESTS))
async def test_a_crash_at_any_request_is_made_good_by_the_next_start(
    bot: Bot, database: Database, clock: FakeClock, fails_at: int, fails_after: bool
) -> None:
    server = Homeserver(fails_at=fails_at, fails_after=fails_after)
    await put_keys(database, clock, 3)

    async def start() -> SecureBackup:
        backup = backup_of(server, database, clock)
        assert await backup.set_up()
        await backup.upload()
        return backup

    with pytest.raises(TransientError):
        await start()
    backup = await start()

    key = await SecretStorage(server).unlock(await passphrase_in(backup, database))
    async with database.transaction() as conn:
        identity = await IdentityStore(BOT.user_id, SEALER).load(conn)
    assert identity is not None
    assert await SecretStorage(server).read(key, MASTER) == identity.master.secret
    stored = BackupKey.parse(await SecretStorage(server).read(key, BACKUP))
    assert stored is not None
    [version] = server.versions
    assert version["auth_data"]["public_key"] == stored.public
    assert len(server.keys["1"]) == 3
    described = [name for name in server.account_data if name.startswith("m.secret_storage.key.")]
    assert described == [f"m.secret_storage.key.{key.key_id}"]


async def test_the_default_key_is_named_last_and_a_second_start_writes_nothing(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()

    assert await backup_of(server, database, clock).set_up()
    before = (dict(server.account_data), list(server.versions))
    assert list(server.account_data)[-1] == "m.secret_storage.default_key"

    assert await backup_of(server, database, clock, "another passphrase, configured").set_up()
    assert (server.account_data, server.versions) == before


async def test_a_wrong_passphrase_opens_nothing(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()
    await backup_of(server, database, clock, "the right passphrase").set_up()

    key = await SecretStorage(server).unlock(" the right passphrase ")
    assert server.account_data["m.secret_storage.default_key"] == {"key": key.key_id}
    with pytest.raises(WrongKeyError):
        await SecretStorage(server).unlock("the wrong passphrase")


async def test_uploads_are_bounded_and_happen_once(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()
    backup = backup_of(server, database, clock)
    await backup.set_up()
    refs = await put_keys(database, clock, 2 * KEYS_A_BATCH + 1)

    assert await backup.upload() == len(refs)

    assert set(server.keys["1"]) == set(refs)
    assert server.largest == KEYS_A_BATCH
    done = server.requests
    assert await backup_of(server, database, clock).upload() == 0
    assert server.requests == done


async def test_a_deleted_backup_is_begun_anew_with_every_room_key(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()
    backup = backup_of(server, database, clock)
    await backup.set_up()
    refs = await put_keys(database, clock, 2)
    await backup.upload()
    server.versions.clear()
    server.keys.clear()
    more = await put_keys(database, clock, 1)

    assert await backup_of(server, database, clock).set_up()
    await backup.upload()

    assert set(server.keys["1"]) == {*refs, *more}


async def test_a_foreign_secret_storage_is_left_alone(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()
    backup = backup_of(server, database, clock)
    await backup.set_up()
    server.account_data["m.secret_storage.default_key"] = {"key": "theirs"}
    server.account_data["m.secret_storage.key.theirs"] = {"algorithm": "unknown"}
    before = dict(server.account_data)

    blocked = backup_of(server, database, clock)
    assert not await blocked.set_up()
    assert not await blocked.set_up()

    assert server.account_data == before
    assert figures(blocked)["steward_key_backup_blocked"] == 1
    (told,) = await database.fetch("SELECT sentence FROM alarm")
    assert "passphrase" in told["sentence"]


async def test_a_replaced_device_takes_in_what_others_backed_up_meanwhile(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()
    backup = backup_of(server, database, clock)
    await backup.set_up()
    await put_keys(database, clock, 2)
    assert figures(backup) == {"steward_key_backup_due": 0, "steward_key_backup_blocked": 0}
    await backup.upload()
    async with database.transaction() as conn:
        kept = await backup._store.backup(conn)
    assert kept is not None
    session = vodozemac.InboundGroupSession(vodozemac.GroupSession().session_key)
    theirs = SessionRef(ROOM, session.session_id)
    key = RoomKey(theirs, "@a:b", "c", "e", KeySource.DIRECT, session)
    server.keys["1"][theirs] = kept.key.encrypt(key)

    same = backup_of(server, database, clock)
    await same.set_up()
    assert not same._new
    replaced = backup_of(server, database, clock, device=ANOTHER)
    await replaced.set_up()

    class ToldError(Exception):
        pass

    async def arrived(sessions: frozenset[SessionRef]) -> None:
        assert sessions == {theirs}
        raise ToldError

    with pytest.raises(ToldError):
        await replaced.run(arrived)
    again = backup_of(server, database, clock, device=ANOTHER)
    await again.set_up()
    assert not again._new


def published(identity: Identity) -> Json:
    """What ``/keys/query`` says of an identity."""
    return {
        f"{usage}_keys": {
            BOT.user_id: {
                "user_id": BOT.user_id,
                "usage": [usage],
                "keys": {f"ed25519:{public}": public},
            }
        }
        for usage, public in identity.publics().items()
    }


async def test_recovery_takes_exactly_the_identity_that_the_homeserver_shows(
    bot: Bot, database: Database, clock: FakeClock
) -> None:
    server = Homeserver()
    await backup_of(server, database, clock, "the right passphrase").set_up()
    identities = IdentityStore(BOT.user_id, SEALER)
    async with database.transaction() as conn:
        ours = await identities.load(conn)
        assert ours is not None
        for table in ("crypto_cross_signing", "crypto_secret_storage", "crypto_key_backup"):
            await conn.execute(f"DELETE FROM {table}")
    other = Identity(BOT.user_id, ours.master, ours.self_signing, SigningKey(bytes(32)))
    right = Secret("the right passphrase")

    async def recovered(entered: Secret) -> Identity | None:
        with suppress(UserError):
            await recover_identity(server, database=database, sealer=SEALER, entered=entered)
        async with database.transaction() as conn:
            return await identities.load(conn)

    server.published = published(other)
    assert await recovered(right) is None
    server.published = published(ours)
    assert await recovered(Secret("the wrong passphrase")) is None
    found = await recovered(right)
    assert found is not None
    assert found.publics() == ours.publics()


def test_passphrases_are_long_typeable_and_different() -> None:
    made = {fresh_passphrase().reveal() for _ in range(50)}

    assert len(made) == 50
    assert {len(text) for text in made} == {34}
    assert all(text == text.strip() for text in made)
