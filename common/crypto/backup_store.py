"""What of Secure Backup is in our own database: keys and passphrase, sealed, and the progress.

The promise: a key is here before anything is encrypted with it elsewhere, and a room key counts
as backed up only after the homeserver has acknowledged it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from common.config.secret import Secret
from common.crypto.canonical import canonical_json
from common.crypto.key_backup import BackupKey
from common.crypto.room_keys import RoomKey
from common.crypto.sealing import Sealer
from common.crypto.secret_storage import Derivation, StorageKey
from common.database.pool import Connection
from common.ids import UserId


@dataclass(frozen=True)
class KeptStorage:
    """The secret storage in use; ``passphrase`` is ``None`` if only its recovery key is known."""

    key: StorageKey
    passphrase: Secret | None
    derivation: Derivation | None


@dataclass(frozen=True)
class KeptBackup:
    """The key backup in use; ``version`` is empty until the homeserver has named it."""

    key: BackupKey = field(repr=False)
    version: str


class BackupStore:
    """One bot's rows."""

    def __init__(self, bot: UserId, sealer: Sealer) -> None:
        self._bot = bot
        self._sealer = sealer

    async def storage(self, conn: Connection) -> KeptStorage | None:
        """Return the secret storage in use."""
        row = await conn.fetchrow(
            "SELECT key_id, sealed_key, sealed_passphrase, salt, rounds"
            " FROM crypto_secret_storage WHERE bot_id = $1",
            self._bot,
        )
        if row is None:
            return None
        passphrase = None
        if row["sealed_passphrase"] is not None:
            passphrase = Secret(self._open(row["sealed_passphrase"], "passphrase").decode())
        return KeptStorage(
            StorageKey(row["key_id"], self._open(row["sealed_key"], "secret storage key")),
            passphrase,
            Derivation(row["salt"], row["rounds"]) if row["salt"] else None,
        )

    async def keep_storage(self, conn: Connection, kept: KeptStorage) -> None:
        """Remember a secret storage, in place of any other."""
        derivation = kept.derivation or Derivation("", 0)
        await conn.execute(
            "INSERT INTO crypto_secret_storage"
            " (bot_id, key_id, sealed_key, sealed_passphrase, salt, rounds)"
            " VALUES ($1, $2, $3, $4, $5, $6)"
            " ON CONFLICT (bot_id) DO UPDATE SET key_id = excluded.key_id,"
            " sealed_key = excluded.sealed_key, sealed_passphrase = excluded.sealed_passphrase,"
            " salt = excluded.salt, rounds = excluded.rounds",
            self._bot,
            kept.key.key_id,
            self._seal(kept.key.raw, "secret storage key"),
            kept.passphrase and self._seal(kept.passphrase.reveal().encode(), "passphrase"),
            derivation.salt,
            derivation.rounds,
        )

    async def backup(self, conn: Connection) -> KeptBackup | None:
        """Return the key backup in use."""
        row = await conn.fetchrow(
            "SELECT sealed_key, version FROM crypto_key_backup WHERE bot_id = $1", self._bot
        )
        if row is None:
            return None
        return KeptBackup(BackupKey(self._open(row["sealed_key"], "backup key")), row["version"])

    async def keep_backup(self, conn: Connection, kept: KeptBackup) -> None:
        """Remember a key backup, in place of any other."""
        await conn.execute(
            "INSERT INTO crypto_key_backup (bot_id, sealed_key, version) VALUES ($1, $2, $3)"
            " ON CONFLICT (bot_id) DO UPDATE SET"
            " sealed_key = excluded.sealed_key, version = excluded.version",
            self._bot,
            self._seal(kept.key.raw, "backup key"),
            kept.version,
        )

    async def device(self, conn: Connection) -> str:
        """Return the device that knows what the backup holds; empty if that is not known."""
        found = await conn.fetchval(
            "SELECT device_id FROM crypto_key_backup WHERE bot_id = $1", self._bot
        )
        return str(found or "")

    async def keep_device(self, conn: Connection, device_id: str) -> None:
        """Remember that this device knows what the backup holds."""
        await conn.execute(
            "UPDATE crypto_key_backup SET device_id = $2 WHERE bot_id = $1", self._bot, device_id
        )

    async def make_all_due(self, conn: Connection) -> None:
        """Forget what is backed up: the backup is another one from now on."""
        await conn.execute(
            "UPDATE crypto_inbound_session SET backup_due = 1"
            " WHERE bot_id = $1 AND backup_due = 0",
            self._bot,
        )

    async def count_due(self, conn: Connection) -> int:
        """Return how many room keys are not in the backup yet."""
        return int(
            await conn.fetchval(
                "SELECT COUNT(*) FROM crypto_inbound_session WHERE bot_id = $1 AND backup_due = 1",
                self._bot,
            )
        )

    async def due(self, conn: Connection, limit: int) -> list[str]:
        """Return session IDs of room keys that are not in the backup yet."""
        rows = await conn.fetch(
            "SELECT session_id FROM crypto_inbound_session"
            " WHERE bot_id = $1 AND backup_due = 1 LIMIT $2",
            self._bot,
            limit,
        )
        return [row["session_id"] for row in rows]

    async def note_backed_up(self, conn: Connection, keys: Collection[RoomKey]) -> None:
        """Remember that these room keys are in the backup from their first index on."""
        await conn.executemany(
            "UPDATE crypto_inbound_session SET backup_due = 0 WHERE bot_id = $1"
            " AND room_id = $2 AND session_id = $3 AND sender_key = $4 AND first_index >= $5",
            [(self._bot, *key.name, key.session.first_known_index) for key in keys],
        )

    def _seal(self, secret: bytes, what: str) -> bytes:
        return self._sealer.seal(secret, name=self._name(what))

    def _open(self, sealed: bytes, what: str) -> bytes:
        return self._sealer.open(bytes(sealed), name=self._name(what))

    def _name(self, what: str) -> str:
        return canonical_json({"bot": self._bot, "secure backup": what}).decode()
