-- What a scanner for malware said of each attachment that is stored, as JSON (of an encrypted
-- archive it is sealed with the rest); since when an attachment waits for the scanner; what the
-- admins know of its troubles.
ALTER TABLE audit_object ADD COLUMN scan TEXT;
ALTER TABLE audit_media ADD COLUMN scan_since_ms BIGINT;
CREATE TABLE audit_scanner (
    trouble TEXT PRIMARY KEY,
    since_ms BIGINT NOT NULL,
    told INTEGER NOT NULL,
    bytes BIGINT NOT NULL
);
