-- When a pending event is to be tried again without a new key having been reported; null once
-- that has been done often enough.
ALTER TABLE audit_pending ADD COLUMN due_ms BIGINT DEFAULT 0;
CREATE INDEX audit_pending_due ON audit_pending (due_ms);
