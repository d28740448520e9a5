"""Secure Backup of one bot: its secrets under a passphrase, and every room key on the homeserver.

Source: Matrix specification v1.18, client-server API, "Secret storage", "Server-side key backups".
What is set up where is decided by what the homeserver shows. Nothing there is ever replaced or
deleted: a restart finds it and goes on, and somebody else's backup is left alone.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from common.alarms import raise_alarm
from common.clock import Clock
from common.config.secret import Secret
from common.crypto.account import AccountStore
from common.crypto.backup_store import BackupStore, KeptBackup, KeptStorage
from common.crypto.canonical import Json, sign_json
from common.crypto.cross_signing import Identity, IdentityStore
from common.crypto.key_backup import BackupKey, KeyBackup
from common.crypto.port import SessionRef
from common.crypto.room_keys import RoomKeyStore
from common.crypto.sealing import Sealer
from common.crypto.secret_storage import (
    BACKUP,
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    BrokenSecretError,
    SecretStorage,
    StorageKey,
    WrongKeyError,
    fresh_derivation,
    fresh_key_id,
)
from common.crypto.wire import Requester, batches
from common.database.pool import Connection, Database
from common.errors import PermanentError, TransientError
from common.inbox.signal import Signal
from common.matrix.client import MatrixError
from common.telemetry.log import Log
from common.telemetry.metrics import Metric, Sample

KEYS_A_BATCH = 500
_RECHECK_SECONDS = 60.0
"""How long room keys that nobody announced (our own) may wait."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_OTHER_VERSION = {"M_WRONG_ROOM_KEYS_VERSION", "M_NOT_FOUND"}
"""What an upload is refused with when another version is in force, or none."""
_BATCHES_A_LINE = 10
"""How often a long upload says how far it is."""

# No characters that are mistaken for each other when they are copied by hand.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _LETTERS_A_GROUP = 7, 4

DUE = Metric(
    "steward_key_backup_due", "gauge", "Room keys of the bot that are not in its key backup yet."
)
BLOCKED = Metric(
    "steward_key_backup_blocked",
    "gauge",
    "1 while room keys cannot be backed up until a person mends something, else 0.",
)

_log = Log("crypto.backup")

KeysArrived = Callable[[frozenset[SessionRef]], Awaitable[None]]
Progress = Callable[[int, int], None]
"""Told how many of how many room keys are done."""


@dataclass(frozen=True)
class Restored:
    """What came out of a backup: how many it held, how many were unusable, what is new here."""

    version: str
    found: int
    unusable: int
    new: frozenset[SessionRef]


def fresh_passphrase() -> Secret:
    """Make a passphrase of 138 random bits that a person can type."""
    groups = (
        "".join(secrets.choice(_LETTERS) for _ in range(_LETTERS_A_GROUP)) for _ in range(_GROUPS)
    )
    return Secret("-".join(groups))


class SecureBackup:
    """The secret storage and the key backup of one bot."""

    def __init__(
        self,
        client: Requester,
        *,
        database: Database,
        sealer: Sealer,
        accounts: AccountStore,
        room_keys: RoomKeyStore,
        passphrase: Secret | None,
        clock: Clock,
    ) -> None:
        """Wire the parts; ``passphrase`` is the configured one, ``None`` to have one made."""
        self._clock = clock
        self._due = 0
        self._user = client.user_id
        self._database = database
        self._accounts = accounts
        self._room_keys = room_keys
        self._passphrase = passphrase
        self._storage = SecretStorage(client)
        self._server = KeyBackup(client)
        self._store = BackupStore(client.user_id, sealer)
        self._identities = IdentityStore(client.user_id, sealer)
        self._new: set[SessionRef] = set()
        self._alarm = ""
        self.woken = Signal()

    @property
    def passphrase(self) -> Secret | None:
        """The configured passphrase."""
        return self._passphrase

    def samples(self) -> Iterator[Sample]:
        """Yield the backup's figures: what waited at the last look, and whether it is stuck."""
        labels = {"account": self._user}
        yield Sample(DUE, self._due, labels)
        yield Sample(BLOCKED, int(bool(self._alarm)), labels)

    async def set_up(self) -> bool:
        """Make secret storage and backup where the homeserver has none; return whether all is well.

        Call it after ``CryptoMachine.set_up``: the identity signs the backup. Where something
        there is not ours, nothing is changed and an alarm is logged.
        """
        key = await self._open_storage()
        return key is not None and await self._align(key)

    async def run(self, keys_arrived: KeysArrived) -> None:
        """Back room keys up as they come, until cancelled; ``woken`` tells of new ones."""
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            seen = self.woken.count
            try:
                await self.upload()
                if self._new:
                    new, self._new = frozenset(self._new), set()
                    await keys_arrived(new)
            except (TransientError, MatrixError) as error:
                say = _log.warning if wait_seconds == _FIRST_WAIT_SECONDS else _log.debug
                say("room keys wait for their backup", user=self._user, reason=error)
                await self.woken.changed(self.woken.count, timeout_seconds=wait_seconds)
                wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
                continue
            wait_seconds = _FIRST_WAIT_SECONDS
            await self.woken.changed(seen, timeout_seconds=_RECHECK_SECONDS)

    async def upload(self) -> int:
        """Back up every room key that is due; return how many were uploaded."""
        done = number = total = 0
        while True:
            async with self._database.transaction() as conn:
                self._due = await self._store.count_due(conn)
                total = total or self._due
            count = await self._upload_batch(mend=True) if total else 0
            if not count:
                break
            done, number = done + count, number + 1
            if number % _BATCHES_A_LINE == 1 and total > KEYS_A_BATCH:
                _log.info("room keys are being backed up", user=self._user, done=done, of=total)
        if done:
            _log.info("room keys backed up", user=self._user, count=done)
        return done

    async def restore(self, progress: Progress | None = None) -> Restored:
        """Take in every room key of the version in force whose key we have.

        Raises:
            PermanentError: there is no backup, or it is not one that we can open.
        """
        async with self._database.transaction() as conn:
            kept = await self._store.backup(conn)
        current = await self._server.current()
        if kept is None or current is None or current.public_key != kept.key.public:
            raise PermanentError(
                f"{self._user} has no key backup on the homeserver that its secrets open."
            )
        if kept.version != current.version:
            return await self._switch(kept.key, current.version, progress)
        return await self._take_in(kept.key, current.version, progress)

    async def _take_in(
        self, key: BackupKey, version: str, progress: Progress | None = None
    ) -> Restored:
        entries = list(await self._server.download(version))
        unusable, done, new = 0, 0, set[SessionRef]()
        for some in batches(entries, KEYS_A_BATCH):
            keys = [one for ref, data in some if (one := key.decrypt(ref, data))]
            async with self._database.transaction() as conn:
                new |= await self._room_keys.add(conn, keys)
                await self._store.note_backed_up(conn, keys)
            unusable, done = unusable + len(some) - len(keys), done + len(some)
            if progress is not None:
                progress(done, len(entries))
        restored = Restored(version, len(entries), unusable, frozenset(new))
        _log.info(
            "room keys restored from the backup",
            user=self._user,
            version=version,
            found=restored.found,
            unusable=restored.unusable,
            new=len(restored.new),
        )
        return restored

    async def _upload_batch(self, *, mend: bool) -> int:
        """Upload some room keys; return how many, 0 if none are due or none may be uploaded.

        With ``mend``, a backup that cannot be written into is looked after and tried once more.
        """
        async with self._database.transaction() as conn:
            kept = await self._store.backup(conn)
            due = await self._store.due(conn, KEYS_A_BATCH)
            stored = await self._room_keys.find(conn, set(due))
        if kept is None or not kept.version or self._alarm:
            return await self._upload_after_mending(due) if mend else 0
        best = {
            ref: min(copies, key=lambda copy: copy.session.first_known_index)
            for ref, copies in stored.items()
        }
        for some in batches(list(best.items()), KEYS_A_BATCH):
            try:
                await self._server.upload(
                    kept.version, {ref: kept.key.encrypt(key) for ref, key in some}
                )
            except MatrixError as error:
                if not mend or error.errcode not in _OTHER_VERSION:
                    raise
                return await self._upload_after_mending(due)
            async with self._database.transaction() as conn:
                copies = [copy for ref, _ in some for copy in stored[ref]]
                await self._store.note_backed_up(conn, copies)
        return len(due)

    async def _upload_after_mending(self, due: list[str]) -> int:
        """Find the version that is in force now; go on if it is one that we may write into."""
        return await self._upload_batch(mend=False) if due and await self.set_up() else 0

    async def _open_storage(self) -> StorageKey | None:
        """Return the key of secret storage, which is made if there is none; ``None`` if not ours."""
        async with self._database.transaction() as conn:
            kept = await self._store.storage(conn)
        key_id = await self._storage.default_key_id()
        if key_id is None:
            return await self._make_storage(kept)
        if kept is not None and kept.key.key_id == key_id:
            self._say_if_configured_differently(kept)
            return kept.key
        return await self._adopt_storage(kept)

    async def _make_storage(self, kept: KeptStorage | None) -> StorageKey:
        """Set secret storage up; after a crash in the middle, with the same key."""
        kept = kept or await self._fresh_storage()
        async with self._database.transaction() as conn:
            await self._store.keep_storage(conn, kept)
            backup = await self._store.backup(conn)
            if backup is None:
                backup = KeptBackup(BackupKey.fresh(), "")
                await self._store.keep_backup(conn, backup)
            identity = await self._identity(conn)
        await self._storage.publish(kept.key, kept.derivation)
        for name, secret in secrets_of(identity, backup.key).items():
            await self._storage.write(kept.key, name, secret)
        await self._storage.make_default(kept.key)
        _log.info("secret storage set up", user=self._user)
        return kept.key

    async def _fresh_storage(self) -> KeptStorage:
        passphrase, derivation = self._passphrase or fresh_passphrase(), fresh_derivation()
        raw = await derivation.derive_in_thread(passphrase.reveal())
        return KeptStorage(StorageKey(fresh_key_id(), raw), passphrase, derivation)

    async def _adopt_storage(self, kept: KeptStorage | None) -> StorageKey | None:
        """Use a secret storage that is there already, if a passphrase that we know opens it."""
        for passphrase in (self._passphrase, kept.passphrase if kept else None):
            if passphrase is None:
                continue
            try:
                key = await self._storage.unlock(passphrase.reveal())
            except WrongKeyError:
                continue
            async with self._database.transaction() as conn:
                await self._store.keep_storage(conn, KeptStorage(key, passphrase, None))
            _log.info("secret storage found and opened", user=self._user)
            return key
        await self._raise_alarm(
            "the account's secret storage is another one than ours, and our passphrase does not "
            "open it. New room keys are not backed up until that is mended: set the passphrase "
            "that opens it (encryption.adminbot_passphrase or auditbot_passphrase) and restart"
        )
        return None

    async def _align(self, key: StorageKey) -> bool:
        """See to it that room keys go into the version in force; return whether they can."""
        async with self._database.transaction() as conn:
            kept = await self._store.backup(conn)
        current = await self._server.current()
        if current is None:
            await self._create_version(key, kept)
        elif kept is None or kept.key.public != current.public_key:
            theirs = await self._backup_key_of(key)
            if theirs is None or theirs.public != current.public_key:
                await self._raise_alarm(
                    "another client began a key backup whose key is not in secret storage. It was "
                    "left alone, and new room keys are not backed up until that is mended: log in "
                    "as the bot (steward login-as), and delete that backup in the settings"
                )
                return False
            self._new |= (await self._switch(theirs, current.version)).new
        elif kept.version != current.version:
            self._new |= (await self._switch(kept.key, current.version)).new
        elif await self._is_for_another_device():
            self._new |= (await self._take_in(kept.key, current.version)).new
        async with self._database.transaction() as conn:
            await self._store.keep_device(conn, self._accounts.me.device_id)
        self._alarm = ""
        return True

    async def _is_for_another_device(self) -> bool:
        """Whether our device was replaced: while it was gone, others may have backed up keys."""
        async with self._database.transaction() as conn:
            known = await self._store.device(conn)
        return known not in {"", self._accounts.me.device_id}

    async def _backup_key_of(self, key: StorageKey) -> BackupKey | None:
        try:
            return BackupKey.parse(await self._storage.read(key, BACKUP))
        except BrokenSecretError:
            return None

    async def _create_version(self, key: StorageKey, kept: KeptBackup | None) -> None:
        if kept is None:
            kept = KeptBackup(await self._backup_key_of(key) or BackupKey.fresh(), "")
            async with self._database.transaction() as conn:
                await self._store.keep_backup(conn, kept)
            await self._storage.write(key, BACKUP, kept.key.secret)
        version = await self._server.create(await self._auth_data(kept.key))
        async with self._database.transaction() as conn:
            await self._store.keep_backup(conn, KeptBackup(kept.key, version))
            await self._store.make_all_due(conn)
        _log.info("key backup begun", user=self._user, version=version)

    async def _switch(
        self, key: BackupKey, version: str, progress: Progress | None = None
    ) -> Restored:
        """Take in what a version holds and use it from now on.

        Its name is written down last: after a crash in the middle all is done again.
        """
        async with self._database.transaction() as conn:
            await self._store.keep_backup(conn, KeptBackup(key, ""))
            await self._store.make_all_due(conn)
        restored = await self._take_in(key, version, progress)
        async with self._database.transaction() as conn:
            await self._store.keep_backup(conn, KeptBackup(key, version))
        _log.info("room keys go into this backup", user=self._user, version=version)
        return restored

    async def _auth_data(self, key: BackupKey) -> Json:
        """Return what names a backup's public key, signed by the device and the master key."""
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            identity = await self._identity(conn)
        return sign_json(
            account.signed({"public_key": key.public}),
            user_id=self._user,
            key_id=identity.master.key_id,
            sign=identity.master.sign,
        )

    async def _identity(self, conn: Connection) -> Identity:
        identity = await self._identities.load(conn)
        if identity is None:
            raise PermanentError(f"{self._user} has no identity: the device was not set up.")
        return identity

    def _say_if_configured_differently(self, kept: KeptStorage) -> None:
        if self._passphrase and kept.passphrase and self._passphrase != kept.passphrase:
            _log.warning(
                "the configured passphrase is not the one of the account's secret storage, which "
                "was not changed; `steward passphrase` shows the one that opens it",
                user=self._user,
            )

    async def _raise_alarm(self, sentence: str) -> None:
        if self._alarm == sentence:
            return
        self._alarm = sentence
        _log.error(sentence, user=self._user)
        async with self._database.transaction() as conn:
            told = f"Secure Backup of {self._user}: {sentence}."
            await raise_alarm(conn, told, now_ms=self._clock.now_ms())


def secrets_of(identity: Identity, backup: BackupKey) -> dict[str, str]:
    """Return what secret storage holds, by name."""
    return {
        MASTER: identity.master.secret,
        SELF_SIGNING: identity.self_signing.secret,
        USER_SIGNING: identity.user_signing.secret,
        BACKUP: backup.secret,
    }
