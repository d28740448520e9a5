-- The device that last took in what the backup holds; empty where that was before this was noted.
ALTER TABLE crypto_key_backup ADD COLUMN device_id TEXT NOT NULL DEFAULT '';
