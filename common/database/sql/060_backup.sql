-- Each bot's secret storage: the key that is in use, sealed, and the passphrase it was derived
-- from, sealed too, unless only the recovery key is known. "salt" and "rounds" are how.
CREATE TABLE crypto_secret_storage (
    bot_id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    sealed_key {blob} NOT NULL,
    sealed_passphrase {blob},
    salt TEXT NOT NULL,
    rounds BIGINT NOT NULL
);

-- Each bot's server-side key backup: its private key, sealed, and the version that our room keys
-- go into; empty until the homeserver has named it.
CREATE TABLE crypto_key_backup (
    bot_id TEXT PRIMARY KEY,
    sealed_key {blob} NOT NULL,
    version TEXT NOT NULL DEFAULT ''
);

-- Which room keys are not in that version yet, or only from a later index on.
ALTER TABLE crypto_inbound_session ADD COLUMN backup_due INTEGER NOT NULL DEFAULT 1;
CREATE INDEX crypto_inbound_session_backup_due ON crypto_inbound_session (bot_id)
    WHERE backup_due = 1;
