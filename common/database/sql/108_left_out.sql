-- Whether the bots that follow are inside all the same: then only the leader's power is missing.
ALTER TABLE membership_problem ADD COLUMN inside INTEGER NOT NULL DEFAULT 0;
-- Rooms that not all bots are to be in: by the settings, or because they were told to leave.
CREATE TABLE membership_left_out (
    room_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    since_ms BIGINT NOT NULL
);
-- Whether the admins know that the archive refuses an attachment.
ALTER TABLE audit_media ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
