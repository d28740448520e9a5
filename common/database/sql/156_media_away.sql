-- Since when the homeserver, or the server that has the file, could not be reached for an attachment;
-- NULL while it answers.
ALTER TABLE audit_media ADD COLUMN away_since_ms BIGINT;
