-- The notice that a room is archived: of which text it was sent where (SHA-256), which event is
-- pinned for it, and what is being sent since when, so that nothing is said twice.
CREATE TABLE audit_notice (
    room_id TEXT PRIMARY KEY,
    sent TEXT,
    event_id TEXT,
    replaces TEXT,
    pinned INTEGER NOT NULL DEFAULT 0,
    begun TEXT,
    begun_ms BIGINT,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_ms BIGINT NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0
);
