"""Disaster recovery: an empty database, and the passphrase.

Source: Matrix specification v1.18, client-server API, "Secret storage", "Cross-signing". The
private keys come out of secret storage and are used only if they make exactly the identity that
the homeserver shows for the account.
"""

from common.config.secret import Secret
from common.crypto.backup_store import BackupStore, KeptBackup, KeptStorage
from common.crypto.canonical import from_unpadded, object_of
from common.crypto.cross_signing import USAGES, Identity, IdentityStore
from common.crypto.devices import cross_signing_key
from common.crypto.key_backup import BackupKey
from common.crypto.machine import CryptoMachine
from common.crypto.port import IdentityTakenError
from common.crypto.sealing import Sealer
from common.crypto.secret_storage import (
    BACKUP,
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    SecretStorage,
    StorageKey,
    decode_recovery_key,
)
from common.crypto.wire import Requester, Wire
from common.database.pool import Database
from common.errors import PermanentError, UserError
from common.matrix.client import MatrixError
from common.telemetry.log import Log

_SEED_BYTES = 32
_NAMES = dict(zip(USAGES, (MASTER, SELF_SIGNING, USER_SIGNING), strict=True))

_log = Log("crypto.recovery")


async def set_up(
    crypto: CryptoMachine, client: Requester, database: Database, key: Secret
) -> None:
    """Set a bot's encryption up: device, identity, Secure Backup.

    Where the identity is another database's and a passphrase is configured, both are recovered
    with it, and setting the backup up takes in its room keys. A Secure Backup that cannot be set
    up does not stop the bot.

    Args:
        crypto: the machine of the bot's device
        client: the same device's requests
        database: the machine's
        key: what secrets are encrypted with at rest
    """
    try:
        await crypto.set_up()
    except IdentityTakenError:
        if crypto.backup.passphrase is None:
            raise
        _log.warning("the database is new; recovering with the passphrase", user=client.user_id)
        await recover_identity(
            client, database=database, sealer=Sealer(key), entered=crypto.backup.passphrase
        )
        await crypto.set_up()
    try:
        await crypto.backup.set_up()
    except MatrixError as error:
        _log.error("Secure Backup could not be set up", user=client.user_id, reason=error)


async def recover_identity(
    client: Requester, *, database: Database, sealer: Sealer, entered: Secret
) -> None:
    """Take identity and backup key out of secret storage into the database.

    Args:
        client: the account's requests, with or without a device
        database: where the keys go
        sealer: what they are encrypted with there
        entered: the passphrase or the recovery key

    Raises:
        UserError: it is wrong, or what it opens is not the account's identity.
    """
    storage = SecretStorage(client)
    key = await storage.unlock(entered.reveal())
    identities = IdentityStore(client.user_id, sealer)
    identity = await _stored_identity(storage, key, identities)
    answer = await Wire(client).query_keys([client.user_id])
    published = {
        usage: cross_signing_key(
            client.user_id, usage, object_of(answer, f"{usage}_keys").get(client.user_id)
        )
        for usage in USAGES
    }
    if published != identity.publics():
        raise UserError(
            f"The secret storage of {client.user_id} holds another identity than the one that "
            "the homeserver shows: somebody reset it. Nothing was changed."
        )
    backup = BackupKey.parse(await storage.read(key, BACKUP))
    store = BackupStore(client.user_id, sealer)
    passphrase = None if _is_recovery_key(entered) else Secret(entered.reveal().strip())
    async with database.transaction() as conn:
        await identities.save(conn, identity)
        await store.keep_storage(conn, KeptStorage(key, passphrase, None))
        if backup is not None:
            await store.keep_backup(conn, KeptBackup(backup, ""))


async def _stored_identity(
    storage: SecretStorage, key: StorageKey, identities: IdentityStore
) -> Identity:
    seeds = {}
    for usage, name in _NAMES.items():
        try:
            seeds[usage] = from_unpadded(await storage.read(key, name) or "")
        except ValueError:
            seeds[usage] = b""
        if len(seeds[usage]) != _SEED_BYTES:
            raise PermanentError(f"Secret storage has no usable {name}: nothing to recover from.")
    return identities.of_seeds(seeds)


def _is_recovery_key(entered: Secret) -> bool:
    try:
        decode_recovery_key(entered.reveal())
    except ValueError:
        return False
    return True
