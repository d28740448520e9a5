-- Notices from the server, named after the command that sent them; number is for people.
CREATE TABLE admin_notice (
    notice TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    sent_by TEXT NOT NULL,
    audience TEXT NOT NULL,
    content TEXT NOT NULL,
    sent_ms BIGINT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0
);
-- To whom a notice went. status: sending (may or may not have arrived), sent or recalled.
CREATE TABLE admin_notice_copy (
    notice TEXT NOT NULL,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    event_id TEXT,
    PRIMARY KEY (notice, user_id)
);
CREATE INDEX admin_notice_copy_status ON admin_notice_copy (notice, status);
