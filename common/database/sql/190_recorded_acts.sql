-- Whether an act is in the archive, or need not be because nothing was archived then: no clock
-- tells that, as it may be set back. What an earlier version passed over for that is recorded now.
ALTER TABLE admin_action ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
UPDATE admin_action SET recorded = 1 WHERE at_ms < coalesce((SELECT started_ms FROM audit_stream
    JOIN audit_head ON audit_head.stream = audit_stream.id), 9223372036854775807)
    OR EXISTS (SELECT 1 FROM audit_seen WHERE kind = 'control'
    AND audit_seen.event_id = admin_action.event_id AND sub_key = phase || ':' || step);
CREATE INDEX admin_action_unrecorded ON admin_action (at_ms) WHERE recorded = 0;
DROP TABLE audit_position;
