-- How often the homeserver did not give a missing event, and when it is asked again: another server
-- that was away may be back by then.
ALTER TABLE audit_missing ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_missing ADD COLUMN again_ms BIGINT NOT NULL DEFAULT 0;
