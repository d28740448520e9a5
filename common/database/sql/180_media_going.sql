-- "going" is 1 while an attachment is being deleted: "removed_ms" is set before the store is asked,
-- so that nothing more is said to be stored there.
ALTER TABLE audit_object ADD COLUMN going INTEGER NOT NULL DEFAULT 0;
